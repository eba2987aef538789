/* AVX512 with VNNI: vpdpbusd adds, in each of 16 lanes, 4 products of an unsigned with a signed byte to an int32.
 *
 * The lanes are the rows of a block of weights, which are the signed. Activations are made unsigned by adding 128, and
 * 128 times the sum of a row's weights is taken away again: the integers are those of the signed product.
 */
#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512")
#endif
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#endif

#include "elementwise.h"
#include "rows.h"

/* 4 bytes of a row in every lane, as unsigned. */
static inline __m512i spread(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm512_xor_si512(_mm512_set1_epi32(four), _mm512_set1_epi32((int)0x80808080u));
}

/* What sums begin with: 128 times what the weights of each row add up to, taken away. */
static inline __m512i begin(const int32_t *sums) {
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(_mm512_loadu_si512(sums), 7));
}

/* As assembly, since GCC moves the intrinsic's sums to and fro between registers and memory. */
static inline void multiply(__m512i *sums, __m512i activation, __m512i weights) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(activation), "v"(weights));
}

static inline void end(__m512i sums, float scale, const float *scales, const float *add, float *out) {
    const __m512 both = _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(scales));
    const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), both);
    _mm512_storeu_ps(out, _mm512_add_ps(product, _mm512_loadu_ps(add)));
}

/* A tile: some rows of activations with a block of weights. The next block is asked for while this one is read. */
#define BEGIN(m) __m512i s##m##0 = b0, s##m##1 = b1, s##m##2 = b2, s##m##3 = b3;
#define ADD(m)                      \
    a = spread(x + m * depth + k);  \
    multiply(&s##m##0, a, w0);      \
    multiply(&s##m##1, a, w1);      \
    multiply(&s##m##2, a, w2);      \
    multiply(&s##m##3, a, w3);
#define END(m)                                                                                                      \
    end(s##m##0, scale[m], scales, add + m * add_stride, out + m * out_stride);                                     \
    end(s##m##1, scale[m], scales + LANES, add + m * add_stride + LANES, out + m * out_stride + LANES);             \
    end(s##m##2, scale[m], scales + 2 * LANES, add + m * add_stride + 2 * LANES, out + m * out_stride + 2 * LANES); \
    end(s##m##3, scale[m], scales + 3 * LANES, add + m * add_stride + 3 * LANES, out + m * out_stride + 3 * LANES);
#define TILE(name, ROWS)                                                                                          \
    static void name(const int8_t *x, const float *scale, const int8_t *packed, int64_t depth, const int32_t *sums, \
                     const float *scales, const float *add, int64_t add_stride, float *out, int64_t out_stride) { \
        const __m512i b0 = begin(sums), b1 = begin(sums + LANES), b2 = begin(sums + 2 * LANES),                   \
                      b3 = begin(sums + 3 * LANES);                                                               \
        ROWS(BEGIN)                                                                                               \
        for (int64_t k = 0; k < depth; k += GROUP) {                                                              \
            const int8_t *group = packed + k * BLOCK;                                                             \
            const __m512i w0 = _mm512_loadu_si512(group), w1 = _mm512_loadu_si512(group + 64),                    \
                          w2 = _mm512_loadu_si512(group + 128), w3 = _mm512_loadu_si512(group + 192);             \
            __builtin_prefetch(group + depth * BLOCK + 0, 0, 2);                                                  \
            __builtin_prefetch(group + depth * BLOCK + 64, 0, 2);                                                 \
            __builtin_prefetch(group + depth * BLOCK + 128, 0, 2);                                                \
            __builtin_prefetch(group + depth * BLOCK + 192, 0, 2);                                                \
            __m512i a;                                                                                            \
            ROWS(ADD)                                                                                             \
        }                                                                                                         \
        ROWS(END)                                                                                                 \
    }
TILE(one, ONE)
TILE(two, TWO)
TILE(three, THREE)
TILE(four, FOUR)
TILE(five, FIVE)
TILE(six, SIX)

static void product(const int8_t *x, const float *scale, int64_t rows, const struct matrix *w, int64_t first,
                    int64_t blocks, const float *add, int64_t add_stride, float *out, int64_t out_stride) {
    static void (*const tiles[])(const int8_t *, const float *, const int8_t *, int64_t, const int32_t *, const float *,
                                 const float *, int64_t, float *, int64_t) = {one, two, three, four, five, six};
    const int64_t parts = (rows + 5) / 6; /* as equal as can be, of at most 6 rows */
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t part = 0; part < parts; part++) {
            const int64_t m = part * rows / parts, now = (part + 1) * rows / parts - m, j = (first + b) * BLOCK;
            tiles[now - 1](x + m * w->depth, scale + m, w->packed + j * w->depth, w->depth, w->sums + j, w->scale + j,
                           add + m * add_stride + b * BLOCK, add_stride, out + m * out_stride + b * BLOCK, out_stride);
        }
}

const struct kernel lstmq_avx512_vnni = {product, quantize, step, softmax};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
