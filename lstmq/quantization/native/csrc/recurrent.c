/* Read sequences of floats with all layers and directions of a recurrent module. Python calls the functions at the end.
 *
 * Columns do not depend on one another, so threads share them: each group of columns has its own memory, and is read as
 * if there were no other. The two directions of a layer are tasks of their own. The bits are the same however many
 * groups there are.
 */
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "layer.h"
#include "threads.h"

enum { MOST_DIRECTIONS = 2 };

struct recurrent {
    int64_t layers, directions;
    const struct direction *weights; /* those of the first layer's directions, of the second's, ... */
};

/* Columns that are read side by side. */
struct group {
    int64_t first, rows;
    struct sequences sequences;
    int64_t *starts, *output_starts;
    struct rows buffers[2]; /* inputs of layers, in turn */
    float *joined;          /* the outputs of both directions, side by side */
    char *memory[MOST_DIRECTIONS]; /* for the scratch of each direction, large enough for that of any layer */
};

struct call {
    const struct kernel *kernel;
    const struct recurrent *model;
    int64_t steps, columns;
    const int64_t *batch_sizes; /* or NULL: all steps have all columns */
    const float *x;
    int64_t x_stride; /* floats from one row of x to the next */
    float *output, *h, *c;
    int64_t layer;
    int64_t groups;
    struct group *group;
};

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t size_of_step(const struct call *call, int64_t t) {
    return call->batch_sizes ? call->batch_sizes[t] : call->columns;
}

/* Lay out the memory of a group. With a base, also count the rows. */
static void lay_out_group(struct arena *arena, const struct call *call, int64_t index, struct group *group) {
    const struct recurrent *model = call->model;
    const int64_t end = (index + 1) * call->columns / call->groups, directions = model->directions;
    group->first = index * call->columns / call->groups;
    group->starts = arena_alloc(arena, call->steps + 1, sizeof *group->starts);
    group->output_starts = arena_alloc(arena, call->steps, sizeof *group->output_starts);
    int64_t start = 0, output_start = 0, t = 0;
    for (; t < call->steps; t++) {
        const int64_t size = size_of_step(call, t), last = size < end ? size : end;
        if (last <= group->first) break;
        if (arena->base) group->starts[t] = start, group->output_starts[t] = output_start + group->first;
        start += last - group->first, output_start += size;
    }
    if (arena->base) group->starts[t] = start;
    group->rows = start;
    group->sequences = (struct sequences){t, end - group->first, group->starts};

    int64_t depth = 0;
    size_t largest = 0; /* layers run one after the other, so they share the memory of the largest */
    for (int64_t i = 0; i < model->layers * directions; i++) {
        struct arena measured = {NULL, 0};
        struct scratch unused;
        depth = most(depth, model->weights[i].w_input.depth);
        lstmq_lay_out_scratch(&measured, &model->weights[i], t, end - group->first, &unused);
        if (measured.used > largest) largest = measured.used;
    }
    for (int i = 0; i < 2; i++) lay_out_rows(arena, start, depth, &group->buffers[i]);
    const int64_t joined = directions > 1 && model->layers > 1 ? start * directions * model->weights->width : 0;
    group->joined = arena_alloc(arena, joined, sizeof *group->joined);
    for (int64_t i = 0; i < directions; i++) group->memory[i] = arena_alloc(arena, (int64_t)largest, 1);
}

static struct rows input_of(const struct call *call, const struct group *group) {
    return group->buffers[call->model->directions > 1 ? 0 : call->layer % 2];
}

/* Quantize the input of a layer: that of the first layer, or what two directions wrote. */
static void quantize_input(void *context, int64_t task, int64_t worker) {
    const struct call *call = context;
    const struct group *group = &call->group[task];
    const struct direction *w = &call->model->weights[call->layer * call->model->directions];
    const struct rows in = input_of(call, group);
    const int64_t depth = w->w_input.depth, size = w->input_size, *starts = group->starts;
    (void)worker;
    for (int64_t t = 0; t < group->sequences.steps; t++) {
        const int64_t stride = call->layer ? size : call->x_stride;
        const float *x = call->layer ? group->joined + starts[t] * size : call->x + group->output_starts[t] * stride;
        for (int64_t row = starts[t]; row < starts[t + 1]; row++, x += stride)
            call->kernel->quantize_row(x, size, depth, in.x + row * depth, in.scale + row);
    }
}

/* Run one direction of the layer for one group. */
static void run_direction(void *context, int64_t task, int64_t worker) {
    const struct call *call = context;
    const struct recurrent *model = call->model;
    const int64_t directions = model->directions, i = task % directions, k = call->layer * directions + i;
    const struct group *group = &call->group[task / directions];
    const struct direction *w = &model->weights[k];
    const int is_last = call->layer == model->layers - 1;
    const int64_t column = k * call->columns + group->first;
    struct pass pass = {.sequences = &group->sequences, .reverse = i == 1, .in = input_of(call, group),
                        .h = call->h + column * w->width, .c = call->c ? call->c + column * w->hidden_size : NULL,
                        .output_stride = directions * w->width};
    (void)worker;
    if (is_last)
        pass.output = call->output ? call->output + i * w->width : NULL, pass.output_starts = group->output_starts;
    else if (directions > 1)
        pass.output = group->joined + i * w->width, pass.output_starts = group->starts;
    else
        pass.out = group->buffers[(call->layer + 1) % 2];
    struct arena arena = {group->memory[i], 0};
    struct scratch scratch;
    lstmq_lay_out_scratch(&arena, w, group->sequences.steps, group->sequences.columns, &scratch);
    lstmq_run_direction(call->kernel, w, &pass, &scratch);
}

/* Return whether sequences may have these sizes of steps. */
static int sizes_fit(const struct call *call, int64_t rows) {
    int64_t sum = 0, before = call->columns;
    for (int64_t t = 0; t < call->steps; t++) {
        const int64_t size = size_of_step(call, t);
        if (size < 1 || size > before || (t == 0 && size != call->columns)) return 0;
        before = size, sum += size;
    }
    return sum == rows;
}

/* Return how many threads are worth their start: each should have so many products of integers to do in a layer. */
static int64_t choose_threads(const struct recurrent *model, int64_t rows, int64_t threads) {
    enum { PRODUCTS = 4 << 20 };
    const struct direction *w = &model->weights[(model->layers - 1) * model->directions];
    const int64_t products = rows * model->directions * w->w_recurrent.blocks * BLOCK *
                             (w->w_input.depth + w->w_recurrent.depth), worth = products / PRODUCTS;
    if (threads > worth) threads = worth;
    return threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
}

/* Return how many groups the columns make. Two directions keep two threads busy with one group, whose steps read the
 * weights once for more columns. */
static int64_t choose_groups(int64_t threads, int64_t directions, int64_t columns) {
    const int64_t groups = threads % directions ? threads : threads / directions;
    return threads == 1 ? 1 : groups < columns ? groups : columns;
}

static size_t lay_out(struct call *call, char *base) {
    struct arena arena = {base, 0};
    for (int64_t i = 0; i < call->groups; i++) lay_out_group(&arena, call, i, &call->group[i]);
    return arena.used;
}

/* Run all layers. Return 0, or -2 if there is no memory. */
static int run_layers(struct call *call, int64_t rows, int64_t threads) {
    const struct recurrent *model = call->model;
    struct group groups[MOST_THREADS]; /* not in the call, where an initializer would clear all of them */
    threads = choose_threads(model, rows, threads);
    call->groups = choose_groups(threads, model->directions, call->columns);
    call->group = groups;
    void *block = malloc(lay_out(call, NULL) + ALIGNMENT);
    if (!block) return -2;
    lay_out(call, align(block));
    for (call->layer = 0; call->layer < model->layers; call->layer++) {
        if (call->layer == 0 || model->directions > 1) lstmq_run_tasks(threads, call->groups, quantize_input, call);
        lstmq_run_tasks(threads, call->groups * model->directions, run_direction, call);
    }
    free(block);
    return 0;
}

/* Read sequences. Return 0, -1 if the batch sizes are not those of sequences that have so many columns and rows, or -2
 * if there is no memory. The caller has checked everything else.
 *
 * batch_sizes: the number of columns in each step, or NULL: all columns in each step
 * x: the input; the rows of the first step come first
 * output: a row for each of the input's, in which the directions are side by side
 * h, c: the state of each direction of each layer, a row for each column; read and then overwritten; a GRU has no c
 */
EXPORT int lstmq_run_recurrent(const struct recurrent *model, int isa, int64_t threads, int64_t steps, int64_t columns,
                               const int64_t *batch_sizes, int64_t rows, const float *x, float *output, float *h,
                               float *c) {
    struct call call = {.kernel = lstmq_kernel(isa), .model = model, .steps = steps, .columns = columns,
                        .batch_sizes = batch_sizes, .x = x, .x_stride = model->weights->input_size, .output = output,
                        .h = h, .c = c};
    return sizes_fit(&call, rows) ? run_layers(&call, rows, threads) : -1;
}

/* What the steps of a cell have in common. Python makes it once. */
struct step {
    const struct recurrent *model;
    int64_t isa, threads, columns;
};

/* Take one step of a cell, which is a layer with one direction and without a projection. Return 0, or -2 if there is no
 * memory.
 *
 * rows: for each column, the input and the state before, side by side: x, h, and c of an LSTM
 * h, c: the state after the step, a row for each column; a GRU has no c
 */
EXPORT int lstmq_run_step(const struct step *step, const float *rows, float *h, float *c) {
    const struct direction *w = step->model->weights;
    const int64_t units = w->hidden_size, stride = w->input_size + (c ? 2 : 1) * units;
    for (int64_t b = 0; b < step->columns; b++) {
        const float *state = rows + b * stride + w->input_size;
        memcpy(h + b * units, state, (size_t)units * sizeof *h);
        if (c) memcpy(c + b * units, state + units, (size_t)units * sizeof *c);
    }
    struct call call = {.kernel = lstmq_kernel((int)step->isa), .model = step->model, .steps = 1,
                        .columns = step->columns, .x = rows, .x_stride = stride, .h = h, .c = c};
    return run_layers(&call, step->columns, step->threads);
}
