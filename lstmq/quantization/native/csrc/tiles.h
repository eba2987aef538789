/* How the AVX kernels split a product into tiles: a few rows of activations with a few rows of weights, whose sums all
 * stay in registers. For that, each number of rows has a function of its own, in which every sum is a variable.
 */
#include "elementwise.h"

/* Repeat DO for rows 0, 1, ... */
#define ONE(DO) DO(0)
#define TWO(DO) ONE(DO) DO(1)
#define THREE(DO) TWO(DO) DO(2)
#define FOUR(DO) THREE(DO) DO(3)
#define FIVE(DO) FOUR(DO) DO(4)
#define SIX(DO) FIVE(DO) DO(5)

/* Compute some rows of a product from m on, in some columns from `column` on. `x` is row m of the activations, `packed`
 * is the row of weights for `column`. They are arguments because loading them through `p` would delay the first sum. */
typedef void tile(const struct product *p, int64_t m, int64_t column, const int8_t *x, const int8_t *packed);

/* Compute a product. tiles[r - 1] takes r rows, up to `most`, and `width` columns. Parts are as equal as possible. */
static inline void run_tiles(const struct product *p, tile *const *tiles, int64_t most, int64_t width) {
    const int64_t rows = p->rows, columns = p->w->blocks * BLOCK, depth = p->w->depth, parts = (rows + most - 1) / most;
    const int8_t *x = p->x;
    for (int64_t column = 0; column < columns; column += width) {
        const int8_t *packed = packed_row(p->w, column);
        for (int64_t part = 0; part < parts; part++) {
            const int64_t m = part * rows / parts, end = (part + 1) * rows / parts;
            tiles[end - m - 1](p, m, column, x + m * depth, packed);
        }
    }
}
