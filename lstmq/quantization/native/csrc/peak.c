/* How fast this processor can be at most, for `lstmq doctor`: products of int8 integers, and reading memory.
 *
 * Each instruction set has three loops. `products` has all its operands in registers and is assembly, so nothing but
 * the multipliers limits it. `check` computes the same products on weights in the nearest cache, and the compiler
 * writes it (on arm64, another form of the instruction). The two must agree. `read` only loads vectors; the system's
 * memchr is what it must agree with.
 */
#include <string.h>

#include "kernels.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

struct peak {
    const char *isa;
    int64_t (*products)(int64_t rounds); /* run the loop `rounds` times, at least once; return the number of products */
    int64_t (*check)(int64_t rounds);
    uint64_t (*read)(const void *from, int64_t bytes); /* return something that depends on every byte */
};

enum {
    CHUNK = 256,   /* bytes; `read` reads a multiple of them */
    CHECKED = 2048 /* bytes of weights that `check` multiplies */
};

static const int8_t operands[64] __attribute__((aligned(64))) = {
    1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12, 13, -14, 15, -16, 17, -18, 19, -20, 21, -22, 23, -24, 25, -26, 27, -28,
    29, -30, 31, -32, 33, -34, 35, -36, 37, -38, 39, -40, 41, -42, 43, -44, 45, -46, 47, -48, 49, -50, 51, -52, 53, -54,
    55, -56, 57, -58, 59, -60, 61, -62, 63, -64};

/* Memory for `check`. The compiler must not know what it holds. */
#define CHECKED_WEIGHTS(name)                                    \
    int8_t name[CHECKED] __attribute__((aligned(64)));           \
    for (int i = 0; i < CHECKED; i++) name[i] = operands[i % 64]; \
    __asm__ volatile("" : : "r"(name) : "memory")

#if defined(__x86_64__)
#include <immintrin.h>

/* Repeat DO for registers 0, 1, ... */
#define SIX(DO) DO("0", "7") DO("1", "8") DO("2", "9") DO("3", "10") DO("4", "11") DO("5", "12")
#define TWELVE(DO) \
    DO("0") DO("1") DO("2") DO("3") DO("4") DO("5") DO("6") DO("7") DO("8") DO("9") DO("10") DO("11")
#define REGISTERS                                                                                                  \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
        "xmm14", "xmm15", "cc", "memory"

/* Plain C for x86-64 may use SSE2 only. Its widest product is pmaddwd, of 8 numbers of 16 bits. */
static int64_t products_sse2(int64_t rounds) {
    const int64_t products = rounds * 6 * 8;
#define STEP(t, s) "movdqa %%xmm14, %%xmm" t "\n\tpmaddwd %%xmm15, %%xmm" t "\n\tpaddd %%xmm" t ", %%xmm" s "\n\t"
    __asm__ volatile("movdqa (%1), %%xmm14\n\tmovdqa 16(%1), %%xmm15\n1:\n\t" SIX(STEP) "dec %0\n\tjnz 1b"
                     : "+r"(rounds) : "r"(operands) : REGISTERS);
#undef STEP
    return products;
}

static int64_t check_sse2(int64_t rounds) {
    CHECKED_WEIGHTS(weights);
    __m128i x = _mm_load_si128((const __m128i *)operands), sums[4];
    for (int k = 0; k < 4; k++) sums[k] = _mm_setzero_si128();
    for (int64_t round = 0; round < rounds; round++) {
        __asm__ volatile("" : "+x"(x));
        for (int i = 0; i < CHECKED; i += 64)
            for (int k = 0; k < 4; k++)
                sums[k] = _mm_add_epi32(sums[k], _mm_madd_epi16(x, _mm_load_si128((__m128i *)(weights + i) + k)));
    }
    for (int k = 0; k < 4; k++) __asm__ volatile("" : : "x"(sums[k]));
    return rounds * CHECKED / 2;
}

static uint64_t read_sse2(const void *from, int64_t bytes) {
    __m128i all[8];
    for (int k = 0; k < 8; k++) all[k] = _mm_setzero_si128();
    for (int64_t i = 0; i < bytes; i += 128)
        for (int k = 0; k < 8; k++)
            all[k] = _mm_xor_si128(all[k], _mm_loadu_si128((const __m128i *)((const char *)from + i) + k));
    for (int k = 1; k < 8; k++) all[0] = _mm_xor_si128(all[0], all[k]);
    return (uint64_t)_mm_cvtsi128_si64(all[0]) ^ (uint64_t)_mm_cvtsi128_si64(_mm_srli_si128(all[0], 8));
}

static int64_t products_avx2(int64_t rounds) {
    const int64_t products = rounds * 6 * 32;
#define STEP(t, s)                                                                                        \
    "vpmaddubsw %%ymm15, %%ymm14, %%ymm" t "\n\tvpmaddwd %%ymm6, %%ymm" t ", %%ymm" t "\n\tvpaddd %%ymm" t \
    ", %%ymm" s ", %%ymm" s "\n\t"
    __asm__ volatile("vmovdqa (%1), %%ymm14\n\tvmovdqa 32(%1), %%ymm15\n\tvpcmpeqw %%ymm6, %%ymm6, %%ymm6\n\t"
                     "vpabsw %%ymm6, %%ymm6\n\tvpabsb %%ymm14, %%ymm14\n1:\n\t" SIX(STEP)
                     "dec %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(rounds) : "r"(operands) : REGISTERS);
#undef STEP
    return products;
}

__attribute__((target("avx2"))) static int64_t check_avx2(int64_t rounds) {
    CHECKED_WEIGHTS(weights);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i x = _mm256_abs_epi8(_mm256_load_si256((const __m256i *)operands)), sums[4];
    for (int k = 0; k < 4; k++) sums[k] = _mm256_setzero_si256();
    for (int64_t round = 0; round < rounds; round++) {
        __asm__ volatile("" : "+x"(x));
        for (int i = 0; i < CHECKED; i += 128)
            for (int k = 0; k < 4; k++) {
                const __m256i w = _mm256_load_si256((__m256i *)(weights + i) + k);
                sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones));
            }
    }
    for (int k = 0; k < 4; k++) __asm__ volatile("" : : "x"(sums[k]));
    return rounds * CHECKED;
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const void *from, int64_t bytes) {
    __m256i all[8];
    for (int k = 0; k < 8; k++) all[k] = _mm256_setzero_si256();
    for (int64_t i = 0; i < bytes; i += CHUNK)
        for (int k = 0; k < 8; k++)
            all[k] = _mm256_xor_si256(all[k], _mm256_loadu_si256((const __m256i *)((const char *)from + i) + k));
    for (int k = 1; k < 8; k++) all[0] = _mm256_xor_si256(all[0], all[k]);
    return (uint64_t)_mm256_extract_epi64(all[0], 0) ^ (uint64_t)_mm256_extract_epi64(all[0], 1) ^
           (uint64_t)_mm256_extract_epi64(all[0], 2) ^ (uint64_t)_mm256_extract_epi64(all[0], 3);
}

#if !defined(LSTMQ_EMULATE) /* nothing here emulates an instruction, so tests would run what the processor lacks */
static int64_t products_avx512_vnni(int64_t rounds) {
    const int64_t products = rounds * 12 * 64;
#define STEP(s) "vpdpbusd %%zmm15, %%zmm14, %%zmm" s "\n\t"
    __asm__ volatile("vmovdqa64 (%1), %%zmm14\n\tvmovdqa64 (%1), %%zmm15\n1:\n\t" TWELVE(STEP)
                     "dec %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(rounds) : "r"(operands) : REGISTERS);
#undef STEP
    return products;
}

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
AVX512 static int64_t check_avx512_vnni(int64_t rounds) {
    CHECKED_WEIGHTS(weights);
    __m512i x = _mm512_load_si512(operands), sums[16];
    for (int k = 0; k < 16; k++) sums[k] = _mm512_setzero_si512();
    for (int64_t round = 0; round < rounds; round++) {
        __asm__ volatile("" : "+v"(x));
        for (int i = 0; i < CHECKED; i += 1024)
            for (int k = 0; k < 16; k++)
                sums[k] = _mm512_dpbusd_epi32(sums[k], x, _mm512_load_si512(weights + i + 64 * k));
    }
    for (int k = 0; k < 16; k++) __asm__ volatile("" : : "v"(sums[k]));
    return rounds * CHECKED;
}

AVX512 static uint64_t read_avx512(const void *from, int64_t bytes) {
    __m512i all[4];
    for (int k = 0; k < 4; k++) all[k] = _mm512_setzero_si512();
    for (int64_t i = 0; i < bytes; i += CHUNK)
        for (int k = 0; k < 4; k++)
            all[k] = _mm512_xor_si512(all[k], _mm512_loadu_si512((const char *)from + i + 64 * k));
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(all[0], all[1]),
                                                              _mm512_xor_si512(all[2], all[3])));
}

#if defined(LSTMQ_AMX) /* the compilers that know AMX also know AVX-VNNI */
static int64_t products_avx_vnni(int64_t rounds) {
    const int64_t products = rounds * 12 * 32;
#define STEP(s) "%{vex%} vpdpbusd %%ymm15, %%ymm14, %%ymm" s "\n\t"
    __asm__ volatile("vmovdqa (%1), %%ymm14\n\tvmovdqa 32(%1), %%ymm15\n1:\n\t" TWELVE(STEP)
                     "dec %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(rounds) : "r"(operands) : REGISTERS);
#undef STEP
    return products;
}

__attribute__((target("avx2,avxvnni"))) static int64_t check_avx_vnni(int64_t rounds) {
    CHECKED_WEIGHTS(weights);
    __m256i x = _mm256_load_si256((const __m256i *)operands), sums[12];
    for (int k = 0; k < 12; k++) sums[k] = _mm256_setzero_si256();
    for (int64_t round = 0; round < rounds; round++) {
        __asm__ volatile("" : "+x"(x));
        for (int i = 0; i + 384 <= CHECKED; i += 384)
            for (int k = 0; k < 12; k++)
                sums[k] = _mm256_dpbusd_avx_epi32(sums[k], x, _mm256_load_si256((__m256i *)(weights + i) + k));
    }
    for (int k = 0; k < 12; k++) __asm__ volatile("" : : "x"(sums[k]));
    return rounds * (CHECKED / 384 * 384);
}

/* Tiles 0 to 3 or 0 to 5 hold sums, 6 and 7 what is multiplied. A product of two tiles is 16 * 16 * 64 products. */
static void configure_tiles(void) {
    uint8_t config[64] __attribute__((aligned(64))) = {1}; /* palette 1; then the bytes and the number of rows */
    for (int tile = 0; tile < 8; tile++) config[16 + 2 * tile] = 64, config[48 + tile] = 16;
    __asm__ volatile("ldtilecfg (%0)" : : "r"(config) : "memory");
    __asm__ volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\ttilezero %%tmm4\n\t"
                     "tilezero %%tmm5\n\ttileloadd (%0,%1,1), %%tmm6\n\ttileloadd (%0,%1,1), %%tmm7"
                     : : "r"(operands), "r"((int64_t)0) : "memory");
}

static int64_t products_amx_int8(int64_t rounds) {
    const int64_t products = rounds * 4 * 16 * 16 * 64;
    configure_tiles();
    __asm__ volatile("1:\n\ttdpbssd %%tmm7, %%tmm6, %%tmm0\n\ttdpbssd %%tmm7, %%tmm6, %%tmm1\n\t"
                     "tdpbssd %%tmm7, %%tmm6, %%tmm2\n\ttdpbssd %%tmm7, %%tmm6, %%tmm3\n\tdec %0\n\tjnz 1b\n\ttilerelease"
                     : "+r"(rounds) : : "cc", "memory");
    return products;
}

/* Six sums, and one of the factors is loaded from the nearest cache for every third product. */
static int64_t check_amx_int8(int64_t rounds) {
    const int64_t products = rounds * 6 * 16 * 16 * 64;
    CHECKED_WEIGHTS(weights);
    configure_tiles();
    __asm__ volatile("1:\n\ttileloadd (%1,%2,1), %%tmm6\n\ttdpbssd %%tmm7, %%tmm6, %%tmm0\n\t"
                     "tdpbssd %%tmm7, %%tmm6, %%tmm1\n\ttdpbssd %%tmm7, %%tmm6, %%tmm2\n\t"
                     "tileloadd 1024(%1,%2,1), %%tmm6\n\ttdpbssd %%tmm7, %%tmm6, %%tmm3\n\t"
                     "tdpbssd %%tmm7, %%tmm6, %%tmm4\n\ttdpbssd %%tmm7, %%tmm6, %%tmm5\n\tdec %0\n\tjnz 1b\n\ttilerelease"
                     : "+r"(rounds) : "r"(weights), "r"((int64_t)64) : "cc", "memory");
    return products;
}
#endif
#endif

static const struct peak peaks[] = {
    {"portable", products_sse2, check_sse2, read_sse2},
    {"avx2", products_avx2, check_avx2, read_avx2},
#if !defined(LSTMQ_EMULATE)
    {"avx512_vnni", products_avx512_vnni, check_avx512_vnni, read_avx512},
#if defined(LSTMQ_AMX)
    {"avx_vnni", products_avx_vnni, check_avx_vnni, read_avx2},
    {"amx_int8", products_amx_int8, check_amx_int8, read_avx512},
#endif
#endif
};
#elif defined(__aarch64__)
#include <arm_neon.h>

#define EIGHT(DO) DO("0") DO("1") DO("2") DO("3") DO("4") DO("5") DO("6") DO("7")
#define SIXTEEN(DO) EIGHT(DO) DO("16") DO("17") DO("18") DO("19") DO("20") DO("21") DO("22") DO("23")
#define REGISTERS                                                                                                  \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", \
        "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory"
/* A loop: v30 and v31 hold what is multiplied, and STEPS change the other registers. */
#define RUN(STEPS)                                                                                        \
    __asm__ volatile("ldr q30, [%1]\n\tldr q31, [%1, #16]\n1:\n\t" STEPS "subs %0, %0, #1\n\tb.ne 1b" \
                     : "+r"(rounds) : "r"(operands) : REGISTERS)
/* Instructions of extensions stand as numbers, because assemblers differ in how they are told to accept the names. The
 * number of the register that is changed is added. */
#define SDOT(s) ".inst 0x4e9f97c0 + " s "\n\t"       /* sdot vS.4s, v30.16b, v31.16b */
#define SDOT_LANE(s) ".inst 0x4f9fe300 + " s "\n\t"  /* sdot vS.4s, v24.16b, v31.4b[0] */
#define SMMLA(s) ".inst 0x4e9fa7c0 + " s "\n\t"      /* smmla vS.4s, v30.16b, v31.16b */
#define SMMLA_OTHER(s) ".inst 0x4e9fa700 + " s "\n\t" /* smmla vS.4s, v24.16b, v31.16b */
#define LOAD "ldr q24, [%1]\n\t"

/* Without extensions: 16 products of 16 bits, and their sums of 32 bits. */
static int64_t products_neon(int64_t rounds) {
    const int64_t products = rounds * 8 * 16;
#define STEP(s)                                                                                                 \
    "smull v24.8h, v30.8b, v31.8b\n\tsmlal2 v24.8h, v30.16b, v31.16b\n\tsadalp v" s ".4s, v24.8h\n\t"
    RUN(EIGHT(STEP));
#undef STEP
    return products;
}

static int64_t check_neon(int64_t rounds) {
    const int64_t products = rounds * 8 * 16;
#define STEP(s)                                                                                                   \
    "smull2 v25.8h, v31.16b, v30.16b\n\tsmlal v25.8h, v31.8b, v30.8b\n\tsadalp v" s ".4s, v25.8h\n\tldr q31, [%1]\n\t"
    RUN(EIGHT(STEP));
#undef STEP
    return products;
}

static uint64_t read_neon(const void *from, int64_t bytes) {
    uint8x16_t all[8];
    for (int k = 0; k < 8; k++) all[k] = vdupq_n_u8(0);
    for (int64_t i = 0; i < bytes; i += 128)
        for (int k = 0; k < 8; k++) all[k] = veorq_u8(all[k], vld1q_u8((const uint8_t *)from + i + 16 * k));
    for (int k = 1; k < 8; k++) all[0] = veorq_u8(all[0], all[k]);
    const uint64x2_t halves = vreinterpretq_u64_u8(all[0]);
    return vgetq_lane_u64(halves, 0) ^ vgetq_lane_u64(halves, 1);
}

static int64_t products_dotprod(int64_t rounds) {
    const int64_t products = rounds * 16 * 16;
    RUN(SIXTEEN(SDOT));
    return products;
}

/* The form that takes 4 bytes of the second factor, on weights that are loaded for every other product. */
static int64_t check_dotprod(int64_t rounds) {
    const int64_t products = rounds * 16 * 16;
#define STEP(s) LOAD SDOT_LANE(s)
    RUN(SIXTEEN(STEP));
#undef STEP
    return products;
}

static int64_t products_i8mm(int64_t rounds) {
    const int64_t products = rounds * 16 * 32;
    RUN(SIXTEEN(SMMLA));
    return products;
}

static int64_t check_i8mm(int64_t rounds) {
    const int64_t products = rounds * 16 * 32;
#define STEP(s) LOAD SMMLA_OTHER(s)
    RUN(SIXTEEN(STEP));
#undef STEP
    return products;
}

static const struct peak peaks[] = {
    {"portable", products_neon, check_neon, read_neon},
    {"neon_dotprod", products_dotprod, check_dotprod, read_neon},
    {"neon_i8mm", products_i8mm, check_i8mm, read_neon},
};
#else
static uint64_t read_plain(const void *from, int64_t bytes) {
    uint64_t all[8] = {0};
    for (int64_t i = 0; i < bytes; i += 64) {
        uint64_t part[8];
        memcpy(part, (const char *)from + i, sizeof part);
        for (int k = 0; k < 8; k++) all[k] ^= part[k];
    }
    return all[0] ^ all[1] ^ all[2] ^ all[3] ^ all[4] ^ all[5] ^ all[6] ^ all[7];
}

static const struct peak peaks[] = {{"portable", NULL, NULL, read_plain}};
#endif

static const struct peak *find_peak(const char *isa) {
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++)
        if (strcmp(peaks[i].isa, isa) == 0) return &peaks[i];
    return NULL;
}

/* Run the loop of products of an instruction set, which this processor must have. Return the number of products, or 0
 * if there is no such loop. */
EXPORT int64_t lstmq_peak_products(const char *isa, int64_t rounds) {
    const struct peak *peak = find_peak(isa);
    return peak && peak->products ? peak->products(rounds) : 0;
}

/* The same with the second loop. */
EXPORT int64_t lstmq_check_products(const char *isa, int64_t rounds) {
    const struct peak *peak = find_peak(isa);
    return peak && peak->check ? peak->check(rounds) : 0;
}

/* Read memory `times` times with the vectors of an instruction set, which this processor must have. Return the number of
 * bytes, of whole chunks only, or 0 if there is no such loop. */
EXPORT int64_t lstmq_read_memory(const char *isa, const void *from, int64_t bytes, int64_t times) {
    const struct peak *peak = find_peak(isa);
    const int64_t whole = bytes / CHUNK * CHUNK;
    if (!peak) return 0;
    for (int64_t i = 0; i < times; i++) {
        const uint64_t all = peak->read(from, whole);
        __asm__ volatile("" : : "r"(all) : "memory");
    }
    return whole * times;
}

/* Read memory with the system's memchr instead, for a byte that must not be there. Return the number of bytes. */
EXPORT int64_t lstmq_search_memory(const void *from, int byte, int64_t bytes, int64_t times) {
    for (int64_t i = 0; i < times; i++) {
        const void *found = memchr(from, byte, (size_t)bytes);
        __asm__ volatile("" : : "r"(found) : "memory");
    }
    return bytes * times;
}
