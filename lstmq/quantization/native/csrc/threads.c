/* Share tasks over threads. Threads start and end with the call: a model that a process forks with, that many threads
 * of Python call, or that is never called again holds none. A start costs some 20 microseconds, so callers with little
 * work ask for one thread. A thread that the system refuses to start costs time only: its tasks run on the caller's.
 */
#include "threads.h"

#include <stddef.h>

#if !defined(_WIN32)
#include <pthread.h>
#endif

struct share {
    void (*run)(void *context, int64_t task, int64_t worker);
    void *context;
    int64_t first, step, tasks;
};

static void *run_share(void *argument) {
    const struct share *share = argument;
    for (int64_t task = share->first; task < share->tasks; task += share->step)
        share->run(share->context, task, share->first);
    return NULL;
}

void lstmq_run_tasks(int64_t threads, int64_t tasks, void (*run)(void *context, int64_t task, int64_t worker),
                     void *context) {
    struct share shares[MOST_THREADS];
    if (threads > tasks) threads = tasks;
    for (int64_t i = 0; i < threads; i++) shares[i] = (struct share){run, context, i, threads, tasks};
#if defined(_WIN32) /* one thread does everything */
    for (int64_t i = 0; i < threads; i++) run_share(&shares[i]);
#else
    pthread_t started[MOST_THREADS];
    int is_started[MOST_THREADS] = {0};
    for (int64_t i = 1; i < threads; i++)
        is_started[i] = pthread_create(&started[i], NULL, run_share, &shares[i]) == 0;
    for (int64_t i = 0; i < threads; i++)
        if (!is_started[i]) run_share(&shares[i]);
    for (int64_t i = 1; i < threads; i++)
        if (is_started[i]) pthread_join(started[i], NULL);
#endif
}
