/* cgen_test.c: emits C for a program, compiles it in many ways, runs it, compares with the interpreter.
 *
 *     cgen_test coverage COMPILER [BUILD]       the program of coverage.c
 *     cgen_test loops FILE COMPILER [BUILD]     a program as text; its first line may hold options, see below
 *     cgen_test emit FILE OUT.c                 only emits (with a self-test), to be looked at
 *
 * COMPILER is gcc or clang, or arm for the cross compilers and emulators of 32- and 64-bit ARM; C++ is compiled by g++ or clang++. Builds a machine cannot run are left out. All are compiled with the warnings
 * that the generated code promises to be free of; C ones run under AddressSanitizer and UndefinedBehaviorSanitizer.
 * Results must be equal bit by bit, but for outputs named approx*: there libm and a missing fused multiply-add may show.
 *
 * A text starts with "// options: ..." of: threads=pthread|openmp|callback, weights=inline|file|object, c99, test (run the self-test, and
 * see it fail when the weights are wrong).
 */
#define _GNU_SOURCE
#include "cgen.h"
#include "runtime/runtime.h"

#include "../golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77   /* to ctest */
#define WARNINGS "-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
#define SANITIZE "-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all"

/* cpu: the level of x86-64 it needs, or the emulator's name. runs: which compilers do the coverage program (g, c) and the texts (G, C)
 * this way; t: both, for texts that use POSIX threads. */
typedef struct Way { const char *name, *language, *flags, *cpu, *runs; } Way;
static const Way builds[] = {
  {"c11-base-san", "-std=c11", SANITIZE, "", "cGC"},
  {"c11-v4-san", "-std=c11 -march=x86-64-v4", SANITIZE, "v4", "gcGC"},
  {"c11-plain-san", "-std=c11 -DM_PLAIN_C", SANITIZE, "", "cC"},
  {"c11-plain", "-std=c11 -DM_PLAIN_C", "-O1", "", "gG"},
  {"c11-base", "-std=c11", "-O2", "", "gc"},
  {"c11-v2", "-std=c11 -march=x86-64-v2", "-O1", "v2", "g"},
  {"c99-v3", "-std=c99 -march=x86-64-v3", "-O2", "v3", "gcG"},
  {"gnu17-v4", "-std=gnu17 -march=x86-64-v4", "-O2 -ffp-contract=off", "v4", "gc"},
  {"c11-tsan", "-std=c11", "-O1 -g -fsanitize=thread", "", "t"},
  {"c++17-base", "-x c++ -std=c++17", "-O0", "", "c"},
  {"c++17-v4", "-x c++ -std=c++17 -march=x86-64-v4", "-O1 -ffp-contract=off", "v4", "gcGC"},
  {"c++17-plain", "-x c++ -std=c++17 -DM_PLAIN_C", "-O0", "", "gc"},
};

typedef struct Test {
  Arena *a;
  Diag *d;
  const Program *p;
  const char *compiler, *only;
  char *dir;
  spinec_emit_options o;
  bool selftest, selftested, variant;
  void **inputs, **expected;
  int runs, failures;
  const char *(*describe)(Arena *a, const Program *p, int output, int64_t i);   /* NULL: a text */
} Test;

/* Machines other than this one: only where the cross compiler and the emulator are installed. */
static const Way crosses[] = {
  {"aarch64", "-std=c11 -march=armv8-a", "-O2", "aarch64-linux-gnu", ""},
  {"aarch64-c++", "-x c++ -std=c++17 -march=armv8.2-a+dotprod+fp16", "-O0", "aarch64-linux-gnu", ""},
  {"armv7", "-std=c11 -march=armv7-a -mfpu=neon-vfpv4 -mfloat-abi=hard", "-O2", "arm-linux-gnueabihf", ""},
};

static bool cpu_has(const char *level) {
  if (!*level) return true;
  const Target *t = target_find("native");
  const char *at = strstr(t->summary, "x86-64-v");
  return at && at[8] >= level[1];
}

/* ---- files and commands ---- */

static char *path(const Test *t, const char *name) { return arena_printf(t->a, "%s/%s", t->dir, name); }

/* In the test's folder; output to the log. The exit status, or -1. */
static int command(const Test *t, const char *line) {
  int s = system(arena_printf(t->a, "cd '%s' && { %s; } > log 2>&1", t->dir, line));
  return WIFEXITED(s) ? WEXITSTATUS(s) : -1;
}

static bool failed(Test *t, const char *build, const char *what) {
  size_t n = 0;
  char *log = golden_read(t->a, path(t, "log"), &n);
  fprintf(stderr, "FAILED %s %s: %s\n%.3000s\n", t->compiler, build, what, log && n ? log : "");
  t->failures++;
  return false;
}

/* ---- reference ---- */

static int64_t port_bytes(const Port *p) { return shape_count(&p->shape) * (int64_t)dt_size(p->dt); }

static bool reference(Test *t) {
  const Program *p = t->p;
  t->inputs = NEW_N(t->a, void *, p->inputs.n + 1);
  t->expected = NEW_N(t->a, void *, p->outputs.n + 1);
  for (int i = 0; i < p->inputs.n; i++) {
    const Port *port = &p->inputs.at[i];
    t->inputs[i] = arena_alloc(t->a, (size_t)port_bytes(port) + 1);
    spinec_tensor x = {.dtype = port->dt, .rank = 1, .dims = {shape_count(&port->shape)}, .data = t->inputs[i]};
    random_fill(&x, (uint64_t)i + 1);
  }
  for (int i = 0; i < p->outputs.n; i++) {
    t->expected[i] = arena_alloc(t->a, (size_t)port_bytes(&p->outputs.at[i]) + 1);
    memset(t->expected[i], 0x5a, (size_t)port_bytes(&p->outputs.at[i]));
  }
  return interp_eval(p, (const void *const *)t->inputs, t->expected, t->d) == SPINEC_OK;
}

static void write_input(const Test *t) {
  FILE *f = fopen(path(t, "in.bin"), "wb");
  uint64_t n = (uint64_t)t->p->inputs.n;
  fwrite(&n, 8, 1, f);
  for (int i = 0; i < t->p->inputs.n; i++) {
    n = (uint64_t)port_bytes(&t->p->inputs.at[i]);
    fwrite(&n, 8, 1, f);
    fwrite(t->inputs[i], 1, n, f);
  }
  n = (uint64_t)t->p->outputs.n;
  fwrite(&n, 8, 1, f);
  for (int i = 0; i < t->p->outputs.n; i++) {
    n = (uint64_t)port_bytes(&t->p->outputs.at[i]);
    fwrite(&n, 8, 1, f);
  }
  fclose(f);
}

/* ---- comparing ---- */

static bool same(DType dt, const void *got, const void *want, int64_t i, bool approx) {
  size_t size = dt_size(dt);
  if (!memcmp((const char *)got + (size_t)i * size, (const char *)want + (size_t)i * size, size)) return true;
  if (!dt_is_float(dt)) return false;
  double x = data_get_f(got, dt, i), y = data_get_f(want, dt, i);
  if (isnan(x) && isnan(y)) return true;
  if (!approx) return false;
  double tolerance = dt == DT_F32 ? 1e-6 : 1e-14, least = dt == DT_F32 ? 1e-44 : 1e-320;
  return x == y || fabs(x - y) <= tolerance * fabs(y) + least;
}

static bool compare(Test *t, const char *build) {
  size_t size = 0, at = 0;
  const char *got = golden_read(t->a, path(t, "out.bin"), &size);
  for (int i = 0; i < t->p->outputs.n; i++) {
    const Port *port = &t->p->outputs.at[i];
    size_t bytes = (size_t)port_bytes(port);
    if (!got || at + bytes > size) return failed(t, build, "outputs are missing");
    bool approx = !strncmp(port->name, "approx", 6);
    int64_t count = shape_count(&port->shape);
    for (int64_t k = 0; k < count; k++) {
      if (same(port->dt, got + at, t->expected[i], k, approx)) continue;
      const char *about = t->describe ? t->describe(t->a, t->p, i, k) : "";
      return failed(t, build, arena_printf(t->a, "%s[%lld] is %.9g, expected %.9g: %s", port->name, (long long)k,
                                           data_get_f(got + at, port->dt, k), data_get_f(t->expected[i], port->dt, k), about));
    }
    at += bytes;
  }
  return true;
}

/* ---- builds ---- */

static bool is_cross(const Way *b) { return b >= crosses && b < crosses + COUNTOF(crosses); }

static const char *emulator(const Test *t, const Way *b) {
  if (!is_cross(b)) return "";
  return arena_printf(t->a, "qemu-%.*s -L /usr/%s ", (int)strcspn(b->cpu, "-"), b->cpu, b->cpu);
}

static const char *compiler_of(const Test *t, const Way *b) {
  bool cxx = strstr(b->language, "c++") != NULL;
  if (is_cross(b)) return arena_printf(t->a, "%s-%s", b->cpu, cxx ? "g++" : "gcc");
  if (!strcmp(t->compiler, "gcc")) return cxx ? "g++" : "gcc";
  if (!strcmp(t->compiler, "clang")) return cxx ? "clang++" : "clang";
  return t->compiler;
}

static const char *thread_flags(const Test *t) {
  if (t->o.threads == SPINEC_THREADS_PTHREAD) return "-pthread";
  return t->o.threads == SPINEC_THREADS_OPENMP && !strcmp(t->compiler, "gcc") ? "-fopenmp" : "";
}

/* The self-test passes; with a byte of every weight changed it does not, and names a kernel. */
static bool run_selftest(Test *t, const Way *b, const char *cc) {
  bool file = t->o.weights == SPINEC_WEIGHTS_FILE;
  const char *compile = arena_printf(t->a, "%s %s %s %s -DM_TRACE m.c m_test.c -x none %s %s -o selftest -lm", cc, b->language, WARNINGS,
                                     thread_flags(t), t->o.weights == SPINEC_WEIGHTS_OBJECT ? "weights.o" : "", b->flags);
  if (command(t, compile)) return failed(t, b->name, "self-test: compiler");
  if (command(t, "./selftest && grep -q '^passed$' log")) return failed(t, b->name, "self-test");
  if (file && !command(t, "cp m.weights.bin bad.bin && printf X | dd of=bad.bin conv=notrunc 2>/dev/null && ./selftest bad.bin"))
    return failed(t, b->name, "self-test accepts a file that is not the model's");
  if (t->o.weights != SPINEC_WEIGHTS_INLINE) return true;
  const char *spoil = arena_printf(t->a, "sed 's/\\(ALIGN64 static const float .*\\)/\\1 77.0f +/' m.c > bad.c && %s %s -w -DM_TRACE bad.c m_test.c %s -o selftest -lm",
                                   cc, b->language, thread_flags(t));
  if (command(t, spoil)) return failed(t, b->name, "self-test: cannot spoil");
  if (command(t, "./selftest") != 1 || command(t, "./selftest | grep -q 'first divergence: call 0, kernel'"))
    return failed(t, b->name, "self-test does not notice other weights");
  return true;
}

static bool run_build(Test *t, const Way *b) {
  const char *cc = compiler_of(t, b);
  bool object = t->o.weights == SPINEC_WEIGHTS_OBJECT, file = t->o.weights == SPINEC_WEIGHTS_FILE;
  if (object && command(t, arena_printf(t->a, "%s -c m_weights.S -o weights.o", is_cross(b) ? cc : t->compiler))) return failed(t, b->name, "assembler");
  const char *compile = arena_printf(t->a, "%s %s %s %s %s -DTHREADS=%d %s -I. m.c harness.c -x none %s -o harness -lm", cc, b->language, WARNINGS, b->flags,
                                     thread_flags(t), (int)t->o.threads, file ? "-DWEIGHTS_FILE" : "", object ? "weights.o" : "");
  t->runs++;
  unlink(path(t, "out.bin"));
  if (command(t, compile)) return failed(t, b->name, "compiler");
  if (command(t, arena_printf(t->a, "%s./harness in.bin out.bin %s", emulator(t, b), file ? "m.weights.bin" : ""))) return failed(t, b->name, "run");
  if (!compare(t, b->name)) return false;
  if (!t->selftest || is_cross(b) || (t->selftested && !strstr(b->language, "c++"))) return true;
  t->selftested = true;   /* once in C and once in C++ */
  return run_selftest(t, b, cc);
}

static bool emit(Test *t) {
  t->o.kind = SPINEC_EMIT_C;
  t->o.prefix = "m";
  t->o.emit_test = t->selftest;
  t->o.command_line = "cgen_test /* not a comment */ ?" "?/";
  if (c_emit(t->p, path(t, "m.c"), &t->o, t->d) != SPINEC_OK) return failed(t, "", "c_emit");
  /* Once more: the same bytes. */
  char *first = golden_read(t->a, path(t, "m.c"), NULL);
  if (c_emit(t->p, path(t, "m.c"), &t->o, t->d) != SPINEC_OK) return failed(t, "", "c_emit");
  char *second = golden_read(t->a, path(t, "m.c"), NULL);
  return (first && second && !strcmp(first, second)) || failed(t, "", "a second emission has other bytes");
}

static int run_all(Test *t) {
  if (!reference(t)) return 1;
  write_input(t);
  if (command(t, arena_printf(t->a, "cp '%s' harness.c", CGEN_DIR "/harness.c"))) return 1;
  if (!emit(t)) return 1;
  bool arm = !strcmp(t->compiler, "arm");
  for (int i = 0; i < COUNTOF(builds); i++) {
    const Way *b = &builds[i];
    if (arm || (t->only && strcmp(t->only, b->name))) continue;
    bool few = strchr(b->runs, t->describe ? t->compiler[0] : t->compiler[0] - 'a' + 'A') != NULL;
    if (*b->runs == 't') few = t->o.threads == SPINEC_THREADS_PTHREAD;
    /* The other variants of the text on memory differ in a few lines. */
    if (t->variant && *b->runs != 't') few = !strcmp(b->name, "c11-v4-san") || !strcmp(b->name, "c++17-v4");
    if ((few || t->only) && cpu_has(b->cpu)) run_build(t, b);
  }
  for (int i = 0; i < COUNTOF(crosses); i++) {
    const Way *b = &crosses[i];
    if (!arm || (t->only && strcmp(t->only, b->name))) continue;
    const char *tools = arena_printf(t->a, "command -v %s && command -v qemu-%.*s", compiler_of(t, b), (int)strcspn(b->cpu, "-"), b->cpu);
    if (!command(t, tools)) run_build(t, b);
  }
  printf("%s: %d builds, %d failures\n", t->compiler, t->runs, t->failures);
  if (arm && !t->runs) return SKIPPED;
  return t->failures || !t->runs ? 1 : 0;
}

/* ---- texts ---- */

static void read_options(Test *t, const char *text) {
  if (strncmp(text, "// options:", 11)) return;
  char *line = arena_strndup(t->a, text, strcspn(text, "\n"));
  static const char *const threads[] = {"threads=none", "threads=pthread", "threads=openmp", "threads=callback"};
  static const char *const weights[] = {"weights=inline", "weights=file", "weights=object"};
  for (int i = 0; i < COUNTOF(threads); i++) {
    if (strstr(line, threads[i])) t->o.threads = (spinec_threads)i;
  }
  for (int i = 0; i < COUNTOF(weights); i++) {
    if (strstr(line, weights[i])) t->o.weights = (spinec_weights)i;
  }
  t->o.c99 = strstr(line, " c99") != NULL;
  t->variant = t->o.threads != SPINEC_THREADS_NONE || t->o.weights != SPINEC_WEIGHTS_INLINE;
  t->selftest = strstr(line, " test") != NULL;
}

static bool load_text(Test *t, const char *file) {
  char *text = golden_read(t->a, file, NULL);
  if (!text) {
    fprintf(stderr, "cannot read %s\n", file);
    return false;
  }
  read_options(t, text);
  Program *p = program_parse(t->a, t->d, file, text, target_find("x86-64-v4"));
  const char *wrong = p ? program_verify(p, t->a) : NULL;
  if (wrong) fprintf(stderr, "%s: %s\n", file, wrong);
  t->p = p;
  return p && !wrong;
}

static int run(Test *t, int argc, char **argv) {
  if (argc >= 3 && !strcmp(argv[1], "coverage")) {
    t->compiler = argv[2];
    t->p = coverage_program(t->a, strcmp(t->compiler, "arm") != 0);
    t->describe = coverage_describe;
    t->only = argc > 3 ? argv[3] : NULL;
    const char *wrong = program_verify(t->p, t->a);
    if (wrong) fprintf(stderr, "coverage: %s\n", wrong);
    return wrong ? 1 : run_all(t);
  }
  if (argc >= 4 && !strcmp(argv[1], "loops")) {
    t->compiler = argv[3];
    t->only = argc > 4 ? argv[4] : NULL;
    return load_text(t, argv[2]) ? run_all(t) : 1;
  }
  if (argc == 4 && !strcmp(argv[1], "emit")) {
    bool coverage = !strcmp(argv[2], "coverage");
    if (coverage) t->p = coverage_program(t->a, true);
    else if (!load_text(t, argv[2])) return 1;
    t->o.emit_test = !coverage;
    t->o.prefix = "m";
    return c_emit(t->p, argv[3], &t->o, t->d) == SPINEC_OK ? 0 : 1;
  }
  fprintf(stderr, "usage: cgen_test coverage|loops FILE|emit FILE ...\n");
  return 2;
}

int main(int argc, char **argv) {
  Test t = {.d = spinec_diagnostics_new()};
  char err[RT_ERR_MAX];
  Fail fail;
  volatile int status = 1;
  if (tempdir_new(&t.dir, err) != SPINEC_OK) return 1;
  if (FAIL_ARM(&fail, t.d)) {
    t.a = arena_new(&fail);
    status = run(&t, argc, argv);
  }
  for (int i = 0; i < spinec_diagnostics_count(t.d); i++) fprintf(stderr, "%s\n", spinec_diagnostics_text(t.d, i));
  if (getenv("CGEN_KEEP")) fprintf(stderr, "kept %s\n", t.dir);
  else tempdir_remove(t.dir);
  return status;
}
