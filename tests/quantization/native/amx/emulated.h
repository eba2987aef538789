/* AMX's tiles in plain C, as Intel's manual says what the instructions do: for processors that have none. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} emulated;
static uint8_t tiles[8][16][64];

static void expect(int so, const char *what) { /* where the processor would raise a fault */
    if (!so) fprintf(stderr, "AMX: expected %s\n", what), abort();
}

static void expect_tile(int t) { expect(t >= 0 && t < 8 && emulated.rows[t], "a tile that is configured"); }

static void emulated_loadconfig(const void *from) {
    memcpy(&emulated, from, 64);
    expect(emulated.palette == 1 && emulated.start == 0, "palette 1");
    for (int i = 0; i < 14; i++) expect(emulated.reserved[i] == 0, "zeros");
    for (int t = 0; t < 16; t++) {
        expect(emulated.rows[t] <= 16 && emulated.bytes[t] <= 64, "at most 16 rows of 64 bytes");
        expect((emulated.rows[t] == 0) == (emulated.bytes[t] == 0) && (t < 8 || !emulated.rows[t]), "8 tiles");
    }
    memset(tiles, 0xcc, sizeof tiles); /* what was not loaded is to be seen */
}

static void emulated_load(int t, const void *base, int64_t stride) {
    expect_tile(t);
    memset(tiles[t], 0, sizeof tiles[t]);
    for (int r = 0; r < emulated.rows[t]; r++) memcpy(tiles[t][r], (const char *)base + r * stride, emulated.bytes[t]);
}

static void emulated_store(int t, void *base, int64_t stride) {
    expect_tile(t);
    for (int r = 0; r < emulated.rows[t]; r++) memcpy((char *)base + r * stride, tiles[t][r], emulated.bytes[t]);
}

static void emulated_dpbssd(int c, int a, int b) {
    expect_tile(a), expect_tile(b), expect_tile(c);
    expect(a != b && b != c && a != c, "three tiles");
    expect(emulated.rows[c] == emulated.rows[a] && emulated.bytes[c] == emulated.bytes[b], "sums of A's rows, B's columns");
    expect(emulated.bytes[a] == 4 * emulated.rows[b], "as many columns of A as rows of B");
    for (int m = 0; m < emulated.rows[c]; m++)
        for (int k = 0; k < emulated.bytes[a] / 4; k++)
            for (int n = 0; n < emulated.bytes[c] / 4; n++) {
                int32_t sum;
                memcpy(&sum, &tiles[c][m][4 * n], 4);
                for (int i = 0; i < 4; i++) sum += (int8_t)tiles[a][m][4 * k + i] * (int8_t)tiles[b][k][4 * n + i];
                memcpy(&tiles[c][m][4 * n], &sum, 4);
            }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#define _tile_loadconfig emulated_loadconfig
#define _tile_release() memset(&emulated, 0, sizeof emulated)
#define _tile_zero(t) memset(tiles[t], 0, sizeof tiles[t])
#define _tile_loadd emulated_load
#define _tile_stored emulated_store
#define _tile_dpbssd emulated_dpbssd
