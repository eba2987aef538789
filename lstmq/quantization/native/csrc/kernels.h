/* The types that the kernels share: weights, products, and what each instruction set implements.
 *
 * An int8 integer lies in [-127, 127]. Each row of activations and each row of weights has one float scale: the row's
 * values are its integers times its scale. Rows of weights and their columns are padded to multiples of 64.
 */
#ifndef LSTMQ_KERNELS_H
#define LSTMQ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK 64 /* rows of weights that are stored together */
#define GROUP 4  /* columns that are stored together: their bytes make one 32-bit number */
#define LANES 16 /* numbers that are computed side by side, however wide the processor's vectors are */

/* A packed weight matrix: the blocks of rows follow each other; so do the groups of columns in a block, the rows in a
 * group, and the 4 bytes of a row. */
struct matrix {
    const int8_t *packed;    /* blocks * BLOCK * depth bytes */
    const int32_t *row_sums; /* the sum of each row's integers: blocks * BLOCK numbers, as in the next two arrays */
    const float *scale;
    const float *bias;
    int64_t blocks;
    int64_t depth; /* columns, padded */
};

/* Return some blocks of a matrix, as a matrix. */
static inline struct matrix slice_blocks(const struct matrix *w, int64_t first, int64_t blocks) {
    const int64_t row = first * BLOCK;
    return (struct matrix){.packed = w->packed + row * w->depth, .row_sums = w->row_sums + row,
                           .scale = w->scale + row, .bias = w->bias + row, .blocks = blocks, .depth = w->depth};
}

/* One direction of one recurrent layer. Its gates are i, f, g, o of an LSTM, and r, z, n of a GRU. Each is padded to
 * `units` rows, and all of them together to a multiple of BLOCK. */
struct direction {
    struct matrix w_input;      /* the bias is that of the input and the state together; of a GRU's n, of the input */
    struct matrix w_recurrent;  /* the bias is that of the state for a GRU's n, and else -0, which adds nothing */
    struct matrix w_projection; /* of an LSTM with proj_size; without, `packed` is NULL */
    int64_t is_gru;
    int64_t input_size, hidden_size;
    int64_t units; /* hidden_size, padded to a multiple of LANES */
    int64_t width; /* how many numbers a step returns: proj_size or hidden_size */
};

/* The product of rows of activations with a weight matrix:
 *
 *     out[m][j] = (x[m] . w[j]) * (x_scale[m] * w->scale[j]) + add[m][j]
 */
struct product {
    const struct matrix *w;
    int64_t rows;
    const int8_t *x; /* rows of w->depth bytes */
    const float *x_scale;
    const float *add;
    int64_t add_stride; /* floats from one row of `add` to the next; 0 adds the same row, such as a bias, to all */
    float *out;         /* rows of w->blocks * BLOCK */
};

/* What an instruction set implements. All instruction sets return the same bits. */
struct kernel {
    void (*matmul)(const struct product *p);
    /* Write n floats as integers to q, zeros from there to `padded`, and the scale. */
    void (*quantize_row)(const float *x, int64_t n, int64_t padded, int8_t *q, float *scale);
    /* One LSTM step of n units. `gates` holds i, f, g, o, n floats each; c is the cell state, read and overwritten;
     * h is the output. */
    void (*lstm_step)(const float *gates, int64_t n, float *c, float *h);
    /* Add n more logits, a multiple of 64, to a running softmax: its maximum, and the sum of exp(logit - maximum). */
    void (*update_softmax)(const float *logits, int64_t n, float *maximum, double *sum);
    /* One GRU step of n units. `projected` holds the products of r, z, n with the input, n floats each, and `stepped`
     * those with the state; h is the state, read and overwritten. */
    void (*gru_step)(const float *projected, const float *stepped, int64_t n, float *h);
};

extern const struct kernel lstmq_portable;
#if defined(__x86_64__)
extern const struct kernel lstmq_avx2, lstmq_avx512_vnni;
#if defined(LSTMQ_EMULATE) || (defined(__clang__) && __clang_major__ >= 13) || (!defined(__clang__) && __GNUC__ >= 11)
#define LSTMQ_AMX /* older compilers do not know AMX */
#define LSTMQ_AVX_VNNI /* nor the 256-bit VNNI without AVX512 */
extern const struct kernel lstmq_amx_int8, lstmq_avx_vnni;
#endif
#endif

#if defined(__AARCH64EL__) && (defined(__clang__) || __GNUC__ >= 8)
#define LSTMQ_NEON_DOTPROD /* as above, for dotprod */
extern const struct kernel lstmq_neon_dotprod;
#if (defined(__clang__) && __clang_major__ >= 13) || (!defined(__clang__) && __GNUC__ >= 10)
#define LSTMQ_NEON_I8MM /* as above, for i8mm */
extern const struct kernel lstmq_neon_i8mm;
#endif
#endif

/* The indices of the kernels. library.py lists them in the same order. */
enum { PORTABLE, AVX2, AVX_VNNI, AVX512_VNNI, AMX_INT8, NEON_DOTPROD, NEON_I8MM };

/* Return the kernel with this index, or NULL if it cannot run here. */
const struct kernel *lstmq_kernel(int isa);

#endif
