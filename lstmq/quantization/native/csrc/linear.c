/* A linear layer that reads floats. Python calls the function at the end. */
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "kernels.h"
#include "threads.h"
#include "workspace.h"

enum {
    PANEL_ROWS = 60,  /* rows that are computed at once: their output stays in a cache, and it is 12 tiles of 5 rows */
    PANEL_BLOCKS = 4, /* blocks of weights that are computed at once */
};

struct call {
    const struct kernel *kernel;
    const struct matrix *w;
    int64_t rows, in_features, out_features;
    const float *x;
    float *out;
    char *memory;
    size_t size; /* bytes of memory for each thread */
};

struct scratch {
    int8_t *x;
    float *scale;
    float *out; /* PANEL_ROWS rows of PANEL_BLOCKS * BLOCK */
};

static size_t lay_out(const struct call *call, char *base, struct scratch *scratch) {
    struct arena arena = {base, 0};
    const int64_t rows = call->rows < PANEL_ROWS ? call->rows : PANEL_ROWS;
    scratch->x = arena_alloc(&arena, rows * call->w->depth, sizeof *scratch->x);
    scratch->scale = arena_alloc(&arena, rows, sizeof *scratch->scale);
    scratch->out = arena_alloc(&arena, rows * PANEL_BLOCKS * BLOCK, sizeof *scratch->out);
    return arena.used;
}

/* Compute one panel of rows. */
static void run_panel(void *context, int64_t task, int64_t worker) {
    const struct call *call = context;
    const int64_t first = task * PANEL_ROWS, left = call->rows - first, rows = left < PANEL_ROWS ? left : PANEL_ROWS;
    struct scratch scratch;
    lay_out(call, call->memory + (size_t)worker * call->size, &scratch);
    for (int64_t m = 0; m < rows; m++)
        call->kernel->quantize_row(call->x + (first + m) * call->in_features, call->in_features, call->w->depth,
                                   scratch.x + m * call->w->depth, scratch.scale + m);
    float *out = call->out + first * call->out_features;
    struct product product = {.w = call->w, .rows = rows, .x = scratch.x, .x_scale = scratch.scale,
                              .add = call->w->bias, .out = out};
    if (call->out_features == call->w->blocks * BLOCK) { /* no padding in the output */
        call->kernel->matmul(&product);
        return;
    }
    for (int64_t block = 0; block < call->w->blocks; block += PANEL_BLOCKS) {
        const int64_t rest = call->w->blocks - block, blocks = rest < PANEL_BLOCKS ? rest : PANEL_BLOCKS;
        const int64_t column = block * BLOCK, end = column + blocks * BLOCK;
        const int64_t width = (end < call->out_features ? end : call->out_features) - column;
        const struct matrix panel = slice_blocks(call->w, block, blocks);
        product.w = &panel, product.add = panel.bias, product.out = scratch.out;
        call->kernel->matmul(&product);
        for (int64_t m = 0; m < rows; m++)
            memcpy(out + m * call->out_features + column, scratch.out + m * blocks * BLOCK,
                   (size_t)width * sizeof *out);
    }
}

/* Compute x @ w.T + bias. Return 0, or -2 if there is no memory. The caller has checked everything else.
 *
 * x: rows of in_features; out: as many rows of out_features. w has no block that is all padding.
 */
EXPORT int lstmq_run_linear(const struct matrix *w, int isa, int64_t threads, int64_t rows, int64_t in_features,
                            int64_t out_features, const float *x, float *out) {
    enum { PRODUCTS = 4 << 20 }; /* of integers: fewer are not worth the start of a thread */
    struct call call = {.kernel = lstmq_kernel(isa), .w = w, .rows = rows, .in_features = in_features,
                        .out_features = out_features, .x = x, .out = out};
    struct scratch unused;
    const int64_t tasks = (rows + PANEL_ROWS - 1) / PANEL_ROWS, worth = rows * w->blocks * BLOCK * w->depth / PRODUCTS;
    if (threads > worth) threads = worth;
    if (threads > tasks) threads = tasks;
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    call.size = lay_out(&call, NULL, &unused);
    void *block = malloc(call.size * (size_t)threads + ALIGNMENT);
    if (!block) return -2;
    call.memory = align(block);
    lstmq_run_tasks(threads, tasks, run_panel, &call);
    free(block);
    return 0;
}
