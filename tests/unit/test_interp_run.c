/* Running programs: several calls and buffers, plans, threads, in-place results; and the mistakes the interpreter is there to find. */
#include "loop_test.h"

/* ---- accesses out of bounds ---- */

/* x and y have 16 elements. */
static void out_of_bounds(const char *body, const char *message) {
  LoopTest t;
  loop_open(&t);
  float x[16] = {0}, y[16] = {0};
  Kernel *k = loop_kernel(
      &t, arena_printf(t.arena, "kernel k7 \"what\" (x: f32 in, y: f32 out, s: f32 scratch 64) range r in 0..1 {\n%s\n}\n", body));
  Status s = loop_try(&t, k, (void *[]){x, y, NULL}, (int64_t[]){sizeof x, sizeof y, 0}, 1);
  if (!message) {
    if (s != SPINEC_OK) fail_msg("%s for %s", loop_message(&t), body);
  } else {
    if (s != SPINEC_ERR_INTERNAL) fail_msg("status %d for %s", (int)s, body);
    assert_non_null(strstr(loop_message(&t), "k7 (what)"));
    if (!strstr(loop_message(&t), message)) fail_msg("'%s' instead of '%s'", loop_message(&t), message);
  }
  loop_close(&t);
}

static void bounds(void **state) {
  (void)state;
  out_of_bounds("for i in 0..16 { store y[i] = load x[i] }", NULL);
  out_of_bounds("for i in 0..17 { store y[0] = load x[i] }", "load from x[16] to [16] is outside its 16 elements");
  out_of_bounds("for i in 0..17 { store y[i] = 1.0 }", "store to y[16] to [16] is outside its 16 elements");
  out_of_bounds("for i in 0..2 { store y[0] = load x[i - 1] }", "load from x[-1] to [-1]");
  out_of_bounds("for i in 0..2 { store y[0] = load.16 x[i] }", "load from x[1] to [16]");
  out_of_bounds("for i in 0..2 { store y[i * 4] = load.16 x[0] }", "store to y[4] to [19]");
  out_of_bounds("for i in 0..14 { store y[0] = load.4 x[i] }", "load from x[13] to [16]");
  out_of_bounds("for i in 0..10 { store y[0] = load.8 x[i] }", "load from x[9] to [16]");
  out_of_bounds("for i in 0..4 { store y[0] = reduce_add(load.32 x[i]) }", "load from x[0] to [31]");
  out_of_bounds("for i in 0..17 { store y[0] = splat.4(load x[i]) }", "load from x[16]");
  out_of_bounds("for i in 12..20 { store y[0] = load.4 x[i first 16 - i] }", NULL);
  out_of_bounds("for i in 12..14 { store y[0] = load.4 x[i first 4] }", "load from x[13] to [16]");
  out_of_bounds("for i in 0..8 { store y[0] = load.4 x[i by 3] }", "load from x[7] to [16]");
  out_of_bounds("for i in 0..8 { store y[0] = load.4 x[8 - i by -2] }", "load from x[5] to [-1]");
  out_of_bounds("for i in 0..8 { store y[i by 3] = load.4 x[0] }", "store to y[7] to [16]");
  out_of_bounds("let n: idx = 9223372036854775807 - r\nstore y[0] = load x[n]", "load from x[9223372036854775807]");
  out_of_bounds("let n: idx = 9223372036854775807 - r\nstore y[0] = load.16 x[n]", "load from x[9223372036854775807]");
  out_of_bounds("let n: idx = 4611686018427387904 + r\nstore y[0] = load.16 x[0 by n]", "load from x[0]");
  out_of_bounds("let n: idx = 0 - 9223372036854775807 - 1 + r\nstore y[0] = load.16 x[n]", "load from x[-9223372036854775808]");
  out_of_bounds("for i in 0..17 { store s[i] = 0.0 }", "store to s[16] to [16] is outside its 16 elements");
  /* Both arms of a select are evaluated, neither branch of an if that is not taken. */
  out_of_bounds("for i in 0..17 { store y[0] = select(i < 16, load x[i], 0.0) }", "load from x[16]");
  out_of_bounds("for i in 0..17 { if i < 16 { store y[0] = load x[i] } }", NULL);
}

/* Elements of every size. */
static void bounds_by_type(void **state) {
  (void)state;
  static const DType types[] = {DT_F32, DT_F64, DT_I8, DT_U8, DT_I16, DT_U16, DT_I32, DT_U32, DT_I64, DT_U64, DT_BOOL};
  for (int i = 0; i < COUNTOF(types); i++) {
    for (int n = 8; n <= 9; n++) {
      LoopTest t;
      loop_open(&t);
      _Alignas(8) char x[72], y[72];
      for (int j = 0; j < 72; j++) x[j] = (char)(types[i] == DT_BOOL ? j & 1 : j);
      memset(y, 99, sizeof y);
      const char *name = dt_name(types[i]);
      Kernel *k = loop_kernel(
          &t, arena_printf(t.arena, "kernel k \"\" (x: %s in, y: %s out) range r in 0..1 { for i in 0..%d { store y[i] = load x[i] } }",
                           name, name, n));
      int64_t bytes = 8 * (int64_t)dt_size(types[i]);
      assert_int_equal(loop_try(&t, k, (void *[]){x, y}, (int64_t[]){bytes, bytes}, 1), n == 8 ? SPINEC_OK : SPINEC_ERR_INTERNAL);
      assert_memory_equal(x, y, (size_t)bytes);
      assert_int_equal(y[bytes], 99);
      loop_close(&t);
    }
  }
}

/* ---- control ---- */

static void control(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  float x[16], y[16];
  for (int i = 0; i < 16; i++) x[i] = (float)i, y[i] = -1;
  /* Bounds are taken once, before the loop; registers live on from turn to turn. */
  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..1 {\n"
                              "  reg n: idx = 3\n"
                              "  reg a: f32 = 0.0\n"
                              "  for i in n - 3..n {\n"
                              "    n = n + 1\n"
                              "    a = a + load x[n]\n"
                              "  }\n"
                              "  store y[0] = a\n"
                              "  store y[1] = cast.f32(n)\n"
                              "  let before: idx = n\n"
                              "  n = 0\n"
                              "  store y[2] = cast.f32(before)\n"
                              "  reg c: i32 = 0\n"
                              "  while c * c < 50 {\n"
                              "    c = c + 1\n"
                              "    if c % 2 == 0 {\n"
                              "      n = n + 1\n"
                              "    } else {\n"
                              "      if c == 5 {\n"
                              "        n = n + 100\n"
                              "      }\n"
                              "    }\n"
                              "  }\n"
                              "  store y[3] = cast.f32(c)\n"
                              "  store y[4] = cast.f32(n)\n"
                              "  for i1 in 5..5 { store y[5] = 0.0 }\n"
                              "  for i2 in 7..5 { store y[5] = 0.0 }\n"
                              "  for i3 in 6..11 step 3 { store y[i3] = 7.0 }\n"
                              "}\n");
  loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);
  const float want[] = {4 + 5 + 6, 6, 6, 8, 104, -1, 7, -1, -1, 7, -1};
  for (int i = 0; i < COUNTOF(want); i++) {
    if (y[i] != want[i]) fail_msg("element %d is %g, not %g", i, y[i], want[i]);
  }
  loop_close(&t);
}

/* Without a range the body runs once; a range of 0 not at all. */
static void ranges(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  float y[4] = {0};
  Kernel *k = loop_kernel(&t, "kernel k \"\" (y: f32 inout) { store y[0] = load y[0] + 1.0 }");
  loop_run(&t, k, (void *[]){y}, (int64_t[]){sizeof y}, 1);
  assert_true(y[0] == 1);
  k = loop_kernel(&t, "kernel k \"\" (y: f32 inout) range r in 0..0 { store y[r] = 9.0 }");
  loop_run(&t, k, (void *[]){y}, (int64_t[]){sizeof y}, 1);
  assert_true(y[0] == 1);
  loop_close(&t);
}

/* ---- programs ---- */

static const char net[] =
    "program \"net\" from \"net.onnx\"\nthreads 3\nworkspace %d live 0 weights 0\nmacs 0 params 0\n"
    "input \"x\" f32 [64]\noutput \"y\" f32 [64]\noutput \"sum\" f32 [1]\nweight \"w\" \"dense\" bytes 256 offset 0\n"
    "buffer b0 input 0 bytes 256\nbuffer b1 output 0 bytes 256\nbuffer b2 output 1 bytes 4\nbuffer b3 weight 0 bytes 256\n"
    "buffer b4 arena bytes 256 offset 0 live 0..1\nbuffer b5 scratch bytes 64 offset 256 stride 64 live 0..0\nbuffer b6 arena bytes 256 "
    "offset 0 live 1..2\n"
    "kernel k0 \"\" (x: f32 in, w: f32 const, y: f32 out, s: f32 scratch 64) range r in 0..4 {\n"
    "  for i in 0..16 { store s[i] = load x[r * 16 + i] * load w[r * 16 + i] }\n"
    "  store y[r * 16] = load.16 s[0]\n}\n"
    "kernel k1 \"\" (x: f32 in alias, y: f32 out alias) range r in 0..4 { store y[r * 16] = load.16 x[r * 16] + 1.0 }\n"
    "kernel k2 \"\" (x: f32 in, y: f32 out) range r in 0..1 {\n  reg a: f32x16 = 0.0\n  for i in 0..4 { a = a + load.16 x[i * 16] }\n  "
    "store y[0] = reduce_add(a)\n}\n"
    "call k0(b0, b3, b4, b5)\ncall k1(b4, b6)\ncall k1(b6, b1)\ncall k2(b1, b2)\n";

static void program(void **state) {
  (void)state;
  for (int planned = 0; planned < 2; planned++) {
    for (int threads = 1; threads <= 4; threads++) {
      LoopTest t;
      loop_open(&t);
      Program *p = program_parse(t.arena, t.diag, "net", arena_printf(t.arena, net, planned ? 448 : 0), &t.target);
      if (!p) fail_msg("%s", loop_message(&t));
      float x[64], y[64], w[64], sum;
      for (int i = 0; i < 64; i++) x[i] = (float)i * 0.25f;
      p->weights.at[0].fill(p->weights.at[0].ctx, w);
      Runner *r = interp_open(p, threads, t.diag);
      if (!r) fail_msg("%s", loop_message(&t));
      double ns[4] = {-1, -1, -1, -1};
      for (int round = 0; round < 3; round++) {
        memset(y, 0, sizeof y);
        const void *in[] = {x};
        void *out[] = {y, &sum};
        assert_int_equal(round == 2 ? r->profile(r, in, out, ns, t.diag) : r->run(r, in, out, t.diag), SPINEC_OK);
        for (int i = 0; i < 64; i++) assert_true(y[i] == x[i] * w[i] + 1 + 1);
        float half[16];
        for (int i = 0; i < 16; i++) half[i] = ((y[i] + y[i + 16]) + y[i + 32]) + y[i + 48];
        for (int n = 8; n; n /= 2)
          for (int i = 0; i < n; i++) half[i] += half[i + n];
        assert_true(sum == half[0]);
      }
      for (int i = 0; i < 4; i++) assert_true(ns[i] >= 0);
      r->close(r);
      loop_close(&t);
    }
  }
}

/* Iterations that read what others wrote give other results when the range is split: the parts run last first. */
static void split_shows_dependence(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Kernel *k = loop_kernel(&t, "kernel k \"\" (y: f32 inout) range r in 0..4 { if r > 0 { store y[r] = load y[r - 1] + 1.0 } }");
  float a[4] = {0}, b[4] = {0};
  loop_run(&t, k, (void *[]){a}, (int64_t[]){sizeof a}, 1);
  loop_run(&t, k, (void *[]){b}, (int64_t[]){sizeof b}, 4);
  assert_true(a[3] == 3 && b[3] == 1);
  loop_close(&t);
}

/* Where assertions are on, reading what nothing wrote gives NaN. */
static void poison(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Kernel *k = loop_kernel(&t, "kernel k \"\" (y: f32 out, s: f32 scratch 64) range r in 0..2 {\n"
                              "  store y[r] = load s[3]\n"
                              "  store s[3] = 1.0\n"
                              "}\n");
  float y[2] = {0};
  loop_run(&t, k, (void *[]){y, NULL}, (int64_t[]){sizeof y, 0}, 1);
#ifndef NDEBUG
  float probe[1] = {0};
  Kernel *one = loop_kernel(&t, "kernel k \"\" (y: f32 out, s: f32 scratch 64) range r in 0..1 { store y[0] = load s[0] }");
  loop_run(&t, one, (void *[]){probe, NULL}, (int64_t[]){sizeof probe, 0}, 1);
  if (isnan(probe[0])) assert_true(isnan(y[0]) && isnan(y[1]));   /* else the library was built without assertions */
#endif
  loop_close(&t);
}

/* Programs that are not valid are not run. */
static void invalid(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..4 { store y[r] = load x[r] }");
  k->body.first->e->type.dt = DT_F64;
  float x[4] = {0}, y[4];
  assert_int_equal(loop_try(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1), SPINEC_ERR_INTERNAL);
  assert_non_null(strstr(loop_message(&t), "the program is not valid: kernel k"));
  loop_close(&t);
}

/* A hoisted value must survive code of the loops it left (slots are shared). */
static void slots(void **state) {
  (void)state;
  LoopTest t;
  loop_open(&t);
  float x[64], y[64];
  for (int i = 0; i < 64; i++) x[i] = (float)i;
  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..4 {\n"
                              "  for i in 0..4 {\n"
                              "    reg a: f32 = load x[r * 16 + i] * 2.0 + load x[i]\n"
                              "    for j in 0..4 {\n"
                              "      a = a + load x[j] * (load x[j + 1] - load x[r]) + load x[r * 7 / 2 + i % 3]\n"
                              "    }\n"
                              "    store y[r * 16 + i * 4] = splat.4(a) + load.4 x[r * 7 / 2 + i % 3]\n"
                              "  }\n"
                              "}\n");
  loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 2);
  for (int r = 0; r < 4; r++)
    for (int i = 0; i < 4; i++) {
      float a = x[r * 16 + i] * 2 + x[i];
      for (int j = 0; j < 4; j++) a = a + x[j] * (x[j + 1] - x[r]) + x[r * 7 / 2 + i % 3];
      for (int l = 0; l < 4; l++) assert_true(y[r * 16 + i * 4 + l] == a + x[r * 7 / 2 + i % 3 + l]);
    }
  loop_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bounds), cmocka_unit_test(bounds_by_type), cmocka_unit_test(control),
      cmocka_unit_test(ranges), cmocka_unit_test(program),        cmocka_unit_test(split_shows_dependence),
      cmocka_unit_test(poison), cmocka_unit_test(invalid),        cmocka_unit_test(slots),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
