/* spinec_compile_options.max_weight_bytes: a bound on the packed weights at every step from what is wanted without one down to the least,
 * with the same results; below that there is an error which names it. Without a limit, what a target's default allows. */
#include "op_test.h"

static const char text[] =
    "graph \"t\" { input %x: f32[1,32,31,33] const %w: f32[41,32,3,3] = opaque 0x1 const %v: f32[83,41,3,3] = opaque 0x2 "
    "const %u: f32[24,83,3,3] = opaque 0x3 const %t: f32[32,32,1,1] = opaque 0x4 "
    "%a = Conv(%x, %t) {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1} "
    "%b = Conv(%a, %w) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} %c = Relu(%b) "
    "%d = Conv(%c, %v) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} %e = Relu(%d) "
    "%f = Conv(%e, %u) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} output %f }";

enum { IN = 32 * 31 * 33, OUT = 24 * 31 * 33, MODEL = 4 * (9 * (41 * 32 + 83 * 41 + 24 * 83) + 32 * 32) };
static float x[IN], want[OUT], got[OUT];

/* The bytes of packed weights with this limit, and the results in y; -1 where it is refused, with *least from the message. */
static int64_t compile(const char *target, int64_t limit, float *y, int64_t *least) {
  OpRun r = {.diag = spinec_diagnostics_new()};
  int64_t bytes = -1;
  if (FAIL_ARM(&r.fail, r.diag)) {
    spinec_compile_options o = spinec_compile_options_default();
    o.max_weight_bytes = limit;
    r.arena = arena_new(&r.fail);
    r.g = graph_parse(r.arena, r.diag, "test", text);
    if (!r.g) fail_msg("%s", op_message(r.diag));
    Ctx c = {.arena = r.arena, .diag = r.diag, .target = target_find(target), .opt = &o, .eval = interp_eval};
    bool stopped = false;
    Program *p = passes_run(r.g, &c, &stopped);
    if (p) {
      bytes = p->weight_bytes;
      assert_int_equal(interp_eval(p, (const void *[]){x}, (void *[]){y}, r.diag), SPINEC_OK);
    } else {
      assert_int_equal(diag_status(r.diag), SPINEC_ERR_OPTION);
      const char *s = strstr(op_message(r.diag), "take at least ");
      assert_non_null(s);
      *least = strtoll(s + strlen("take at least "), NULL, 10);
    }
  } else {
    fail_msg("left through Fail: %s", op_message(r.diag));
  }
  op_close(&r);
  return bytes;
}

static void bounds(void **state) {
  (void)state;
  static const char *const targets[] = {"x86-64-v4", "armv8-a"};
  op_fill_f32(x, IN, 3);
  for (int t = 0; t < COUNTOF(targets); t++) {
    int64_t least = -1, all = compile(targets[t], INT64_MAX, want, &least), bytes = all;
    int steps = 0;
    float top = 0;
    for (int i = 0; i < OUT; i++) top = fmaxf(top, fabsf(want[i]));
    assert_true(all > 3 * MODEL);
    assert_int_equal(compile(targets[t], 1, got, &least), -1);
    assert_true(least >= MODEL && least < all);
    while (bytes > least) {
      int64_t limit = bytes - 1;
      bytes = compile(targets[t], limit, got, &least);
      assert_true(bytes > 0 && bytes <= limit);
      for (int i = 0; i < OUT; i++) assert_true(fabsf(got[i] - want[i]) <= 1e-4f * top);
      steps++;
    }
    print_message("%s: %lld bytes down to %lld in %d steps\n", targets[t], (long long)all, (long long)least, steps);
    assert_true(steps >= 3);
    assert_int_equal(compile(targets[t], least - 1, got, &least), -1);
    assert_int_equal(compile(targets[t], all, got, &least), all);
  }
}

static void defaults(void **state) {
  (void)state;
  int64_t least;
  op_fill_f32(x, IN, 3);
  assert_int_equal(compile("x86-64-v4", 0, want, &least), compile("x86-64-v4", INT64_MAX, want, &least));
  assert_true(compile("armv8-a", 0, want, &least) <= 3 * (MODEL + 4096));
  assert_true(compile("generic", 0, want, &least) <= MODEL + MODEL / 8 + 4096);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bounds), cmocka_unit_test(defaults)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
