/* Small products, steps and losses, with inputs that are the same everywhere. known_answers.py knows the digests of
 * their bits, and leaves out a kernel that gives others.
 *
 * The inputs have extreme values, and the products have all numbers of rows that a kernel treats differently.
 */
#include <math.h>
#include <string.h>

#include "export.h"
#include "kernels.h"

enum { HEIGHT = 2 * BLOCK, DEPTH = 128, ROWS = 35, WIDTH = 100, UNITS = 48, LOGITS = 320 };

/* Return the next of a fixed sequence of numbers: a linear congruential generator. */
static uint32_t next_number(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

/* Return a byte from -127 to 127. */
static int8_t next_byte(uint32_t *state) { return (int8_t)((int)((next_number(state) >> 24) % 255) - 127); }

/* Return a number from -8 to 8, without rounding. */
static float next_float(uint32_t *state) { return (float)((int32_t)(next_number(state) >> 8) - (1 << 23)) / (1 << 20); }

static void fill(float *x, int64_t n, uint32_t *state) {
    for (int64_t i = 0; i < n; i++) x[i] = next_float(state);
}

/* Add 32-bit words to a digest: FNV-1a, by words. */
static void digest(uint64_t *sum, const void *words, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, (const char *)words + i * 4, sizeof word);
        *sum = (*sum ^ word) * 0x100000001b3u;
    }
}

static void answer_rows(const struct kernel *kernel, uint32_t *state, uint64_t *sum) {
    const float scales[] = {1.0f, 1e30f, 1e-38f, 0.0f};
    for (int row = 0; row < 32; row++) {
        float x[WIDTH], scale;
        int8_t q[DEPTH];
        fill(x, WIDTH, state);
        for (int i = 0; i < WIDTH; i++) x[i] *= scales[row % 4];
        if (row == 31) x[WIDTH / 2] = NAN;
        kernel->quantize_row(x, WIDTH, DEPTH, q, &scale);
        digest(sum, q, DEPTH / 4);
        digest(sum, &scale, 1);
    }
}

static void answer_products(const struct kernel *kernel, uint32_t *state, uint64_t *sum) {
    const int64_t rows[] = {1, 2, 3, 4, 5, 6, 17, ROWS};
    int8_t packed[HEIGHT * DEPTH], x[ROWS * DEPTH];
    float scale[HEIGHT], x_scale[ROWS], add[ROWS * HEIGHT], out[ROWS * HEIGHT] = {0};
    int32_t row_sums[HEIGHT] = {0};
    for (int i = 0; i < HEIGHT * DEPTH; i++) {
        const int row = i / (BLOCK * DEPTH) * BLOCK + i % (BLOCK * GROUP) / GROUP;
        packed[i] = row == 0 ? 127 : next_byte(state);
        row_sums[row] += packed[i];
    }
    for (int i = 0; i < ROWS * DEPTH; i++) x[i] = i < DEPTH ? -127 : next_byte(state);
    fill(scale, HEIGHT, state);
    fill(x_scale, ROWS, state);
    fill(add, ROWS * HEIGHT, state);
    const struct matrix w = {.packed = packed, .row_sums = row_sums, .scale = scale, .bias = add,
                             .blocks = HEIGHT / BLOCK, .depth = DEPTH};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct product product = {.w = &w, .rows = rows[i], .x = x, .x_scale = x_scale, .add = add,
                                        .add_stride = i % 2 ? HEIGHT : 0, .out = out};
        kernel->matmul(&product);
        digest(sum, out, rows[i] * HEIGHT);
    }
}

static void answer_steps(const struct kernel *kernel, uint32_t *state, uint64_t *sum) {
    float gates[4 * UNITS], c[UNITS], h[UNITS];
    fill(gates, 4 * UNITS, state);
    fill(c, UNITS, state);
    for (int i = 0; i < 4 * UNITS; i += 9) gates[i] *= 16; /* saturated */
    kernel->lstm_step(gates, UNITS, c, h);
    digest(sum, c, UNITS);
    digest(sum, h, UNITS);
    kernel->gru_step(gates, gates + UNITS, UNITS, h);
    digest(sum, h, UNITS);
}

static void answer_losses(const struct kernel *kernel, uint32_t *state, uint64_t *sum) {
    float logits[LOGITS], maximum = -INFINITY;
    double total = 0;
    for (int64_t n = BLOCK; n <= LOGITS; n += 4 * BLOCK) {
        fill(logits, n, state);
        for (int64_t i = 0; i < n; i += 7) logits[i] *= 16;
        kernel->update_softmax(logits, n, &maximum, &total);
        digest(sum, &maximum, 1);
        digest(sum, &total, 2);
    }
}

/* Write the digests of what the kernel with this index computes: of rows, products, steps and losses. */
EXPORT void lstmq_known_answers(int isa, uint64_t *digests) {
    static void (*const answers[])(const struct kernel *kernel, uint32_t *state, uint64_t *sum) = {
        answer_rows, answer_products, answer_steps, answer_losses};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        uint32_t state = (uint32_t)i;
        digests[i] = 0xcbf29ce484222325u;
        answers[i](lstmq_kernel(isa), &state, &digests[i]);
    }
}

/* Return the compiler that built the kernels, for a report about wrong bits. */
EXPORT const char *lstmq_compiler(void) { return __VERSION__; }
