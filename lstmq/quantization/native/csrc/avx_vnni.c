/* VNNI in 256 bits without AVX512: Intel since Alder Lake, AMD since Zen 5. In each of 8 lanes, vpdpbusd multiplies 4
 * unsigned with 4 signed bytes, and adds the products to an int32.
 *
 * The bytes are made unsigned as in avx512_vnni.c. There are only 16 registers, so a tile has fewer sums.
 */
#include "kernels.h"
#if defined(LSTMQ_AVX_VNNI)
#if defined(LSTMQ_EMULATE) /* tests replace the intrinsics with plain C */
#include LSTMQ_EMULATE
#else
#if !defined(__clang__)
#pragma GCC target("avx2,avxvnni")
#endif
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#endif
#endif

#include "tiles.h"
#include "unroll.h"

enum { HALF = LANES / 2 }; /* int32 numbers in a vector */

/* Return 4 bytes, made unsigned and repeated over the whole vector. */
static inline __m256i broadcast4(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_xor_si256(_mm256_set1_epi32(four), _mm256_set1_epi32((int)0x80808080u));
}

/* Return what the sums of 8 rows start at. */
static inline __m256i initial_sums(const int32_t *row_sums) {
    const __m256i sums = _mm256_loadu_si256((const __m256i *)row_sums);
    return _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sums, 7));
}

static inline void multiply_add(__m256i *sums, __m256i x, __m256i weights) {
#if defined(LSTMQ_EMULATE)
    *sums = _mm256_dpbusd_avx_epi32(*sums, x, weights);
#else /* as assembly because GCC moves the sums of the intrinsic between registers and memory */
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(*sums) : "x"(x), "x"(weights));
#endif
}

/* elementwise.h's dequantize_add, for one vector. */
static inline void dequantize_add8(__m256i sums, float x_scale, const float *w_scale, const float *add, float *out) {
    const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(x_scale), _mm256_loadu_ps(w_scale));
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale);
    _mm256_storeu_ps(out, _mm256_add_ps(product, _mm256_loadu_ps(add)));
}

/* A tile: some rows of activations with some vectors of weights. It also prefetches the next block. */
#define BEGIN(m, v) __m256i s##m##_##v = initial_sums(row_sums + v * HALF);
#define BEGIN_VECTOR(v, ROWS) ROWS(BEGIN, v)
#define ADD(m, VECTORS)                 \
    x4 = broadcast4(x + m * depth + k); \
    VECTORS(ADD_VECTOR, m)
#define ADD_VECTOR(v, m) multiply_add(&s##m##_##v, x4, w##v);
#define LOAD(v, _) const __m256i w##v = _mm256_loadu_si256(group + v);
#define END(m, v)                                                                                    \
    dequantize_add8(s##m##_##v, x_scale[m], w_scale + v * HALF, add + m * add_stride + v * HALF, \
                    out + m * out_stride + v * HALF);
#define END_VECTOR(v, ROWS) ROWS(END, v)
#define TILE(name, ROWS, VECTORS, width)                                                                          \
    static void name(const struct product *p, int64_t m, int64_t column, const int8_t *x, const int8_t *packed) { \
        const int64_t depth = p->w->depth;                                                                        \
        const int32_t *row_sums = p->w->row_sums + column;                                                        \
        VECTORS(BEGIN_VECTOR, ROWS)                                                                               \
        for (int64_t k = 0; k < depth; k += GROUP) {                                                              \
            const __m256i *group = (const __m256i *)(packed + k * BLOCK);                                         \
            for (int64_t byte = 0; byte < (width) * GROUP; byte += 64)                                            \
                __builtin_prefetch((const char *)group + depth * BLOCK + byte, 0, 2);                             \
            VECTORS(LOAD, )                                                                                       \
            __m256i x4;                                                                                           \
            ROWS(ADD, VECTORS)                                                                                    \
        }                                                                                                         \
        const float *x_scale = p->x_scale + m, *w_scale = p->w->scale + column;                                   \
        const int64_t add_stride = p->add_stride, out_stride = p->w->blocks * BLOCK;                              \
        const float *add = p->add + m * add_stride + column;                                                      \
        float *out = p->out + m * out_stride + column;                                                            \
        VECTORS(END_VECTOR, ROWS)                                                                                 \
    }
TILE(one, ROWS_1, VECTORS_8, BLOCK)
TILE(two, ROWS_2, VECTORS_4, BLOCK / 2)
TILE(three, ROWS_3, VECTORS_2, LANES)
TILE(four, ROWS_4, VECTORS_2, LANES)
TILE(five, ROWS_5, VECTORS_2, LANES)
TILE(six, ROWS_6, VECTORS_2, LANES)

/* The fewer rows, the more columns, so that there are always enough sums to hide the latency of vpdpbusd. */
static void matmul(const struct product *p) {
    static tile *const tiles[] = {one, two, three, four, five, six};
    if (p->rows <= 2)
        run_tiles(p, tiles, p->rows, BLOCK / p->rows);
    else
        run_tiles(p, tiles, 6, LANES);
}

const struct kernel lstmq_avx_vnni = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__) && !defined(LSTMQ_EMULATE)
#pragma clang attribute pop
#endif
#endif
