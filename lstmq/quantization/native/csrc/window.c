/* Read a window with a language model, from ids to the loss and the logits. Python calls the functions at the end. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "layer.h"
#include "threads.h"

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
    float *loss;            /* written if there are targets: the cross-entropy summed over them, in nats */
    float *logits;          /* written unless NULL: n * bsz rows of decoder->blocks * BLOCK */
};

/* Columns that one thread reads. Their rows are those of the first step, of the second, ... */
struct group {
    int64_t first, columns;
    int64_t *starts;        /* n + 1 numbers: the first row of each step */
    struct rows buffers[2]; /* inputs of layers, in turn */
    char *memory;           /* for the scratch of any layer */
    float *panel;           /* PANEL * BLOCK logits for each row */
    float *maximum;         /* one for each row, as are the next two */
    float *target_logit;
    double *sum;
};

struct call {
    const struct kernel *kernel;
    const struct model *model;
    const struct window *window;
    double *losses; /* n rows of bsz: the cross-entropy of each target */
    int64_t groups;
    struct group group[MOST_THREADS];
};

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static void lay_out_group(struct arena *arena, const struct call *call, int64_t index, struct group *group) {
    const struct model *model = call->model;
    const int64_t n = call->window->n, bsz = call->window->bsz;
    group->first = index * bsz / call->groups;
    group->columns = (index + 1) * bsz / call->groups - group->first;
    const int64_t rows = n * group->columns;
    int64_t depth = 0, memory = 0;
    for (int64_t i = 0; i < model->nlayers; i++) {
        struct arena measured = {NULL, 0};
        struct scratch unused;
        lstmq_lay_out_scratch(&measured, &model->layers[i], n, group->columns, &unused);
        depth = larger(depth, larger(model->layers[i].w_input.depth, model->layers[i].w_recurrent.depth));
        memory = larger(memory, (int64_t)measured.used);
    }
    group->starts = arena_alloc(arena, n + 1, sizeof *group->starts);
    for (int i = 0; i < 2; i++) lay_out_rows(arena, rows, depth, &group->buffers[i]);
    group->memory = arena_alloc(arena, memory, 1);
    group->panel = arena_alloc(arena, rows * PANEL * BLOCK, sizeof *group->panel);
    group->maximum = arena_alloc(arena, rows, sizeof *group->maximum);
    group->target_logit = arena_alloc(arena, rows, sizeof *group->target_logit);
    group->sum = arena_alloc(arena, rows, sizeof *group->sum);
}

/* Lay out the memory of a call from `base` on, and return its size in bytes. `base` may be NULL, to measure. */
static size_t lay_out(struct call *call, char *base) {
    struct arena arena = {base, 0};
    call->losses = arena_alloc(&arena, call->window->n * call->window->bsz, sizeof *call->losses);
    for (int64_t i = 0; i < call->groups; i++) lay_out_group(&arena, call, i, &call->group[i]);
    return arena.used;
}

static int is_word(const struct model *model, int64_t id) { return 0 <= id && id < model->ntoken; }

static int ids_are_words(const struct model *model, const struct window *window) {
    for (int64_t m = 0; m < window->n * window->bsz; m++)
        if (!is_word(model, window->input[m]) || (window->targets && !is_word(model, window->targets[m]))) return 0;
    return 1;
}

/* Return where the window has what belongs to a row of a group. */
static int64_t place_in_window(const struct call *call, const struct group *group, int64_t row) {
    return row / group->columns * call->window->bsz + group->first + row % group->columns;
}

/* Write the rows of the embedding, which are quantized already. */
static void embed(const struct call *call, const struct group *group, const struct rows *x) {
    const struct model *model = call->model;
    const int64_t depth = model->layers->w_input.depth, ninp = model->ninp;
    for (int64_t m = 0; m < call->window->n * group->columns; m++) {
        const int64_t id = call->window->input[place_in_window(call, group, m)];
        memcpy(x->x + m * depth, model->encoder + id * ninp, (size_t)ninp);
        memset(x->x + m * depth + ninp, 0, (size_t)(depth - ninp));
        x->scale[m] = model->encoder_scale[id];
    }
}

/* Run all layers, and return the rows that the last one wrote. */
static struct rows run_layers(const struct call *call, const struct group *group) {
    const struct model *model = call->model;
    const struct window *window = call->window;
    const struct sequences sequences = {window->n, group->columns, group->starts};
    struct rows in = group->buffers[0], out = group->buffers[1];
    for (int64_t t = 0; t <= window->n; t++) group->starts[t] = t * group->columns;
    embed(call, group, &in);
    for (int64_t layer = 0; layer < model->nlayers; layer++) {
        const int64_t state = (layer * window->bsz + group->first) * model->nhid;
        const struct pass pass = {.sequences = &sequences, .in = in, .out = out, .h = window->hidden + state,
                                  .c = window->cell + state};
        struct arena arena = {group->memory, 0};
        struct scratch scratch;
        lstmq_lay_out_scratch(&arena, &model->layers[layer], window->n, group->columns, &scratch);
        lstmq_run_direction(call->kernel, &model->layers[layer], &pass, &scratch);
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

/* Compute the logits of one panel of the decoder, whose first block is `first`, and return it. */
static struct matrix decode_panel(const struct call *call, const struct group *group, const struct rows *x,
                                  int64_t first) {
    const int64_t left = call->model->decoder->blocks - first, blocks = left < PANEL ? left : PANEL;
    const struct matrix panel = slice_blocks(call->model->decoder, first, blocks);
    decode(call->kernel, &panel, x, call->window->n * group->columns, group->panel);
    return panel;
}

/* Write the logits. Those of some columns are not side by side in the window. */
static void write_logits(const struct call *call, const struct group *group, const struct rows *x) {
    const int64_t rows = call->window->n * group->columns, all = call->model->decoder->blocks * BLOCK;
    float *logits = call->window->logits;
    if (call->groups == 1) {
        decode(call->kernel, call->model->decoder, x, rows, logits);
        return;
    }
    for (int64_t first = 0; first < call->model->decoder->blocks; first += PANEL) {
        const int64_t width = decode_panel(call, group, x, first).blocks * BLOCK;
        for (int64_t m = 0; m < rows; m++)
            memcpy(logits + place_in_window(call, group, m) * all + first * BLOCK, group->panel + m * width,
                   (size_t)width * sizeof *logits);
    }
}

/* Write the cross-entropy of each target. It computes one panel of logits at a time, so that all logits together are
 * never in memory. */
static void write_losses(const struct call *call, const struct group *group, const struct rows *x) {
    const int64_t rows = call->window->n * group->columns;
    for (int64_t m = 0; m < rows; m++) group->maximum[m] = -INFINITY, group->sum[m] = 0;
    for (int64_t first = 0; first < call->model->decoder->blocks; first += PANEL) {
        const int64_t width = decode_panel(call, group, x, first).blocks * BLOCK;
        for (int64_t m = 0; m < rows; m++) {
            const int64_t column = call->window->targets[place_in_window(call, group, m)] - first * BLOCK;
            if (column >= 0 && column < width) group->target_logit[m] = group->panel[m * width + column];
            call->kernel->update_softmax(group->panel + m * width, width, &group->maximum[m], &group->sum[m]);
        }
    }
    for (int64_t m = 0; m < rows; m++)
        call->losses[place_in_window(call, group, m)] =
            log(group->sum[m]) + group->maximum[m] - group->target_logit[m];
}

static void read_columns(void *context, int64_t task, int64_t worker) {
    const struct call *call = context;
    const struct group *group = &call->group[task];
    (void)worker;
    const struct rows x = run_layers(call, group);
    if (call->window->logits) write_logits(call, group, &x);
    if (call->window->targets) write_losses(call, group, &x);
}

/* Return how many threads are worth their start: each should have so many products of integers to do. */
static int64_t choose_threads(const struct model *model, const struct window *window, int64_t threads) {
    enum { PRODUCTS = 4 << 20 };
    int64_t products = window->targets || window->logits ? model->decoder->blocks * BLOCK * model->decoder->depth : 0;
    for (int64_t i = 0; i < model->nlayers; i++) {
        const struct matrix *w = &model->layers[i].w_input;
        products += w->blocks * BLOCK * (w->depth + model->layers[i].w_recurrent.depth);
    }
    const int64_t worth = window->n * window->bsz * products / PRODUCTS;
    if (threads > worth) threads = worth;
    if (threads > window->bsz) threads = window->bsz;
    return threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
}

/* Return whether the kernel with this index can run here. */
EXPORT int lstmq_can_run(int isa) { return lstmq_kernel(isa) != NULL; }

/* Read a window, with the columns shared over at most so many threads. The bits are the same however many there are.
 * Return 0, -1 if an id is outside the dictionary, or -2 if there is no memory. The caller has checked everything else.
 */
EXPORT int lstmq_read_window(const struct model *model, int isa, int64_t threads, const struct window *window) {
    struct call call = {.kernel = lstmq_kernel(isa), .model = model, .window = window};
    if (!ids_are_words(model, window)) return -1;
    call.groups = choose_threads(model, window, threads);
    void *block = malloc(lay_out(&call, NULL) + ALIGNMENT);
    if (!block) return -2;
    lay_out(&call, align(block));
    lstmq_run_tasks(call.groups, call.groups, read_columns, &call);
    if (window->targets) {
        double loss = 0;
        for (int64_t m = 0; m < window->n * window->bsz; m++) loss += call.losses[m];
        *window->loss = (float)loss;
    }
    free(block);
    return 0;
}
