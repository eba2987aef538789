/* A window of a language model, from ids to the loss and the logits: all that Python calls. */
#include <math.h>
#include <string.h>

#include "kernels.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { PANEL = 4 }; /* blocks of the decoder whose logits are made at once, and stay in the nearest cache */

EXPORT int lstmq_runs(int isa) { return lstmq_kernel(isa) != NULL; }

static int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

static int64_t widest(const struct model *model) { return up(model->ninp > model->nhid ? model->ninp : model->nhid, 64); }

/* Bytes of room that a window takes: what lstmq_window and cross_entropy take of it. */
EXPORT int64_t lstmq_room(const struct model *model, int64_t n, int64_t bsz) {
    const int64_t rows = n * bsz, units = up(model->nhid, LANES);
    const int64_t layers = (bsz + rows) * (widest(model) + 4) + 4 * (4 * rows + 6 * bsz) * units;
    const int64_t softmax = 4 * rows * PANEL * BLOCK + 16 * rows;
    return layers + softmax + 10 * 64; /* each of the 10 parts begins at a multiple of 64 */
}

/* Carve `bytes` off the room. */
static void *take(char **room, int64_t bytes) {
    void *taken = *room;
    *room += up(bytes, 64);
    return taken;
}

/* The cross-entropy, summed over the rows. Logits are made a panel at a time, and are never in memory as a whole. */
static double cross_entropy(const struct kernel *kernel, const struct matrix *decoder, int64_t rows, const int8_t *x,
                            const float *scale, const int64_t *targets, char *room) {
    float *panel = take(&room, 4 * rows * PANEL * BLOCK), *maximum = take(&room, 4 * rows);
    float *of_target = take(&room, 4 * rows);
    double *sum = take(&room, 8 * rows), loss = 0;
    for (int64_t m = 0; m < rows; m++) maximum[m] = -INFINITY, sum[m] = 0;
    for (int64_t first = 0; first < decoder->blocks; first += PANEL) {
        const int64_t left = decoder->blocks - first, blocks = left < PANEL ? left : PANEL, wide = blocks * BLOCK;
        kernel->product(x, scale, rows, decoder, first, blocks, decoder->bias + first * BLOCK, 0, panel, wide);
        for (int64_t m = 0; m < rows; m++) {
            const int64_t place = targets[m] - first * BLOCK;
            if (place >= 0 && place < wide) of_target[m] = panel[m * wide + place];
            kernel->softmax(panel + m * wide, wide, &maximum[m], &sum[m]);
        }
    }
    for (int64_t m = 0; m < rows; m++) loss += log(sum[m]) + maximum[m] - of_target[m];
    return loss;
}

/* Read a window. All sizes are Python's to check, but for the ids.
 *
 * input and targets: n rows of bsz ids. hidden and cell: nlayers * bsz rows of nhid, in and out. loss: in nats, summed
 * over the targets. logits: n * bsz rows of ntoken, padded to a multiple of 64. With neither targets nor logits only the
 * state is computed. room: lstmq_room bytes. Returns 0, or -1 if an id is no word.
 */
EXPORT int lstmq_window(const struct model *model, int isa, int64_t n, int64_t bsz, const int64_t *input,
                        const int64_t *targets, float *hidden, float *cell, double *loss, float *logits, char *room) {
    const struct kernel *kernel = lstmq_kernel(isa);
    const int64_t rows = n * bsz, nhid = model->nhid, units = up(nhid, LANES), gates = 4 * units;
    for (int64_t m = 0; m < rows; m++)
        if (input[m] < 0 || input[m] >= model->ntoken || (targets && (targets[m] < 0 || targets[m] >= model->ntoken)))
            return -1;

    /* What a layer reads, all of it before it writes: its state before the window, then its output, step by step. */
    int8_t *integers = take(&room, (bsz + rows) * widest(model));
    float *scales = take(&room, 4 * (bsz + rows));
    float *prepared = take(&room, 4 * rows * gates), *stepped = take(&room, 4 * bsz * gates);
    float *h = take(&room, 4 * bsz * units), *c = take(&room, 4 * bsz * units);
    const int8_t *in = integers;
    const float *in_scale = scales;

    const int64_t wide = model->input[0].depth;
    for (int64_t m = 0; m < rows; m++) { /* the embedding's rows are integers already */
        memcpy(integers + m * wide, model->encoder + input[m] * model->ninp, (size_t)model->ninp);
        memset(integers + m * wide + model->ninp, 0, (size_t)(wide - model->ninp));
        scales[m] = model->encoder_scale[input[m]];
    }
    for (int64_t layer = 0; layer < model->nlayers; layer++) {
        const struct matrix *to = &model->input[layer], *back = &model->recurrent[layer];
        const int64_t depth = back->depth;
        float *layers_hidden = hidden + layer * bsz * nhid, *layers_cell = cell + layer * bsz * nhid;
        kernel->product(in, in_scale, rows, to, 0, to->blocks, to->bias, 0, prepared, gates);
        memset(c, 0, (size_t)(4 * bsz * units)); /* units that are padding are to compute with numbers, too */
        for (int64_t b = 0; b < bsz; b++) {
            memcpy(c + b * units, layers_cell + b * nhid, (size_t)(4 * nhid));
            kernel->quantize(layers_hidden + b * nhid, nhid, depth, integers + b * depth, scales + b);
        }
        for (int64_t t = 0; t < n; t++) {
            kernel->product(integers + t * bsz * depth, scales + t * bsz, bsz, back, 0, back->blocks,
                            prepared + t * bsz * gates, gates, stepped, gates);
            for (int64_t b = 0; b < bsz; b++) {
                const int64_t row = (t + 1) * bsz + b;
                kernel->step(stepped + b * gates, units, c + b * units, h + b * units);
                kernel->quantize(h + b * units, nhid, depth, integers + row * depth, scales + row);
            }
        }
        for (int64_t b = 0; b < bsz; b++) {
            memcpy(layers_cell + b * nhid, c + b * units, (size_t)(4 * nhid));
            memcpy(layers_hidden + b * nhid, h + b * units, (size_t)(4 * nhid));
        }
        in = integers + bsz * depth, in_scale = scales + bsz;
    }
    if (logits) {
        const int64_t stride = model->decoder->blocks * BLOCK;
        kernel->product(in, in_scale, rows, model->decoder, 0, model->decoder->blocks, model->decoder->bias, 0, logits, stride);
    }
    if (targets) *loss = cross_entropy(kernel, model->decoder, rows, in, in_scale, targets, room);
    return 0;
}
