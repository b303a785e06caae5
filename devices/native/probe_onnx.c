// The probe for ONNX files, which it runs in ONNX Runtime's CPU execution provider; command line and facts as in
// probe.c, except for
//
//     LIBRARY    path of libonnxruntime.so (1.5 or later)
//     TASK       ops: COUNT inferences of each model under ONNX Runtime's profiler, after a first one
//     THREADS    of one node; nodes run one after the other, and idle threads sleep
//     KERNELS    has no meaning here
//     PROFILING  for ops: where files may be written, as the beginning of their names: the profiler's, and
//                PROFILING-0.onnx, PROFILING-1.onnx ... with the graph of each model as it was run. 0 otherwise
//     MODEL      a .onnx file; axes of inputs without a size are run at 1
//
// and for the fact `profile`, the profiler's events of all inferences, in the place of `op`.
#include "facts.h"

// Positions in OrtApi (onnxruntime_c_api.h), whose entries keep their places from one release to the next. All that are
// named here belong to version 5 of the API.
enum {
    GetErrorCode = 1, GetErrorMessage = 2, CreateEnv = 3, CreateSession = 7, Run = 9, CreateSessionOptions = 10,
    SetOptimizedModelFilePath = 11, SetSessionExecutionMode = 13, EnableProfiling = 14, SetSessionLogSeverityLevel = 22,
    SetIntraOpNumThreads = 24, SetInterOpNumThreads = 25, SessionGetInputCount = 30, SessionGetOutputCount = 31,
    SessionGetInputTypeInfo = 33, SessionGetInputName = 36, SessionGetOutputName = 37, CreateRunOptions = 39,
    RunOptionsSetTerminate = 46, RunOptionsUnsetTerminate = 47, CreateTensorAsOrtValue = 48,
    IsTensor = 50, GetTensorMutableData = 51, CastTypeInfoToTensorInfo = 55, GetTensorElementType = 60,
    GetDimensionsCount = 61, GetDimensions = 62, GetTensorShapeElementCount = 64, GetTensorTypeAndShape = 65,
    GetAllocatorWithDefaultOptions = 78, ReleaseValue = 96, SessionEndProfiling = 110, AddSessionConfigEntry = 130,
};
enum { API_VERSION = 5, ERRORS_ONLY = 3, SEQUENTIAL = 0, MAX_RANK = 16 };

// Bytes of an element by ONNXTensorElementDataType; 0 for strings and what has no type.
static const unsigned char ELEMENT_BYTES[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 8, 16, 2};

typedef void *Handle;
typedef struct { const void *const *(*get_api)(uint32_t); const char *(*get_version)(void); } ApiBase;
typedef struct {
    Handle session;
    size_t inputs, outputs;
    char *input_name[MAX_TENSORS], *output_name[MAX_TENSORS];
    Handle input[MAX_TENSORS], output[MAX_TENSORS];
} Session;

static const void *const *api;
static Handle environment, allocator, run_options;
static int threads;
static const char *profiling;

#define ENTRY(name, result, types) ((result(*) types)api[name])

static void check(const char *call, Handle status) {
    if (status)
        refuse(call, ENTRY(GetErrorCode, int, (Handle))(status), ENTRY(GetErrorMessage, const char *, (Handle))(status));
}

// CALL(CreateEnv, (int, const char *, Handle *), ...): every function named so returns a status, NULL when all is well.
#define CALL(name, types, ...) check(#name, ENTRY(name, Handle, types)(__VA_ARGS__))

// Between two nodes the executor looks whether the run is to end early. Where that flag lies is seen from what setting
// it changes; told the place, the emulator's plugin counts the instructions from one look to the next.
static void watch_steps(void) {
    unsigned char before[512], *now = run_options;
    size_t size = malloc_usable_size(run_options), changed = 0, flag = 0;
    if (size > sizeof before) size = sizeof before;
    memcpy(before, now, size);
    CALL(RunOptionsSetTerminate, (Handle), run_options);
    for (size_t i = 0; i < size; i++)
        if (now[i] != before[i]) changed++, flag = i;
    CALL(RunOptionsUnsetTerminate, (Handle), run_options);
    if (changed == 1) syscall(WATCH, &now[flag]);
}

static void start_runtime(const char *path, const char *thread_count, const char *kernels, const char *profile) {
    (void)kernels;
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);  // no thread that wakes between inferences, nothing on the disk or the network
    void *library = dlopen(path, RTLD_NOW);
    if (!library) fail(dlerror(), -1);
    const ApiBase *(*base)(void) = (const ApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
    if (!base) fail("OrtGetApiBase", -1);
    api = base()->get_api(API_VERSION);
    if (!api) fail("the library does not have the version of the API that the probe asks for", -1);
    threads = atoi(thread_count);
    profiling = strcmp(profile, "0") ? profile : NULL;
    CALL(CreateEnv, (int, const char *, Handle *), ERRORS_ONLY, "probe", &environment);
    CALL(GetAllocatorWithDefaultOptions, (Handle *), &allocator);
    CALL(CreateRunOptions, (Handle *), &run_options);
    watch_steps();
}

static size_t bytes_of(Handle shape_and_type) {
    int type;
    size_t elements;
    CALL(GetTensorElementType, (Handle, int *), shape_and_type, &type);
    CALL(GetTensorShapeElementCount, (Handle, size_t *), shape_and_type, &elements);
    if (type < 0 || type >= (int)sizeof ELEMENT_BYTES || !ELEMENT_BYTES[type])
        fail("an input or output is of no type that has a size (strings)", type);
    return elements * ELEMENT_BYTES[type];
}

static Handle make_input(Handle session, size_t index) {
    Handle about, tensor = NULL, value;
    int type;
    size_t rank;
    int64_t dims[MAX_RANK];
    CALL(SessionGetInputTypeInfo, (Handle, size_t, Handle *), session, index, &about);
    CALL(CastTypeInfoToTensorInfo, (Handle, Handle *), about, &tensor);
    if (!tensor) fail("an input is no tensor", (int)index);
    CALL(GetTensorElementType, (Handle, int *), tensor, &type);
    CALL(GetDimensionsCount, (Handle, size_t *), tensor, &rank);
    if (rank > MAX_RANK) fail("an input has more axes than the probe holds", (int)rank);
    CALL(GetDimensions, (Handle, int64_t *, size_t), tensor, dims, rank);
    for (size_t d = 0; d < rank; d++)
        if (dims[d] < 1) dims[d] = 1;  // a dynamic axis is run at 1
    CALL(CreateTensorAsOrtValue, (Handle, int64_t *, size_t, int, Handle *), allocator, dims, rank, type, &value);
    return value;
}

static void open_model(Session *s, const char *path) {
    Handle options;
    char optimized[4096];
    CALL(CreateSessionOptions, (Handle *), &options);
    CALL(SetSessionLogSeverityLevel, (Handle, int), options, ERRORS_ONLY);
    CALL(SetSessionExecutionMode, (Handle, int), options, SEQUENTIAL);
    CALL(SetIntraOpNumThreads, (Handle, int), options, threads);
    CALL(SetInterOpNumThreads, (Handle, int), options, 1);
    CALL(AddSessionConfigEntry, (Handle, const char *, const char *), options, "session.intra_op.allow_spinning", "0");
    if (profiling) {
        snprintf(optimized, sizeof optimized, "%s-%d.onnx", profiling, model_at_work);
        CALL(SetOptimizedModelFilePath, (Handle, const char *), options, optimized);
        CALL(EnableProfiling, (Handle, const char *), options, profiling);
    }
    CALL(CreateSession, (Handle, const char *, Handle, Handle *), environment, path, options, &s->session);
    CALL(SessionGetInputCount, (Handle, size_t *), s->session, &s->inputs);
    CALL(SessionGetOutputCount, (Handle, size_t *), s->session, &s->outputs);
    if (s->inputs > MAX_TENSORS || s->outputs > MAX_TENSORS)
        fail("more inputs or outputs than the probe holds", (int)(s->inputs + s->outputs));
    for (size_t i = 0; i < s->inputs; i++) {
        CALL(SessionGetInputName, (Handle, size_t, Handle, char **), s->session, i, allocator, &s->input_name[i]);
        s->input[i] = make_input(s->session, i);
    }
    for (size_t i = 0; i < s->outputs; i++)
        CALL(SessionGetOutputName, (Handle, size_t, Handle, char **), s->session, i, allocator, &s->output_name[i]);
}

// Memory and size in bytes of a tensor that is there.
static void *memory_of(Handle value, size_t *size) {
    Handle about;
    void *memory;
    int is_tensor;
    CALL(IsTensor, (Handle, int *), value, &is_tensor);
    if (!is_tensor) fail("an output is no tensor", -1);
    CALL(GetTensorTypeAndShape, (Handle, Handle *), value, &about);
    *size = bytes_of(about);
    CALL(GetTensorMutableData, (Handle, void **), value, &memory);
    return memory;
}

static void read_inputs(Session *s, FILE *file) {
    for (size_t i = 0; i < s->inputs; i++) {
        size_t size;
        void *memory = memory_of(s->input[i], &size);
        if (fread(memory, 1, size, file) != size) fail("the inputs are shorter than the model's", (int)size);
    }
}

// As an app does: the runtime makes the outputs anew each time.
static void invoke(Session *s) {
    for (size_t i = 0; i < s->outputs; i++) {
        if (s->output[i]) ENTRY(ReleaseValue, void, (Handle))(s->output[i]);
        s->output[i] = NULL;
    }
    CALL(Run, (Handle, Handle, char **, Handle *, size_t, char **, size_t, Handle *), s->session, run_options, s->input_name,
         s->input, s->inputs, s->output_name, s->outputs, s->output);
}

static void print_outputs(Session *s, int file, FILE *out) {
    for (size_t i = 0; i < s->outputs; i++) {
        size_t size;
        const void *memory = memory_of(s->output[i], &size);
        print_output(file, i, memory, size, out);
    }
}

static void profile_ops(Session *s, int file, int count) {
    char *path;
    for (int run = 0; run <= count; run++) invoke(s);
    CALL(SessionEndProfiling, (Handle, Handle, char **), s->session, allocator, &path);
    FILE *events = fopen(path, "r");
    if (!events) fail("the profiler's events cannot be read", -1);
    printf("{\"fact\":\"profile\",\"file\":%d,\"events\":", file);
    for (int c; (c = fgetc(events)) != EOF;)
        if (c != '\n' && c != '\r') putchar(c);
    printf("}\n");
    fclose(events);
    remove(path);
}

#include "tasks.h"
