/* AVX2. vpmaddubsw multiplies unsigned with signed bytes, and adds pairs of products to int16, with saturation.
 *
 * It never saturates here. The unsigned bytes are the magnitudes of the weights, at most 127; the signed bytes are the
 * activations with the signs of the weights; and 2 * 127 * 127 < 2^15. vpmaddwd then adds pairs of those sums to int32.
 */
#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC target("avx2")
#endif
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#endif

#include "tiles.h"

enum { HALF = LANES / 2 }; /* int32 numbers in a vector */

/* Return 4 bytes, repeated over the whole vector. */
static inline __m256i broadcast4(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

/* The addition is assembly because GCC moves the sums of the intrinsic between registers and memory. */
static inline void multiply_add(__m256i *sums, __m256i x, __m256i weights, __m256i magnitudes) {
    const __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(x, weights));
    const __m256i products = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    __asm__("vpaddd %1, %0, %0" : "+x"(*sums) : "x"(products));
}

/* elementwise.h's dequantize_add, for one vector. */
static inline void dequantize_add8(__m256i sums, float x_scale, const float *w_scale, const float *add, float *out) {
    const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(x_scale), _mm256_loadu_ps(w_scale));
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale);
    _mm256_storeu_ps(out, _mm256_add_ps(product, _mm256_loadu_ps(add)));
}

/* A tile: up to five rows of activations with a quarter of a block. It also prefetches the next block. */
#define BEGIN(m) __m256i s##m##0 = _mm256_setzero_si256(), s##m##1 = _mm256_setzero_si256();
#define ADD(m)                          \
    x4 = broadcast4(x + m * depth + k); \
    multiply_add(&s##m##0, x4, w0, m0); \
    multiply_add(&s##m##1, x4, w1, m1);
#define END(m)                                                                                 \
    dequantize_add8(s##m##0, x_scale[m], w_scale, add + m * add_stride, out + m * out_stride); \
    dequantize_add8(s##m##1, x_scale[m], w_scale + HALF, add + m * add_stride + HALF, out + m * out_stride + HALF);
#define TILE(name, ROWS)                                                                                          \
    static void name(const struct product *p, int64_t m, int64_t column, const int8_t *x, const int8_t *packed) { \
        const int64_t depth = p->w->depth;                                                                        \
        ROWS(BEGIN)                                                                                               \
        for (int64_t k = 0; k < depth; k += GROUP) {                                                              \
            const __m256i *group = (const __m256i *)(packed + k * BLOCK);                                         \
            const __m256i w0 = _mm256_loadu_si256(group), w1 = _mm256_loadu_si256(group + 1);                     \
            const __m256i m0 = _mm256_abs_epi8(w0), m1 = _mm256_abs_epi8(w1);                                     \
            __m256i x4;                                                                                           \
            __builtin_prefetch((const char *)group + depth * BLOCK, 0, 2);                                        \
            ROWS(ADD)                                                                                             \
        }                                                                                                         \
        const float *x_scale = p->x_scale + m, *w_scale = p->w->scale + column;                                   \
        const int64_t add_stride = p->add_stride, out_stride = p->w->blocks * BLOCK;                              \
        const float *add = p->add + m * add_stride + column;                                                      \
        float *out = p->out + m * out_stride + column;                                                            \
        ROWS(END)                                                                                                 \
    }
TILE(one, ONE)
TILE(two, TWO)
TILE(three, THREE)
TILE(four, FOUR)
TILE(five, FIVE)

static void matmul(const struct product *p) {
    static tile *const tiles[] = {one, two, three, four, five};
    run_tiles(p, tiles, 5, LANES);
}

const struct kernel lstmq_avx2 = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
