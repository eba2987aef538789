#include <stdint.h>

/* Run the stage of this name with the kernel of this index. Return 0, or -1 if there is none, or it cannot run here. */
int lstmq_run_stage(const char *name, int isa, const int64_t *arguments);
