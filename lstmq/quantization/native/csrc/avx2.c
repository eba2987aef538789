/* AVX2. vpmaddwd multiplies int16, and adds pairs of products to int32. So bytes are widened.
 *
 * A vector of weights is widened once for all rows of activations: its even columns are shifted left by 8 bits, and its
 * odd columns are masked. Both are then 256 times the weights. 512 columns fit into int32, because
 * 512 * 127 * 127 * 256 < 2^31; then the sums are divided by 256.
 *
 * vpmaddubsw multiplies twice as many bytes, but its sums of pairs saturate, unless the activations take the signs of
 * the weights. For the signs, AMD's processors need the units that multiply, so that takes longer.
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

enum {
    HALF = LANES / 2,  /* int32 numbers in a vector */
    COLUMNS = 512,     /* how many are summed up before the sums are divided by 256 */
    MOST_ROWS = 5,     /* of a tile */
    WIDENED = 1 << 15, /* how many activations are widened at once */
};
typedef void wide_tile(const struct product *p, int64_t m, int64_t column, const int32_t *x, const int8_t *packed);

/* Widen activations. Of each group of 4 columns, the even ones come first, and then the odd ones. */
static void widen(const int8_t *x, int64_t n, int32_t *widened) {
    for (int64_t i = 0; i < n; i += sizeof(__m256i)) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(x + i));
        const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), odd = _mm256_srai_epi16(bytes, 8);
        const __m256i low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
        _mm256_store_si256((__m256i *)(widened + i / 2), _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_store_si256((__m256i *)(widened + i / 2) + 1, _mm256_permute2x128_si256(low, high, 0x31));
    }
}

/* 256 times the weights in even or in odd columns. */
static inline __m256i even_columns(const __m256i *weights) {
    return _mm256_slli_epi16(_mm256_loadu_si256(weights), 8);
}

static inline __m256i odd_columns(const __m256i *weights) {
    return _mm256_and_si256(_mm256_loadu_si256(weights), _mm256_set1_epi16(-256));
}

/* The addition is assembly because GCC moves the sums of the intrinsic between registers and memory. */
static inline void multiply_add(__m256i *sums, __m256i x, __m256i weights) {
    const __m256i products = _mm256_madd_epi16(x, weights);
    __asm__("vpaddd %1, %0, %0" : "+x"(*sums) : "x"(products));
}

/* Add sums of 256 times the weights to those of the columns before. */
static inline void add_part(__m256i *total, __m256i sums) {
    *total = _mm256_add_epi32(*total, _mm256_srai_epi32(sums, 8));
}

/* elementwise.h's dequantize_add, for one vector. */
static inline void dequantize_add8(__m256i sums, float x_scale, const float *w_scale, const float *add, float *out) {
    const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(x_scale), _mm256_loadu_ps(w_scale));
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale);
    _mm256_storeu_ps(out, _mm256_add_ps(product, _mm256_loadu_ps(add)));
}

/* A tile: up to five rows of widened activations with a quarter of a block. It also prefetches the next block. */
#define CLEAR(m) __m256i t##m##0 = _mm256_setzero_si256(), t##m##1 = _mm256_setzero_si256();
#define BEGIN(m) __m256i s##m##0 = _mm256_setzero_si256(), s##m##1 = _mm256_setzero_si256();
#define EVEN(m) ADD(m, 0)
#define ODD(m) ADD(m, 1)
#define ADD(m, odd)                                           \
    x2 = _mm256_set1_epi32(x[m * depth / 2 + k / 2 + odd]);   \
    multiply_add(&s##m##0, x2, w0);                           \
    multiply_add(&s##m##1, x2, w1);
#define PART(m)                     \
    add_part(&t##m##0, s##m##0);    \
    add_part(&t##m##1, s##m##1);
#define END(m)                                                                                 \
    dequantize_add8(t##m##0, x_scale[m], w_scale, add + m * add_stride, out + m * out_stride); \
    dequantize_add8(t##m##1, x_scale[m], w_scale + HALF, add + m * add_stride + HALF, out + m * out_stride + HALF);
#define TILE(name, ROWS)                                                                                           \
    static void name(const struct product *p, int64_t m, int64_t column, const int32_t *x, const int8_t *packed) { \
        const int64_t depth = p->w->depth;                                                                         \
        ROWS(CLEAR)                                                                                                \
        for (int64_t start = 0; start < depth; start += COLUMNS) {                                                 \
            const int64_t end = start + COLUMNS < depth ? start + COLUMNS : depth;                                 \
            ROWS(BEGIN)                                                                                            \
            for (int64_t k = start; k < end; k += GROUP) {                                                         \
                const __m256i *group = (const __m256i *)(packed + k * BLOCK);                                      \
                __m256i w0 = even_columns(group), w1 = even_columns(group + 1), x2;                                \
                __builtin_prefetch((const char *)group + depth * BLOCK, 0, 2);                                     \
                ROWS(EVEN)                                                                                         \
                w0 = odd_columns(group), w1 = odd_columns(group + 1);                                              \
                ROWS(ODD)                                                                                          \
            }                                                                                                      \
            ROWS(PART)                                                                                             \
        }                                                                                                          \
        const float *x_scale = p->x_scale + m, *w_scale = p->w->scale + column;                                    \
        const int64_t add_stride = p->add_stride, out_stride = p->w->blocks * BLOCK;                               \
        const float *add = p->add + m * add_stride + column;                                                       \
        float *out = p->out + m * out_stride + column;                                                             \
        ROWS(END)                                                                                                  \
    }
TILE(one, ONE)
TILE(two, TWO)
TILE(three, THREE)
TILE(four, FOUR)
TILE(five, FIVE)

/* Repeat DO for the vectors of a group. */
#define VECTORS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

/* Compute row m with a whole block, so that its weights are read one after the other. A tile would read every fourth
 * part of them, four times. */
static void one_block(const struct product *p, int64_t m, int64_t column) {
    const int64_t depth = p->w->depth;
    const int8_t *packed = packed_row(p->w, column);
    __m256i total[BLOCK / HALF];
    for (int v = 0; v < BLOCK / HALF; v++) total[v] = _mm256_setzero_si256();
    for (int64_t start = 0; start < depth; start += COLUMNS) {
        const int64_t count = start + COLUMNS < depth ? COLUMNS : depth - start;
        const int8_t *part = packed + start * BLOCK;
        _Alignas(sizeof(__m256i)) int32_t x[COLUMNS / 2];
        widen(p->x + m * depth + start, count, x);
#define START(v) __m256i s##v = _mm256_setzero_si256();
        VECTORS(START)
        for (int64_t k = 0; k < count; k += GROUP) {
            const __m256i *group = (const __m256i *)(part + k * BLOCK);
            const __m256i even = _mm256_set1_epi32(x[k / 2]), odd = _mm256_set1_epi32(x[k / 2 + 1]);
#define MULTIPLY(v)                                           \
    multiply_add(&s##v, even, even_columns(group + v));       \
    multiply_add(&s##v, odd, odd_columns(group + v));
            VECTORS(MULTIPLY)
        }
#define FINISH(v) add_part(&total[v], s##v);
        VECTORS(FINISH)
    }
    const float *w_scale = p->w->scale + column, *add = p->add + m * p->add_stride + column;
    float *out = p->out + m * p->w->blocks * BLOCK + column;
    for (int v = 0; v < BLOCK / HALF; v++)
        dequantize_add8(total[v], p->x_scale[m], w_scale + v * HALF, add + v * HALF, out + v * HALF);
}

/* Compute rows from `first` on, of which `x` has the widened activations. */
static void run_panel(const struct product *p, int64_t first, int64_t rows, const int32_t *x) {
    static wide_tile *const tiles[] = {one, two, three, four, five};
    const int64_t columns = p->w->blocks * BLOCK, depth = p->w->depth, parts = (rows + MOST_ROWS - 1) / MOST_ROWS;
    for (int64_t column = 0; column < columns; column += LANES) {
        const int8_t *packed = packed_row(p->w, column);
        for (int64_t part = 0; part < parts; part++) {
            const int64_t m = part * rows / parts, end = (part + 1) * rows / parts;
            tiles[end - m - 1](p, first + m, column, x + m * depth / 2, packed);
        }
    }
}

static void matmul(const struct product *p) {
    const int64_t depth = p->w->depth, fitting = WIDENED / depth;
    if (p->rows == 1 || fitting < MOST_ROWS) { /* rows so wide that few would fit are computed one by one */
        for (int64_t column = 0; column < p->w->blocks * BLOCK; column += BLOCK)
            for (int64_t m = 0; m < p->rows; m++) one_block(p, m, column);
        return;
    }
    const int64_t panels = (p->rows + fitting - 1) / fitting;
    for (int64_t i = 0; i < panels; i++) {
        const int64_t first = i * p->rows / panels, rows = (i + 1) * p->rows / panels - first;
        _Alignas(sizeof(__m256i)) int32_t x[WIDENED / 2];
        widen(p->x + first * depth, rows * depth, x);
        run_panel(p, first, rows, x);
    }
}

const struct kernel lstmq_avx2 = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
