/* Which kernels can run: the processor must have the instruction set, and the system must let this process use it. */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <stdatomic.h>

#include "kernels.h"

enum { UNKNOWN, NO, YES };

/* Return what `ask` returned when it was first asked. Every call of a kernel needs the answer, and a processor or a
 * system may take as long for it as a small step of a cell. Threads that ask at once all get, and keep, the same one.
 * It is unused where nothing is slow to ask, such as on arm64 with Linux; clang warns about that. */
__attribute__((unused)) static int ask_once(atomic_int *answer, int (*ask)(void)) {
    int known = atomic_load(answer);
    if (known == UNKNOWN) {
        known = ask() ? YES : NO;
        atomic_store(answer, known);
    }
    return known == YES;
}

#if defined(__x86_64__)
#include <cpuid.h>

#if defined(LSTMQ_EMULATE)
static int has_avx_vnni(void) { return 1; }
static int has_avx512_vnni(void) { return 1; }
static int has_amx_int8(void) { return 1; }
#else
#if defined(LSTMQ_AVX_VNNI)
static int find_avx_vnni(void) {
    enum { AVX_VNNI = 1 << 4 };
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && a >= 1 &&
           __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI);
}

static int has_avx_vnni(void) {
    static atomic_int answer = UNKNOWN;
    return ask_once(&answer, find_avx_vnni);
}
#endif

static int has_avx512_vnni(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

#if defined(LSTMQ_AMX) && defined(__linux__)
/* Tiles are large, so a process must ask Linux for them: ARCH_REQ_XCOMP_PERM in arch_prctl(2). */
static int request_amx_int8(void) {
    enum { AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25, REQUEST = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_TILE) && (d & AMX_INT8) &&
           syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

static int has_amx_int8(void) {
    static atomic_int answer = UNKNOWN;
    return ask_once(&answer, request_amx_int8);
}
#elif defined(LSTMQ_AMX)
static int has_amx_int8(void) { return 0; }
#endif
#endif

const struct kernel *lstmq_kernel(int isa) {
    __builtin_cpu_init();
    switch (isa) {
        case PORTABLE: return &lstmq_portable;
        case AVX2: return __builtin_cpu_supports("avx2") ? &lstmq_avx2 : NULL;
#if defined(LSTMQ_AVX_VNNI)
        case AVX_VNNI: return has_avx_vnni() ? &lstmq_avx_vnni : NULL;
#endif
        case AVX512_VNNI: return has_avx512_vnni() ? &lstmq_avx512_vnni : NULL;
#if defined(LSTMQ_AMX)
        case AMX_INT8: return has_avx512_vnni() && has_amx_int8() ? &lstmq_amx_int8 : NULL;
#endif
        default: return NULL;
    }
}
#elif defined(LSTMQ_NEON_DOTPROD)
#if defined(__linux__)
enum { HAS_DOTPROD = 1 << 20, HAS_I8MM = 1 << 13 }; /* HWCAP_ASIMDDP and HWCAP2_I8MM in the kernel's asm/hwcap.h */
static int has_dotprod(void) { return (getauxval(AT_HWCAP) & HAS_DOTPROD) != 0; }
static int has_i8mm(void) { return (getauxval(AT_HWCAP2) & HAS_I8MM) != 0; }
#elif defined(__APPLE__)
static int has_feature(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value; /* an older macOS may not know the name */
}
static int find_dotprod(void) { return has_feature("hw.optional.arm.FEAT_DotProd"); }
static int find_i8mm(void) { return has_feature("hw.optional.arm.FEAT_I8MM"); }
static int has_dotprod(void) {
    static atomic_int answer = UNKNOWN;
    return ask_once(&answer, find_dotprod);
}
static int has_i8mm(void) {
    static atomic_int answer = UNKNOWN;
    return ask_once(&answer, find_i8mm);
}
#else
static int has_dotprod(void) { return 0; }
static int has_i8mm(void) { return 0; }
#endif

const struct kernel *lstmq_kernel(int isa) {
    switch (isa) {
        case PORTABLE: return &lstmq_portable;
        case NEON_DOTPROD: return has_dotprod() ? &lstmq_neon_dotprod : NULL;
#if defined(LSTMQ_NEON_I8MM)
        case NEON_I8MM: return has_dotprod() && has_i8mm() ? &lstmq_neon_i8mm : NULL;
#endif
        default: return NULL;
    }
}
#else
const struct kernel *lstmq_kernel(int isa) { return isa == PORTABLE ? &lstmq_portable : NULL; }
#endif
