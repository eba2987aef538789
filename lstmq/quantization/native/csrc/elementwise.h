/* What is computed number by number, in plain C: each instruction set includes it, and its compiler makes vectors of it.
 *
 * Sums are of 16 lanes whatever the vectors' width, and nothing is contracted or reassociated (-ffp-contract=off, no
 * -ffast-math), so that every instruction set gives the same bits.
 */
#include <string.h>

#include "kernels.h"

static const float ROUND = 12582912.0f; /* 1.5 * 2^23: added and taken away, it rounds half to even */

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

/* A float's bits as an integer whose order is the floats' (compilers make vectors of it), and back. */
static inline int32_t ordered(int32_t i) { return i ^ ((i >> 31) & 0x7fffffff); }

/* exp(x) within 2e-7 of it, for x in [-87, 88], outside of which it stays what it is there. Constants: Moshier's Cephes. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float rounded = x * 1.44269504f + ROUND, n = rounded - ROUND;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * from_bits((int32_t)((uint32_t)(bits(rounded) - bits(ROUND) + 127) << 23));
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

static inline float hyperbolic_tangent(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

static void quantize(const float *restrict x, int64_t n, int64_t padded, int8_t *restrict q, float *scale) {
    int32_t largest = 0; /* as bits: of positive floats, the order is that of integers */
    for (int64_t i = 0; i < n; i++) {
        const int32_t magnitude = bits(x[i]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    const float most = from_bits(largest);
    const float inverse = most > 1e-30f ? 127.0f / most : 0.0f; /* what is smaller is zero: 127 / it would overflow */
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)(bits(x[i] * inverse + ROUND) - bits(ROUND));
    memset(q + n, 0, (size_t)(padded - n));
    *scale = most > 1e-30f ? most / 127.0f : 0.0f;
}

static void step(const float *restrict gates, int64_t n, float *restrict c, float *restrict h) {
    const float *input = gates, *forget = gates + n, *cell = gates + 2 * n, *output = gates + 3 * n;
    for (int64_t i = 0; i < n; i++) {
        const float state = sigmoid(forget[i]) * c[i] + sigmoid(input[i]) * hyperbolic_tangent(cell[i]);
        c[i] = state;
        h[i] = sigmoid(output[i]) * hyperbolic_tangent(state);
    }
}

static void softmax(const float *restrict logits, int64_t n, float *maximum, double *sum) {
    int32_t key = ordered(bits(*maximum));
    for (int64_t i = 0; i < n; i++) {
        const int32_t other = ordered(bits(logits[i]));
        key = other > key ? other : key;
    }
    const float most = from_bits(ordered(key));
    if (most > *maximum) *sum *= exponential(*maximum - most);
    *maximum = most;
    float lane[LANES] = {0}, exponentials[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        for (int k = 0; k < BLOCK; k++) exponentials[k] = exponential(logits[i + k] - most);
        for (int k = 0; k < LANES; k++)
            lane[k] += (exponentials[k] + exponentials[k + 16]) + (exponentials[k + 32] + exponentials[k + 48]);
    }
    for (int k = 0; k < LANES; k++) *sum += lane[k];
}

/* The end of a product: integers of one row of activations with some rows of weights, to floats. */
static inline void finish(int n, const int32_t *restrict integers, float scale, const float *restrict scales,
                          const float *restrict add, float *restrict out) {
    for (int k = 0; k < n; k++) out[k] = (float)integers[k] * (scale * scales[k]) + add[k];
}
