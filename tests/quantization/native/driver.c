/* Runs stages for a Python test that cannot load the kernels, because they were built for another processor. A test
 * writes requests to standard input, and reads the answers from standard output.
 *
 * A request is the stage's name, 16 bytes; the kernel's index and the number of arguments; and the arguments. Each is a
 * kind and a number: the argument itself, or the size of an array, whose bytes follow. The answer is what
 * lstmq_run_stage returned, and the arrays' bytes after the call. All numbers are int64.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stages.h"

enum { MOST = 64, NUMBER = 0 };

static void read_all(void *to, size_t size) {
    if (size && fread(to, size, 1, stdin) != 1) exit(feof(stdin) ? 0 : 1);
}

static int64_t read_number(void) {
    int64_t number;
    read_all(&number, sizeof number);
    return number;
}

static void write_all(const void *from, size_t size) {
    if (size && fwrite(from, size, 1, stdout) != 1) exit(1);
}

/* An array that ends where memory ends: a kernel that reads or writes behind it is killed. */
struct array {
    char *pages, *start;
    size_t size, length;
};

static struct array allocate(size_t size) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), length = (size + page - 1) / page * page;
    char *pages = mmap(NULL, length + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + length, page, PROT_NONE)) exit(1);
    return (struct array){pages, pages + length - size, size, length + page};
}

static void answer_request(void) {
    char name[17] = {0};
    struct array arrays[MOST];
    int64_t arguments[MOST], used = 0;
    read_all(name, 16);
    const int64_t isa = read_number(), count = read_number();
    if (count > MOST) exit(1);
    for (int64_t i = 0; i < count; i++) {
        const int64_t kind = read_number();
        arguments[i] = read_number();
        if (kind != NUMBER) {
            struct array *array = &arrays[used++];
            *array = allocate((size_t)arguments[i]);
            read_all(array->start, array->size);
            arguments[i] = (int64_t)(intptr_t)array->start;
        }
    }
    const int64_t result = lstmq_run_stage(name, (int)isa, arguments);
    write_all(&result, sizeof result);
    for (int64_t i = 0; i < used; i++) {
        write_all(arrays[i].start, arrays[i].size);
        munmap(arrays[i].pages, arrays[i].length);
    }
    if (fflush(stdout)) exit(1);
}

int main(void) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* leave no file if a kernel is killed */
    for (;;) answer_request();
}
