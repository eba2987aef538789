/* AMX. tdpbssd multiplies a tile of 16 x 64 with a tile of 64 x 16 signed bytes, and adds the products to a tile of
 * 16 x 16 int32.
 *
 * A tile of weights is 16 groups of 16 rows, just as they are packed. A tile of activations is up to 16 rows of 64
 * bytes. AVX512-VNNI computes products of fewer than 6 rows, such as recurrent steps, which would leave most of a tile
 * empty.
 */
#include "kernels.h"
#if defined(LSTMQ_AMX)
#if defined(LSTMQ_EMULATE) /* tests replace the intrinsics with plain C */
#include LSTMQ_EMULATE
#else
#if !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,amx-tile,amx-int8,prefer-vector-width=512")
#endif
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,amx-tile,amx-int8"))), \
                             apply_to = function)
#endif
#endif

#include "elementwise.h"

enum { FEW = 6, TILE_ROWS = 16, TILE_BYTES = 64 };

struct tile_config { /* the format that ldtilecfg reads */
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

/* Configure five tiles. 0 and 1 hold the sums of up to 32 rows of activations, 2 and 3 those rows, 4 the weights. */
static void configure_tiles(int64_t upper, int64_t lower) {
    struct tile_config config = {.palette = 1};
    const int64_t rows[] = {upper, lower, upper, lower, TILE_ROWS};
    for (int t = 0; t < 5; t++) config.rows[t] = (uint8_t)rows[t], config.bytes[t] = rows[t] ? TILE_BYTES : 0;
    __asm__ volatile("" : : "r"(&config) : "memory"); /* some GCC assume that the instruction reads only 8 bytes */
    _tile_loadconfig(&config);
}

static void matmul(const struct product *p) {
    const int64_t depth = p->w->depth;
    int32_t sums[2 * TILE_ROWS][TILE_ROWS];
    int64_t done = 0;
    while (p->rows - done >= FEW) {
        const int64_t left = p->rows - done, rows = left < 2 * TILE_ROWS ? left : 2 * TILE_ROWS;
        const int64_t upper = rows < TILE_ROWS ? rows : TILE_ROWS, lower = rows - upper;
        const int8_t *x = p->x + done * depth;
        configure_tiles(upper, lower);
        for (int64_t column = 0; column < p->w->blocks * BLOCK; column += LANES) {
            const int8_t *packed = packed_row(p->w, column);
            _tile_zero(0);
            if (lower) _tile_zero(1);
            for (int64_t k = 0; k < depth; k += TILE_BYTES) {
                _tile_loadd(4, packed + k * BLOCK, BLOCK * GROUP);
                _tile_loadd(2, x + k, depth);
                _tile_dpbssd(0, 2, 4);
                if (lower) {
                    _tile_loadd(3, x + TILE_ROWS * depth + k, depth);
                    _tile_dpbssd(1, 3, 4);
                }
            }
            _tile_stored(0, sums, TILE_BYTES);
            if (lower) _tile_stored(1, sums + TILE_ROWS, TILE_BYTES);
            for (int64_t m = 0; m < rows; m++) dequantize_add(p, done + m, column, LANES, sums[m]);
        }
        _tile_release();
        done += rows;
    }
    if (done < p->rows) {
        struct product rest = *p;
        rest.rows -= done, rest.x += done * depth, rest.x_scale += done;
        rest.add += done * p->add_stride, rest.out += done * p->w->blocks * BLOCK;
        lstmq_avx512_vnni.matmul(&rest);
    }
}

const struct kernel lstmq_amx_int8 = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
#if defined(__clang__) && !defined(LSTMQ_EMULATE)
#pragma clang attribute pop
#endif
#endif
