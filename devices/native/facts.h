// What a probe prints, whatever its runtime: facts, one JSON object a line. See probe.c.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_MODELS = 64, MAX_TENSORS = 64 };
enum { MARK = 0x4d41524b, WATCH = 0x57415443 };  // system calls that no kernel has: the emulator's plugin listens

static int model_at_work = -1;

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 0x20) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

// why: the runtime's own words, where it gives them to its caller.
static _Noreturn void refuse(const char *what, int status, const char *why) {
    printf("{\"fact\":\"error\",\"file\":%d,\"status\":%d,\"what\":", model_at_work, status);
    print_text(what);
    printf(",\"why\":");
    print_text(why);
    printf("}\n");
    fflush(stdout);
    _exit(4);
}

static _Noreturn void fail(const char *what, int status) { refuse(what, status, ""); }

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void mark(int file, int number) { syscall(MARK, file, number); }

static size_t heap_bytes(void) {
    struct mallinfo2 (*info)(void) = (struct mallinfo2(*)(void))dlsym(RTLD_DEFAULT, "mallinfo2");  // glibc 2.33 on
    if (!info) return 0;
    struct mallinfo2 heap = info();
    return heap.uordblks + heap.hblkhd;
}

static uint64_t peak_bytes(void) {
    char line[256];
    unsigned long kilobytes = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %lu kB", &kilobytes) == 1) break;
    if (status) fclose(status);
    return (uint64_t)kilobytes * 1024;
}

static void print_memory(int file, size_t heap_before) {
    printf("{\"fact\":\"memory\",\"file\":%d,\"peak_bytes\":%" PRIu64 ",\"heap_bytes\":%zu}\n", file, peak_bytes(),
           heap_bytes() - heap_before);
}

// out: where the bytes go too, or NULL.
static void print_output(int file, size_t index, const void *memory, size_t size, FILE *out) {
    uint64_t hash = 14695981039346656037u;  // FNV-1a, 64 bits
    for (size_t k = 0; k < size; k++) hash = (hash ^ ((const unsigned char *)memory)[k]) * 1099511628211u;
    if (out && fwrite(memory, 1, size, out) != size) fail("the outputs cannot be written", -1);
    printf("{\"fact\":\"output\",\"file\":%d,\"index\":%zu,\"bytes\":%zu,\"fnv1a\":\"%016" PRIx64 "\"}\n", file, index,
           size, hash);
}
