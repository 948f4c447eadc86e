/* A convolution and the window that alone reads it, in one kernel, against apart (the same to the bit) and plain, all run by the
 * interpreter, over a seeded sweep of geometries, channels, bodies, readers, layouts, batches, vector widths, caches and threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "compiled.h"

enum { MOST = 1 << 19, CASES = 450 };

typedef enum { MAXIMUM, AVERAGE, DEPTHWISE, READERS } Reader;

typedef struct Window { int64_t kh, kw, sh, sw, dh, dw, pad[4]; } Window;

typedef struct Case {
  int64_t n, c, h, w, k;
  Window conv, window;
  Reader reader;
  bool plain, residual, bias, mean, inside, include_pad;   /* plain: the input is; inside: the result is read blocked */
  int64_t last;            /* channels of a 1x1 convolution of the window's result; 0: there is none */
  bool again;              /* to which the input is added */
  int body, body2;
  TestCompile o;
} Case;

static const char *describe(const Case *c) {
  static char s[500];
  static const char *readers[] = {"maximum", "average", "depthwise"};
  int at = snprintf(s, sizeof s, "n%d c%d %dx%d k%d %s%s%s%s%s%s last %d%s body %d %d lanes %d vregs %d threads %d l2 %d", (int)c->n, (int)c->c, (int)c->h, (int)c->w,
                    (int)c->k, readers[c->reader], c->plain ? " plain" : "", c->residual ? " residual" : "", c->bias ? " bias" : "", c->mean ? " mean" : "",
                    c->inside ? " inside" : "", (int)c->last, c->again ? " again" : "", c->body, c->body2, c->o.lanes, c->o.vregs, c->o.threads, (int)c->o.l2);
  for (int i = 0; i < 2; i++) {
    const Window *v = i ? &c->window : &c->conv;
    at += snprintf(s + at, sizeof s - (size_t)at, " [%dx%d/%dx%d dil %dx%d pads %d,%d,%d,%d]", (int)v->kh, (int)v->kw, (int)v->sh, (int)v->sw, (int)v->dh,
                   (int)v->dw, (int)v->pad[0], (int)v->pad[1], (int)v->pad[2], (int)v->pad[3]);
  }
  return s;
}

static Value *body(Graph *g, Rng *r, Value *y, int kind) {
  if (kind == 1) return graph_make(g, NULL, OP_Relu, NULL, &y, 1)->out[0];
  if (kind == 2) return graph_make(g, NULL, OP_Sigmoid, NULL, &y, 1)->out[0];   /* not zero where channels end */
  if (kind == 3) return graph_make(g, NULL, OP_Mul, NULL, (Value *[]){y, test_const(g, r, 3, (int64_t[]){y->shape.d[1].n, 1, 1}, 1)}, 2)->out[0];
  return y;
}

static Value *conv(Graph *g, Rng *r, const Window *v, Value *x, int64_t k, int64_t group, bool bias) {
  Arena *a = g->arena;
  int64_t c = x->shape.d[1].n / group;
  ConvAttr at = {.strides = ints_copy(a, (int64_t[]){v->sh, v->sw}, 2), .pads = ints_copy(a, v->pad, 4),
                 .dilations = ints_copy(a, (int64_t[]){v->dh, v->dw}, 2), .group = group};
  Value *w = test_const(g, r, 4, (int64_t[]){k, c, v->kh, v->kw}, 1 / sqrt((double)(c * v->kh * v->kw)));
  Node *n = graph_make(g, NULL, OP_Conv, &at, (Value *[]){x, w, bias ? test_const(g, r, 1, &k, 1) : NULL}, 3);
  return n ? n->out[0] : NULL;
}

static Value *pool(Graph *g, const Case *c, Value *y) {
  const Window *v = &c->window;
  Arena *a = g->arena;
  PoolAttr at = {.kernel = ints_copy(a, (int64_t[]){v->kh, v->kw}, 2), .strides = ints_copy(a, (int64_t[]){v->sh, v->sw}, 2), .pads = ints_copy(a, v->pad, 4),
                 .dilations = ints_fill(a, 1, 2), .count_include_pad = c->include_pad};
  Node *n = graph_make(g, NULL, c->reader == MAXIMUM ? OP_MaxPool : OP_AveragePool, &at, &y, 1);
  return n ? n->out[0] : NULL;
}

static Graph *build(Arena *a, Diag *d, const void *of, uint64_t seed) {
  const Case *c = of;
  Rng r = rng_new(seed);
  Graph *g = graph_new(a, d, "test");
  Shape xs = shape_of(4, (int64_t[]){c->n, c->c, c->h, c->w});
  Value *x = graph_add_input(g, "x", DT_F32, &xs);
  if (!c->plain) x = test_one_by_one(g, &r, x, c->c);
  Value *y = conv(g, &r, &c->conv, x, c->k, 1, c->bias);
  if (!y) return NULL;
  if (c->residual) {
    Value *other = test_one_by_one(g, &r, graph_add_input(g, "r", DT_F32, &y->shape), c->k);
    y = graph_make(g, NULL, OP_Add, NULL, (Value *[]){y, other}, 2)->out[0];
  }
  y = body(g, &r, y, c->body);
  y = c->reader == DEPTHWISE ? conv(g, &r, &c->window, y, c->k, c->k, c->bias) : pool(g, c, y);
  if (!y) return NULL;
  y = body(g, &r, y, c->body2);
  if (c->last) y = test_one_by_one(g, &r, y, c->last);
  if (c->again) {
    y = graph_make(g, NULL, OP_Add, NULL, (Value *[]){y, x}, 2)->out[0];
    y = body(g, &r, y, 1);
  }
  ReduceAttr mean = {.axes = ints_copy(a, (int64_t[]){2, 3}, 2), .keepdims = true};
  if (c->mean) graph_add_output(g, graph_make(g, NULL, OP_ReduceMean, &mean, &y, 1)->out[0]);
  graph_add_output(g, c->inside ? test_one_by_one(g, &r, y, 7) : y);
  return g;
}

static Window random_window(Rng *r, int64_t kernel, int64_t stride, bool dilated) {
  Window v = {test_pick(r, 1, kernel), test_pick(r, 1, kernel), test_pick(r, 1, stride), test_pick(r, 1, stride), 1, 1, {0}};
  if (dilated && rng_below(r, 4) == 0) v.dh = test_pick(r, 1, 2), v.dw = test_pick(r, 1, 2);
  for (int i = 0; i < 4; i++) v.pad[i] = rng_below(r, 2) ? test_pick(r, 0, (i % 2 ? v.kw : v.kh) - 1) : 0;
  return v;
}

static Case random_case(Rng *r) {
  static const int lanes[] = {4, 8, 16}, vregs[] = {16, 32}, l2[] = {64 << 10, 256 << 10, 1 << 20};
  Case c = {.n = test_pick(r, 1, 2), .c = test_pick(r, 1, rng_below(r, 3) ? 8 : 40), .h = test_pick(r, 6, 40), .w = test_pick(r, 17, 44),
            .k = test_pick(r, 2, rng_below(r, 3) ? 40 : 130), .reader = (Reader)rng_below(r, READERS), .plain = rng_below(r, 3) == 0,
            .residual = rng_below(r, 4) == 0, .bias = rng_below(r, 2), .mean = rng_below(r, 3) == 0, .inside = rng_below(r, 2), .include_pad = rng_below(r, 2),
            .body = (int)test_pick(r, 0, 3), .body2 = (int)test_pick(r, 0, 3),
            .o = {.level = 2, .lanes = lanes[rng_below(r, 3)], .vregs = vregs[rng_below(r, 2)], .threads = (int)test_pick(r, 1, 3), .l2 = l2[rng_below(r, 3)]}};
  c.conv = rng_below(r, 2) ? random_window(r, 5, 2, true) : (Window){1, 1, 1, 1, 1, 1, {0}};
  c.window = random_window(r, 4, 3, c.reader == DEPTHWISE);
  if (rng_below(r, 3) == 0) c.window = (Window){3, 3, 2, 2, 1, 1, {1, 1, 1, 1}};
  if (rng_below(r, 3)) c.last = test_pick(r, 1, 50);
  if (rng_below(r, 6) == 0) {   /* a block with a shortcut */
    c.window = (Window){3, 3, 1, 1, 1, 1, {1, 1, 1, 1}};
    c.conv = (Window){1, 1, 1, 1, 1, 1, {0}};
    c.last = c.c;
    c.again = true;
  }
  return c;
}

static bool possible(const Case *c) {
  int64_t size[2] = {c->h, c->w};
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < 2; k++) {
      const Window *v = k ? &c->window : &c->conv;
      size[i] += (i ? v->pad[1] + v->pad[3] : v->pad[0] + v->pad[2]) - ((i ? v->kw : v->kh) - 1) * (i ? v->dw : v->dh) - 1;
      if (size[i] < 0) return false;
      size[i] = size[i] / (i ? v->sw : v->sh) + 1;
    }
  return true;
}

static void test_sweep(void **state) {
  (void)state;
  static float x[MOST], plain[MOST], apart[MOST], got[MOST], again[MOST];
  spinec_tensor t = {.dtype = SPINEC_F32, .rank = 1, .dims = {MOST}, .data = x};
  random_fill(&t, 1);
  Rng r = rng_new(23);
  int64_t streams[READERS] = {0}, with_mean = 0, three = 0, shortcuts = 0;
  for (int i = 0; i < CASES; i++) {
    Case c = random_case(&r);
    if (!possible(&c)) continue;
    const char *about = describe(&c);
    TestCompile o = c.o, o0 = {.threads = 1}, oa = o, o1 = o;
    oa.disable = "stream";
    o1.threads = 1;
    int64_t n = test_run(build, &c, (uint64_t)i, o0, x, plain, MOST, "", NULL, about), calls = 0, none = 0;
    assert_int_equal(n, test_run(build, &c, (uint64_t)i, oa, x, apart, MOST, " + ", &none, about));
    assert_int_equal(n, test_run(build, &c, (uint64_t)i, o, x, got, MOST, " + ", &calls, about));
    assert_int_equal(n, test_run(build, &c, (uint64_t)i, o1, x, again, MOST, "", NULL, about));
    assert_int_equal(none, 0);
    streams[c.reader] += calls;
    with_mean += calls && c.mean && !c.last && c.reader == DEPTHWISE;
    int64_t longer = 0;
    test_run(build, &c, (uint64_t)i, o, x, got, MOST, " + conv1x1", &longer, about);
    three += longer;
    shortcuts += longer && c.again;
    double error = test_error(plain, got, n);
    if (!(error <= 2e-5)) fail_msg("%s: error %g", about, error);
    /* A mean may be added up in another order. */
    int64_t means = c.mean ? c.n * (c.last ? c.last : c.k) : 0;
    if (memcmp(apart + means, got + means, (size_t)(n - means) * 4)) fail_msg("%s: not what two kernels compute", about);
    if (memcmp(again + means, got + means, (size_t)(n - means) * 4)) fail_msg("%s: not what one thread computes", about);
  }
  for (int i = 0; i < READERS; i++) assert_true(streams[i] > 30);
  assert_true(with_mean > 4 && three > 100 && shortcuts > 12);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
