/* AVX512 with VNNI. In each of 16 lanes, vpdpbusd multiplies 4 unsigned with 4 signed bytes, and adds the products to
 * an int32.
 *
 * A lane is a row of weights; the weights are the signed bytes. Activations become unsigned by adding 128, so the sums
 * start at minus 128 times the sum of the row's weights. The result is the signed product.
 */
#if defined(__x86_64__)
#if defined(LSTMQ_EMULATE) /* tests replace the intrinsics with plain C */
#include LSTMQ_EMULATE
#else
#if !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512")
#endif
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
                             apply_to = function)
#endif
#endif

#include "tiles.h"

/* Return 4 bytes, made unsigned and repeated over the whole vector. */
static inline __m512i broadcast4(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm512_xor_si512(_mm512_set1_epi32(four), _mm512_set1_epi32((int)0x80808080u));
}

/* Return what the sums of 16 rows start at. */
static inline __m512i initial_sums(const int32_t *row_sums) {
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(_mm512_loadu_si512(row_sums), 7));
}

static inline void multiply_add(__m512i *sums, __m512i x, __m512i weights) {
#if defined(LSTMQ_EMULATE)
    *sums = _mm512_dpbusd_epi32(*sums, x, weights);
#else /* as assembly because GCC moves the sums of the intrinsic between registers and memory */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(x), "v"(weights));
#endif
}

/* elementwise.h's dequantize_add, for one vector. */
static inline void dequantize_add16(__m512i sums, float x_scale, const float *w_scale, const float *add, float *out) {
    const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x_scale), _mm512_loadu_ps(w_scale));
    const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale);
    _mm512_storeu_ps(out, _mm512_add_ps(product, _mm512_loadu_ps(add)));
}

/* A tile: up to six rows of activations with a block. It also prefetches the next block. */
#define BEGIN(m) __m512i s##m##0 = b0, s##m##1 = b1, s##m##2 = b2, s##m##3 = b3;
#define ADD(m)                          \
    x4 = broadcast4(x + m * depth + k); \
    multiply_add(&s##m##0, x4, w0);     \
    multiply_add(&s##m##1, x4, w1);     \
    multiply_add(&s##m##2, x4, w2);     \
    multiply_add(&s##m##3, x4, w3);
#define STORE(m, sums, lane) \
    dequantize_add16(sums, x_scale[m], w_scale + lane, add + m * add_stride + lane, out + m * out_stride + lane);
#define END(m)                   \
    STORE(m, s##m##0, 0)         \
    STORE(m, s##m##1, LANES)     \
    STORE(m, s##m##2, 2 * LANES) \
    STORE(m, s##m##3, 3 * LANES)
#define TILE(name, ROWS)                                                                                          \
    static void name(const struct product *p, int64_t m, int64_t column, const int8_t *x, const int8_t *packed) { \
        const int64_t depth = p->w->depth;                                                                        \
        const int32_t *row_sums = p->w->row_sums + column;                                                        \
        const __m512i b0 = initial_sums(row_sums), b1 = initial_sums(row_sums + LANES),                           \
                      b2 = initial_sums(row_sums + 2 * LANES), b3 = initial_sums(row_sums + 3 * LANES);           \
        ROWS(BEGIN)                                                                                               \
        for (int64_t k = 0; k < depth; k += GROUP) {                                                              \
            const int8_t *group = packed + k * BLOCK;                                                             \
            const __m512i w0 = _mm512_loadu_si512(group), w1 = _mm512_loadu_si512(group + 64),                    \
                          w2 = _mm512_loadu_si512(group + 128), w3 = _mm512_loadu_si512(group + 192);             \
            __builtin_prefetch(group + depth * BLOCK + 0, 0, 2);                                                  \
            __builtin_prefetch(group + depth * BLOCK + 64, 0, 2);                                                 \
            __builtin_prefetch(group + depth * BLOCK + 128, 0, 2);                                                \
            __builtin_prefetch(group + depth * BLOCK + 192, 0, 2);                                                \
            __m512i x4;                                                                                           \
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
TILE(six, SIX)

static void matmul(const struct product *p) {
    static tile *const tiles[] = {one, two, three, four, five, six};
    run_tiles(p, tiles, 6, BLOCK);
}

const struct kernel lstmq_avx512_vnni = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__) && !defined(LSTMQ_EMULATE)
#pragma clang attribute pop
#endif
#endif
