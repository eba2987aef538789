/* AMX: tdpbssd adds, in a tile of 16 x 16 int32, the products of 16 x 64 with 64 x 16 signed bytes.
 *
 * A tile of weights is 16 groups of 16 rows, as they are packed; a tile of activations, up to 16 rows of 64 bytes. Few
 * rows, as in a recurrent step, would leave most of a tile empty: AVX512-VNNI takes those.
 */
#include "kernels.h"
#if defined(LSTMQ_AMX)
#if !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,amx-tile,amx-int8,prefer-vector-width=512")
#endif
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,amx-tile,amx-int8"))), apply_to = function)
#endif
#ifdef LSTMQ_EMULATE_AMX /* by the tests, where there is none */
#include LSTMQ_EMULATE_AMX
#endif

#include "elementwise.h"

enum { FEW = 6, TALL = 16, WIDE = 64 }; /* rows and bytes of a tile */

struct configuration { /* as ldtilecfg reads it */
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

/* Tiles 0 and 1: sums of up to 32 rows of activations with 16 rows of weights. 2 and 3: activations. 4: weights. */
static void configure(int64_t upper, int64_t lower) {
    struct configuration tiles = {.palette = 1};
    const int64_t rows[] = {upper, lower, upper, lower, TALL};
    for (int t = 0; t < 5; t++) tiles.rows[t] = (uint8_t)rows[t], tiles.bytes[t] = rows[t] ? WIDE : 0;
    __asm__ volatile("" : : "r"(&tiles) : "memory"); /* some GCC takes the instruction to read 8 bytes of the 64 */
    _tile_loadconfig(&tiles);
}

static void product(const int8_t *x, const float *scale, int64_t rows, const struct matrix *w, int64_t first,
                    int64_t blocks, const float *add, int64_t add_stride, float *out, int64_t out_stride) {
    const int64_t depth = w->depth;
    int32_t sums[2 * TALL][TALL];
    while (rows >= FEW) {
        const int64_t now = rows < 2 * TALL ? rows : 2 * TALL, upper = now < TALL ? now : TALL, lower = now - upper;
        configure(upper, lower);
        for (int64_t quarter = 0; quarter < 4 * blocks; quarter++) {
            const int64_t j = (first + quarter / 4) * BLOCK, of_four = quarter % 4 * LANES, at = quarter * LANES;
            const int8_t *packed = w->packed + j * depth + of_four * GROUP;
            _tile_zero(0);
            if (lower) _tile_zero(1);
            for (int64_t k = 0; k < depth; k += WIDE) {
                _tile_loadd(4, packed + k * BLOCK, BLOCK * GROUP);
                _tile_loadd(2, x + k, depth);
                _tile_dpbssd(0, 2, 4);
                if (lower) {
                    _tile_loadd(3, x + TALL * depth + k, depth);
                    _tile_dpbssd(1, 3, 4);
                }
            }
            _tile_stored(0, sums, WIDE);
            if (lower) _tile_stored(1, sums + TALL, WIDE);
            for (int64_t m = 0; m < now; m++)
                finish(LANES, sums[m], scale[m], w->scale + j + of_four, add + m * add_stride + at, out + m * out_stride + at);
        }
        _tile_release();
        x += now * depth, scale += now, rows -= now, add += now * add_stride, out += now * out_stride;
    }
    if (rows) lstmq_avx512_vnni.product(x, scale, rows, w, first, blocks, add, add_stride, out, out_stride);
}

const struct kernel lstmq_amx_int8 = {product, quantize, step, softmax};
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
