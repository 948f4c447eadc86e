/* Convolutions of one tensor computed by Winograd's method in one kernel: against plain, and bit for bit what kernels of their own and one
 * thread compute. A seeded sweep over sizes, channels, bodies, layouts of results, batches, tiles, vector widths and threads; half of the
 * cases are a head: two images whose convolutions share weights, scaled apart. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compiled.h"

enum { CASES = 140, NODES = 4, MOST = 1 << 18 };

typedef struct Case {
  int64_t n, c, h, w, k[NODES], pad[4], group;
  int nodes, body[NODES], wide;          /* wide: channels of the tensor x is made of, which is larger than all that is alive later */
  bool head, bias[NODES], scale[NODES], inside[NODES];   /* inside: read blocked by another convolution */
  TestCompile o;
} Case;

static const char *describe(const Case *c) {
  static char s[600];
  int at = snprintf(s, sizeof s, "n%d c%d %dx%d group %d pads %d,%d,%d,%d%s F(%d) lanes %d vregs %d threads %d l2 %d:", (int)c->n, (int)c->c, (int)c->h, (int)c->w,
                    (int)c->group, (int)c->pad[0], (int)c->pad[1], (int)c->pad[2], (int)c->pad[3], c->head ? " head" : "", c->o.winograd, c->o.lanes, c->o.vregs,
                    c->o.threads, (int)c->o.l2);
  for (int i = 0; i < c->nodes; i++)
    at += snprintf(s + at, sizeof s - (size_t)at, " [k%d%s%s%s body %d]", (int)c->k[i], c->bias[i] ? " bias" : "", c->scale[i] ? " scale" : "",
                   c->inside[i] ? " inside" : "", c->body[i]);
  return s;
}

static Value *body(Graph *g, Rng *r, Value *y, int kind) {
  if (kind == 1) return graph_make(g, NULL, OP_Relu, NULL, &y, 1)->out[0];
  if (kind == 2) {
    Value *s = graph_make(g, NULL, OP_Sigmoid, NULL, &y, 1)->out[0];
    return graph_make(g, NULL, OP_Mul, NULL, (Value *[]){y, s}, 2)->out[0];
  }
  if (kind == 3) {
    y = graph_make(g, NULL, OP_Tanh, NULL, &y, 1)->out[0];
    return graph_make(g, NULL, OP_Add, NULL, (Value *[]){y, test_const(g, r, 0, NULL, 1)}, 2)->out[0];
  }
  return y;
}

/* The convolutions of one image. */
static bool level(Graph *g, Rng *r, const Case *c, Value *x, Value *const *w, bool scaled) {
  ConvAttr at = {.strides = ints_fill(g->arena, 1, 2), .pads = ints_copy(g->arena, c->pad, 4), .dilations = ints_fill(g->arena, 1, 2), .group = c->group};
  for (int i = 0; i < c->nodes; i++) {
    Value *in[4] = {x, w[i], c->bias[i] ? test_const(g, r, 1, &c->k[i], 1) : NULL, scaled || c->scale[i] ? test_const(g, r, 1, &c->k[i], 1) : NULL};
    Node *n = graph_make(g, NULL, OP_Conv, &at, in, 4);
    if (!n) return false;
    Value *y = body(g, r, n->out[0], c->body[i]);
    graph_add_output(g, c->inside[i] ? test_one_by_one(g, r, y, 7) : y);
  }
  return true;
}

static Graph *build(Arena *a, Diag *d, const void *of, uint64_t seed) {
  const Case *c = of;
  Rng r = rng_new(seed);
  Graph *g = graph_new(a, d, "test");
  Value *w[NODES];
  for (int i = 0; i < c->nodes; i++) w[i] = test_const(g, &r, 4, (int64_t[]){c->k[i], c->c / c->group, 3, 3}, 1 / sqrt(9.0 * (double)(c->c / c->group)));
  for (int i = 0; i <= c->head; i++) {
    Shape xs = shape_of(4, (int64_t[]){c->n, 3, c->h - 3 * i, c->w - 2 * i});
    Value *x = test_one_by_one(g, &r, graph_add_input(g, i ? "x1" : "x0", DT_F32, &xs), c->wide);
    x = test_one_by_one(g, &r, graph_make(g, NULL, OP_Relu, NULL, &x, 1)->out[0], c->c);
    if (!level(g, &r, c, x, w, i)) return NULL;
  }
  return g;
}

static Case random_case(Rng *r) {
  static const int64_t channels[] = {20, 41, 83, 16, 64, 32};
  static const int lanes[] = {4, 8, 16}, vregs[] = {16, 32}, l2[] = {1, 64 << 10, 1 << 20}, tiles[] = {2, 4, 5, 6, 0};
  Case c = {.n = test_pick(r, 1, 2), .c = channels[rng_below(r, 6)], .h = test_pick(r, 6, 21), .w = test_pick(r, 6, 21), .nodes = (int)test_pick(r, 2, NODES),
            .head = rng_below(r, 2), .group = 1,
            .o = {.level = 2, .lanes = lanes[rng_below(r, 3)], .vregs = vregs[rng_below(r, 2)], .threads = (int)test_pick(r, 1, 4), .l2 = l2[rng_below(r, 3)],
                  .winograd = tiles[rng_below(r, 5)]}};
  for (int i = 0; i < 4; i++) c.pad[i] = rng_below(r, 3) ? 1 : test_pick(r, 0, 2);
  if (rng_below(r, 12) == 0 && c.c % 2 == 0) c.group = 2;
  for (int i = 0; i < c.nodes; i++) {
    /* Those that move have to find room where the tensor was; the first may be large. */
    c.k[i] = c.group * (i == 0 && rng_below(r, 3) == 0 ? test_pick(r, 40, 150) : test_pick(r, 1, MAXI(1, c.c / (c.nodes + 1))));
    c.wide += (int)c.k[i];
    c.bias[i] = rng_below(r, 2);
    c.scale[i] = rng_below(r, 2);
    c.inside[i] = rng_below(r, 2);
    c.body[i] = (int)test_pick(r, 0, 3);
  }
  c.wide *= 2;   /* pads may make results larger than the image */
  return c;
}

static void test_sweep(void **state) {
  (void)state;
  static float x[MOST], plain[MOST], apart[MOST], got[MOST], again[MOST];
  spinec_tensor t = {.dtype = SPINEC_F32, .rank = 1, .dims = {MOST}, .data = x};
  random_fill(&t, 1);
  Rng r = rng_new(31);
  int64_t joined = 0, heads = 0, chosen = 0;
  for (int i = 0; i < CASES; i++) {
    Case c = random_case(&r);
    const char *about = describe(&c);
    TestCompile o = c.o, o0 = {.threads = 1}, oa = o, o1 = o;
    oa.disable = "horizontal";
    o1.threads = 1;
    int64_t n = test_run(build, &c, (uint64_t)i, o0, x, plain, MOST, "", NULL, about), calls = 0, none = 0;
    assert_int_equal(n, test_run(build, &c, (uint64_t)i, oa, x, apart, MOST, " joined ", &none, about));
    assert_int_equal(n, test_run(build, &c, (uint64_t)i, o, x, got, MOST, ") joined ", &calls, about));
    assert_int_equal(n, test_run(build, &c, (uint64_t)i, o1, x, again, MOST, "", NULL, about));
    assert_int_equal(none, 0);
    if (c.group > 1) assert_int_equal(calls, 0);
    joined += calls;
    heads += calls && c.head;
    chosen += calls && !o.winograd;
    double error = test_error(plain, got, n);
    if (!(error <= 2e-4)) fail_msg("%s: error %g", about, error);
    /* Where the tile may be chosen, other results may be worth another one when the input is transformed for all. */
    if (o.winograd && memcmp(apart, got, (size_t)n * 4)) fail_msg("%s: not what kernels of their own compute", about);
    if (memcmp(again, got, (size_t)n * 4)) fail_msg("%s: not what one thread computes", about);
  }
  assert_true(joined > 80);
  assert_true(heads > 30);
  assert_true(chosen > 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
