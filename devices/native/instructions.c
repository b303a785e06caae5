// A plugin of QEMU's user-mode emulation of Arm64: counts the instructions that a program executes, by class, and
// models its data caches.
//
//     qemu-aarch64 -plugin instructions.so,out=FILE[,clock=FILE][,l1=KIB:WAYS,l2=KIB:WAYS[,l3=KIB:WAYS]]
//
//     out     at every mark (the system call MARK, which no kernel has) a JSON line with the counts up to there
//     clock   a file that the emulated program can map: its first 8 bytes are the number of instructions so far
//     l1 …    data caches with lines of 64 bytes, least recently used lines replaced, write-allocate, no prefetching;
//             simulated from the first mark on
//
// The program can name an address (the system call WATCH): with caches, every access to it from the first mark on is a
// line with the instructions up to there.
//
// Classes follow the Arm Architecture Reference Manual (DDI 0487), section C4.1. `dot` (SDOT, UDOT, USDOT, matrix
// multiplication) and `multiply_add` (FMLA, MLA, SMLAL, FMADD …) are part of `simd`.
//
// Written against API version 1 of QEMU's plugins (docs/devel/tcg-plugins.rst of QEMU 7.2), whose declarations stand
// below, since distributions package no header.
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct { const char *target_name; struct { int min, cur; } version; bool system_emulation; } qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0, NO_REGISTERS = 0, READS_AND_WRITES = 3 };
typedef void (*on_translation)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*on_access)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *);
typedef void (*on_syscall)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, on_translation);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *target, uint64_t by);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, on_access, int registers, int kinds, void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, on_syscall);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);

EXPORT int qemu_plugin_version = 1;

enum { MARK = 0x4d41524b, WATCH = 0x57415443 };
enum { ALL, LOAD, STORE, BRANCH, SIMD, DOT, MULTIPLY_ADD, OTHER, CLASSES };
static const char *const names[CLASSES] = {"all", "load", "store", "branch", "simd", "dot", "multiply_add", "other"};

// --- classes ---------------------------------------------------------------------------------------------------------

#define IS(mask, value) ((word & (mask)) == (value))

static bool is_dot(uint32_t word) {
    return IS(0x9fe0fc00, 0x0e809400) || IS(0xbfe0fc00, 0x0e809c00)     // SDOT, UDOT; USDOT (vectors)
           || IS(0x9fc0f400, 0x0f80e000) || IS(0xbf40f400, 0x0f00f000)  // SDOT, UDOT; SUDOT, USDOT (by element)
           || IS(0xdfe0fc00, 0x4e80a400) || IS(0xffe0fc00, 0x4e80ac00);  // SMMLA, UMMLA; USMMLA
}

static bool is_multiply_add(uint32_t word) {
    return IS(0xbf20fc00, 0x0e20cc00) || IS(0xbf60fc00, 0x0e400c00)     // FMLA, FMLS (vectors; half precision)
           || IS(0xbf80b400, 0x0f801000) || IS(0xbfc0b400, 0x0f001000)  // FMLA, FMLS (by element; half precision)
           || IS(0x9f20fc00, 0x0e209400) || IS(0xbf00b400, 0x2f000000)  // MLA, MLS (vectors; by element)
           || IS(0x9f20dc00, 0x0e208000) || IS(0x9f00b400, 0x0f002000)  // [SU]MLAL, [SU]MLSL (vectors; by element)
           || IS(0xff000000, 0x1f000000);                               // FMADD, FMSUB … (scalar)
}

// Load, store or, for a prefetch, neither.
static int memory_class(uint32_t word) {
    bool vector = (word >> 26) & 1, bit22 = (word >> 22) & 1;
    unsigned opc = (word >> 22) & 3;
    if (IS(0x3b000000, 0x18000000)) return LOAD;                          // literal
    if (!IS(0x3a000000, 0x38000000)) return bit22 ? LOAD : STORE;         // pairs, exclusives, structures
    if (IS(0x3f200c00, 0x38200000)) return LOAD;                          // atomic operations
    if (IS(0xffc00000, 0xf9800000) || IS(0xffe00c00, 0xf8a00800)) return OTHER;  // PRFM
    return vector ? (bit22 ? LOAD : STORE) : (opc ? LOAD : STORE);
}

EXPORT void classify(uint32_t word, uint64_t *counts) {
    unsigned group = (word >> 25) & 15;  // DDI 0487, table C4-1
    counts[ALL]++;
    if ((group & 5) == 4) {
        counts[memory_class(word)]++;
    } else if ((group & 14) == 10) {
        counts[BRANCH]++;
    } else if ((group & 7) == 7) {
        counts[SIMD]++;
        if (is_dot(word)) counts[DOT]++;
        else if (is_multiply_add(word)) counts[MULTIPLY_ADD]++;
    } else {
        counts[OTHER]++;
    }
}

// --- counts ----------------------------------------------------------------------------------------------------------

typedef struct Block Block;
struct Block { uint64_t executed, own[CLASSES]; Block *before; };  // translated code, and what is in it
static Block *blocks;
static FILE *out;
static uint64_t watched;  // an address of the program's, or 0

// What was executed up to here, the whole of the block at work included.
static void count(uint64_t *counts) {
    memset(counts, 0, CLASSES * sizeof *counts);
    for (const Block *block = blocks; block; block = block->before)
        for (int i = 0; i < CLASSES; i++) counts[i] += block->executed * block->own[i];
}

static void print_step(void) {
    uint64_t counts[CLASSES];
    count(counts);
    fprintf(out, "{\"step\":%" PRIu64 "}\n", counts[ALL]);
}

// --- caches ----------------------------------------------------------------------------------------------------------

enum { LINE_BITS = 6, LINE = 1 << LINE_BITS, LONGEST = 16, MAX_LEVELS = 3 };  // bytes of a line, of an access
typedef struct { unsigned sets, ways; uint64_t *lines, misses; } Cache;  // lines of a set: last used first
static Cache caches[MAX_LEVELS];
static int levels;
static uint64_t accesses;
static bool simulating;

static bool add_cache(const char *size) {
    unsigned kib, ways;
    if (levels == MAX_LEVELS || sscanf(size, "%u:%u", &kib, &ways) != 2 || !ways || kib * 1024 % (ways << LINE_BITS))
        return false;
    Cache *c = &caches[levels++];
    c->ways = ways;
    c->sets = kib * 1024 / (ways << LINE_BITS);
    if (c->sets & (c->sets - 1)) return false;  // a power of two, so that a set is found without a division
    size_t entries = (size_t)c->sets * ways;
    c->lines = malloc(entries * sizeof *c->lines);
    memset(c->lines, 0xff, entries * sizeof *c->lines);
    return true;
}

static inline uint64_t *set_of(const Cache *c, uint64_t line) {
    return c->lines + (size_t)(line & (c->sets - 1)) * c->ways;
}

static bool hit(Cache *c, uint64_t line) {
    uint64_t *set = set_of(c, line), moved = set[0];
    if (moved == line) return true;
    for (unsigned way = 1; way < c->ways; way++) {  // make room in front, up to the line or the least recently used one
        uint64_t here = set[way];
        set[way] = moved;
        moved = here;
        if (here == line) break;
    }
    set[0] = line;
    if (moved == line) return true;
    c->misses++;
    return false;
}

static inline void access_line(uint64_t line) {
    accesses++;
    for (int level = 0; level < levels && !hit(&caches[level], line); level++) {
    }
}

static void access_memory(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused) {
    (void)cpu, (void)unused;
    if (!simulating) return;
    if (address == watched) print_step();
    access_line(address >> LINE_BITS);
    if ((address & (LINE - 1)) <= LINE - LONGEST) return;
    if ((address & (LINE - 1)) + (1u << qemu_plugin_mem_size_shift(info)) > LINE)  // reaches into the next one
        access_line((address >> LINE_BITS) + 1);
}

// --- QEMU ------------------------------------------------------------------------------------------------------------

static uint64_t *clock_page;

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *code) {
    (void)id;
    Block *block = calloc(1, sizeof *block);  // translations come one at a time: QEMU holds a lock
    if (!block) abort();
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(code); i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(code, i);
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
        classify(word, block->own);
        if (levels) qemu_plugin_register_vcpu_mem_cb(instruction, access_memory, NO_REGISTERS, READS_AND_WRITES, NULL);
    }
    block->before = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(code, INLINE_ADD_U64, &block->executed, 1);
    if (clock_page) qemu_plugin_register_vcpu_tb_exec_inline(code, INLINE_ADD_U64, clock_page, block->own[ALL]);
}

static void system_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t file, uint64_t mark, uint64_t a3,
                        uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)cpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == WATCH) watched = file;
    if (number != MARK) return;
    simulating = true;
    uint64_t counts[CLASSES];
    count(counts);
    fprintf(out, "{\"file\":%" PRIu64 ",\"mark\":%" PRIu64, file, mark);
    for (int i = 0; i < CLASSES; i++) fprintf(out, ",\"%s\":%" PRIu64, names[i], counts[i]);
    if (levels) fprintf(out, ",\"lines\":%" PRIu64, accesses);
    for (int i = 0; i < levels; i++) fprintf(out, ",\"l%d_misses\":%" PRIu64, i + 1, caches[i].misses);
    fprintf(out, "}\n");
    fflush(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    out = stderr;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4)) {
            out = fopen(argv[i] + 4, "w");
        } else if (!strncmp(argv[i], "clock=", 6)) {
            int page = open(argv[i] + 6, O_RDWR | O_CREAT | O_TRUNC, 0600);
            if (page < 0 || ftruncate(page, 4096)) return -1;
            clock_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
            if (clock_page == MAP_FAILED) return -1;
            close(page);
        } else if (argv[i][0] != 'l' || argv[i][2] != '=' || !add_cache(argv[i] + 3)) {
            fprintf(stderr, "instructions: %s is no option\n", argv[i]);
            return -1;
        }
    }
    if (!out) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
