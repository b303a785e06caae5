// Preloaded into a probe that callgrind runs (LD_PRELOAD): what it counts, and a clock that is the same every time.
//
// At the probe's first mark (the system call MARK, which no kernel has) callgrind begins to count; at every further one
// it writes what it counted since the mark before, to FILE.1, FILE.2 ... Until then valgrind only translates, which is
// four times as fast: --instr-atstart=no.
//
// Every reading of a clock is a microsecond after the one before: ONNX Runtime's memory depends on the time. With
//
//     INSTRUCTION_CLOCK=FILE    it is the instructions counted so far, one a microsecond, so that LiteRT's profiler,
//                               which knows whole microseconds only, tells instructions per op. FILE is that of
//                               --callgrind-out-file; counting must go on from the start.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 0x4d41524b, ARGUMENTS = 6 };
enum { DUMP = 0x43540000, TOGGLE_COLLECT = 0x43540002, START = 0x43540004 };  // of callgrind.h

static const char *counts;

__attribute__((constructor)) static void find_counts(void) { counts = getenv("INSTRUCTION_CLOCK"); }

// A client request: code that does nothing, but that valgrind knows (valgrind.h, which not every system packages).
static void request(uint64_t what) {
    volatile uint64_t words[ARGUMENTS] = {what};
#if defined __x86_64__
    uint64_t answer = 0;
    __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
                     : "+d"(answer)
                     : "a"(words)
                     : "cc", "memory");
#elif defined __aarch64__
    register uint64_t answer __asm__("x3") = 0;
    register volatile uint64_t *given __asm__("x4") = words;
    __asm__ volatile("ror x12, x12, #3; ror x12, x12, #13; ror x12, x12, #51; ror x12, x12, #61; orr x10, x10, x10"
                     : "+r"(answer)
                     : "r"(given)
                     : "cc", "memory");
#else
#error "valgrind's requests are known for x86-64 and aarch64"
#endif
}

long syscall(long number, ...) {
    static int counting;
    if (number == MARK) {
        request(counting ? DUMP : START);
        counting = 1;
        return 0;
    }
    static long (*real)(long, ...);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long given[ARGUMENTS];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < ARGUMENTS; i++) given[i] = va_arg(list, long);
    va_end(list);
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

// Instructions up to here, those that reading takes left out.
static uint64_t counted(void) {
    static uint64_t total;
    static unsigned dumps;
    char path[256], line[256];
    unsigned long long added = 0;
    request(TOGGLE_COLLECT);
    request(DUMP);
    snprintf(path, sizeof path, "%s.%u", counts, ++dumps);
    FILE *dump = fopen(path, "r");
    if (!dump) _exit(127);
    while (fgets(line, sizeof line, dump) && sscanf(line, "summary: %llu", &added) != 1) continue;
    fclose(dump);
    remove(path);
    total += added;
    request(TOGGLE_COLLECT);
    return total;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static uint64_t ticks;
    (void)clock;
    uint64_t n = counts ? counted() : ++ticks;
    time->tv_sec = (time_t)(n / 1000000);
    time->tv_nsec = (long)(n % 1000000) * 1000;
    return 0;
}
