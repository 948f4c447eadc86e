/* Life of the JIT's runners: opening and closing many, several at a time and from several threads, profiles, refusals, memory that is
 * never writable and executable at once, the map for perf. Leaks show under the address sanitizer. */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void small_program(Bench *t, const Target *target) {
  bench_open(t, target);
  suite_statements(t);
  bench_plan(t);
}

static void many(void **state) {
  (void)state;
  Bench t;
  small_program(&t, target_find("native"));
  void **want = bench_outputs(&t), **got = bench_outputs(&t);
  bench_run(&t, interp_open(t.p, 1, t.d), want, "interpreter");
  for (int i = 0; i < 20; i++) {
    Runner *r[3];
    for (int k = 0; k < 3; k++) assert_non_null(r[k] = llvm_open(t.p, 1 + (i + k) % 4, t.d));
    for (int k = 0; k < 3; k++) {
      for (int run = 0; run < 3; run++) assert_int_equal(r[k]->run(r[k], (const void *const *)t.data, got, t.d), SPINEC_OK);
      bench_same(&t, want, got, (Slack){false, false}, "JIT");
      r[k]->close(r[k]);
    }
  }
  bench_close(&t);
}

static void *own_thread(void *arg) {
  (void)arg;
  spinec_diagnostics *d = spinec_diagnostics_new();
  Fail fail;
  if (!FAIL_ARM(&fail, d)) return "left through Fail";
  Bench t = {.d = d, .a = arena_new(&fail)};
  t.p = program_new(t.a, target_find("native"));
  suite_statements(&t);
  bench_plan(&t);
  void **want = bench_outputs(&t), **got = bench_outputs(&t);
  for (int i = 0; i < 3; i++) {
    Runner *w = interp_open(t.p, 1, d), *g = llvm_open(t.p, 1, d);
    if (!w || !g) return "cannot open";
    if (w->run(w, (const void *const *)t.data, want, d) || g->run(g, (const void *const *)t.data, got, d)) return "cannot run";
    w->close(w);
    g->close(g);
    for (int o = 0; o < t.p->outputs.n; o++) {
      const Port *p = &t.p->outputs.at[o];
      if (memcmp(want[o], got[o], (size_t)shape_count(&p->shape) * dt_size(p->dt))) return "results differ";
    }
  }
  bench_close(&t);
  return NULL;
}

static void at_the_same_time(void **state) {
  (void)state;
  pthread_t id[4];
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&id[i], NULL, own_thread, NULL), 0);
  for (int i = 0; i < 4; i++) {
    void *wrong;
    pthread_join(id[i], &wrong);
    if (wrong) fail_msg("%s", (const char *)wrong);
  }
}

static void profile(void **state) {
  (void)state;
  Bench t;
  small_program(&t, target_find("native"));
  Runner *r = llvm_open(t.p, 2, t.d);
  assert_non_null(r);
  double ns[64];
  for (int i = 0; i < 64; i++) ns[i] = -1;
  assert_int_equal(r->profile(r, (const void *const *)t.data, bench_outputs(&t), ns, t.d), SPINEC_OK);
  for (int i = 0; i < 64; i++) assert_true(i < t.p->calls.n ? ns[i] >= 0 : ns[i] < 0);
  r->close(r);
  bench_close(&t);
}

static void refused(const Target *target, const char *words) {
  Bench t;
  small_program(&t, target);
  Runner *r = llvm_open(t.p, 1, t.d);
  assert_null(r);
  assert_int_equal(spinec_diagnostics_count(t.d), 1);
  if (!strstr(bench_messages(&t), words)) fail_msg("message: %s", bench_messages(&t));
  bench_close(&t);
}

static void refusals(void **state) {
  (void)state;
  const Target *here = target_find("native");
  refused(target_find(here->arch == ARCH_AARCH64 ? "x86-64-v2" : "armv8-a"), "cannot run code for");
  Target odd = *here;
  odd.triple = "nonsense-unknown-none";
  refused(&odd, "nonsense");
}

/* Also when there is nothing to compile. */
static void empty(void **state) {
  (void)state;
  Bench t;
  bench_open(&t, target_find("native"));
  bench_plan(&t);
  Runner *r = llvm_open(t.p, 1, t.d);
  assert_non_null(r);
  assert_int_equal(r->run(r, (const void *const *)t.data, bench_outputs(&t), t.d), SPINEC_OK);
  r->close(r);
  bench_close(&t);
}

static void never_writable_and_executable(void **state) {
  (void)state;
  Bench t;
  small_program(&t, target_find("native"));
  Runner *r = llvm_open(t.p, 1, t.d);
  assert_non_null(r);
  FILE *f = fopen("/proc/self/maps", "r");
  char line[500];
  int executable = 0;
  while (f && fgets(line, sizeof line, f)) {
    char access[8];
    unsigned long long inode;
    if (sscanf(line, "%*s %7s %*s %*s %llu", access, &inode) != 2) continue;
    assert_false(access[1] == 'w' && access[2] == 'x');
    executable += access[2] == 'x' && !inode;
  }
  if (f) {
    fclose(f);
    assert_true(executable > 0);   /* the code was seen */
  }
  r->close(r);
  bench_close(&t);
}

static void map_for_perf(void **state) {
  (void)state;
  char path[64], line[300];
  snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
  Bench t;
  small_program(&t, target_find("native"));
  setenv("SPINEC_PERF", "1", 1);
  Runner *r = llvm_open(t.p, 1, t.d);
  unsetenv("SPINEC_PERF");
  if (!r) fail_msg("%s", bench_messages(&t));
  assert_int_equal(r->run(r, (const void *const *)t.data, bench_outputs(&t), t.d), SPINEC_OK);
  FILE *f = fopen(path, "r");
  assert_non_null(f);
  int kernels = 0;
  while (fgets(line, sizeof line, f)) {
    unsigned long long at, size;
    int k;
    assert_int_equal(sscanf(line, "%llx %llx k%d", &at, &size, &k), 3);
    assert_true(at && size && k == kernels);
    assert_non_null(strstr(line, t.p->kernels.at[k]->what));
    kernels++;
  }
  assert_int_equal(kernels, t.p->kernels.n);
  fclose(f);
  remove(path);
  r->close(r);
  bench_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(many),  cmocka_unit_test(at_the_same_time),              cmocka_unit_test(profile),      cmocka_unit_test(refusals),
    cmocka_unit_test(empty), cmocka_unit_test(never_writable_and_executable), cmocka_unit_test(map_for_perf),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
