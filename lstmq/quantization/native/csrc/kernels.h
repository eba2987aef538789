/* The types that the kernels share: the model, one window of it, and what each instruction set implements.
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

struct model {
    int64_t ntoken, ninp, nhid, nlayers;
    const int8_t *encoder;            /* ntoken rows of ninp integers */
    const float *encoder_scale;       /* one for each row */
    const struct matrix *w_input;     /* one for each layer; each of the four gates is padded to a multiple of LANES */
    const struct matrix *w_recurrent; /* the same */
    const struct matrix *decoder;     /* the bias of a padding row is minus infinity */
};

/* A window to read. Without targets there is no loss; with neither targets nor logits, only the state is computed. */
struct window {
    int64_t n, bsz;         /* steps and columns */
    const int64_t *input;   /* n rows of bsz ids */
    const int64_t *targets; /* n rows of bsz ids, or NULL */
    float *hidden, *cell;   /* the state: nlayers * bsz rows of nhid; read and then overwritten */
    double *loss;           /* written if there are targets: the cross-entropy summed over them, in nats */
    float *logits;          /* written unless NULL: n * bsz rows of decoder->blocks * BLOCK */
    void *workspace;        /* as many bytes as lstmq_workspace_size returns */
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
