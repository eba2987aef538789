/* What the arm64 kernels share. */
#include <arm_neon.h>

#include "tiles.h"
#include "unroll.h"

enum { QUARTER = 4 }; /* int32 numbers in a vector */

/* elementwise.h's dequantize_add, for one vector. */
static inline void dequantize_add4(int32x4_t sums, float x_scale, const float *w_scale, const float *add, float *out) {
    const float32x4_t scale = vmulq_f32(vdupq_n_f32(x_scale), vld1q_f32(w_scale));
    vst1q_f32(out, vaddq_f32(vmulq_f32(vcvtq_f32_s32(sums), scale), vld1q_f32(add)));
}
