/* Ahead-of-time output: objects for every architecture linked with a C program that uses the generated header, run here or under
 * qemu-user, against the interpreter; the kinds of output; weights, threads, interchange with the C backend's output; refusals.
 * What needs a tool that is not installed is skipped, with a message. */
#define _GNU_SOURCE
#include "support.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How to make and run a program for a target. */
typedef struct Machine { const char *target, *cc, *run; Slack slack; } Machine;
static const Machine machines[] = {
  {"x86-64-v2", "cc", "", {false, false}},
  {"x86-64-v3", "cc", "", {false, false}},
  {"armv8-a", "aarch64-linux-gnu-gcc -static", "qemu-aarch64", {true, false}},
  {"armv8.2-a+dotprod+fp16", "aarch64-linux-gnu-gcc -static", "qemu-aarch64", {true, false}},
  {"armv7-a+neon", "arm-linux-gnueabihf-gcc -static -mfpu=neon-vfpv4", "qemu-arm", {true, true}},
};

static bool shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool shell(const char *format, ...) {
  char command[2000];
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(command, sizeof command, format, ap);
  va_end(ap);
  assert_true(n > 0 && n < (int)sizeof command);
  return system(command) == 0;
}

static bool have(const char *tool) { return !*tool || shell("command -v %.*s >/dev/null 2>&1", (int)strcspn(tool, " "), tool); }

static bool usable(const Machine *m) {
  const Target *t = target_find(m->target), *here = target_find("native");
  bool runs = *m->run || (here->arch == t->arch && here->lanes >= t->lanes);
  if (runs && have(m->cc) && have(m->run)) return true;
  print_message("skipped: %s needs %s %s\n", m->target, m->cc, *m->run ? m->run : "and a processor that has it");
  return false;
}

/* ---- programs around an object ---- */

typedef struct Work { char *dir; char obj[300]; } Work;

static void work_open(Work *w) {
  char err[RT_ERR_MAX];
  if (tempdir_new(&w->dir, err)) fail_msg("%s", err);
  snprintf(w->obj, sizeof w->obj, "%s/m.o", w->dir);
}

static void work_close(Work *w) { tempdir_remove(w->dir); }

static void emit(Bench *t, const char *path, spinec_emit_options o) {
  if (!o.prefix) o.prefix = "m";
  if (llvm_emit(t->p, path, &o, t->d)) fail_msg("%s: %s", path, bench_messages(t));
}

static size_t port_bytes(const Port *p) { return (size_t)shape_count(&p->shape) * dt_size(p->dt); }

static const char callback[] =
  "static void parallel(void *user, m_part *part, void *ctx, ptrdiff_t n, int max_threads) {\n"
  "  ++*(int *)user;\n"
  "  for (int t = max_threads - 1; t >= 0; t--) {\n"
  "    if (n * t / max_threads < n * (t + 1) / max_threads) part(ctx, n * t / max_threads, n * (t + 1) / max_threads, t);\n"
  "  }\n"
  "}\n";

/* A program that reads the inputs from stdin and writes the outputs to stdout. */
static void write_driver(const Bench *t, const Work *w, const spinec_emit_options *o) {
  char path[300];
  snprintf(path, sizeof path, "%s/main.c", w->dir);
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  bool file = o->weights == SPINEC_WEIGHTS_FILE, shared = o->threads == SPINEC_THREADS_CALLBACK;
  fprintf(f, "#include \"m.h\"\n#include <stdio.h>\n#include <stdlib.h>\n#define ALIGNED __attribute__((aligned(64)))\n");
  fprintf(f, "static unsigned char workspace[M_WORKSPACE_BYTES + 1] ALIGNED;\n");
  if (file) fprintf(f, "static unsigned char weights[M_WEIGHTS_BYTES + 1] ALIGNED;\n");
  for (int i = 0; i < t->p->inputs.n; i++) fprintf(f, "static unsigned char in%d[%zu] ALIGNED;\n", i, port_bytes(&t->p->inputs.at[i]));
  for (int i = 0; i < t->p->outputs.n; i++) fprintf(f, "static unsigned char out%d[%zu] ALIGNED;\n", i, port_bytes(&t->p->outputs.at[i]));
  if (shared) fputs(callback, f);
  fprintf(f, "int main(int argc, char **argv) {\n  m_inputs in = {");
  for (int i = 0; i < t->p->inputs.n; i++) fprintf(f, "(void *)in%d, ", i);
  fprintf(f, "};\n  m_outputs out = {");
  for (int i = 0; i < t->p->outputs.n; i++) fprintf(f, "(void *)out%d, ", i);
  fprintf(f, "};\n  if (argc < 2) return 2;\n  int calls = 0;\n");
  for (int i = 0; i < t->p->inputs.n; i++) fprintf(f, "  if (fread(in%d, 1, sizeof in%d, stdin) != sizeof in%d) return 1;\n", i, i, i);
  for (int i = 0; i < t->p->outputs.n; i++) fprintf(f, "  for (size_t i = 0; i < sizeof out%d; i++) out%d[i] = 0x55;\n", i, i);
  if (file) fprintf(f, "  FILE *f = fopen(argv[1], \"rb\");\n  if (!f || fread(weights, 1, M_WEIGHTS_BYTES, f) != M_WEIGHTS_BYTES) return 3;\n");
  fprintf(f, "  m_run(&in, &out%s, workspace%s);\n", file ? ", weights" : "", shared ? ", parallel, &calls" : "");
  for (int i = 0; i < t->p->outputs.n; i++) fprintf(f, "  fwrite(out%d, 1, sizeof out%d, stdout);\n", i, i);
  fprintf(f, "  return %s;\n}\n", shared ? "calls > 0 ? 0 : 4" : "calls");
  fclose(f);
}

static void run_driver(Bench *t, const Work *w, const Machine *m, void **out) {
  char path[300];
  snprintf(path, sizeof path, "%s/in", w->dir);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  for (int i = 0; i < t->p->inputs.n; i++) fwrite(t->data[i], 1, port_bytes(&t->p->inputs.at[i]), f);
  fclose(f);
  if (!shell("cd %s && %s -w -O1 main.c m.o -lm -o prog", w->dir, m->cc)) fail_msg("%s: does not link", m->target);
  if (!shell("cd %s && %s ./prog m.weights.bin <in >out", w->dir, m->run)) fail_msg("%s: does not run", m->target);
  snprintf(path, sizeof path, "%s/out", w->dir);
  f = fopen(path, "rb");
  assert_non_null(f);
  for (int i = 0; i < t->p->outputs.n; i++) assert_int_equal(fread(out[i], 1, port_bytes(&t->p->outputs.at[i]), f), port_bytes(&t->p->outputs.at[i]));
  fclose(f);
}

/* The suite's program as an object for m, with these options, against the interpreter. */
static void check_object(const Machine *m, void (*suite)(Bench *t), spinec_emit_options o) {
  Bench t;
  Work w;
  bench_open(&t, target_find(m->target));
  work_open(&w);
  suite(&t);
  bench_plan(&t);
  void **want = bench_outputs(&t), **got = bench_outputs(&t);
  bench_run(&t, interp_open(t.p, 1, t.d), want, "interpreter");
  emit(&t, w.obj, o);
  write_driver(&t, &w, &o);
  run_driver(&t, &w, m, got);
  bench_same(&t, want, got, m->slack, m->target);
  work_close(&w);
  bench_close(&t);
}

static const int some_lanes[] = {1, 4, 8};
static void operators(Bench *t) { suite_operators(t, some_lanes, COUNTOF(some_lanes)); }
static void conversions(Bench *t) { suite_conversions(t, some_lanes, COUNTOF(some_lanes)); }
static void lanes(Bench *t) { suite_lanes(t, some_lanes, COUNTOF(some_lanes)); }
static void memory(Bench *t) { suite_memory(t, some_lanes, COUNTOF(some_lanes)); }

static void every_architecture(void **state) {
  (void)state;
  static void (*const suites[])(Bench *t) = {operators, conversions, lanes, memory, suite_pointer_sized, suite_statements};
  for (int i = 0; i < COUNTOF(machines); i++) {
    if (!usable(&machines[i])) continue;
    for (int k = 0; k < COUNTOF(suites); k++) check_object(&machines[i], suites[k], (spinec_emit_options){.kind = SPINEC_EMIT_OBJ});
  }
}

static void weights_and_threads(void **state) {
  (void)state;
  static const spinec_weights weights[] = {SPINEC_WEIGHTS_INLINE, SPINEC_WEIGHTS_FILE, SPINEC_WEIGHTS_OBJECT};
  static const spinec_threads threads[] = {SPINEC_THREADS_NONE, SPINEC_THREADS_CALLBACK};
  for (int m = 0; m < COUNTOF(machines); m++) {
    if (!usable(&machines[m])) continue;
    for (int i = 0; i < COUNTOF(weights) * COUNTOF(threads); i++)
      check_object(&machines[m], suite_statements, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ, .weights = weights[i % 3], .threads = threads[i / 3]});
  }
}

/* ---- kinds ---- */

static char *read_text(const char *dir, const char *name) {
  char path[300];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  char *s = calloc(1, 1 << 22);
  size_t n = fread(s, 1, (1 << 22) - 1, f);
  fclose(f);
  s[n] = 0;
  return s;
}

static void assembly_and_ir(void **state) {
  (void)state;
  Bench t;
  Work w;
  char path[300];
  bench_open(&t, target_find("x86-64-v2"));
  work_open(&w);
  suite_statements(&t);
  bench_plan(&t);
  snprintf(path, sizeof path, "%s/m.ll", w.dir);
  emit(&t, path, (spinec_emit_options){.kind = SPINEC_EMIT_LLVM});
  char *ll = read_text(w.dir, "m.ll");
  assert_non_null(strstr(ll, "define void @m_run("));
  assert_non_null(strstr(ll, "llvm.loop.unroll.disable"));
  assert_non_null(strstr(ll, "noalias"));
  free(ll);
  if (usable(&machines[0])) {
    void **want = bench_outputs(&t), **got = bench_outputs(&t);
    bench_run(&t, interp_open(t.p, 1, t.d), want, "interpreter");
    snprintf(path, sizeof path, "%s/m.s", w.dir);
    emit(&t, path, (spinec_emit_options){.kind = SPINEC_EMIT_ASM});
    assert_true(shell("cd %s && cc -c m.s -o m.o", w.dir));
    write_driver(&t, &w, &(spinec_emit_options){0});
    run_driver(&t, &w, &machines[0], got);
    bench_same(&t, want, got, machines[0].slack, "assembly");
  }
  work_close(&w);
  bench_close(&t);
}

typedef void RunFn(const void *in, const void *out, void *workspace);

static void shared_library(void **state) {
  (void)state;
  if (!usable(&machines[0])) return;
  Bench t;
  Work w;
  char path[300];
  bench_open(&t, target_find("x86-64-v2"));
  work_open(&w);
  suite_statements(&t);
  bench_plan(&t);
  snprintf(path, sizeof path, "%s/m.so", w.dir);
  emit(&t, path, (spinec_emit_options){.kind = SPINEC_EMIT_SO});
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  assert_non_null(lib);
  RunFn *run = (RunFn *)(uintptr_t)dlsym(lib, "m_run");
  assert_non_null(run);
  void **want = bench_outputs(&t), **got = bench_outputs(&t), *workspace = workspace_alloc((size_t)t.p->workspace_bytes);
  bench_run(&t, interp_open(t.p, 1, t.d), want, "interpreter");
  run(t.data, got, workspace);   /* the structs are arrays of pointers */
  bench_same(&t, want, got, machines[0].slack, "shared library");
  workspace_free(workspace);
  dlclose(lib);
  struct stat st;
  assert_true(stat(w.obj, &st) != 0);   /* no traces of the object */
  work_close(&w);
  bench_close(&t);
}

/* Weights: a section of their own, read-only, aligned, in no other. */
static void weight_section(void **state) {
  (void)state;
  if (!have("readelf")) {
    print_message("skipped: no readelf\n");
    return;
  }
  Bench t;
  Work w;
  bench_open(&t, target_find("armv8-a"));
  work_open(&w);
  suite_statements(&t);
  bench_plan(&t);
  emit(&t, w.obj, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ});
  assert_true(shell("readelf -SW %s | grep -Eq 'rodata.m_weights +PROGBITS +[0-9a-f ]+ A +0 +0 +64'", w.obj));
  assert_false(shell("readelf -SW %s | grep -q ' WAX '", w.obj));
  assert_true(shell("test \"$(readelf -sW %s | grep -c 'GLOBAL DEFAULT.*[0-9] m_')\" = 1", w.obj));   /* m_run alone */
  work_close(&w);
  bench_close(&t);
}

/* The C backend's code and an object, in one program under two prefixes, with the same header but for that. */
static void beside_c(void **state) {
  (void)state;
  if (!usable(&machines[0])) return;
  Bench t;
  Work w;
  char path[300];
  bench_open(&t, target_find("x86-64-v2"));
  work_open(&w);
  suite_statements(&t);
  bench_plan(&t);
  emit(&t, w.obj, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ});
  assert_true(shell("mv %s/m.h %s/object.h", w.dir, w.dir));
  snprintf(path, sizeof path, "%s/m.c", w.dir);
  assert_int_equal(c_emit(t.p, path, &(spinec_emit_options){.kind = SPINEC_EMIT_C, .prefix = "m"}, t.d), SPINEC_OK);
  assert_true(shell("cd %s && cmp m.h object.h && mkdir c && mv m.c m.h c", w.dir));
  snprintf(path, sizeof path, "%s/other.c", w.dir);
  assert_int_equal(c_emit(t.p, path, &(spinec_emit_options){.kind = SPINEC_EMIT_C, .prefix = "other"}, t.d), SPINEC_OK);
  snprintf(path, sizeof path, "%s/main.c", w.dir);
  FILE *f = fopen(path, "w");
  fprintf(f, "#include \"object.h\"\n#include \"other.h\"\n#include <string.h>\n"
             "static unsigned char x[%zu] __attribute__((aligned(64))), a[%d][5000] __attribute__((aligned(64))), b[%d][5000], ws[M_WORKSPACE_BYTES] "
             "__attribute__((aligned(64)));\nint main(void) {\n  for (unsigned i = 0; i < sizeof x; i += 4) x[i + 3] = 0x3f, x[i + 2] = i;\n",
          port_bytes(&t.p->inputs.at[0]), t.p->outputs.n, t.p->outputs.n);
  fprintf(f, "  m_inputs in = {(void *)x};\n  other_inputs in2 = {(void *)x};\n  m_outputs out = {");
  for (int i = 0; i < t.p->outputs.n; i++) fprintf(f, "(void *)a[%d], ", i);
  fprintf(f, "};\n  other_outputs out2 = {");
  for (int i = 0; i < t.p->outputs.n; i++) fprintf(f, "(void *)b[%d], ", i);
  fprintf(f, "};\n  m_run(&in, &out, ws);\n  other_run(&in2, &out2, ws);\n  return memcmp(a, b, sizeof a) != 0 || !a[0][8];\n}\n");
  fclose(f);
  if (!shell("cd %s && cc -w -O1 -ffp-contract=off -march=x86-64-v2 main.c other.c m.o -lm -o prog && ./prog", w.dir)) fail_msg("the two differ");
  work_close(&w);
  bench_close(&t);
}

/* ---- refusals ---- */

static void refused(const Target *target, const char *path, spinec_emit_options o, spinec_status want, const char *words) {
  Bench t;
  bench_open(&t, target);
  suite_statements(&t);
  bench_plan(&t);
  if (!o.prefix) o.prefix = "m";
  spinec_status got = llvm_emit(t.p, path, &o, t.d);
  if (got != want || !strstr(bench_messages(&t), words)) fail_msg("status %d, message: %s", (int)got, bench_messages(&t));
  bench_close(&t);
}

static void refusals(void **state) {
  (void)state;
  Work w;
  char path[300];
  work_open(&w);
  Target odd = *target_find("x86-64-v2");
  odd.triple = "nonsense-unknown-none";
  refused(&odd, w.obj, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ}, SPINEC_ERR_TOOL, "nonsense");
  const Target *t = target_find("armv8-a");
  refused(t, w.obj, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ, .threads = SPINEC_THREADS_PTHREAD}, SPINEC_ERR_OPTION, "thread pool");
  refused(t, w.obj, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ, .threads = SPINEC_THREADS_OPENMP}, SPINEC_ERR_OPTION, "thread pool");
  refused(t, w.obj, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ, .prefix = "9 lives"}, SPINEC_ERR_OPTION, "prefix");
  refused(t, "/nowhere/at/all.o", (spinec_emit_options){.kind = SPINEC_EMIT_OBJ}, SPINEC_ERR_IO, "nowhere");
  snprintf(path, sizeof path, "%s/m.so", w.dir);
  setenv("SPINEC_CC", "/nonexistent/cc", 1);
  refused(t, path, (spinec_emit_options){.kind = SPINEC_EMIT_SO}, SPINEC_ERR_TOOL, "/nonexistent/cc");
  setenv("SPINEC_CC", "false -x", 1);
  refused(t, path, (spinec_emit_options){.kind = SPINEC_EMIT_SO}, SPINEC_ERR_TOOL, "false failed to link");
  unsetenv("SPINEC_CC");
  assert_true(shell("test -z \"$(ls %s)\"", w.dir));   /* nothing was left behind */
  work_close(&w);
}

/* Same program and options, same bytes. */
static void reproducible(void **state) {
  (void)state;
  Work w[2];
  for (int i = 0; i < 2; i++) {
    Bench t;
    bench_open(&t, target_find("armv7-a+neon"));
    suite_statements(&t);
    bench_plan(&t);
    work_open(&w[i]);
    emit(&t, w[i].obj, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ});
    bench_close(&t);
  }
  assert_true(shell("cmp %s %s", w[0].obj, w[1].obj));
  for (int i = 0; i < 2; i++) work_close(&w[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_architecture), cmocka_unit_test(weights_and_threads), cmocka_unit_test(assembly_and_ir), cmocka_unit_test(shared_library),
    cmocka_unit_test(weight_section),     cmocka_unit_test(beside_c),            cmocka_unit_test(refusals),        cmocka_unit_test(reproducible),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
