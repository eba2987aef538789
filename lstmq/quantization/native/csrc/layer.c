/* Read sequences with one direction of one recurrent layer. */
#include "layer.h"

#include <string.h>

/* How many floats of products with the input are computed before the steps that use them. They should stay in a cache
 * until then, but be of enough steps that the weights are not read too often. */
enum { PROJECTED = 1 << 18 };

static int64_t gates_of(const struct direction *w) { return w->w_recurrent.blocks * BLOCK; }

void lstmq_lay_out_scratch(struct arena *arena, const struct direction *w, int64_t steps, int64_t columns,
                           struct scratch *scratch) {
    const int64_t gates = gates_of(w), chunk = PROJECTED / (gates * columns);
    const int64_t at_least_one = chunk < 1 ? 1 : chunk;
    memset(scratch, 0, sizeof *scratch);
    scratch->chunk = at_least_one < steps ? at_least_one : steps;
    scratch->projected = arena_alloc(arena, scratch->chunk * columns * gates, sizeof *scratch->projected);
    scratch->stepped = arena_alloc(arena, columns * gates, sizeof *scratch->stepped);
    lay_out_rows(arena, columns, w->w_recurrent.depth, &scratch->state);
    scratch->h = arena_alloc(arena, columns * w->units, sizeof *scratch->h);
    scratch->c = w->is_gru ? NULL : arena_alloc(arena, columns * w->units, sizeof *scratch->c);
    if (w->w_projection.packed) {
        lay_out_rows(arena, columns, w->w_projection.depth, &scratch->unreduced);
        scratch->reduced = arena_alloc(arena, columns * w->w_projection.blocks * BLOCK, sizeof *scratch->reduced);
    }
}

static void load_state(const struct kernel *kernel, const struct direction *w, const struct pass *pass,
                       const struct scratch *scratch) {
    const int64_t columns = pass->sequences->columns, units = w->units, depth = w->w_recurrent.depth;
    float *state = w->is_gru ? scratch->h : scratch->c;
    const float *from = w->is_gru ? pass->h : pass->c;
    memset(state, 0, (size_t)(columns * units) * sizeof *state); /* padding units compute with zeros */
    for (int64_t b = 0; b < columns; b++) {
        memcpy(state + b * units, from + b * w->hidden_size, (size_t)w->hidden_size * sizeof *state);
        kernel->quantize_row(pass->h + b * w->width, w->width, depth, scratch->state.x + b * depth,
                             scratch->state.scale + b);
    }
}

/* Take one step, with n columns. `projected` is its input's product. */
static void take_step(const struct kernel *kernel, const struct direction *w, const struct pass *pass,
                      const struct scratch *scratch, int64_t t, int64_t n, const float *projected) {
    const int64_t units = w->units, gates = gates_of(w), depth = w->w_recurrent.depth, width = w->width;
    const struct rows *state = &scratch->state;
    const struct product recurrence = {.w = &w->w_recurrent, .rows = n, .x = state->x, .x_scale = state->scale,
                                       .add = w->is_gru ? w->w_recurrent.bias : projected,
                                       .add_stride = w->is_gru ? 0 : gates, .out = scratch->stepped};
    kernel->matmul(&recurrence);
    for (int64_t b = 0; b < n; b++) {
        const float *stepped = scratch->stepped + b * gates;
        if (w->is_gru)
            kernel->gru_step(projected + b * gates, stepped, units, scratch->h + b * units);
        else
            kernel->lstm_step(stepped, units, scratch->c + b * units, scratch->h + b * units);
    }
    const float *h = scratch->h;
    int64_t stride = units;
    if (scratch->reduced) {
        const struct matrix *projection = &w->w_projection;
        for (int64_t b = 0; b < n; b++)
            kernel->quantize_row(h + b * stride, w->hidden_size, projection->depth,
                                 scratch->unreduced.x + b * projection->depth, scratch->unreduced.scale + b);
        const struct product reduction = {.w = projection, .rows = n, .x = scratch->unreduced.x,
                                          .x_scale = scratch->unreduced.scale, .add = projection->bias,
                                          .out = scratch->reduced};
        kernel->matmul(&reduction);
        h = scratch->reduced, stride = projection->blocks * BLOCK;
    }
    for (int64_t b = 0; b < n; b++) {
        kernel->quantize_row(h + b * stride, width, depth, state->x + b * depth, state->scale + b);
        if (pass->output)
            memcpy(pass->output + (pass->output_starts[t] + b) * pass->output_stride, h + b * stride,
                   (size_t)width * sizeof *h);
    }
    if (pass->out.x) {
        const int64_t row = pass->sequences->starts[t];
        memcpy(pass->out.x + row * depth, state->x, (size_t)(n * depth));
        memcpy(pass->out.scale + row, state->scale, (size_t)n * sizeof *state->scale);
    }
}

static void store_state(const struct direction *w, const struct pass *pass, const struct scratch *scratch) {
    const float *h = scratch->reduced ? scratch->reduced : scratch->h;
    const int64_t stride = scratch->reduced ? w->w_projection.blocks * BLOCK : w->units;
    for (int64_t b = 0; b < pass->sequences->columns; b++) {
        memcpy(pass->h + b * w->width, h + b * stride, (size_t)w->width * sizeof *h);
        if (!w->is_gru)
            memcpy(pass->c + b * w->hidden_size, scratch->c + b * w->units, (size_t)w->hidden_size * sizeof *h);
    }
}

void lstmq_run_direction(const struct kernel *kernel, const struct direction *w, const struct pass *pass,
                         const struct scratch *scratch) {
    const int64_t steps = pass->sequences->steps, gates = gates_of(w), *starts = pass->sequences->starts;
    load_state(kernel, w, pass, scratch);
    for (int64_t done = 0; done < steps; done += scratch->chunk) {
        const int64_t left = steps - done, count = left < scratch->chunk ? left : scratch->chunk;
        const int64_t first = pass->reverse ? left - count : done;
        const struct product projection = {.w = &w->w_input, .rows = starts[first + count] - starts[first],
                                           .x = pass->in.x + starts[first] * w->w_input.depth,
                                           .x_scale = pass->in.scale + starts[first], .add = w->w_input.bias,
                                           .out = scratch->projected};
        kernel->matmul(&projection);
        for (int64_t i = 0; i < count; i++) {
            const int64_t t = pass->reverse ? first + count - 1 - i : first + i;
            const float *projected = scratch->projected + (starts[t] - starts[first]) * gates;
            take_step(kernel, w, pass, scratch, t, starts[t + 1] - starts[t], projected);
        }
    }
    store_state(w, pass, scratch);
}
