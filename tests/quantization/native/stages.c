/* One stage of a kernel at a time, for tests that compare it with the reference. All stages take their arguments as an
 * array of numbers and addresses, so that driver.c can pass those of any stage. */
#include "stages.h"

#include <string.h>

#include "kernels.h"

#define ADDRESS(i) ((void *)(intptr_t)a[i])

void lstmq_known_answers(int isa, uint64_t *digests);

static void quantize_row(const struct kernel *kernel, const int64_t *a) {
    kernel->quantize_row(ADDRESS(0), a[1], a[2], ADDRESS(3), ADDRESS(4));
}

static void matmul(const struct kernel *kernel, const int64_t *a) {
    const struct matrix w = {.packed = ADDRESS(0), .row_sums = ADDRESS(1), .scale = ADDRESS(2), .bias = ADDRESS(3),
                             .blocks = a[4], .depth = a[5]};
    const struct product product = {.w = &w, .rows = a[6], .x = ADDRESS(7), .x_scale = ADDRESS(8), .add = ADDRESS(9),
                                    .add_stride = a[10], .out = ADDRESS(11)};
    kernel->matmul(&product);
}

static void lstm_step(const struct kernel *kernel, const int64_t *a) {
    kernel->lstm_step(ADDRESS(0), a[1], ADDRESS(2), ADDRESS(3));
}

static void gru_step(const struct kernel *kernel, const int64_t *a) {
    kernel->gru_step(ADDRESS(0), ADDRESS(1), a[2], ADDRESS(3));
}

static void update_softmax(const struct kernel *kernel, const int64_t *a) {
    kernel->update_softmax(ADDRESS(0), a[1], ADDRESS(2), ADDRESS(3));
}

int lstmq_run_stage(const char *name, int isa, const int64_t *arguments) {
    static const struct {
        const char *name;
        void (*run)(const struct kernel *kernel, const int64_t *arguments);
    } stages[] = {{"quantize_row", quantize_row}, {"matmul", matmul}, {"lstm_step", lstm_step},
                  {"gru_step", gru_step}, {"update_softmax", update_softmax}};
    const struct kernel *kernel = lstmq_kernel(isa);
    if (kernel && strcmp(name, "known_answers") == 0) {
        lstmq_known_answers(isa, (uint64_t *)(intptr_t)arguments[0]);
        return 0;
    }
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (kernel && strcmp(stages[i].name, name) == 0) {
            stages[i].run(kernel, arguments);
            return 0;
        }
    return -1;
}
