/* Read a window with a language model, from ids to the loss and the logits. Python calls the functions at the end. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "layer.h"

enum { PANEL = 4 }; /* blocks of the decoder whose logits are computed at once, and stay in the nearest cache */

struct model {
    int64_t ntoken, ninp, nhid, nlayers;
    const int8_t *encoder;          /* ntoken rows of ninp integers */
    const float *encoder_scale;     /* one for each row */
    const struct direction *layers;
    const struct matrix *decoder;   /* the bias of a padding row is minus infinity */
};

/* A window to read. Without targets there is no loss; with neither targets nor logits, only the state is computed. */
struct window {
    int64_t n, bsz;         /* steps and columns */
    const int64_t *input;   /* n rows of bsz ids */
    const int64_t *targets; /* n rows of bsz ids, or NULL */
    float *hidden, *cell;   /* the state: nlayers * bsz rows of nhid; read and then overwritten */
    double *loss;           /* written if there are targets: the cross-entropy summed over them, in nats */
    float *logits;          /* written unless NULL: n * bsz rows of decoder->blocks * BLOCK */
};

struct workspace {
    int64_t *starts;        /* n + 1 numbers: the first row of each step */
    struct rows buffers[2]; /* inputs of layers, in turn; n * bsz rows */
    char *memory;           /* for the scratch of any layer */
    float *panel;           /* n * bsz rows of PANEL * BLOCK logits */
    float *maximum;         /* one for each id, as are the next two */
    float *target_logit;
    double *sum;
};

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Lay out the workspace of a window from `base` on, and return its size in bytes. `base` may be NULL, to measure. */
static size_t lay_out(struct workspace *ws, char *base, const struct model *model, int64_t n, int64_t bsz) {
    struct arena arena = {base, 0};
    const int64_t rows = n * bsz;
    int64_t depth = 0, memory = 0;
    for (int64_t i = 0; i < model->nlayers; i++) {
        struct arena measured = {NULL, 0};
        struct scratch unused;
        lstmq_lay_out_scratch(&measured, &model->layers[i], n, bsz, &unused);
        depth = larger(depth, larger(model->layers[i].w_input.depth, model->layers[i].w_recurrent.depth));
        memory = larger(memory, (int64_t)measured.used);
    }
    ws->starts = arena_alloc(&arena, n + 1, sizeof *ws->starts);
    for (int i = 0; i < 2; i++) lay_out_rows(&arena, rows, depth, &ws->buffers[i]);
    ws->memory = arena_alloc(&arena, memory, 1);
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

/* Write the rows of the embedding, which are quantized already. */
static void embed(const struct model *model, const struct window *window, const struct rows *x) {
    const int64_t depth = model->layers->w_input.depth, ninp = model->ninp;
    for (int64_t m = 0; m < window->n * window->bsz; m++) {
        memcpy(x->x + m * depth, model->encoder + window->input[m] * ninp, (size_t)ninp);
        memset(x->x + m * depth + ninp, 0, (size_t)(depth - ninp));
        x->scale[m] = model->encoder_scale[window->input[m]];
    }
}

/* Run all layers, and return the rows that the last one wrote. */
static struct rows run_layers(const struct kernel *kernel, const struct model *model, const struct window *window,
                              const struct workspace *ws) {
    const struct sequences sequences = {window->n, window->bsz, ws->starts};
    struct rows in = ws->buffers[0], out = ws->buffers[1];
    for (int64_t t = 0; t <= window->n; t++) ws->starts[t] = t * window->bsz;
    embed(model, window, &in);
    for (int64_t layer = 0; layer < model->nlayers; layer++) {
        const int64_t row = layer * window->bsz * model->nhid;
        const struct pass pass = {.sequences = &sequences, .in = in, .out = out, .h = window->hidden + row,
                                  .c = window->cell + row};
        struct arena arena = {ws->memory, 0};
        struct scratch scratch;
        lstmq_lay_out_scratch(&arena, &model->layers[layer], window->n, window->bsz, &scratch);
        lstmq_run_direction(kernel, &model->layers[layer], &pass, &scratch);
        out = in, in = pass.out;
    }
    return in;
}

/* Compute logits from the last layer's output, with the decoder or some of its blocks. */
static void decode(const struct kernel *kernel, const struct matrix *decoder, const struct rows *x, int64_t rows,
                   float *logits) {
    const struct product product = {.w = decoder, .rows = rows, .x = x->x, .x_scale = x->scale, .add = decoder->bias,
                                    .out = logits};
    kernel->matmul(&product);
}

/* Return the cross-entropy, summed over the rows. It computes one panel of logits at a time, so that all logits
 * together are never in memory. */
static double cross_entropy(const struct kernel *kernel, const struct model *model, const struct window *window,
                            const struct rows *x, const struct workspace *ws) {
    const int64_t rows = window->n * window->bsz;
    double loss = 0;
    for (int64_t m = 0; m < rows; m++) ws->maximum[m] = -INFINITY, ws->sum[m] = 0;
    for (int64_t first = 0; first < model->decoder->blocks; first += PANEL) {
        const int64_t left = model->decoder->blocks - first, blocks = left < PANEL ? left : PANEL;
        const int64_t width = blocks * BLOCK;
        const struct matrix panel = slice_blocks(model->decoder, first, blocks);
        decode(kernel, &panel, x, rows, ws->panel);
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

/* Read a window. Return 0, -1 if an id is outside the dictionary, or -2 if there is no memory. The caller has checked
 * everything else. */
EXPORT int lstmq_read_window(const struct model *model, int isa, const struct window *window) {
    const struct kernel *kernel = lstmq_kernel(isa);
    struct workspace ws;
    if (!ids_are_words(model, window)) return -1;
    void *block = malloc(lay_out(&ws, NULL, model, window->n, window->bsz) + ALIGNMENT);
    if (!block) return -2;
    lay_out(&ws, align(block), model, window->n, window->bsz);
    const struct rows x = run_layers(kernel, model, window, &ws);
    if (window->logits) decode(kernel, model->decoder, &x, window->n * window->bsz, window->logits);
    if (window->targets) *window->loss = cross_entropy(kernel, model, window, &x, &ws);
    free(block);
    return 0;
}
