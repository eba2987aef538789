/* arm64 with dotprod. In each of 4 lanes, sdot multiplies 4 signed with 4 signed bytes, and adds the products to an
 * int32.
 *
 * A lane is a row of weights. sdot takes one group from a vector of 16 activations, so nothing is broadcast.
 */
#include "kernels.h"
#if defined(LSTMQ_NEON_DOTPROD)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#include "neon.h"

enum { COLUMNS = 16 }; /* activations in a vector */

/* As assembly, because before clang 16 the intrinsic needs options for the whole file. */
#define MULTIPLY_ADD(sums, weights, x, group) \
    __asm__("sdot %0.4s, %1.16b, %2.4b[" #group "]" : "+w"(sums) : "w"(weights), "w"(x))

/* A tile: some rows of activations with some vectors of weights. Up to 24 of the 32 registers hold sums; GCC keeps no more there. */
#define BEGIN(m, v) int32x4_t s##m##_##v = vdupq_n_s32(0);
#define BEGIN_VECTOR(v, ROWS) ROWS(BEGIN, v)
#define LOAD(m, _) const int8x16_t x##m = vld1q_s8(x + m * depth + k);
#define ADD(m, v, group) MULTIPLY_ADD(s##m##_##v, w, x##m, group);
#define ADD_VECTOR(v, ROWS, group)                                      \
    w = vld1q_s8(packed + (k + group * GROUP) * BLOCK + v * COLUMNS); \
    ROWS(ADD, v, group)
#define END(m, v)                                                                               \
    dequantize_add4(s##m##_##v, x_scale[m], w_scale + v * QUARTER, add + m * add_stride + v * QUARTER, \
                    out + m * out_stride + v * QUARTER);
#define END_VECTOR(v, ROWS) ROWS(END, v)
#define TILE(name, ROWS, VECTORS)                                                                                 \
    static void name(const struct product *p, int64_t m, int64_t column, const int8_t *x, const int8_t *packed) { \
        const int64_t depth = p->w->depth;                                                                        \
        VECTORS(BEGIN_VECTOR, ROWS)                                                                               \
        for (int64_t k = 0; k < depth; k += COLUMNS) {                                                            \
            int8x16_t w;                                                                                          \
            ROWS(LOAD, )                                                                                          \
            VECTORS(ADD_VECTOR, ROWS, 0)                                                                          \
            VECTORS(ADD_VECTOR, ROWS, 1)                                                                          \
            VECTORS(ADD_VECTOR, ROWS, 2)                                                                          \
            VECTORS(ADD_VECTOR, ROWS, 3)                                                                          \
        }                                                                                                         \
        const float *x_scale = p->x_scale + m, *w_scale = p->w->scale + column;                                   \
        const int64_t add_stride = p->add_stride, out_stride = p->w->blocks * BLOCK;                              \
        const float *add = p->add + m * add_stride + column;                                                      \
        float *out = p->out + m * out_stride + column;                                                            \
        VECTORS(END_VECTOR, ROWS)                                                                                 \
    }
TILE(one, ROWS_1, VECTORS_16)
TILE(two, ROWS_2, VECTORS_8)
TILE(three_wide, ROWS_3, VECTORS_8)
TILE(three, ROWS_3, VECTORS_4)
TILE(four, ROWS_4, VECTORS_4)
TILE(five, ROWS_5, VECTORS_4)

/* The fewer rows, the more columns, so that there are always enough sums to hide the latency of sdot. */
static void matmul(const struct product *p) {
    static tile *const wide[] = {one}, *const few[] = {NULL, two, three_wide}, *const many[] = {NULL, NULL, three, four, five};
    if (p->rows == 1)
        run_tiles(p, wide, 1, BLOCK);
    else if (p->rows <= 3)
        run_tiles(p, few, 3, BLOCK / 2);
    else
        run_tiles(p, many, 5, LANES);
}

const struct kernel lstmq_neon_dotprod = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
