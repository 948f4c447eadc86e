/* spinec_compile_options.max_workspace_bytes: every limit from what is needed without one down to the least that can be reached is kept, with
 * the same results; below that there is an error which names it. */
#include "op_test.h"

static const char text[] =
    "graph \"t\" { input %x: f32[1,20,30,31] const %w: f32[41,20,3,3] = opaque 0x1 const %v: f32[32,41,3,3] = opaque 0x2 "
    "const %u: f32[24,32,1,1] = opaque 0x3 "
    "%a = Conv(%x, %w) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} %b = Relu(%a) "
    "%c = Conv(%b, %v) {strides=[2,2], pads=[1,1,1,1], dilations=[1,1], group=1} %d = Relu(%c) "
    "%e = Conv(%d, %u) {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1} output %e }";

enum { IN = 20 * 30 * 31, OUT = 24 * 15 * 16 };
static float x[IN], want[OUT], got[OUT];

/* The workspace with this limit, and the results in y; -1 where it is refused, with *least from the message. */
static int64_t compile(int64_t limit, int threads, float *y, int64_t *least) {
  OpRun r = {.diag = spinec_diagnostics_new()};
  int64_t bytes = -1;
  if (FAIL_ARM(&r.fail, r.diag)) {
    spinec_compile_options o = spinec_compile_options_default();
    o.max_workspace_bytes = limit;
    o.max_threads = threads;
    r.arena = arena_new(&r.fail);
    r.g = graph_parse(r.arena, r.diag, "test", text);
    if (!r.g) fail_msg("%s", op_message(r.diag));
    Ctx c = {.arena = r.arena, .diag = r.diag, .target = target_find("x86-64-v4"), .opt = &o, .eval = interp_eval};
    bool stopped = false;
    Program *p = passes_run(r.g, &c, &stopped);
    if (p) {
      const char *wrong = program_verify(p, r.arena);
      if (wrong) fail_msg("%s", wrong);
      bytes = p->workspace_bytes;
      assert_int_equal(interp_eval(p, (const void *[]){x}, (void *[]){y}, r.diag), SPINEC_OK);
    } else {
      assert_int_equal(diag_status(r.diag), SPINEC_ERR_OPTION);
      const char *s = strstr(op_message(r.diag), "the least found is ");
      assert_non_null(s);
      *least = strtoll(s + strlen("the least found is "), NULL, 10);
      assert_int_equal(strstr(op_message(r.diag), "fewer threads") != NULL, threads > 1);
    }
  } else {
    fail_msg("left through Fail: %s", op_message(r.diag));
  }
  op_close(&r);
  return bytes;
}

static void limits(int threads) {
  int64_t least = -1, all = compile(0, threads, want, &least), bytes = all;
  int steps = 0;
  assert_true(all > 0);
  assert_int_equal(compile(1, threads, got, &least), -1);
  assert_true(least > 0 && least < all);
  while (bytes > least) {
    int64_t limit = bytes - 1;
    bytes = compile(limit, threads, got, &least);
    assert_true(bytes > 0 && bytes <= limit);
    for (int i = 0; i < OUT; i++) assert_true(fabsf(got[i] - want[i]) <= 1e-3f * (1 + fabsf(want[i])));
    steps++;
  }
  print_message("%d threads: %lld bytes down to %lld in %d steps\n", threads, (long long)all, (long long)least, steps);
  assert_true(steps >= 2);
  assert_int_equal(compile(least - 1, threads, got, &least), -1);
  assert_int_equal(compile(all, threads, got, &least), all);   /* nothing changes where nothing must */
}

static void one_thread(void **state) {
  (void)state;
  op_fill_f32(x, IN, 3);
  limits(1);
}

static void threads(void **state) {
  (void)state;
  op_fill_f32(x, IN, 4);
  limits(8);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(one_thread), cmocka_unit_test(threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
