/* Plain C, for any processor. */
#include "elementwise.h"

static void matmul(const struct product *p) {
    const int64_t depth = p->w->depth;
    for (int64_t column = 0; column < p->w->blocks * BLOCK; column += BLOCK) {
        const int8_t *packed = packed_row(p->w, column);
        for (int64_t m = 0; m < p->rows; m++) {
            const int8_t *x = p->x + m * depth;
            int32_t sums[BLOCK] = {0};
            for (int64_t k = 0; k < depth; k += GROUP)
                for (int j = 0; j < BLOCK; j++)
                    for (int i = 0; i < GROUP; i++) sums[j] += x[k + i] * packed[k * BLOCK + j * GROUP + i];
            dequantize_add(p, m, column, BLOCK, sums);
        }
    }
}

const struct kernel lstmq_portable = {matmul, quantize_row, lstm_step, update_softmax, gru_step};
