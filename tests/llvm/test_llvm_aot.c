/* Ahead-of-time output: objects for every architecture linked with a C program that uses the generated header, run here or under
 * qemu-user, against the interpreter; the kinds of output; weights, threads, interchange with the C backend's output; refusals.
 * What needs a tool that is not installed is skipped, with a message. */
#define _GNU_SOURCE
#include "object.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void emit(Bench *t, const char *path, spinec_emit_options o) {
  if (!o.prefix) o.prefix = "m";
  if (llvm_emit(t->p, path, &o, t->d)) fail_msg("%s: %s", path, bench_messages(t));
}

static void port_sizes(const Port *ports, int n, size_t *bytes) {
  for (int i = 0; i < n; i++) bytes[i] = (size_t)shape_count(&ports[i].shape) * dt_size(ports[i].dt);
}

static Ports sizes(Bench *t) {
  Ports p = {NULL, NULL, t->p->inputs.n, t->p->outputs.n};
  size_t *in = NEW_N(t->a, size_t, p.nin + 1), *out = NEW_N(t->a, size_t, p.nout + 1);
  port_sizes(t->p->inputs.at, p.nin, in);
  port_sizes(t->p->outputs.at, p.nout, out);
  p.in = in;
  p.out = out;
  return p;
}

static void run_object(Bench *t, Work *w, const Machine *m, const spinec_emit_options *o, const char *who) {
  void **want = bench_outputs(t), **got = bench_outputs(t);
  Ports p = sizes(t);
  bench_run(t, interp_open(t->p, 1, t->d), want, "interpreter");
  driver_write(w, &p, o);
  driver_run(w, m, &p, t->data, got);
  bench_same(t, want, got, m->slack, who);
}

/* The suite's program as an object for m, with these options, against the interpreter. */
static void check_object(const Machine *m, void (*suite)(Bench *t), spinec_emit_options o) {
  Bench t;
  Work w;
  bench_open(&t, target_find(m->target));
  work_open(&w);
  suite(&t);
  bench_plan(&t);
  emit(&t, w.obj, o);
  run_object(&t, &w, m, &o, m->target);
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
  for (int i = 0; i < nmachines; i++) {
    if (!usable(&machines[i])) continue;
    for (int k = 0; k < COUNTOF(suites); k++) check_object(&machines[i], suites[k], (spinec_emit_options){.kind = SPINEC_EMIT_OBJ});
  }
}

static void weights_and_threads(void **state) {
  (void)state;
  static const spinec_weights weights[] = {SPINEC_WEIGHTS_INLINE, SPINEC_WEIGHTS_FILE, SPINEC_WEIGHTS_OBJECT};
  static const spinec_threads threads[] = {SPINEC_THREADS_NONE, SPINEC_THREADS_CALLBACK};
  for (int m = 0; m < nmachines; m++) {
    if (!usable(&machines[m])) continue;
    for (int i = 0; i < COUNTOF(weights) * COUNTOF(threads); i++)
      check_object(&machines[m], suite_statements, (spinec_emit_options){.kind = SPINEC_EMIT_OBJ, .weights = weights[i % 3], .threads = threads[i / 3]});
  }
}

/* ---- kinds ---- */

static char *read_text(Work *w, const char *name) {
  enum { MOST = 1 << 22 };
  char path[300], *s = calloc(1, MOST);
  FILE *f = fopen(work_path(w, name, path), "rb");
  assert_non_null(f);
  s[fread(s, 1, MOST - 1, f)] = 0;
  fclose(f);
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
  emit(&t, work_path(&w, "m.ll", path), (spinec_emit_options){.kind = SPINEC_EMIT_LLVM});
  char *ll = read_text(&w, "m.ll");
  assert_non_null(strstr(ll, "define void @m_run("));
  assert_non_null(strstr(ll, "llvm.loop.unroll.disable"));
  assert_non_null(strstr(ll, "noalias"));
  free(ll);
  if (usable(&machines[0])) {
    emit(&t, work_path(&w, "m.s", path), (spinec_emit_options){.kind = SPINEC_EMIT_ASM});
    assert_true(shell("cd %s && cc -c m.s -o m.o", w.dir));
    run_object(&t, &w, &machines[0], &(spinec_emit_options){0}, "assembly");
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
  emit(&t, work_path(&w, "m.so", path), (spinec_emit_options){.kind = SPINEC_EMIT_SO});
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
  assert_int_equal(c_emit(t.p, work_path(&w, "m.c", path), &(spinec_emit_options){.kind = SPINEC_EMIT_C, .prefix = "m"}, t.d), SPINEC_OK);
  assert_true(shell("cd %s && cmp m.h object.h && mkdir c && mv m.c m.h c", w.dir));
  assert_int_equal(c_emit(t.p, work_path(&w, "other.c", path), &(spinec_emit_options){.kind = SPINEC_EMIT_C, .prefix = "other"}, t.d), SPINEC_OK);
  FILE *f = fopen(work_path(&w, "main.c", path), "w");
  fprintf(f, "#include \"object.h\"\n#include \"other.h\"\n#include <string.h>\n"
             "static unsigned char x[%zu] __attribute__((aligned(64))), a[%d][5000] __attribute__((aligned(64))), b[%d][5000], ws[M_WORKSPACE_BYTES] "
             "__attribute__((aligned(64)));\nint main(void) {\n  for (unsigned i = 0; i < sizeof x; i += 4) x[i + 3] = 0x3f, x[i + 2] = i;\n",
          sizes(&t).in[0], t.p->outputs.n, t.p->outputs.n);
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
  work_path(&w, "m.so", path);
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
