/* pass_share_weights on weights rounded as exporters round them: copies are found at any scale, one wrong element or channel is seen. */
#include "passes/passes.h"
#include "runtime/runtime.h"

#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

enum { K = 20, C = 13, VOLUME = C * 9 };

typedef struct Fixture { Arena *a; Graph *g; Node *first, *second; float *w, *v; float s[K]; } Fixture;

/* Two convolutions; the second's weights are the first's times s, each product rounded, as the first's are of some w0. */
static Fixture fixture(uint64_t seed, int exponents) {
  Rng r = rng_new(seed);
  Fixture f = {.a = arena_new(NULL)};
  f.g = graph_new(f.a, NULL, "test");
  Shape ws = shape_of(4, (int64_t[]){K, C, 3, 3}), xs = shape_of(4, (int64_t[]){1, C, 4, 4});
  f.w = NEW_N(f.a, float, K * VOLUME);
  f.v = NEW_N(f.a, float, K * VOLUME);
  for (int k = 0; k < K; k++) {
    float sw = (float)ldexp(rng_normal(&r), k % (exponents + 1)), sv = (float)ldexp(rng_normal(&r), -(k % (exponents + 1)));
    f.s[k] = sv / sw;
    for (int i = 0; i < VOLUME; i++) {
      float w0 = (float)rng_normal(&r);
      f.w[k * VOLUME + i] = w0 * sw;
      f.v[k * VOLUME + i] = w0 * sv;
    }
  }
  ConvAttr at = {.strides = ints_fill(f.a, 1, 2), .pads = ints_fill(f.a, 1, 4), .dilations = ints_fill(f.a, 1, 2), .group = 1};
  Value *x = graph_add_input(f.g, "x", DT_F32, &xs);
  f.first = graph_make(f.g, NULL, OP_Conv, &at, (Value *[]){x, graph_add_const(f.g, "w", DT_F32, &ws, f.w)}, 2);
  f.second = graph_make(f.g, NULL, OP_Conv, &at, (Value *[]){x, graph_add_const(f.g, "v", DT_F32, &ws, f.v)}, 2);
  graph_add_output(f.g, f.first->out[0]);
  graph_add_output(f.g, f.second->out[0]);
  return f;
}

static bool run(Fixture *f) {
  Ctx c = {.arena = f->a};
  bool changed = pass_share_weights(f->g, &c);
  assert_null(graph_verify(f->g, f->a));
  return changed;
}

static void test_copies(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 60; seed++) {
    Fixture f = fixture(seed, (int)(seed % 40));
    assert_true(run(&f));
    assert_ptr_equal(f.first->in[1], f.second->in[1]);
    assert_int_equal(f.second->ncore, 4);
    const float *scale = f.second->in[3]->data;
    for (int k = 0; k < K; k++) assert_true(fabsf(scale[k] - f.s[k]) <= 1e-6f * fabsf(f.s[k]));
    arena_free(f.a);
  }
}

/* One element that is off by more than rounding, anywhere. */
static void test_wrong_element(void **state) {
  (void)state;
  for (int i = 0; i < K * VOLUME; i += 97) {
    Fixture f = fixture((uint64_t)i, 0);
    f.v[i] *= 1 + 0x1p-20f;
    assert_false(run(&f));
    arena_free(f.a);
  }
}

static void test_special(void **state) {
  (void)state;
  static const float wrong[] = {NAN, INFINITY, -INFINITY, 1e-30f};
  for (int i = 0; i < COUNTOF(wrong); i++) {
    Fixture f = fixture(1, 0);
    f.v[K * VOLUME - 1] = wrong[i];
    assert_false(run(&f));
    arena_free(f.a);
    f = fixture(2, 0);
    f.w[0] = wrong[i];
    assert_false(run(&f));
    arena_free(f.a);
  }
}

/* A channel that is zero in one of them: the other stays. In both: nothing to scale. Each has one of its own: they stay as they are. */
static void test_zero_channels(void **state) {
  (void)state;
  for (int which = 1; which <= 4; which++) {
    Fixture f = fixture((uint64_t)which, 3);
    for (int i = 0; i < VOLUME; i++) {
      if (which != 2) f.w[3 * VOLUME + i] = 0;
      if (which == 2 || which == 3) f.v[3 * VOLUME + i] = 0;
      if (which == 4) f.v[4 * VOLUME + i] = 0;
    }
    assert_int_equal(run(&f), which != 4);
    if (which == 1) assert_ptr_equal(f.first->in[1]->data, f.v);
    if (which == 2) assert_ptr_equal(f.second->in[1]->data, f.w);
    if (which == 1) assert_true(((const float *)f.first->in[3]->data)[3] == 0);
    if (which == 3) assert_true(((const float *)f.second->in[3]->data)[3] == 1);
    arena_free(f.a);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_copies), cmocka_unit_test(test_wrong_element), cmocka_unit_test(test_special),
                                     cmocka_unit_test(test_zero_channels)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
