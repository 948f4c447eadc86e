/* compiled.c: see compiled.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend/backend.h"
#include "compiled.h"

#define PORTS 16
#define INPUT_STEP 1000   /* elements from one input's start to the next one's */

int64_t test_run(TestBuild build, const void *of, uint64_t seed, TestCompile o, const float *x, float *out, int64_t most, const char *what, int64_t *kernels,
                 const char *about) {
  Fail fail;
  Diag *d = spinec_diagnostics_new();
  if (!FAIL_ARM(&fail, d)) fail_msg("%s: left through Fail: %s", about, spinec_diagnostics_text(d, 0));
  Arena *a = arena_new(&fail);
  Graph *g = build(a, d, of, seed);
  if (!g) fail_msg("%s: %s", about, spinec_diagnostics_text(d, 0));
  Target t = *target_find("x86-64-v4");
  if (o.lanes) t.lanes = o.lanes;
  if (o.vregs) t.vregs = o.vregs;
  if (o.l2) t.l2 = o.l2;
  spinec_compile_options opt = spinec_compile_options_default();
  opt.opt_level = o.level;
  opt.max_threads = MAXI(1, o.threads);
  opt.disable = o.disable;
  if (o.winograd) opt.winograd = o.winograd;
  Ctx ctx = {.arena = a, .diag = d, .target = &t, .opt = &opt, .eval = interp_eval};
  bool stopped = false;
  Program *p = passes_run(g, &ctx, &stopped);
  if (!p) fail_msg("%s: %s", about, spinec_diagnostics_text(d, 0));
  const char *wrong = program_verify(p, a);
  if (wrong) fail_msg("%s: %s", about, wrong);
  for (int i = 0; kernels && i < p->calls.n; i++) *kernels += strstr(p->calls.at[i].kernel->what, what) != NULL;
  const void *in[PORTS];
  void *outs[PORTS];
  assert_true(p->inputs.n <= PORTS && p->outputs.n <= PORTS);
  for (int i = 0; i < p->inputs.n; i++) in[i] = x + (int64_t)INPUT_STEP * i;
  int64_t count = 0;
  for (int i = 0; i < p->outputs.n; i++) {
    outs[i] = out + count;
    count += shape_count(&p->outputs.at[i].shape);
  }
  assert_true(count <= most);
  Runner *runner = interp_open(p, opt.max_threads, d);
  if (!runner || runner->run(runner, in, outs, d)) fail_msg("%s: %s", about, spinec_diagnostics_text(d, 0));
  runner->close(runner);
  arena_free(a);
  spinec_diagnostics_free(d);
  return count;
}

double test_error(const float *want, const float *got, int64_t n) {
  double top = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    top = fmax(top, fabs(want[i]));
    worst = fmax(worst, isfinite(got[i]) ? fabs((double)got[i] - want[i]) : INFINITY);
  }
  return worst / (top > 0 ? top : 1);
}

Value *test_const(Graph *g, Rng *r, int rank, const int64_t *dims, double gain) {
  Shape s = shape_of(rank, dims);
  int64_t n = shape_count(&s);
  float *d = NEW_N(g->arena, float, n + 1);
  for (int64_t i = 0; i < n; i++) d[i] = (float)(rng_normal(r) * gain);
  return graph_add_const(g, NULL, DT_F32, &s, d);
}

Value *test_one_by_one(Graph *g, Rng *r, Value *x, int64_t k) {
  ConvAttr a = {.strides = ints_fill(g->arena, 1, 2), .pads = ints_fill(g->arena, 0, 4), .dilations = ints_fill(g->arena, 1, 2), .group = 1};
  int64_t c = x->shape.d[1].n;
  Value *w = test_const(g, r, 4, (int64_t[]){k, c, 1, 1}, 1 / sqrt((double)c));
  return graph_make(g, NULL, OP_Conv, &a, (Value *[]){x, w}, 2)->out[0];
}

int64_t test_pick(Rng *r, int64_t lo, int64_t hi) { return lo + rng_below(r, hi - lo + 1); }
