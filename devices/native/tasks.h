// What a probe does with a runtime, and its command line (see probe.c). Before this is included stand:
//
//     Session                             one model
//     start_runtime(library, threads, kernels, profile)
//     open_model(session, path)           reads and prepares it
//     read_inputs(session, file)          fills its inputs; the file must hold exactly their bytes
//     invoke(session)
//     profile_ops(session, number, count) prints what the runtime's profiler tells
//     print_outputs(session, number, file or NULL)
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

static void load(Session *s, int file, const char *model, const char *inputs) {
    uint64_t start = now_ns();
    open_model(s, model);
    uint64_t loaded = now_ns();
    FILE *bytes = fopen(inputs, "rb");
    if (!bytes) fail("the inputs cannot be opened", -1);
    read_inputs(s, bytes);
    if (fgetc(bytes) != EOF) fail("the inputs are longer than the model's", -1);
    fclose(bytes);
    printf("{\"fact\":\"loaded\",\"file\":%d,\"us\":%.3f}\n", file, (double)(loaded - start) / 1e3);
}

int main(int argc, char **argv) {
    static Session sessions[MAX_MODELS];
    static char output[1 << 16];
    if (argc < 11 || (argc - 8) % 3 || (argc - 8) / 3 > MAX_MODELS) fail("usage: see the head of probe.c", 2);
    setvbuf(stdout, output, _IOFBF, sizeof output);
    const char *task = argv[2];
    int count = atoi(argv[5]), models = (argc - 8) / 3;
    double seconds = atof(argv[6]);
    start_runtime(argv[1], argv[3], argv[4], argv[7]);
    printf("{\"fact\":\"runtime\",\"peak_bytes\":%" PRIu64 "}\n", peak_bytes());
    for (int i = 0; i < models; i++) {
        model_at_work = i;
        size_t heap_before = heap_bytes();
        load(&sessions[i], i, argv[8 + 3 * i], argv[9 + 3 * i]);
        if (!strcmp(task, "count")) {
            count_each(&sessions[i], i, count);
        } else if (!strcmp(task, "ops")) {
            profile_ops(&sessions[i], i, count);
        } else {
            uint64_t start = now_ns();
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
    for (int i = 0; i < models; i++) {
        const char *path = argv[10 + 3 * i];
        FILE *out = strcmp(path, "-") ? fopen(path, "wb") : NULL;
        if (!out && strcmp(path, "-")) fail("the outputs cannot be written", -1);
        print_outputs(&sessions[i], i, out);
        if (out && fclose(out)) fail("the outputs cannot be written", -1);
    }
    printf("{\"fact\":\"end\"}\n");
    fflush(stdout);
    _exit(0);  // the runtime's threads and destructors have nothing to add
}
