/* AVX2. No instruction multiplies signed bytes, so products of one row and of many rows are computed differently.
 *
 * One row: vpmaddubsw multiplies unsigned with signed bytes, and adds pairs of products to int16, with saturation. It
 * never saturates here. The unsigned bytes are the magnitudes of the activations, at most 127; the signed bytes are the
 * weights with the signs of the activations; and 2 * 127 * 127 < 2^15. vpmaddwd then adds pairs of those sums to int32.
 *
 * Many rows: the signs would have to be moved for each row. Zen 4 does that where it multiplies, so half as much time
 * again would be lost. Instead, activations and weights are widened to 16 bits, and vpmaddwd multiplies them. A vector
 * of weights is widened once for a tile, by shifts: its even bytes, and its odd ones. Activations are widened once for
 * a product, in that order: columns 0, 2, 1 and 3 of each group.
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
#include "unroll.h"

enum {
    HALF = LANES / 2, /* int32 numbers in a vector */
    MOST = 5,         /* rows of a tile */
    WIDE_ROWS = 30,   /* rows and columns of activations that are widened at once, for the nearest cache */
    WIDE_COLUMNS = 512,
};

/* Some activations in 16 bits, and what to do with their products. */
struct wide {
    int16_t x[WIDE_ROWS * WIDE_COLUMNS]; /* rows of `columns` numbers */
    int64_t start, columns;              /* columns of the activations, and so of the weights */
    int is_first, is_last;               /* of the parts of the columns: between parts, `out` holds the sums */
};

/* Return 4 bytes, repeated over the whole vector. */
static inline __m256i broadcast4(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

/* Return 2 numbers of 16 bits, repeated over the whole vector. */
static inline __m256i broadcast2(const int16_t *x) {
    int32_t two;
    memcpy(&two, x, sizeof two);
    return _mm256_set1_epi32(two);
}

/* Return the even or the odd bytes of a vector as numbers of 16 bits. */
static inline __m256i even_bytes(__m256i bytes) { return _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8); }

static inline __m256i odd_bytes(__m256i bytes) { return _mm256_srai_epi16(bytes, 8); }

/* Write 16 activations as numbers of 16 bits, columns 0, 2, 1 and 3 of each group. */
static inline void widen(const int8_t *x, int16_t *out) {
    const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)x));
    _mm256_storeu_si256((__m256i *)out, _mm256_shuffle_epi8(wide, _mm256_broadcastsi128_si256(order)));
}

/* Add to sums. It is assembly because GCC moves the sums of the intrinsic between registers and memory. */
static inline void add_to(__m256i *sums, __m256i products) {
    __asm__("vpaddd %1, %0, %0" : "+x"(*sums) : "x"(products));
}

/* elementwise.h's dequantize_add, for one vector. */
static inline void dequantize_add8(__m256i sums, float x_scale, const float *w_scale, const float *add, float *out) {
    const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(x_scale), _mm256_loadu_ps(w_scale));
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale);
    _mm256_storeu_ps(out, _mm256_add_ps(product, _mm256_loadu_ps(add)));
}

/* Finish the sums of row m of a product, of 8 rows of weights from `column` on. */
static inline void finish(const struct product *p, const struct wide *wide, int64_t m, int64_t column, __m256i sums) {
    float *out = p->out + m * p->w->blocks * BLOCK + column;
    if (!wide->is_first) sums = _mm256_add_epi32(sums, _mm256_loadu_si256((const __m256i *)out));
    if (wide->is_last)
        dequantize_add8(sums, p->x_scale[m], p->w->scale + column, p->add + m * p->add_stride + column, out);
    else
        _mm256_storeu_si256((__m256i *)out, sums);
}

/* A tile: some rows of activations, row m and those after it, with a quarter of a block. `x` is row m of the widened
 * activations. It also prefetches the next block. */
typedef void tile(const struct product *p, const struct wide *wide, int64_t m, int64_t column, const int16_t *x);

#define BEGIN(r, _) __m256i s##r##0 = _mm256_setzero_si256(), s##r##1 = _mm256_setzero_si256();
#define ADD(r, _)                                     \
    x2 = broadcast2(x + r * columns + k);             \
    add_to(&s##r##0, _mm256_madd_epi16(x2, even0));   \
    add_to(&s##r##1, _mm256_madd_epi16(x2, even1));   \
    x2 = broadcast2(x + r * columns + k + GROUP / 2); \
    add_to(&s##r##0, _mm256_madd_epi16(x2, odd0));    \
    add_to(&s##r##1, _mm256_madd_epi16(x2, odd1));
#define END(r, _)                              \
    finish(p, wide, m + r, column, s##r##0);   \
    finish(p, wide, m + r, column + HALF, s##r##1);
#define TILE(name, ROWS)                                                                                     \
    static void name(const struct product *p, const struct wide *wide, int64_t m, int64_t column,            \
                     const int16_t *x) {                                                                     \
        const int64_t depth = p->w->depth, columns = wide->columns;                                          \
        const int8_t *packed = packed_row(p->w, column) + wide->start * BLOCK;                               \
        ROWS(BEGIN, )                                                                                        \
        for (int64_t k = 0; k < columns; k += GROUP) {                                                       \
            const __m256i *group = (const __m256i *)(packed + k * BLOCK);                                    \
            const __m256i w0 = _mm256_loadu_si256(group), w1 = _mm256_loadu_si256(group + 1);                \
            const __m256i even0 = even_bytes(w0), odd0 = odd_bytes(w0);                                      \
            const __m256i even1 = even_bytes(w1), odd1 = odd_bytes(w1);                                      \
            __m256i x2;                                                                                      \
            __builtin_prefetch((const char *)group + depth * BLOCK, 0, 2);                                   \
            ROWS(ADD, )                                                                                      \
        }                                                                                                    \
        ROWS(END, )                                                                                          \
    }
TILE(one, ROWS_1)
TILE(two, ROWS_2)
TILE(three, ROWS_3)
TILE(four, ROWS_4)
TILE(five, ROWS_5)

/* Compute some rows of a product from `first` on, at most WIDE_ROWS, in tiles of about as many rows each. */
static void multiply_rows(const struct product *p, int64_t first, int64_t rows) {
    static tile *const tiles[MOST] = {one, two, three, four, five};
    const int64_t depth = p->w->depth, parts = (rows + MOST - 1) / MOST;
    struct wide wide;
    for (wide.start = 0; wide.start < depth; wide.start += wide.columns) {
        const int64_t left = depth - wide.start;
        wide.columns = left < WIDE_COLUMNS ? left : WIDE_COLUMNS;
        wide.is_first = wide.start == 0, wide.is_last = wide.columns == left;
        for (int64_t m = 0; m < rows; m++)
            for (int64_t k = 0; k < wide.columns; k += LANES)
                widen(p->x + (first + m) * depth + wide.start + k, wide.x + m * wide.columns + k);
        for (int64_t column = 0; column < p->w->blocks * BLOCK; column += LANES)
            for (int64_t part = 0; part < parts; part++) {
                const int64_t m = part * rows / parts, end = (part + 1) * rows / parts;
                tiles[end - m - 1](p, &wide, first + m, column, wide.x + m * wide.columns);
            }
    }
}

/* Compute one row with a whole block, so that its weights are read one after the other. */
static void multiply_one_row(const struct product *p, int64_t column) {
    const int64_t depth = p->w->depth;
    const int8_t *x = p->x, *packed = packed_row(p->w, column);
#define START(v, _) __m256i s##v = _mm256_setzero_si256();
    VECTORS_8(START, )
    for (int64_t k = 0; k < depth; k += GROUP) {
        const __m256i *group = (const __m256i *)(packed + k * BLOCK);
        const __m256i x4 = broadcast4(x + k), magnitudes = _mm256_abs_epi8(x4);
#define MULTIPLY(v, _)                                                                  \
    {                                                                                   \
        const __m256i w = _mm256_sign_epi8(_mm256_loadu_si256(group + v), x4);          \
        const __m256i pairs = _mm256_maddubs_epi16(magnitudes, w);                      \
        add_to(&s##v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));                  \
    }
        VECTORS_8(MULTIPLY, )
    }
    const float *w_scale = p->w->scale + column, *add = p->add + column;
    float *out = p->out + column;
#define FINISH(v, _) dequantize_add8(s##v, p->x_scale[0], w_scale + v * HALF, add + v * HALF, out + v * HALF);
    VECTORS_8(FINISH, )
}

static void matmul(const struct product *p) {
    if (p->rows == 1) {
        for (int64_t column = 0; column < p->w->blocks * BLOCK; column += BLOCK) multiply_one_row(p, column);
        return;
    }
    const int64_t batches = (p->rows + WIDE_ROWS - 1) / WIDE_ROWS;
    for (int64_t batch = 0; batch < batches; batch++) {
        const int64_t first = batch * p->rows / batches, end = (batch + 1) * p->rows / batches;
        multiply_rows(p, first, end - first);
    }
}

const struct kernel lstmq_avx2 = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
