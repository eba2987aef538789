/* Which kernels can run: the processor must have the instruction set, and the system must let this process use it. */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

#if defined(LSTMQ_EMULATE)
static int has_avx512_vnni(void) { return 1; }
static int has_amx_int8(void) { return 1; }
#else
static int has_avx512_vnni(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

#if defined(LSTMQ_AMX) && defined(__linux__)
#include <stdatomic.h>

/* Tiles are large, so a process must ask Linux for them: ARCH_REQ_XCOMP_PERM in arch_prctl(2). */
static int request_amx_int8(void) {
    enum { AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25, REQUEST = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_TILE) && (d & AMX_INT8) &&
           syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

/* The answer is kept because every window needs it. Threads that ask at once all get, and keep, the same answer. */
static int has_amx_int8(void) {
    enum { UNKNOWN, NO, YES };
    static atomic_int answer = UNKNOWN;
    int known = atomic_load(&answer);
    if (known == UNKNOWN) {
        known = request_amx_int8() ? YES : NO;
        atomic_store(&answer, known);
    }
    return known == YES;
}
#elif defined(LSTMQ_AMX)
static int has_amx_int8(void) { return 0; }
#endif
#endif

const struct kernel *lstmq_kernel(int isa) {
    __builtin_cpu_init();
    switch (isa) {
        case 0: return &lstmq_portable;
        case 1: return __builtin_cpu_supports("avx2") ? &lstmq_avx2 : NULL;
        case 2: return has_avx512_vnni() ? &lstmq_avx512_vnni : NULL;
#if defined(LSTMQ_AMX)
        case 3: return has_avx512_vnni() && has_amx_int8() ? &lstmq_amx_int8 : NULL;
#endif
        default: return NULL;
    }
}
#else
const struct kernel *lstmq_kernel(int isa) { return isa == 0 ? &lstmq_portable : NULL; }
#endif
