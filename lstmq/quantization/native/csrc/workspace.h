/* Memory for one call: measured first, then allocated at once, and handed out from front to back. */
#ifndef LSTMQ_WORKSPACE_H
#define LSTMQ_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

enum { ALIGNMENT = 64 }; /* of each array; a cache line, and a vector of AVX512 */

/* Without a base, an arena only measures. */
struct arena {
    char *base;
    size_t used;
};

static inline void *arena_alloc(struct arena *arena, int64_t count, size_t size) {
    void *start = arena->base ? arena->base + arena->used : NULL;
    arena->used += ((size_t)count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return start;
}

/* Return where aligned memory starts in a block that malloc returned for ALIGNMENT more bytes. */
static inline char *align(void *block) {
    return (char *)block + (ALIGNMENT - (uintptr_t)block % ALIGNMENT) % ALIGNMENT;
}

#endif
