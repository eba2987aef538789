/* Read a window with a language model, from ids to the loss and the logits. Python calls the functions at the end. */
#include <math.h>
#include <string.h>

#include "kernels.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum {
    PANEL = 4, /* blocks of the decoder whose logits are computed at once, and stay in the nearest cache */
    ALIGNMENT = 64
};

/* Memory that is handed out from front to back. Without a base, it only measures. */
struct arena {
    char *base;
    size_t used;
};

static void *arena_alloc(struct arena *arena, int64_t count, size_t size) {
    void *start = arena->base ? arena->base + arena->used : NULL;
    arena->used += ((size_t)count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return start;
}

struct workspace {
    int64_t units, gates; /* nhid, padded to what w_recurrent computes, and four times that */
    int8_t *x;            /* quantized rows: bsz of the state before the window, then one for each id, step by step */
    float *x_scale;       /* one for each row of x */
    float *projected;     /* n * bsz rows of gates: the product with w_input */
    float *stepped;       /* bsz rows of gates: the same plus the product with w_recurrent */
    float *h, *c;         /* bsz rows of units */
    float *panel;         /* n * bsz rows of PANEL * BLOCK logits */
    float *maximum;       /* one for each id, as are the next two */
    float *target_logit;
    double *sum;
};

/* Lay out the workspace of a window from `base` on, and return its size in bytes. `base` may be NULL, to measure. */
static size_t lay_out(struct workspace *ws, char *base, const struct model *model, int64_t n, int64_t bsz) {
    struct arena arena = {base, 0};
    const int64_t rows = n * bsz, from_input = model->w_input->depth, from_hidden = model->w_recurrent->depth;
    ws->gates = model->w_recurrent->blocks * BLOCK;
    ws->units = ws->gates / 4;
    ws->x = arena_alloc(&arena, (bsz + rows) * (from_input > from_hidden ? from_input : from_hidden), sizeof *ws->x);
    ws->x_scale = arena_alloc(&arena, bsz + rows, sizeof *ws->x_scale);
    ws->projected = arena_alloc(&arena, rows * ws->gates, sizeof *ws->projected);
    ws->stepped = arena_alloc(&arena, bsz * ws->gates, sizeof *ws->stepped);
    ws->h = arena_alloc(&arena, bsz * ws->units, sizeof *ws->h);
    ws->c = arena_alloc(&arena, bsz * ws->units, sizeof *ws->c);
    ws->panel = arena_alloc(&arena, rows * PANEL * BLOCK, sizeof *ws->panel);
    ws->maximum = arena_alloc(&arena, rows, sizeof *ws->maximum);
    ws->target_logit = arena_alloc(&arena, rows, sizeof *ws->target_logit);
    ws->sum = arena_alloc(&arena, rows, sizeof *ws->sum);
    return arena.used;
}

static int is_word(const struct model *model, int64_t id) { return 0 <= id && id < model->ntoken; }

static int ids_are_words(const struct model *model, const struct window *window) {
    for (int64_t m = 0; m < window->n * window->bsz; m++)
        if (!is_word(model, window->input[m]) || (window->targets && !is_word(model, window->targets[m]))) return 0;
    return 1;
}

/* Write the rows of the embedding, which are quantized already, to the workspace. */
static void embed(const struct model *model, const struct window *window, const struct workspace *ws) {
    const int64_t depth = model->w_input->depth, ninp = model->ninp;
    for (int64_t m = 0; m < window->n * window->bsz; m++) {
        int8_t *row = ws->x + (window->bsz + m) * depth;
        memcpy(row, model->encoder + window->input[m] * ninp, (size_t)ninp);
        memset(row + ninp, 0, (size_t)(depth - ninp));
        ws->x_scale[window->bsz + m] = model->encoder_scale[window->input[m]];
    }
}

/* Run one layer over the window. It reads all its input before it overwrites it with its output. */
static void run_layer(const struct kernel *kernel, const struct model *model, int64_t layer,
                      const struct window *window, const struct workspace *ws) {
    const struct matrix *w_input = &model->w_input[layer], *w_recurrent = &model->w_recurrent[layer];
    const int64_t n = window->n, bsz = window->bsz, nhid = model->nhid, depth = w_recurrent->depth;
    const int64_t units = ws->units, gates = ws->gates;
    float *hidden = window->hidden + layer * bsz * nhid, *cell = window->cell + layer * bsz * nhid;
    const struct product projection = {.w = w_input, .rows = n * bsz, .x = ws->x + bsz * w_input->depth,
                                       .x_scale = ws->x_scale + bsz, .add = w_input->bias, .out = ws->projected};
    kernel->matmul(&projection);

    memset(ws->c, 0, (size_t)(bsz * units) * sizeof *ws->c); /* padding units compute with zeros */
    for (int64_t b = 0; b < bsz; b++) {
        memcpy(ws->c + b * units, cell + b * nhid, (size_t)nhid * sizeof *cell);
        kernel->quantize_row(hidden + b * nhid, nhid, depth, ws->x + b * depth, ws->x_scale + b);
    }
    for (int64_t t = 0; t < n; t++) {
        const struct product recurrence = {.w = w_recurrent, .rows = bsz, .x = ws->x + t * bsz * depth,
                                           .x_scale = ws->x_scale + t * bsz, .add = ws->projected + t * bsz * gates,
                                           .add_stride = gates, .out = ws->stepped};
        kernel->matmul(&recurrence);
        for (int64_t b = 0; b < bsz; b++) {
            const int64_t row = (t + 1) * bsz + b;
            kernel->lstm_step(ws->stepped + b * gates, units, ws->c + b * units, ws->h + b * units);
            kernel->quantize_row(ws->h + b * units, nhid, depth, ws->x + row * depth, ws->x_scale + row);
        }
    }
    for (int64_t b = 0; b < bsz; b++) {
        memcpy(cell + b * nhid, ws->c + b * units, (size_t)nhid * sizeof *cell);
        memcpy(hidden + b * nhid, ws->h + b * units, (size_t)nhid * sizeof *hidden);
    }
}

/* Return some blocks of a matrix, as a matrix. */
static struct matrix slice_blocks(const struct matrix *w, int64_t first, int64_t blocks) {
    const int64_t row = first * BLOCK;
    return (struct matrix){.packed = w->packed + row * w->depth, .row_sums = w->row_sums + row,
                           .scale = w->scale + row, .bias = w->bias + row, .blocks = blocks, .depth = w->depth};
}

/* Compute logits from the last layer's output, with the decoder or some of its blocks. */
static void decode(const struct kernel *kernel, const struct matrix *decoder, const struct window *window,
                   const struct workspace *ws, float *logits) {
    const struct product product = {.w = decoder, .rows = window->n * window->bsz,
                                    .x = ws->x + window->bsz * decoder->depth, .x_scale = ws->x_scale + window->bsz,
                                    .add = decoder->bias, .out = logits};
    kernel->matmul(&product);
}

/* Return the cross-entropy, summed over the rows. It computes one panel of logits at a time, so that all logits
 * together are never in memory. */
static double cross_entropy(const struct kernel *kernel, const struct model *model, const struct window *window,
                            const struct workspace *ws) {
    const int64_t rows = window->n * window->bsz;
    double loss = 0;
    for (int64_t m = 0; m < rows; m++) ws->maximum[m] = -INFINITY, ws->sum[m] = 0;
    for (int64_t first = 0; first < model->decoder->blocks; first += PANEL) {
        const int64_t left = model->decoder->blocks - first, blocks = left < PANEL ? left : PANEL;
        const int64_t width = blocks * BLOCK;
        const struct matrix panel = slice_blocks(model->decoder, first, blocks);
        decode(kernel, &panel, window, ws, ws->panel);
        for (int64_t m = 0; m < rows; m++) {
            const int64_t column = window->targets[m] - first * BLOCK;
            if (column >= 0 && column < width) ws->target_logit[m] = ws->panel[m * width + column];
            kernel->update_softmax(ws->panel + m * width, width, &ws->maximum[m], &ws->sum[m]);
        }
    }
    for (int64_t m = 0; m < rows; m++) loss += log(ws->sum[m]) + ws->maximum[m] - ws->target_logit[m];
    return loss;
}

/* Return whether the kernel with this index can run here. */
EXPORT int lstmq_can_run(int isa) { return lstmq_kernel(isa) != NULL; }

/* Return how many bytes of workspace a window of n steps and bsz columns needs. */
EXPORT int64_t lstmq_workspace_size(const struct model *model, int64_t n, int64_t bsz) {
    struct workspace ws;
    return (int64_t)lay_out(&ws, NULL, model, n, bsz);
}

/* Read a window. Return 0, or -1 if an id is outside the dictionary. The caller has checked everything else. */
EXPORT int lstmq_read_window(const struct model *model, int isa, const struct window *window) {
    const struct kernel *kernel = lstmq_kernel(isa);
    struct workspace ws;
    if (!ids_are_words(model, window)) return -1;
    lay_out(&ws, window->workspace, model, window->n, window->bsz);
    embed(model, window, &ws);
    for (int64_t layer = 0; layer < model->nlayers; layer++) run_layer(kernel, model, layer, window, &ws);
    if (window->logits) decode(kernel, model->decoder, window, &ws, window->logits);
    if (window->targets) *window->loss = cross_entropy(kernel, model, window, &ws);
    return 0;
}
