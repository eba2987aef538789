/* The intrinsics of AVX-VNNI, AVX512 and AMX that the kernels use, in plain C, as Intel's manual describes the instructions. They
 * let these kernels run on any x86-64 processor. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not inlined, because the kernels unroll their loops, and compiling all the copies takes long. */
#define EMULATED static __attribute__((noinline, unused))

/* AVX512 and AVX-VNNI: vectors are arrays of lanes. avx_vnni.c uses no real intrinsic, so these names are free. */

typedef struct {
    int32_t lane[16];
} __m512i;
typedef struct {
    float lane[16];
} __m512;
typedef struct {
    int32_t lane[8];
} __m256i;
typedef struct {
    float lane[8];
} __m256;

#define EMULATE(type, name, parameters, value)                                                     \
    EMULATED type name parameters {                                                                \
        type result;                                                                               \
        for (size_t i = 0; i < sizeof result / sizeof *result.lane; i++) result.lane[i] = (value); \
        return result;                                                                             \
    }
#define EMULATE_LOAD(type, name, from)          \
    EMULATED type name(from const *memory) {    \
        type result;                            \
        memcpy(&result, memory, sizeof result); \
        return result;                          \
    }
/* a's bytes are unsigned, b's are signed. The kernels never let the sum overflow; -fsanitize checks that. */
#define EMULATE_DPBUSD(type, name)                                             \
    EMULATED type name(type sums, type a, type b) {                            \
        uint8_t u[sizeof a];                                                   \
        int8_t s[sizeof b];                                                    \
        memcpy(u, &a, sizeof u);                                               \
        memcpy(s, &b, sizeof s);                                               \
        for (size_t i = 0; i < sizeof u; i++) sums.lane[i / 4] += u[i] * s[i]; \
        return sums;                                                           \
    }
#define EMULATE_VECTORS(width, integers, floats)                                                              \
    EMULATE(integers, _mm##width##_setzero_si##width, (void), 0)                                              \
    EMULATE(integers, _mm##width##_set1_epi32, (int32_t x), x)                                                \
    EMULATE(integers, _mm##width##_xor_si##width, (integers a, integers b), a.lane[i] ^ b.lane[i])            \
    EMULATE(integers, _mm##width##_sub_epi32, (integers a, integers b), a.lane[i] - b.lane[i])                \
    EMULATE(integers, _mm##width##_slli_epi32, (integers a, unsigned n), (int32_t)((uint32_t)a.lane[i] << n)) \
    EMULATE(floats, _mm##width##_set1_ps, (float x), x)                                                       \
    EMULATE(floats, _mm##width##_cvtepi32_ps, (integers a), (float)a.lane[i])                                 \
    EMULATE(floats, _mm##width##_mul_ps, (floats a, floats b), a.lane[i] * b.lane[i])                         \
    EMULATE(floats, _mm##width##_add_ps, (floats a, floats b), a.lane[i] + b.lane[i])                         \
    EMULATE_LOAD(floats, _mm##width##_loadu_ps, float)                                                        \
    EMULATE_LOAD(integers, _mm##width##_loadu_si##width, void)                                                \
    EMULATED void _mm##width##_storeu_ps(float *to, floats a) { memcpy(to, &a, sizeof a); }
EMULATE_VECTORS(512, __m512i, __m512)
EMULATE_VECTORS(256, __m256i, __m256)
EMULATE_DPBUSD(__m512i, _mm512_dpbusd_epi32)
EMULATE_DPBUSD(__m256i, _mm256_dpbusd_avx_epi32)

/* AMX: each thread has eight tiles. */

static _Thread_local struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} config;
static _Thread_local uint8_t tiles[8][16][64];

EMULATED void expect(int condition, const char *what) { /* the processor would raise a fault */
    if (!condition) fprintf(stderr, "AMX: expected %s\n", what), abort();
}

EMULATED void expect_tile(int t) { expect(t >= 0 && t < 8 && config.rows[t], "a configured tile"); }

EMULATED void _tile_loadconfig(const void *from) {
    memcpy(&config, from, 64);
    expect(config.palette == 1 && config.start == 0, "palette 1");
    for (int i = 0; i < 14; i++) expect(config.reserved[i] == 0, "zeros in the reserved bytes");
    for (int t = 0; t < 16; t++) {
        expect(config.rows[t] <= 16 && config.bytes[t] <= 64, "at most 16 rows of 64 bytes");
        expect((config.rows[t] == 0) == (config.bytes[t] == 0) && (t < 8 || !config.rows[t]), "at most 8 tiles");
    }
    memset(tiles, 0xcc, sizeof tiles); /* reading a tile that was not loaded gives wrong results */
}

EMULATED void _tile_release(void) { memset(&config, 0, sizeof config); }

EMULATED void _tile_zero(int t) {
    expect_tile(t);
    memset(tiles[t], 0, sizeof tiles[t]);
}

EMULATED void _tile_loadd(int t, const void *base, int64_t stride) {
    _tile_zero(t);
    for (int r = 0; r < config.rows[t]; r++) memcpy(tiles[t][r], (const char *)base + r * stride, config.bytes[t]);
}

EMULATED void _tile_stored(int t, void *base, int64_t stride) {
    expect_tile(t);
    for (int r = 0; r < config.rows[t]; r++) memcpy((char *)base + r * stride, tiles[t][r], config.bytes[t]);
}

EMULATED void _tile_dpbssd(int c, int a, int b) {
    expect_tile(a), expect_tile(b), expect_tile(c);
    expect(a != b && b != c && a != c, "three different tiles");
    expect(config.rows[c] == config.rows[a] && config.bytes[c] == config.bytes[b], "sums of A's rows and B's columns");
    expect(config.bytes[a] == 4 * config.rows[b], "as many columns of A as rows of B");
    for (int m = 0; m < config.rows[c]; m++)
        for (int k = 0; k < config.bytes[a] / 4; k++)
            for (int n = 0; n < config.bytes[c] / 4; n++) {
                int32_t sum;
                memcpy(&sum, &tiles[c][m][4 * n], sizeof sum);
                for (int i = 0; i < 4; i++) sum += (int8_t)tiles[a][m][4 * k + i] * (int8_t)tiles[b][k][4 * n + i];
                memcpy(&tiles[c][m][4 * n], &sum, sizeof sum);
            }
}
