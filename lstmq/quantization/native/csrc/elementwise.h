/* Everything but the products of integers, in plain C. Each instruction set's file includes this, and the compiler
 * vectorizes it for that instruction set.
 *
 * All instruction sets return the same bits: sums are split over 16 lanes however wide the vectors are, and the
 * compiler may not contract or reassociate operations (-ffp-contract=off, no -ffast-math).
 */
#include <string.h>

#include "kernels.h"

static const float ROUND = 12582912.0f; /* 1.5 * 2^23: adding and subtracting it rounds half to even */

enum { INFINITE = 0x7f800000 }; /* the bits of infinity; those of NaN are greater */

static inline int32_t bits(float x) {
    int32_t i;
    memcpy(&i, &x, sizeof i);
    return i;
}

static inline float from_bits(int32_t i) {
    float x;
    memcpy(&x, &i, sizeof x);
    return x;
}

/* Map a float's bits to an integer that sorts as the float does, or back. Compilers vectorize an integer maximum. */
static inline int32_t sortable(int32_t i) { return i ^ ((i >> 31) & 0x7fffffff); }

/* exp(x) is exp(r) * 2^n within a relative error of 2e-7, after clamping x to [-87, 88]. Polynomial: expf of Cephes, by
 * Moshier. */
static inline float clamp_below(float x) { return x < -87.0f ? -87.0f : x; }

static inline float clamp_above(float x) { return x > 88.0f ? 88.0f : x; }

/* Return n, to which ROUND was added. */
static inline float rounded_exponent(float x) { return x * 1.44269504f + ROUND; }

/* Return r. */
static inline float remainder_of(float x, float rounded) {
    const float n = rounded - ROUND;
    return (x - n * 0.693359375f) + n * 2.12194440e-4f;
}

/* Return exp(r). */
static inline float exponential_of_remainder(float r) {
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * (r * r) + r + 1.0f;
}

/* Return 2^n. */
static inline float power_of_two(float rounded) {
    return from_bits((int32_t)((uint32_t)(bits(rounded) - bits(ROUND) + 127) << 23));
}

static inline float exponential(float x) {
    x = clamp_above(clamp_below(x));
    const float rounded = rounded_exponent(x);
    return exponential_of_remainder(remainder_of(x, rounded)) * power_of_two(rounded);
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

static inline float hyperbolic_tangent(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

static void quantize_row(const float *restrict x, int64_t n, int64_t padded, int8_t *restrict q, float *scale) {
    int32_t largest = 0; /* the bits of positive floats sort as integers do */
    for (int64_t i = 0; i < n; i++) {
        const int32_t magnitude = bits(x[i]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    const float most = from_bits(largest);
    if (largest >= INFINITE) { /* a row with NaN or infinity makes all that is computed from it NaN */
        memset(q, 0, (size_t)padded);
        *scale = from_bits(INFINITE | 1 << 22);
        return;
    }
    const float inverse = most > 1e-30f ? 127.0f / most : 0.0f; /* smaller rows are zero: the quotient would overflow */
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)(bits(x[i] * inverse + ROUND) - bits(ROUND));
    memset(q + n, 0, (size_t)(padded - n));
    *scale = most > 1e-30f ? most / 127.0f : 0.0f;
}

/* Gates are computed for so many units at a time, one kind after the other. A processor then overlaps the exponentials
 * of many units, where it would otherwise wait for the chain of each unit. */
enum { UNITS = 128 };

static void apply_sigmoid(const float *restrict x, int64_t n, float *restrict y) {
    for (int64_t i = 0; i < n; i++) y[i] = sigmoid(x[i]);
}

static void apply_tanh(const float *restrict x, int64_t n, float *restrict y) {
    for (int64_t i = 0; i < n; i++) y[i] = hyperbolic_tangent(x[i]);
}

static void lstm_step(const float *restrict gates, int64_t n, float *restrict c, float *restrict h) {
    float input[UNITS], forget[UNITS], cell[UNITS], output[UNITS];
    for (int64_t first = 0; first < n; first += UNITS) {
        const int64_t count = n - first < UNITS ? n - first : UNITS;
        apply_sigmoid(gates + first, count, input);
        apply_sigmoid(gates + n + first, count, forget);
        apply_tanh(gates + 2 * n + first, count, cell);
        apply_sigmoid(gates + 3 * n + first, count, output);
        for (int64_t i = 0; i < count; i++) c[first + i] = forget[i] * c[first + i] + input[i] * cell[i];
        apply_tanh(c + first, count, cell);
        for (int64_t i = 0; i < count; i++) h[first + i] = output[i] * cell[i];
    }
}

static void gru_step(const float *restrict projected, const float *restrict stepped, int64_t n, float *restrict h) {
    float r[UNITS], z[UNITS], new[UNITS];
    for (int64_t first = 0; first < n; first += UNITS) {
        const int64_t count = n - first < UNITS ? n - first : UNITS;
        const float *in = projected + first, *state = stepped + first;
        for (int64_t i = 0; i < count; i++) r[i] = sigmoid(in[i] + state[i]);
        for (int64_t i = 0; i < count; i++) z[i] = sigmoid(in[n + i] + state[n + i]);
        for (int64_t i = 0; i < count; i++) new[i] = hyperbolic_tangent(in[2 * n + i] + r[i] * state[2 * n + i]);
        for (int64_t i = 0; i < count; i++) h[first + i] = (h[first + i] - new[i]) * z[i] + new[i];
    }
}

/* The exponentials are those of `exponential`, in several loops. In one loop, each number has a long chain of
 * operations, for which processors wait; and GCC computes the exponential of the bound apart, with more comparisons. */
static void update_softmax(const float *restrict logits, int64_t n, float *maximum, double *sum) {
    int32_t largest = sortable(bits(*maximum));
    for (int64_t i = 0; i < n; i++) {
        const int32_t logit = sortable(bits(logits[i]));
        largest = logit > largest ? logit : largest;
    }
    const float most = from_bits(sortable(largest));
    if (most > *maximum) *sum *= exponential(*maximum - most);
    *maximum = most;
    float lane[LANES] = {0}, x[BLOCK], scale[BLOCK], e[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        for (int k = 0; k < BLOCK; k++) x[k] = clamp_below(logits[i + k] - most);
        for (int k = 0; k < BLOCK; k++) {
            const float rounded = rounded_exponent(x[k]);
            x[k] = remainder_of(x[k], rounded);
            scale[k] = power_of_two(rounded);
        }
        for (int k = 0; k < BLOCK; k++) e[k] = exponential_of_remainder(x[k]) * scale[k];
        for (int k = 0; k < LANES; k++) lane[k] += (e[k] + e[k + 16]) + (e[k + 32] + e[k + 48]);
    }
    for (int k = 0; k < LANES; k++) *sum += lane[k];
}

/* Return where the first GROUP columns of a row of weights are. The next ones follow after BLOCK * GROUP bytes. */
static inline const int8_t *packed_row(const struct matrix *w, int64_t row) {
    const int64_t in_block = row & (BLOCK - 1);
    return w->packed + (row - in_block) * w->depth + in_block * GROUP;
}

/* Finish n sums of a product, those of row m from `column` on: convert them to floats, scale them, and add `add`. */
static inline void dequantize_add(const struct product *p, int64_t m, int64_t column, int n,
                                  const int32_t *restrict sums) {
    const float x_scale = p->x_scale[m], *restrict w_scale = p->w->scale + column;
    const float *restrict add = p->add + m * p->add_stride + column;
    float *restrict out = p->out + m * p->w->blocks * BLOCK + column;
    for (int k = 0; k < n; k++) out[k] = (float)sums[k] * (x_scale * w_scale[k]) + add[k];
}
