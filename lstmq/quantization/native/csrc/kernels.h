/* What the kernels share: the model as Python hands it over, and what an instruction set has to give.
 *
 * All numbers that are int8 lie in [-127, 127]. A row of activations has one scale; so has a row of weights: what it
 * stands for is the integer times the scale. Rows of weights and their depths are padded to multiples of 64.
 */
#ifndef LSTMQ_KERNELS_H
#define LSTMQ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK 64 /* rows of weights that are read together */
#define GROUP 4  /* columns that are read together: an int32's worth of bytes */
#define LANES 16 /* numbers that are computed side by side, in vectors of whatever width */

/* Weights, packed: block by block of rows, in it group by group of columns, in it row by row, its 4 bytes. */
struct matrix {
    const int8_t *packed; /* blocks * BLOCK * depth */
    const int32_t *sums;  /* of each row's integers, blocks * BLOCK */
    const float *scale;   /* of each row */
    const float *bias;    /* of each row */
    int64_t blocks;
    int64_t depth;        /* columns, padded */
};

struct model {
    int64_t ntoken, ninp, nhid, nlayers;
    const int8_t *encoder;         /* ntoken rows of ninp */
    const float *encoder_scale;    /* of each row */
    const struct matrix *input;    /* a layer each: of the four gates, each padded to a multiple of 16 rows */
    const struct matrix *recurrent;
    const struct matrix *decoder;  /* its bias is minus infinity where a row is padding */
};

/* What an instruction set computes. All of them give the same bits. */
struct kernel {
    /* out[m][j] = (x[m] . w[j]) * (scale[m] * w.scale[j]) + add[m][j], of rows m and of blocks from `first` on.
     * x: rows of w.depth bytes. add and out: rows of floats, `stride` apart, whose first is that of block `first`. */
    void (*product)(const int8_t *x, const float *scale, int64_t rows, const struct matrix *w, int64_t first,
                    int64_t blocks, const float *add, int64_t add_stride, float *out, int64_t out_stride);
    /* x as integers in q, padded with zeros to `padded`, and their scale. */
    void (*quantize)(const float *x, int64_t n, int64_t padded, int8_t *q, float *scale);
    /* A step of n units: gates i, f, g, o lie n apart; c is the cell's state, in and out; h the output. */
    void (*step)(const float *gates, int64_t n, float *c, float *h);
    /* The running maximum and the sum of exp(logit - maximum), over n more logits, n a multiple of 64. */
    void (*softmax)(const float *logits, int64_t n, float *maximum, double *sum);
};

extern const struct kernel lstmq_portable;
#if defined(__x86_64__)
extern const struct kernel lstmq_avx2, lstmq_avx512_vnni;
#if (defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11)
#define LSTMQ_AMX /* older compilers do not know it */
extern const struct kernel lstmq_amx_int8;
#endif
#endif

/* The kernel of a name's place in "portable avx2 avx512_vnni amx_int8", or NULL if it does not run here. */
const struct kernel *lstmq_kernel(int isa);

#endif
