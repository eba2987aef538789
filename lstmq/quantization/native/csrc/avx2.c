/* AVX2: vpmaddubsw adds 2 products of an unsigned with a signed byte to an int16, and saturates.
 *
 * It does not here: the unsigned is the weight's magnitude, at most 127, the signed the activation with the weight's
 * sign, and 2 * 127 * 127 < 2^15. vpmaddwd then adds pairs of those to int32.
 */
#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC target("avx2")
#endif
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#endif

#include "elementwise.h"
#include "rows.h"

enum { HALF = LANES / 2 };

/* 4 bytes of a row in every lane. */
static inline __m256i spread(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

/* The addition as assembly, since GCC moves the intrinsic's sums to and fro between registers and memory. */
static inline void multiply(__m256i *sums, __m256i activation, __m256i weights, __m256i magnitudes) {
    const __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(activation, weights));
    const __m256i products = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    __asm__("vpaddd %1, %0, %0" : "+x"(*sums) : "x"(products));
}

static inline void end(__m256i sums, float scale, const float *scales, const float *add, float *out) {
    const __m256 both = _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_loadu_ps(scales));
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), both);
    _mm256_storeu_ps(out, _mm256_add_ps(product, _mm256_loadu_ps(add)));
}

/* A tile: some rows of activations with a quarter of a block of weights. */
#define BEGIN(m) __m256i s##m##0 = _mm256_setzero_si256(), s##m##1 = _mm256_setzero_si256();
#define ADD(m)                              \
    a = spread(x + m * depth + k);          \
    multiply(&s##m##0, a, w0, m0); \
    multiply(&s##m##1, a, w1, m1);
#define END(m)                                                                  \
    end(s##m##0, scale[m], scales, add + m * add_stride, out + m * out_stride); \
    end(s##m##1, scale[m], scales + HALF, add + m * add_stride + HALF, out + m * out_stride + HALF);
#define TILE(name, ROWS)                                                                                            \
    static void name(const int8_t *x, const float *scale, const int8_t *packed, int64_t depth, const float *scales, \
                     const float *add, int64_t add_stride, float *out, int64_t out_stride) {                        \
        ROWS(BEGIN)                                                                                                 \
        for (int64_t k = 0; k < depth; k += GROUP) {                                                                \
            const __m256i *group = (const __m256i *)(packed + k * BLOCK);                                           \
            const __m256i w0 = _mm256_loadu_si256(group), w1 = _mm256_loadu_si256(group + 1);                       \
            const __m256i m0 = _mm256_abs_epi8(w0), m1 = _mm256_abs_epi8(w1);                                       \
            __m256i a;                                                                                              \
            __builtin_prefetch((const char *)group + depth * BLOCK, 0, 2);                                          \
            ROWS(ADD)                                                                                               \
        }                                                                                                           \
        ROWS(END)                                                                                                   \
    }
TILE(one, ONE)
TILE(two, TWO)
TILE(three, THREE)
TILE(four, FOUR)
TILE(five, FIVE)

static void product(const int8_t *x, const float *scale, int64_t rows, const struct matrix *w, int64_t first,
                    int64_t blocks, const float *add, int64_t add_stride, float *out, int64_t out_stride) {
    static void (*const tiles[])(const int8_t *, const float *, const int8_t *, int64_t, const float *, const float *,
                                 int64_t, float *, int64_t) = {one, two, three, four, five};
    const int64_t parts = (rows + 4) / 5; /* as equal as can be, of at most 5 rows */
    for (int64_t quarter = 0; quarter < 4 * blocks; quarter++)
        for (int64_t part = 0; part < parts; part++) {
            const int64_t m = part * rows / parts, now = (part + 1) * rows / parts - m;
            const int64_t j = (first + quarter / 4) * BLOCK, of_four = quarter % 4 * LANES, at = quarter * LANES;
            tiles[now - 1](x + m * w->depth, scale + m, w->packed + j * w->depth + of_four * GROUP, w->depth,
                           w->scale + j + of_four, add + m * add_stride + at, add_stride, out + m * out_stride + at,
                           out_stride);
        }
}

const struct kernel lstmq_avx2 = {product, quantize, step, softmax};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
