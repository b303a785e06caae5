// The probe: runs TFLite files in LiteRT on the machine it stands on, and prints what it saw, one JSON object a line.
//
//     probe LIBRARY TASK THREADS KERNELS COUNT SECONDS PROFILING MODEL INPUTS OUTPUTS [MODEL INPUTS OUTPUTS ...]
//
//     LIBRARY    path of libLiteRt.so (2.x)
//     TASK       time: COUNT inferences a block, blocks of all models in turns, for SECONDS
//                count: COUNT inferences of each model, the first ones included, with a mark before and after each
//                ops: COUNT inferences of each model under LiteRT's profiler, after a first one; with COUNT 0 the first
//                one itself, unless kernels of TFLite's own run in it, which do more the first time than XNNPACK's do
//     THREADS    of XNNPACK
//     KERNELS    delegate (XNNPACK) or builtin
//     MODEL      a .tflite file
//     INPUTS     a file with the bytes of all inputs, one after the other, in the order of the signature
//     OUTPUTS    where to write the bytes of all outputs, or -
//
// Facts: runtime, loaded, first, block, mark, op, output, memory, error, end. Times are in microseconds. A run that
// does not print `end` did not finish. Exit status 0 or, after an `error`, 4.
//
// The library is opened at run time, so one probe fits every build of it; the declarations below are those of
// LiteRT's C API (litert/c/litert_*.h) as of 2.3.
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

enum { MAX_MODELS = 64, MAX_TENSORS = 64, MAX_RANK = 8, CPU = 1, READ = 0, WRITE = 1, OWN_KERNEL = 2 };
enum { MARK = 0x4d41524b };  // a system call that no kernel has: the emulator's plugin listens for it

typedef void *Handle;
typedef struct { uint32_t bits; int32_t dims[MAX_RANK]; uint32_t strides[MAX_RANK]; } Layout;
typedef struct { int32_t element_type; Layout layout; } TensorType;
typedef struct { size_t resident, total, in_use; } MemoryUsage;
typedef struct {
    const char *tag;
    int type;
    uint64_t start_us, elapsed_us;
    MemoryUsage before, after;
    uint64_t index, subgraph;
    int source;
} Event;

typedef struct {
    Handle model, compiled;
    size_t inputs, outputs;
    Handle input[MAX_TENSORS], output[MAX_TENSORS];
} Session;

static void *library;
static int model_at_work = -1;

// --- facts -----------------------------------------------------------------------------------------------------------

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

static _Noreturn void fail(const char *what, int status) {
    printf("{\"fact\":\"error\",\"file\":%d,\"status\":%d,\"what\":", model_at_work, status);
    print_text(what);
    printf("}\n");
    fflush(stdout);
    _exit(4);
}

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

// --- LiteRT ----------------------------------------------------------------------------------------------------------

static void *symbol(const char *name) {
    char full[96];
    snprintf(full, sizeof full, "LiteRt%s", name);
    void *found = dlsym(library, full);
    if (!found) fail(full, -1);
    return found;
}

// CALL("CreateOptions", (Handle *), &options): every function of the API returns a status.
#define CALL(name, types, ...)                                         \
    do {                                                               \
        int status_ = ((int(*) types)symbol(name))(__VA_ARGS__);       \
        if (status_) fail(name, status_);                              \
    } while (0)

static void keep(void *option) { (void)option; }

static void add_option(Handle options, const char *kind, const char *text) {
    Handle opaque;
    CALL("CreateOpaqueOptions", (const char *, void *, void (*)(void *), Handle *), kind, (void *)text, keep, &opaque);
    CALL("AddOpaqueOptions", (Handle, Handle), options, opaque);
}

static size_t make_buffers(Handle environment, Session *s, Handle signature, const char *side, Handle *buffers) {
    char name[64];
    size_t count;
    snprintf(name, sizeof name, "GetNumSignature%ss", side);
    CALL(name, (Handle, size_t *), signature, &count);
    if (count > MAX_TENSORS) fail("more inputs or outputs than the probe holds", (int)count);
    for (size_t i = 0; i < count; i++) {
        Handle tensor, needs;
        TensorType type;
        snprintf(name, sizeof name, "GetSignature%sTensorByIndex", side);
        CALL(name, (Handle, size_t, Handle *), signature, i, &tensor);
        CALL("GetRankedTensorType", (Handle, TensorType *), tensor, &type);
        for (unsigned d = 0; d < (type.layout.bits & 0x7f) && d < MAX_RANK; d++)
            if (type.layout.dims[d] < 1) type.layout.dims[d] = 1;  // a dynamic axis is run at 1
        snprintf(name, sizeof name, "GetCompiledModel%sBufferRequirements", side);
        CALL(name, (Handle, size_t, size_t, Handle *), s->compiled, (size_t)0, i, &needs);
        CALL("CreateManagedTensorBufferFromRequirements", (Handle, TensorType *, Handle, Handle *), environment, &type,
             needs, &buffers[i]);
    }
    return count;
}

static size_t size_of(Handle buffer) {
    size_t size;
    CALL("GetTensorBufferPackedSize", (Handle, size_t *), buffer, &size);
    return size;
}

static void read_inputs(Session *s, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("the inputs cannot be opened", -1);
    for (size_t i = 0; i < s->inputs; i++) {
        void *memory;
        size_t size = size_of(s->input[i]);
        CALL("LockTensorBuffer", (Handle, void **, int), s->input[i], &memory, WRITE);
        if (fread(memory, 1, size, file) != size) fail("the inputs are shorter than the model's", (int)size);
        CALL("UnlockTensorBuffer", (Handle), s->input[i]);
    }
    if (fgetc(file) != EOF) fail("the inputs are longer than the model's", -1);
    fclose(file);
}

static void open_model(Handle environment, Session *s, const char *path, const char *xnnpack, int profiling) {
    Handle options, signature;
    CALL("CreateModelFromFile", (Handle, const char *, Handle *), environment, path, &s->model);
    CALL("CreateOptions", (Handle *), &options);
    CALL("SetOptionsHardwareAccelerators", (Handle, int), options, CPU);
    add_option(options, "xnnpack", xnnpack);
    add_option(options, "runtime_options_string", profiling ? "enable_profiling = true\n" : "enable_profiling = false\n");
    CALL("CreateCompiledModel", (Handle, Handle, Handle, Handle *), environment, s->model, options, &s->compiled);
    CALL("GetModelSignature", (Handle, size_t, Handle *), s->model, (size_t)0, &signature);
    s->inputs = make_buffers(environment, s, signature, "Input", s->input);
    s->outputs = make_buffers(environment, s, signature, "Output", s->output);
}

typedef int (*Run)(Handle, size_t, size_t, Handle *, size_t, Handle *);
static Run run_model;

static void invoke(Session *s) {
    int status = run_model(s->compiled, 0, s->inputs, s->input, s->outputs, s->output);
    if (status) fail("RunCompiledModel", status);
}

static void print_outputs(Session *s, int file, const char *path) {
    FILE *out = strcmp(path, "-") ? fopen(path, "wb") : NULL;
    for (size_t i = 0; i < s->outputs; i++) {
        void *memory;
        size_t size = size_of(s->output[i]);
        uint64_t hash = 14695981039346656037u;  // FNV-1a, 64 bits
        CALL("LockTensorBuffer", (Handle, void **, int), s->output[i], &memory, READ);
        for (size_t k = 0; k < size; k++) hash = (hash ^ ((unsigned char *)memory)[k]) * 1099511628211u;
        if (out && fwrite(memory, 1, size, out) != size) fail("the outputs cannot be written", -1);
        CALL("UnlockTensorBuffer", (Handle), s->output[i]);
        printf("{\"fact\":\"output\",\"file\":%d,\"index\":%zu,\"bytes\":%zu,\"fnv1a\":\"%016" PRIx64 "\"}\n", file, i,
               size, hash);
    }
    if (out && fclose(out)) fail("the outputs cannot be written", -1);
}

// --- tasks -----------------------------------------------------------------------------------------------------------

static void time_block(Session *s, int file, int count) {
    printf("{\"fact\":\"block\",\"file\":%d,\"us\":[", file);
    for (int i = 0; i < count; i++) {
        uint64_t start = now_ns();
        invoke(s);
        printf("%s%.3f", i ? "," : "", (double)(now_ns() - start) / 1e3);
    }
    printf("]}\n");
}

static void count_each(Session *s, int file, int count) {
    mark(file, 0);
    for (int i = 0; i < count; i++) {
        invoke(s);
        mark(file, i + 1);
    }
}

// The events of one inference under the profiler.
static Event *profiled(Session *s, int *events) {
    Handle profiler;
    CALL("CompiledModelGetProfiler", (Handle, Handle *), s->compiled, &profiler);
    CALL("ResetProfiler", (Handle), profiler);
    CALL("StartProfiler", (Handle), profiler);
    invoke(s);
    CALL("StopProfiler", (Handle), profiler);
    CALL("GetNumProfilerEvents", (Handle, int *), profiler, events);
    Event *seen = calloc((size_t)*events + 1, sizeof *seen);
    CALL("GetProfilerEvents", (Handle, int, Event *), profiler, *events, seen);
    return seen;
}

static void profile_ops(Session *s, int file, int count) {
    int events, own = 0;
    Event *seen = profiled(s, &events);
    for (int i = 0; i < events; i++) own |= seen[i].type == OWN_KERNEL;
    for (int run = 0; run < (count ? count : 1); run++) {
        if (count || own) {
            free(seen);
            seen = profiled(s, &events);
        }
        for (int i = 0; i < events; i++) {
            printf("{\"fact\":\"op\",\"file\":%d,\"run\":%d,\"type\":%d,\"index\":%" PRIu64 ",\"subgraph\":%" PRIu64
                   ",\"us\":%" PRIu64 ",\"tag\":",
                   file, run, seen[i].type, seen[i].index, seen[i].subgraph, seen[i].elapsed_us);
            print_text(seen[i].tag ? seen[i].tag : "");
            printf("}\n");
        }
    }
    free(seen);
}

int main(int argc, char **argv) {
    static Session sessions[MAX_MODELS];
    static char xnnpack[128], output[1 << 16];
    if (argc < 11 || (argc - 8) % 3 || (argc - 8) / 3 > MAX_MODELS) fail("usage: see the head of probe.c", 2);
    setvbuf(stdout, output, _IOFBF, sizeof output);
    const char *task = argv[2];
    int count = atoi(argv[5]), profiling = atoi(argv[7]), models = (argc - 8) / 3;
    double seconds = atof(argv[6]);
    library = dlopen(argv[1], RTLD_NOW);
    if (!library) fail(dlerror(), -1);
    run_model = (Run)symbol("RunCompiledModel");
    snprintf(xnnpack, sizeof xnnpack, "kernel_mode = \"%s\"\nnum_threads = %s\n", argv[4], argv[3]);
    Handle environment;
    CALL("CreateEnvironment", (int, void *, Handle *), 0, NULL, &environment);
    printf("{\"fact\":\"runtime\",\"peak_bytes\":%" PRIu64 "}\n", peak_bytes());
    for (int i = 0; i < models; i++) {
        model_at_work = i;
        size_t heap_before = heap_bytes();
        uint64_t start = now_ns();
        open_model(environment, &sessions[i], argv[8 + 3 * i], xnnpack, profiling);
        uint64_t loaded = now_ns();
        read_inputs(&sessions[i], argv[9 + 3 * i]);
        printf("{\"fact\":\"loaded\",\"file\":%d,\"us\":%.3f}\n", i, (double)(loaded - start) / 1e3);
        if (!strcmp(task, "count")) {
            count_each(&sessions[i], i, count);
        } else if (!strcmp(task, "ops")) {
            profile_ops(&sessions[i], i, count);
        } else {
            start = now_ns();
            invoke(&sessions[i]);
            printf("{\"fact\":\"first\",\"file\":%d,\"us\":%.3f}\n", i, (double)(now_ns() - start) / 1e3);
        }
        print_memory(i, heap_before);
    }
    if (!strcmp(task, "time")) {
        uint64_t start = now_ns();
        for (int round = 0; (double)(now_ns() - start) < seconds * 1e9; round++)
            for (int i = 0; i < models; i++) {
                model_at_work = (i + round) % models;
                time_block(&sessions[model_at_work], model_at_work, count);
                fflush(stdout);
            }
    }
    for (int i = 0; i < models; i++) print_outputs(&sessions[i], i, argv[10 + 3 * i]);
    printf("{\"fact\":\"end\"}\n");
    fflush(stdout);
    _exit(0);  // the runtime's threads and destructors have nothing to add
}
