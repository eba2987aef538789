/* The kernels' stages, one at a time, for whoever wants to hold each against the reference. */
#include "kernels.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

EXPORT void lstmq_quantize(int isa, const float *x, int64_t n, int64_t padded, int8_t *q, float *scale) {
    lstmq_kernel(isa)->quantize(x, n, padded, q, scale);
}

EXPORT void lstmq_product(int isa, const int8_t *x, const float *scale, int64_t rows, const struct matrix *w, float *out) {
    lstmq_kernel(isa)->product(x, scale, rows, w, 0, w->blocks, w->bias, 0, out, w->blocks * BLOCK);
}

EXPORT void lstmq_step(int isa, const float *gates, int64_t n, float *c, float *h) {
    lstmq_kernel(isa)->step(gates, n, c, h);
}
