/* arm64 with i8mm. smmla multiplies two rows of 8 signed bytes with two rows of 8 signed bytes, and adds the four sums
 * of products to four int32: twice the products of sdot.
 *
 * It needs 8 columns of a row side by side, where packed weights have 4. Two zips put two groups together, for all rows
 * of activations in a tile. That pays from 4 rows on: for 8 columns and 8 rows of weights, 4 rows take 14 instructions on
 * vectors where sdot takes 16, and 8 rows take 24 where sdot takes 32. Fewer rows go to the sdot kernel.
 */
#include "kernels.h"
#if defined(LSTMQ_NEON_I8MM)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

#include "neon.h"

enum { FEW = 4, MOST = 4, COLUMNS = 8, WIDTH = 2 * QUARTER };

/* As assembly, because before clang 16 the intrinsic needs options for the whole file. */
#define MULTIPLY_ADD(sums, x, weights) __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(sums) : "w"(x), "w"(weights))

/* Return 4 rows of a group of weights. */
static inline int32x4_t load_group(const int8_t *packed, int v) {
    return vreinterpretq_s32_s8(vld1q_s8(packed + v * QUARTER * GROUP));
}

/* Return 8 columns of two rows of activations. */
static inline int8x16_t load_pair(const int8_t *first, const int8_t *second) {
    return vcombine_s8(vld1_s8(first), vld1_s8(second));
}

/* Finish 4 columns of a pair of rows from m on, of which the second may be missing. */
static inline void finish(const struct product *p, int64_t m, int64_t column, int32x4_t left, int32x4_t right) {
    const int64_t out_stride = p->w->blocks * BLOCK;
    const float *w_scale = p->w->scale + column, *add = p->add + m * p->add_stride + column;
    float *out = p->out + m * out_stride + column;
    dequantize_add4(vcombine_s32(vget_low_s32(left), vget_low_s32(right)), p->x_scale[m], w_scale, add, out);
    if (m + 1 < p->rows)
        dequantize_add4(vcombine_s32(vget_high_s32(left), vget_high_s32(right)), p->x_scale[m + 1], w_scale,
                        add + p->add_stride, out + out_stride);
}

/* A tile: two to four pairs of rows of activations with 8 rows of weights. Up to 16 of the 32 registers hold sums; with
 * 20, GCC and clang move some to memory and back. If the last row has no partner, it is its own. */
#define BEGIN(m, v) int32x4_t left##m##_##v = vdupq_n_s32(0), right##m##_##v = vdupq_n_s32(0);
#define BEGIN_VECTOR(v, PAIRS) PAIRS(BEGIN, v)
#define POINT(m, _)                               \
    const int8_t *first##m = x + 2 * m * depth, \
                 *second##m = first##m + (row + 2 * m + 1 < p->rows ? depth : 0);
#define LOAD(m, _) const int8x16_t x##m = load_pair(first##m + k, second##m + k);
#define ADD(m, v)                              \
    MULTIPLY_ADD(left##m##_##v, x##m, left);   \
    MULTIPLY_ADD(right##m##_##v, x##m, right);
#define ADD_VECTOR(v, PAIRS)                                                                         \
    one_group = load_group(packed + k * BLOCK, v), next = load_group(packed + (k + GROUP) * BLOCK, v); \
    left = vzip1q_s32(one_group, next), right = vzip2q_s32(one_group, next);                         \
    PAIRS(ADD, v)
#define END(m, v) finish(p, row + 2 * m, column + v * QUARTER, left##m##_##v, right##m##_##v);
#define END_VECTOR(v, PAIRS) PAIRS(END, v)
#define TILE(name, PAIRS)                                                                                           \
    static void name(const struct product *p, int64_t row, int64_t column, const int8_t *x, const int8_t *packed) { \
        const int64_t depth = p->w->depth;                                                                          \
        PAIRS(POINT, )                                                                                              \
        VECTORS_2(BEGIN_VECTOR, PAIRS)                                                                              \
        for (int64_t k = 0; k < depth; k += COLUMNS) {                                                              \
            int32x4_t one_group, next, left, right;                                                                 \
            PAIRS(LOAD, )                                                                                           \
            VECTORS_2(ADD_VECTOR, PAIRS)                                                                            \
        }                                                                                                           \
        VECTORS_2(END_VECTOR, PAIRS)                                                                                \
    }
TILE(two, ROWS_2)
TILE(three, ROWS_3)
TILE(four, ROWS_4)

static void matmul(const struct product *p) {
    static tile *const tiles[] = {NULL, two, three, four};
    if (p->rows < FEW) {
        lstmq_neon_dotprod.matmul(p);
        return;
    }
    const int64_t depth = p->w->depth, pairs = (p->rows + 1) / 2, parts = (pairs + MOST - 1) / MOST;
    for (int64_t column = 0; column < p->w->blocks * BLOCK; column += WIDTH) {
        const int8_t *packed = packed_row(p->w, column);
        for (int64_t part = 0; part < parts; part++) {
            const int64_t first = part * pairs / parts, end = (part + 1) * pairs / parts, row = 2 * first;
            tiles[end - first - 1](p, row, column, p->x + row * depth, packed);
        }
    }
}

const struct kernel lstmq_neon_i8mm = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
