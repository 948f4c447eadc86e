/* Convolutions of one tensor, joined in one kernel, against apart and plain, both run by the interpreter, over a seeded sweep of
 * geometries, channels, bodies, layouts of input and results, batches, vector widths and threads. */
#include "backend/backend.h"
#include "passes/passes.h"
#include "runtime/runtime.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NODES = 5, MOST = 1 << 17 };

typedef struct Case {
  int64_t n, c, h, w, k[NODES], kernel, stride, pad[4], dil;
  int nodes, lanes, vregs, threads;
  int64_t l2;
  bool plain, bias[NODES], scale[NODES], inside[NODES];   /* inside: read blocked by another convolution */
  int body[NODES];
} Case;

static const char *describe(const Case *c) {
  static char s[500];
  int at = snprintf(s, sizeof s, "n%d c%d %dx%d kernel %d/%d dil %d pads %d,%d,%d,%d%s lanes %d vregs %d threads %d l2 %d:",
                    (int)c->n, (int)c->c, (int)c->h, (int)c->w, (int)c->kernel, (int)c->stride, (int)c->dil, (int)c->pad[0], (int)c->pad[1], (int)c->pad[2],
                    (int)c->pad[3], c->plain ? " plain" : "", c->lanes, c->vregs, c->threads, (int)c->l2);
  for (int i = 0; i < c->nodes; i++)
    at += snprintf(s + at, sizeof s - (size_t)at, " [k%d%s%s%s body %d]", (int)c->k[i], c->bias[i] ? " bias" : "",
                   c->scale[i] ? " scale" : "", c->inside[i] ? " inside" : "", c->body[i]);
  return s;
}

static Value *random_const(Graph *g, Rng *r, int rank, const int64_t *dims, double gain) {
  Shape s = shape_of(rank, dims);
  int64_t n = shape_count(&s);
  float *d = NEW_N(g->arena, float, n + 1);
  for (int64_t i = 0; i < n; i++) d[i] = (float)(rng_normal(r) * gain);
  return graph_add_const(g, NULL, DT_F32, &s, d);
}

static Value *one_by_one(Graph *g, Rng *r, Value *x, int64_t k) {
  ConvAttr a = {.strides = ints_fill(g->arena, 1, 2), .pads = ints_fill(g->arena, 0, 4), .dilations = ints_fill(g->arena, 1, 2),
                .group = 1};
  int64_t c = x->shape.d[1].n;
  Value *w = random_const(g, r, 4, (int64_t[]){k, c, 1, 1}, 1 / sqrt((double)c));
  return graph_make(g, NULL, OP_Conv, &a, (Value *[]){x, w}, 2)->out[0];
}

static Value *body(Graph *g, Rng *r, Value *y, int kind) {
  if (kind == 1) return graph_make(g, NULL, OP_Relu, NULL, &y, 1)->out[0];
  if (kind == 2) {
    Value *s = graph_make(g, NULL, OP_Sigmoid, NULL, &y, 1)->out[0];
    return graph_make(g, NULL, OP_Mul, NULL, (Value *[]){y, s}, 2)->out[0];
  }
  if (kind == 3) {
    y = graph_make(g, NULL, OP_Relu, NULL, &y, 1)->out[0];
    int64_t k = y->shape.d[1].n;
    return graph_make(g, NULL, OP_Mul, NULL, (Value *[]){y, random_const(g, r, 3, (int64_t[]){k, 1, 1}, 1)}, 2)->out[0];
  }
  return y;
}

static Graph *build(Arena *a, Diag *d, const Case *c, uint64_t seed) {
  Rng r = rng_new(seed);
  Graph *g = graph_new(a, d, "test");
  Shape xs = shape_of(4, (int64_t[]){c->n, c->c, c->h, c->w});
  Value *x = graph_add_input(g, "x", DT_F32, &xs);
  if (!c->plain) x = one_by_one(g, &r, x, c->c);
  ConvAttr at = {.strides = ints_fill(a, c->stride, 2), .pads = ints_copy(a, c->pad, 4), .dilations = ints_fill(a, c->dil, 2), .group = 1};
  for (int i = 0; i < c->nodes; i++) {
    double gain = 1 / sqrt((double)(c->c * c->kernel * c->kernel));
    Value *w = random_const(g, &r, 4, (int64_t[]){c->k[i], c->c, c->kernel, c->kernel}, gain);
    Value *in[4] = {x, w, c->bias[i] ? random_const(g, &r, 1, &c->k[i], 1) : NULL,
                    c->scale[i] ? random_const(g, &r, 1, &c->k[i], 1) : NULL};
    Node *n = graph_make(g, NULL, OP_Conv, &at, in, 4);
    if (!n) return NULL;
    Value *y = body(g, &r, n->out[0], c->body[i]);
    if (c->inside[i]) y = one_by_one(g, &r, y, 7);
    graph_add_output(g, y);
  }
  return g;
}

static int64_t joined, shared;   /* calls of kernels of several convolutions; cases with such calls */

static void run(const Case *c, uint64_t seed, int level, const float *x, float *out, int64_t *count) {
  Fail fail;
  Diag *d = spinec_diagnostics_new();
  if (!FAIL_ARM(&fail, d)) fail_msg("%s: left through Fail: %s", describe(c), spinec_diagnostics_text(d, 0));
  Arena *a = arena_new(&fail);
  Graph *g = build(a, d, c, seed);
  if (!g) fail_msg("%s: %s", describe(c), spinec_diagnostics_text(d, 0));
  Target t = *target_find("x86-64-v4");
  t.lanes = c->lanes;
  t.vregs = c->vregs;
  t.l2 = c->l2;
  spinec_compile_options o = spinec_compile_options_default();
  o.opt_level = level;
  o.max_threads = c->threads;
  Ctx ctx = {.arena = a, .diag = d, .target = &t, .opt = &o, .eval = interp_eval};
  bool stopped = false;
  Program *p = passes_run(g, &ctx, &stopped);
  if (!p) fail_msg("%s: %s", describe(c), spinec_diagnostics_text(d, 0));
  const char *wrong = program_verify(p, a);
  if (wrong) fail_msg("%s: %s", describe(c), wrong);
  for (int i = 0; i < p->calls.n; i++) joined += strstr(p->calls.at[i].kernel->what, "joined") != NULL;
  void *outs[NODES];
  *count = 0;
  for (int i = 0; i < p->outputs.n; i++) {
    outs[i] = out + *count;
    *count += shape_count(&p->outputs.at[i].shape);
  }
  assert_true(*count <= MOST);
  Runner *runner = interp_open(p, c->threads, d);
  if (!runner || runner->run(runner, (const void *[]){x}, outs, d)) fail_msg("%s: %s", describe(c), spinec_diagnostics_text(d, 0));
  runner->close(runner);
  arena_free(a);
  spinec_diagnostics_free(d);
}

static int64_t pick(Rng *r, int64_t lo, int64_t hi) { return lo + rng_below(r, hi - lo + 1); }

static Case random_case(Rng *r) {
  static const int lanes[] = {4, 8, 16}, vregs[] = {16, 32};
  Case c = {.n = pick(r, 1, 2), .c = pick(r, 1, 110), .h = pick(r, 5, 15), .w = pick(r, 5, 17), .nodes = (int)pick(r, 2, NODES),
            .stride = 1, .kernel = 1, .dil = 1, .lanes = lanes[rng_below(r, 3)], .vregs = vregs[rng_below(r, 2)], .l2 = rng_below(r, 2) ? 1 : 8192,
            .threads = (int)pick(r, 1, 3), .plain = rng_below(r, 4) == 0};
  if (rng_below(r, 2)) {
    c.kernel = pick(r, 1, 3);
    c.stride = c.kernel == 3 ? 2 : pick(r, 1, 2);
    c.dil = pick(r, 1, 2);
    for (int i = 0; i < 4; i++) c.pad[i] = pick(r, 0, 2);
  }
  for (int i = 0; i < c.nodes; i++) {
    c.k[i] = pick(r, 1, rng_below(r, 4) ? 30 : 70);
    c.bias[i] = rng_below(r, 2);
    c.scale[i] = rng_below(r, 2);
    c.inside[i] = rng_below(r, 3) > 0;
    c.body[i] = (int)pick(r, 0, 3);
  }
  return c;
}

static void test_sweep(void **state) {
  (void)state;
  static float x[MOST], want[MOST], got[MOST];
  spinec_tensor t = {.dtype = SPINEC_F32, .rank = 1, .dims = {MOST}, .data = x};
  random_fill(&t, 1);
  Rng r = rng_new(11);
  for (int i = 0; i < 200; i++) {
    Case c = random_case(&r);
    int64_t n, m, before = joined;
    run(&c, (uint64_t)i, 0, x, want, &n);
    assert_int_equal(joined, before);
    run(&c, (uint64_t)i, 2, x, got, &m);
    shared += joined > before;
    assert_int_equal(n, m);
    double top = 0, worst = 0;
    for (int64_t j = 0; j < n; j++) {
      top = fmax(top, fabs(want[j]));
      worst = fmax(worst, isfinite(got[j]) ? fabs((double)got[j] - want[j]) : INFINITY);
    }
    if (!(worst <= 1e-5 * top + 1e-6)) fail_msg("%s: error %g of %g", describe(&c), worst, top);
  }
  assert_true(shared > 60);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
