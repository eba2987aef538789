/* Share tasks over threads. */
#ifndef LSTMQ_THREADS_H
#define LSTMQ_THREADS_H

#include <stdint.h>

enum { MOST_THREADS = 64 };

/* Run tasks 0, 1, ... on as many threads, at most MOST_THREADS, and return when all have ended. `worker` is less than
 * the number of threads; tasks that run at the same time have different ones. */
void lstmq_run_tasks(int64_t threads, int64_t tasks, void (*run)(void *context, int64_t task, int64_t worker),
                     void *context);

#endif
