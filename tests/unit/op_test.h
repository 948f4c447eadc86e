/* tests/unit/op_test.h: graph text and tensors in, tensors out: operators against plain C references.
 *
 *   static const char *text = "graph \"t\" { input %x: f32[2,3] %y = Relu(%x) output %y }";
 *   op_check(text, (const void *[]){x}, (const void *[]){want}, 1e-6);
 *   op_refuse("graph ...", "does not broadcast");
 *
 * op_check lowers the graph as it stands and runs it on the interpreter (which checks every access), for vectors of 4, 8 and 16 lanes, with
 * and without masks, at -O0 and -O2, with and without a memory plan, on one thread and on three; and once through the whole pipeline.
 * Layouts are as written: `%r: f32[1,5,3,3]{c8} = Reorder(%x)`. Results are compared with `want` (as many elements as the output has):
 * floats within tol * max(1, |want|) and NaN with NaN, all else exactly.
 *
 * SPINEC_OP_BACKEND=c or jit in the environment: everything goes through the whole pipeline for this machine and runs on that backend
 * instead. That takes minutes; the tests' own runs are on the interpreter.
 */
#ifndef OP_TEST_H
#define OP_TEST_H

#include "backend/backend.h"
#include "passes/passes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct OpConfig { const char *target; int lanes; bool masks; int level, threads; bool plan, pipeline; } OpConfig;

static const OpConfig op_configs[] = {
    {"generic", 4, false, 0, 1, false, false},   {"generic", 4, false, 2, 3, true, false},  {"x86-64-v3", 8, false, 0, 3, true, false},
    {"x86-64-v3", 8, true, 2, 1, false, false},  {"x86-64-v4", 16, true, 0, 1, true, false}, {"x86-64-v4", 16, true, 2, 3, false, false},
    {"x86-64-v4", 16, false, 2, 1, true, false}, {"x86-64-v4", 16, true, 2, 2, true, true},
};

/* What one run of a graph needs; each in its own arena. */
typedef struct OpRun {
  Fail fail;
  Diag *diag;
  Arena *arena;
  Graph *g;
} OpRun;

static inline const char *op_message(const Diag *d) {
  const char *s = spinec_diagnostics_count(d) ? spinec_diagnostics_text(d, 0) : NULL;
  return s ? s : "(no message)";
}

static inline void op_close(OpRun *r) {
  arena_free(r->arena);
  spinec_diagnostics_free(r->diag);
}

static inline bool op_same(DType t, const void *got, const void *want, int64_t i, double tol) {
  if (!dt_is_float(t)) return data_get_i(got, t, i) == data_get_i(want, t, i);
  double a = data_get_f(got, t, i), b = data_get_f(want, t, i);
  if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
  if (isinf(a) || isinf(b)) return a == b;
  return fabs(a - b) <= tol * (fabs(b) > 1 ? fabs(b) : 1);
}

static inline void op_compare(const Graph *g, const OpConfig *c, void *const *got, const void *const *want, double tol, const char *text) {
  for (int k = 0; k < g->outputs.n; k++) {
    const Value *v = g->outputs.at[k];
    for (int64_t i = 0; want[k] && i < value_count(v); i++) {
      if (op_same(v->dt, got[k], want[k], i, tol)) continue;
      fail_msg("output %d, element %lld of %lld: got %.9g, want %.9g\n%d lanes%s, -O%d, %d threads%s%s\n%s", k, (long long)i,
               (long long)value_count(v), data_get_f(got[k], v->dt, i), data_get_f(want[k], v->dt, i), c->lanes, c->masks ? ", masks" : "",
               c->level, c->threads, c->plan ? ", planned" : "", c->pipeline ? ", whole pipeline" : "", text);
    }
  }
}

static inline Program *op_lower(OpRun *r, const OpConfig *c, const Target *t, const char *text) {
  spinec_compile_options o = spinec_compile_options_default();
  o.opt_level = c->level;
  o.max_threads = c->threads;
  Ctx ctx = {.arena = r->arena, .diag = r->diag, .target = t, .opt = &o, .eval = interp_eval};
  bool stopped = false;
  Program *p = c->pipeline ? passes_run(r->g, &ctx, &stopped) : lower_graph(r->g, &ctx);
  if (!p) fail_msg("%s\n%s", op_message(r->diag), text);
  if (c->plan && !c->pipeline) pass_memory(p, &ctx);
  return p;
}

static inline Runner *op_open(const Program *p, int threads, Diag *d) {
  const char *backend = getenv("SPINEC_OP_BACKEND");
  if (!backend) return interp_open(p, threads, d);
#if SPINEC_HAVE_LLVM
  if (!strcmp(backend, "jit")) return llvm_open(p, threads, d);
#endif
  if (!strcmp(backend, "c")) return c_open(p, threads, d);
  fail_msg("no backend '%s'", backend);
  return NULL;
}

static inline void op_execute(OpRun *r, const char *text, const OpConfig *config, const void *const *in, const void *const *want,
                              double tol) {
  r->arena = arena_new(&r->fail);
  r->g = graph_parse(r->arena, r->diag, "test", text);
  if (!r->g) fail_msg("%s\n%s", op_message(r->diag), text);
  OpConfig c = *config;
  if (getenv("SPINEC_OP_BACKEND")) {
    const Target *native = target_find("native");
    c = (OpConfig){"native", native->lanes, native->masks, config->level, config->threads, true, true};
  }
  Target t = *target_find(c.target);
  t.lanes = c.lanes;
  t.masks = c.masks;
  Program *p = op_lower(r, &c, &t, text);
  int nout = p->outputs.n;
  void **out = NEW_N(r->arena, void *, nout + 1);
  for (int i = 0; i < nout; i++) {
    size_t bytes = (size_t)shape_count(&p->outputs.at[i].shape) * dt_size(p->outputs.at[i].dt);
    out[i] = malloc(bytes ? bytes : 1);
    memset(out[i], 0xa5, bytes);
  }
  Runner *runner = op_open(p, c.threads, r->diag);
  if (!runner || runner->run(runner, in, out, r->diag) != SPINEC_OK) {
    Text dump = {.a = r->arena};
    program_print(p, &dump);
    fail_msg("%s\n%s\n%s", op_message(r->diag), text, dump.s);
    return;
  }
  runner->close(runner);
  op_compare(r->g, &c, out, want, tol, text);
  for (int i = 0; i < nout; i++) free(out[i]);
}

static inline void op_run(const char *text, const OpConfig *config, const void *const *in, const void *const *want, double tol) {
  OpRun r = {.diag = spinec_diagnostics_new()};
  if (FAIL_ARM(&r.fail, r.diag)) op_execute(&r, text, config, in, want, tol);
  else fail_msg("left through Fail: %s\n%s", op_message(r.diag), text);
  op_close(&r);
}

/* in, want: one pointer per input and output, in signature order; want[i] NULL: not compared. */
static inline void op_check(const char *text, const void *const *in, const void *const *want, double tol) {
  int n = getenv("SPINEC_OP_BACKEND") ? 2 : COUNTOF(op_configs);   /* the first two are at -O0 and -O2 */
  for (int i = 0; i < n; i++) op_run(text, &op_configs[i], in, want, tol);
}

static inline void op_parse_refused(OpRun *r, const char *text, const char *because) {
  r->arena = arena_new(&r->fail);
  if (graph_parse(r->arena, r->diag, "test", text)) fail_msg("not refused:\n%s", text);
  if (!strstr(op_message(r->diag), because)) fail_msg("refused with \"%s\", expected \"%s\"\n%s", op_message(r->diag), because, text);
}

/* The text must be refused with a message that contains `because`. */
static inline void op_refuse(const char *text, const char *because) {
  OpRun r = {.diag = spinec_diagnostics_new()};
  if (FAIL_ARM(&r.fail, r.diag)) op_parse_refused(&r, text, because);
  else fail_msg("left through Fail: %s\n%s", op_message(r.diag), text);
  op_close(&r);
}

/* Text with numbers in it, valid for the next fifteen calls. */
static inline const char *op_text(const char *fmt, ...) PRINTF_LIKE(1, 2);
static inline const char *op_text(const char *fmt, ...) {
  static char s[16][4096];
  static int next;
  next = (next + 1) % 16;
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(s[next], sizeof s[next], fmt, ap);
  va_end(ap);
  assert_true(n >= 0 && (size_t)n < sizeof s[next]);
  return s[next];
}

/* Deterministic test data: floats in (-2, 2), integers in [lo, hi]. */
static inline uint32_t op_random(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}
static inline void op_fill_f32(float *x, int64_t n, uint32_t seed) {
  for (int64_t i = 0; i < n; i++) x[i] = (float)((double)op_random(&seed) / (1 << 24) * 4 - 2);
}
static inline void op_fill_i64(int64_t *x, int64_t n, int64_t lo, int64_t hi, uint32_t seed) {
  for (int64_t i = 0; i < n; i++) x[i] = lo + (int64_t)(op_random(&seed) % (uint64_t)(hi - lo + 1));
}

#endif
