/* The pass driver: options, order, dumps, bisecting; and whole pipelines against plain ones: passes/pass.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "passes/passes.h"

static const char net[] =
    "graph \"net\" {\n"
    "  input %x: f32[1,3,9,9]\n"
    "  const %w: f32[8,3,3,3] = opaque 0x1\n"
    "  const %w2: f32[8,8,1,1] = opaque 0x2\n"
    "  const %s: f32[1,8,1,1] = [1, 2, 0.5, -1, 1, 2, 3, 4]\n"
    "  const %k: f32[2] = [1, 2]\n"
    "  const %dead: f32[2] = [3, 4]\n"
    "  %unused = Add(%k, %dead)\n"
    "  %c = Conv(%x, %w) {strides=[2,2], pads=[1,1,1,1], dilations=[1,1], group=1} @ \"conv\"\n"
    "  %m = Mul(%c, %s) @ \"bn\"\n"
    "  %g = Sigmoid(%m)\n"
    "  %h = Mul(%m, %g) @ \"swish\"\n"
    "  %d = Conv(%h, %w2) {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1}\n"
    "  %a = Add(%d, %h)\n"
    "  %r = Relu(%a)\n"
    "  %p = ReduceMean(%r) {axes=[2,3], keepdims=true}\n"
    "  %n = Neg(%k)\n"
    "  %q = ReduceSum(%n) {axes=[0], keepdims=true}\n"
    "  %y = Mul(%p, %q)\n"
    "  output %y\n"
    "}\n";

typedef struct Run {
  Arena *a;
  Diag *d;
  Graph *g;
  Program *p;
  bool stopped;
  char *text;      /* what was dumped */
} Run;

static Run run(spinec_compile_options opt) {
  Run r = {.a = arena_new(NULL), .d = spinec_diagnostics_new()};
  r.g = graph_parse(r.a, r.d, "net", net);
  if (!r.g) fail_msg("%s", spinec_diagnostics_text(r.d, 0));
  opt.dump = tmpfile();
  if (!opt.max_threads) opt.max_threads = 1;
  Ctx c = {.arena = r.a, .diag = r.d, .target = target_find("x86-64-v3"), .opt = &opt, .eval = interp_eval};
  r.p = passes_run(r.g, &c, &r.stopped);
  long n = ftell(opt.dump);
  r.text = arena_alloc(r.a, (size_t)n + 1);
  rewind(opt.dump);
  assert_int_equal(fread(r.text, 1, (size_t)n, opt.dump), n);
  fclose(opt.dump);
  return r;
}

static void run_free(Run *r) {
  arena_free(r->a);
  spinec_diagnostics_free(r->d);
}

static void refuses(spinec_compile_options opt, const char *message) {
  Run r = run(opt);
  assert_null(r.p);
  assert_false(r.stopped);
  assert_int_equal(diag_status(r.d), SPINEC_ERR_OPTION);
  if (!strstr(spinec_diagnostics_text(r.d, 0), message)) fail_msg("'%s' does not say '%s'", spinec_diagnostics_text(r.d, 0), message);
  run_free(&r);
}

static void bad_options(void **state) {
  (void)state;
  refuses((spinec_compile_options){.disable = "clean,nonsense"}, "disable: there is no pass 'nonsense'; hint: one of c clean, f fold");
  refuses((spinec_compile_options){.disable = "fold,lower"}, "nothing can be compiled without 'lower'");
  refuses((spinec_compile_options){.disable = "memory"}, "without 'memory'");
  refuses((spinec_compile_options){.dump_letters = "c?"}, "dump: there is no pass '?'");
  refuses((spinec_compile_options){.print_after = "clea"}, "print-after: there is no pass 'clea'");
  refuses((spinec_compile_options){.stop_after = ""}, "stop-after: there is no pass ''");
  Run r = run((spinec_compile_options){.disable = ",,"});   /* empty names are none */
  assert_null(r.p);
  run_free(&r);
}

static int count(const char *text, const char *what) {
  int n = 0;
  for (const char *s = text; (s = strstr(s, what)); s++) n++;
  return n;
}

static void dumps(void **state) {
  (void)state;
  Run r = run((spinec_compile_options){.opt_level = 2, .dump_letters = "cv"});
  assert_non_null(r.p);
  assert_int_equal(count(r.text, "# after clean"), 4);
  assert_int_equal(count(r.text, "# after conv_fold\ngraph \"net\""), 1);
  assert_int_equal(count(r.text, "# after fold"), 0);
  run_free(&r);
  r = run((spinec_compile_options){.opt_level = 2, .disable = "conv_fold,activation", .print_after = "clean"});
  assert_int_equal(count(r.text, "# after clean (unchanged)"), 3);
  run_free(&r);
  r = run((spinec_compile_options){.opt_level = 0, .dump_letters = "cl"});
  assert_int_equal(count(r.text, "# after clean"), 0);       /* does not run at -O0 */
  assert_int_equal(count(r.text, "# after lower\nprogram"), 1);
  run_free(&r);
}

static void stopping(void **state) {
  (void)state;
  Run r = run((spinec_compile_options){.opt_level = 2, .stop_after = "fold", .print_after = "fold"});
  assert_null(r.p);
  assert_true(r.stopped);
  assert_int_equal(spinec_diagnostics_count(r.d), 0);
  assert_int_equal(count(r.text, "const %q: f32[1] = [-3]"), 1);
  assert_null(strstr(r.text, "unused"));
  run_free(&r);
}

static void disabling(void **state) {
  (void)state;
  Run r = run((spinec_compile_options){.opt_level = 2, .disable = "activation,epilogue", .stop_after = "epilogue"});
  Text t = {.a = r.a};
  graph_print(r.g, &t);
  assert_non_null(strstr(t.s, "Sigmoid"));
  assert_null(strstr(t.s, "body"));
  run_free(&r);
}

/* With N changing passes allowed, N run, in order; the rest is skipped. */
static void bisecting(void **state) {
  (void)state;
  Run r = run((spinec_compile_options){.opt_level = 2, .bisect = 1000});
  int all = atoi(strstr(r.text, "bisect: ") + 8);
  assert_true(all >= 5);
  run_free(&r);
  for (int n = 1; n <= all; n++) {
    r = run((spinec_compile_options){.opt_level = 2, .bisect = n});
    assert_non_null(r.p);
    assert_int_equal(atoi(strstr(r.text, "bisect: ") + 8), n);
    assert_non_null(strstr(r.text, "the last was"));
    if (n == 1) assert_non_null(strstr(r.text, "the last was clean"));
    run_free(&r);
  }
}

static double last_fraction;
static int steps;
static void progress(void *user, const char *what, double fraction) {
  assert_ptr_equal(user, &steps);
  assert_true(fraction >= last_fraction && fraction <= 1 && what);
  last_fraction = fraction;
  steps++;
}

static void reports(void **state) {
  (void)state;
  last_fraction = 0;
  steps = 0;
  Run r = run((spinec_compile_options){.opt_level = 2, .stats = true, .time_passes = true, .progress = progress, .progress_user = &steps});
  assert_true(last_fraction == 1 && steps > 8);
  assert_int_equal(count(r.text, "stats: as imported: 12 kernels, 7000 macs, 15214 flops, 13900 bytes moved, 5684 bytes stored"), 1);
  assert_int_equal(count(r.text, "stats: fold applied 2 times, saved: 2 kernels, 0 macs, 4 flops, 24 bytes moved, 12 bytes stored\n"), 1);
  assert_int_equal(count(r.text, "stats: as lowered: 3 kernels"), 1);
  assert_int_equal(count(r.text, "memory: workspace bytes"), 1);
  assert_int_equal(count(r.text, " ms  lower"), 1);
  run_free(&r);
  FILE *f = tmpfile();
  passes_list(f);
  char line[200];
  int lines = 0;
  for (rewind(f); fgets(line, sizeof line, f);) lines++;
  assert_true(lines > 8);
  fclose(f);
}

/* Every level, and every pass left out, computes the same. */
static void same_results(void **state) {
  (void)state;
  static const char *const disable[] = {
      NULL, "clean", "fold", "conv_fold", "activation", "layout", "epilogue", "simplify", "clean,epilogue,layout"};
  float x[243], y[8], expected[8];
  for (int i = 0; i < 243; i++) x[i] = (float)((i * 37) % 101 - 50) / 50;
  for (int level = 0; level <= 3; level++)
    for (int i = 0; i < (level ? COUNTOF(disable) : 1); i++) {
      Run r = run((spinec_compile_options){.opt_level = level, .disable = disable[i], .max_threads = 2});
      if (!r.p) fail_msg("%s", spinec_diagnostics_text(r.d, 0));
      assert_null(program_verify(r.p, r.a));
      assert_int_equal(interp_eval(r.p, (const void *[]){x}, (void *[]){y}, r.d), SPINEC_OK);
      if (level == 0) memcpy(expected, y, sizeof y);
      for (int k = 0; k < 8; k++)
        if (fabsf(y[k] - expected[k]) > 1e-5f * (1 + fabsf(expected[k])))
          fail_msg("-O%d without %s: [%d] %g, not %g", level, disable[i], k, (double)y[k], (double)expected[k]);
      run_free(&r);
    }
}

/* The same graph gives the same text. */
static void deterministic(void **state) {
  (void)state;
  Run r = run((spinec_compile_options){.opt_level = 2}), s = run((spinec_compile_options){.opt_level = 2});
  Text t = {.a = r.a}, u = {.a = s.a};
  program_print(r.p, &t);
  program_print(s.p, &u);
  assert_string_equal(t.s, u.s);
  run_free(&r);
  run_free(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bad_options), cmocka_unit_test(dumps),   cmocka_unit_test(stopping),     cmocka_unit_test(disabling),
      cmocka_unit_test(bisecting),   cmocka_unit_test(reports), cmocka_unit_test(same_results), cmocka_unit_test(deterministic),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
