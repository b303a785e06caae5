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
//     PROFILING  1 for ops, 0 otherwise
//     MODEL      a .tflite file
//     INPUTS     a file with the bytes of all inputs, one after the other, in the order of the signature
//     OUTPUTS    where to write the bytes of all outputs, or -
//
// Facts: runtime, loaded, first, block, mark, op, output, memory, error, end. Times are in microseconds. A run that
// does not print `end` did not finish. Exit status 0 or, after an `error`, 4.
//
// The library is opened at run time, so one probe fits every build of it; the declarations below are those of
// LiteRT's C API (litert/c/litert_*.h) as of 2.3.
#include "facts.h"

enum { MAX_RANK = 8, CPU = 1, READ = 0, WRITE = 1, OWN_KERNEL = 2 };

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

typedef int (*Run)(Handle, size_t, size_t, Handle *, size_t, Handle *);
static Run run_model;
static Handle environment;
static char xnnpack[128];
static const char *profiling;

static void start_runtime(const char *path, const char *threads, const char *kernels, const char *profile) {
    library = dlopen(path, RTLD_NOW);
    if (!library) fail(dlerror(), -1);
    run_model = (Run)symbol("RunCompiledModel");
    snprintf(xnnpack, sizeof xnnpack, "kernel_mode = \"%s\"\nnum_threads = %s\n", kernels, threads);
    profiling = atoi(profile) ? "enable_profiling = true\n" : "enable_profiling = false\n";
    CALL("CreateEnvironment", (int, void *, Handle *), 0, NULL, &environment);
}

static void keep(void *option) { (void)option; }

static void add_option(Handle options, const char *kind, const char *text) {
    Handle opaque;
    CALL("CreateOpaqueOptions", (const char *, void *, void (*)(void *), Handle *), kind, (void *)text, keep, &opaque);
    CALL("AddOpaqueOptions", (Handle, Handle), options, opaque);
}

static size_t make_buffers(Session *s, Handle signature, const char *side, Handle *buffers) {
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

static void read_inputs(Session *s, FILE *file) {
    for (size_t i = 0; i < s->inputs; i++) {
        void *memory;
        size_t size = size_of(s->input[i]);
        CALL("LockTensorBuffer", (Handle, void **, int), s->input[i], &memory, WRITE);
        if (fread(memory, 1, size, file) != size) fail("the inputs are shorter than the model's", (int)size);
        CALL("UnlockTensorBuffer", (Handle), s->input[i]);
    }
}

static void open_model(Session *s, const char *path) {
    Handle options, signature;
    CALL("CreateModelFromFile", (Handle, const char *, Handle *), environment, path, &s->model);
    CALL("CreateOptions", (Handle *), &options);
    CALL("SetOptionsHardwareAccelerators", (Handle, int), options, CPU);
    add_option(options, "xnnpack", xnnpack);
    add_option(options, "runtime_options_string", profiling);
    CALL("CreateCompiledModel", (Handle, Handle, Handle, Handle *), environment, s->model, options, &s->compiled);
    CALL("GetModelSignature", (Handle, size_t, Handle *), s->model, (size_t)0, &signature);
    s->inputs = make_buffers(s, signature, "Input", s->input);
    s->outputs = make_buffers(s, signature, "Output", s->output);
}

static void invoke(Session *s) {
    int status = run_model(s->compiled, 0, s->inputs, s->input, s->outputs, s->output);
    if (status) fail("RunCompiledModel", status);
}

static void print_outputs(Session *s, int file, FILE *out) {
    for (size_t i = 0; i < s->outputs; i++) {
        void *memory;
        CALL("LockTensorBuffer", (Handle, void **, int), s->output[i], &memory, READ);
        print_output(file, i, memory, size_of(s->output[i]), out);
        CALL("UnlockTensorBuffer", (Handle), s->output[i]);
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

#include "tasks.h"
