/* One direction of one recurrent layer: what a call of it needs. Every model's layers run through this. */
#ifndef LSTMQ_LAYER_H
#define LSTMQ_LAYER_H

#include "kernels.h"
#include "workspace.h"

/* Quantized rows. */
struct rows {
    int8_t *x;
    float *scale;
};

/* Sequences that are read side by side, the longest in the first column. */
struct sequences {
    int64_t steps, columns;
    const int64_t *starts; /* steps + 1 numbers: step t has the rows from starts[t] to starts[t + 1], one per column */
};

/* What a direction computes with. Only one thread at a time may use it. */
struct scratch {
    int64_t chunk;         /* steps whose input is projected at once */
    float *projected;      /* the products of those steps with w_input */
    float *stepped;        /* the products of one step with w_recurrent, as many rows as columns; so have the others */
    struct rows state;     /* h, quantized */
    float *h, *c;          /* h before the projection, if there is one; and c */
    struct rows unreduced; /* h before the projection, quantized */
    float *reduced;        /* h after the projection */
};

/* One pass over sequences. */
struct pass {
    const struct sequences *sequences;
    int reverse;
    struct rows in;  /* the input: as many bytes in a row as w_input has columns */
    struct rows out; /* written unless NULL: the output, quantized, as many bytes in a row as w_recurrent has columns */
    float *h, *c;    /* the state, one row per column: `width` and `hidden_size` floats; read and then overwritten */
    float *output;   /* written unless NULL: the output, `width` floats each */
    int64_t output_stride;        /* floats from one row of the output to the next */
    const int64_t *output_starts; /* the row of the output that belongs to the first column of each step */
};

/* Take rows from an arena. */
static inline void lay_out_rows(struct arena *arena, int64_t rows, int64_t depth, struct rows *result) {
    result->x = arena_alloc(arena, rows * depth, sizeof *result->x);
    result->scale = arena_alloc(arena, rows, sizeof *result->scale);
}

/* Take a scratch from an arena, for sequences that have at most so many steps and columns. */
void lstmq_lay_out_scratch(struct arena *arena, const struct direction *w, int64_t steps, int64_t columns,
                           struct scratch *scratch);

/* Read sequences. */
void lstmq_run_direction(const struct kernel *kernel, const struct direction *w, const struct pass *pass,
                         const struct scratch *scratch);

#endif
