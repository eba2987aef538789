/* One stage of a kernel at a time, for tests that compare it with the reference. */
#include "kernels.h"

void lstmq_quantize_row(int isa, const float *x, int64_t n, int64_t padded, int8_t *q, float *scale) {
    lstmq_kernel(isa)->quantize_row(x, n, padded, q, scale);
}

void lstmq_matmul(int isa, const struct matrix *w, int64_t rows, const int8_t *x, const float *x_scale, float *out) {
    const struct product product = {.w = w, .rows = rows, .x = x, .x_scale = x_scale, .add = w->bias, .out = out};
    lstmq_kernel(isa)->matmul(&product);
}
