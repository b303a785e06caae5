// Preloaded into a program that runs under emulation (LD_PRELOAD): what it sees of its processor and of time.
//
//     ARM_HWCAP, ARM_HWCAP2     hexadecimal: the features that getauxval tells, instead of those of QEMU's own cpu
//     INSTRUCTION_CLOCK=FILE    every clock reads the emulator's instruction counter (see instructions.c), one instruction
//                               a microsecond, so that LiteRT's profiler, which knows whole microseconds only, tells
//                               instructions per op
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile uint64_t *counter;

__attribute__((constructor)) static void open_counter(void) {
    const char *path = getenv("INSTRUCTION_CLOCK");
    if (!path) return;
    int file = open(path, O_RDONLY);
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) _exit(127);
    close(file);
    counter = page;
}

unsigned long getauxval(unsigned long type) {
    const char *given = getenv(type == AT_HWCAP ? "ARM_HWCAP" : type == AT_HWCAP2 ? "ARM_HWCAP2" : "");
    if (given) return strtoul(given, NULL, 16);
    static unsigned long (*real)(unsigned long);
    if (!real) real = (unsigned long (*)(unsigned long))dlsym(RTLD_NEXT, "getauxval");
    return real(type);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!counter) return (int)syscall(SYS_clock_gettime, clock, time);
    uint64_t n = *counter;
    time->tv_sec = (time_t)(n / 1000000);
    time->tv_nsec = (long)(n % 1000000) * 1000;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    if (!counter) return (int)syscall(SYS_gettimeofday, time, zone);
    uint64_t n = *counter;
    time->tv_sec = (time_t)(n / 1000000);
    time->tv_usec = (suseconds_t)(n % 1000000);
    return 0;
}
