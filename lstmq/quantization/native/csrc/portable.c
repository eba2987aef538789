/* Plain C, for any processor. */
#include "elementwise.h"

static void product(const int8_t *x, const float *scale, int64_t rows, const struct matrix *w, int64_t first,
                    int64_t blocks, const float *add, int64_t add_stride, float *out, int64_t out_stride) {
    for (int64_t b = 0; b < blocks; b++) {
        const int8_t *packed = w->packed + (first + b) * BLOCK * w->depth;
        for (int64_t m = 0; m < rows; m++) {
            const int8_t *row = x + m * w->depth;
            int32_t sums[BLOCK] = {0};
            for (int64_t k = 0; k < w->depth; k += GROUP)
                for (int j = 0; j < BLOCK; j++)
                    for (int i = 0; i < GROUP; i++) sums[j] += row[k + i] * packed[k * BLOCK + j * GROUP + i];
            finish(BLOCK, sums, scale[m], w->scale + (first + b) * BLOCK, add + m * add_stride + b * BLOCK,
                   out + m * out_stride + b * BLOCK);
        }
    }
}

const struct kernel lstmq_portable = {product, quantize, step, softmax};
