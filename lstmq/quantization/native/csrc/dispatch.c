/* Which instruction sets this processor has, and this system lets a process use. */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

#if defined(LSTMQ_AMX)
static int has_amx(void) {
#if defined(LSTMQ_EMULATE_AMX)
    return 1;
#elif defined(__linux__)
    static int known; /* 1 if not, 2 if so: to ask takes its time, and the answer stays */
    if (known) return known - 1;
    enum { TILE = 1 << 24, INT8 = 1 << 25, REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of arch_prctl(2) */
    unsigned a, b, c, d;
    const int has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TILE) && (d & INT8);
    known = has && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0 ? 2 : 1; /* tiles are large: Linux wants to be asked */
    return known - 1;
#else
    return 0;
#endif
}
#endif

const struct kernel *lstmq_kernel(int isa) {
    __builtin_cpu_init();
    const int vnni = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vnni");
    switch (isa) {
        case 0: return &lstmq_portable;
        case 1: return __builtin_cpu_supports("avx2") ? &lstmq_avx2 : NULL;
        case 2: return vnni ? &lstmq_avx512_vnni : NULL;
#if defined(LSTMQ_AMX)
        case 3: return vnni && has_amx() ? &lstmq_amx_int8 : NULL;
#endif
        default: return NULL;
    }
}
#else
const struct kernel *lstmq_kernel(int isa) { return isa == 0 ? &lstmq_portable : NULL; }
#endif
