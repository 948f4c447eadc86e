/* spinec_compile_options.max_workspace_bytes: every limit from what is needed without one down to the least that can be reached is kept, with
 * the same results; below that there is an error which names it. */
#include "op_test.h"

static const char chain[] =
    "graph \"t\" { input %x: f32[1,20,30,31] const %w: f32[41,20,3,3] = opaque 0x1 const %v: f32[32,41,3,3] = opaque 0x2 "
    "const %u: f32[24,32,1,1] = opaque 0x3 "
    "%a = Conv(%x, %w) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1} %b = Relu(%a) "
    "%c = Conv(%b, %v) {strides=[2,2], pads=[1,1,1,1], dilations=[1,1], group=1} %d = Relu(%c) "
    "%e = Conv(%d, %u) {strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1} output %e }";

enum { IN = 20 * 30 * 31, OUT = 24 * 15 * 16 };
static float x[IN], want[OUT], got[OUT];

/* The workspace of the program with this limit, and the results in y; -1 where it is refused, with *least from the message. */
static int64_t compile(const char *text, int64_t limit, int threads, float *y, int64_t *least) {
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
      if (y) assert_int_equal(interp_eval(p, (const void *[]){x}, (void *[]){y}, r.diag), SPINEC_OK);
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
  int64_t least = -1, all = compile(chain, 0, threads, want, &least), bytes = all;
  int steps = 0;
  assert_true(all > 0);
  assert_int_equal(compile(chain, 1, threads, got, &least), -1);
  assert_true(least > 0 && least < all);
  while (bytes > least) {
    int64_t limit = bytes - 1;
    bytes = compile(chain, limit, threads, got, &least);
    assert_true(bytes > 0 && bytes <= limit);
    for (int i = 0; i < OUT; i++) assert_true(fabsf(got[i] - want[i]) <= 1e-3f * (1 + fabsf(want[i])));
    steps++;
  }
  print_message("%d threads: %lld bytes down to %lld in %d steps\n", threads, (long long)all, (long long)least, steps);
  assert_true(steps >= 2);
  assert_int_equal(compile(chain, least - 1, threads, got, &least), -1);
  assert_int_equal(compile(chain, all, threads, got, &least), all);   /* nothing changes where nothing must */
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

/* Convolutions and sums over two scales. */
static const char *random_net(Text *t, uint32_t seed) {
  int c[10] = {1 + (int)(op_random(&seed) % 24)}, level[10] = {0}, side = 16 + 2 * (int)(op_random(&seed) % 12), n = 1;
  t->n = 0;
  text_addf(t, "graph \"t\" { input %%t0: f32[3,%d,%d,%d] ", c[0], side, side);
  while (n < 10) {
    int i = (int)(op_random(&seed) % (uint32_t)n), k = op_random(&seed) % 3 ? 3 : 1, s = level[i] == 0 && op_random(&seed) % 3 == 0 ? 2 : 1;
    c[n] = 8 + (int)(op_random(&seed) % 40);
    level[n] = level[i] + (s == 2);
    int same = -1;
    for (int j = 0; j < n; j++)
      if (level[j] == level[n]) same = j;
    if (same > 0) c[n] = c[same];
    text_addf(t, "const %%w%d: f32[%d,%d,%d,%d] = opaque 0x%x %%c%d = Conv(%%t%d, %%w%d) {strides=[%d,%d], pads=[%d,%d,%d,%d], dilations=[1,1], group=1} ", n,
              c[n], c[i], k, k, n + 1, n, i, n, s, s, k / 2, k / 2, k / 2, k / 2);
    if (same > 0) text_addf(t, "%%s%d = Add(%%c%d, %%t%d) %%t%d = Relu(%%s%d) ", n, n, same, n, n);
    else text_addf(t, "%%t%d = Relu(%%c%d) ", n, n);
    n++;
  }
  text_addf(t, "output %%t8 output %%t9 }");
  return t->s;
}

/* What is named as the least is enough, and so is whatever is more. */
static void named(void **state) {
  (void)state;
  Arena *a = arena_new(NULL);
  Text t = {.a = a};
  int refused = 0;
  for (uint32_t seed = 115; seed <= 126; seed++) {
    const char *net = random_net(&t, seed * 7919);
    int64_t least = -1, all = compile(net, 0, 1, NULL, &least);
    for (int percent = 99; percent > 40; percent -= 14) {
      int64_t limit = all * percent / 100, bytes = compile(net, limit, 1, NULL, &least);
      assert_true(bytes <= limit);
      if (bytes >= 0) continue;
      refused++;
      for (int64_t more = least; more < all; more += (all - least) / 3 + 1) {
        bytes = compile(net, more, 1, NULL, &limit);
        if (bytes < 0 || bytes > more) fail_msg("seed %u: the least found is %lld, but %lld does not do", seed, (long long)least, (long long)more);
      }
    }
  }
  assert_true(refused > 0);
  arena_free(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(one_thread), cmocka_unit_test(threads), cmocka_unit_test(named)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
