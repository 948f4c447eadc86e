/* tests/llvm/support.c: see support.h. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void bench_open(Bench *t, const Target *target) {
  memset(t, 0, sizeof *t);
  t->d = spinec_diagnostics_new();
  if (!FAIL_ARM(&t->fail, t->d)) fail_msg("left through Fail: %s", bench_messages(t));
  t->a = arena_new(&t->fail);
  t->p = program_new(t->a, target);
  t->p->max_threads = 4;
}

void bench_close(Bench *t) {
  for (int i = 0; i < t->p->inputs.n; i++) free(t->data[i]);
  arena_free(t->a);
  spinec_diagnostics_free(t->d);
}

const char *bench_messages(const Bench *t) { return spinec_diagnostics_count(t->d) ? spinec_diagnostics_text(t->d, 0) : "(no message)"; }

/* ---- buffers ---- */

static int port(Bench *t, BufferKind kind, DType dt, int64_t n) {
  bool in = kind == BUF_INPUT;
  int index = in ? t->p->inputs.n : t->p->outputs.n;
  Port made = {arena_printf(t->a, "%s%d", in ? "in" : "out", index), dt, shape_of(1, &n)};
  if (in) vec_push(t->a, &t->p->inputs, made);
  else vec_push(t->a, &t->p->outputs, made);
  return program_add_buffer(t->p, (Buffer){.kind = kind, .name = made.name, .bytes = n * (int64_t)dt_size(dt), .index = index});
}

int bench_input(Bench *t, DType dt, int64_t n) {
  int i = t->p->inputs.n;
  assert_true(i < BENCH_INPUTS);
  size_t bytes = ((size_t)n * dt_size(dt) + 63) / 64 * 64;
  t->data[i] = memset(aligned_alloc(64, bytes), 0, bytes);
  return t->input[i] = port(t, BUF_INPUT, dt, n);
}

void *bench_data(Bench *t, int input) { return t->data[input]; }
int bench_output(Bench *t, DType dt, int64_t n) { return port(t, BUF_OUTPUT, dt, n); }
int bench_arena(Bench *t, int64_t bytes) { return program_add_buffer(t->p, (Buffer){.kind = BUF_ARENA, .bytes = bytes}); }
int bench_scratch(Bench *t, int64_t bytes) { return program_add_buffer(t->p, (Buffer){.kind = BUF_SCRATCH, .bytes = bytes}); }

int bench_weight(Bench *t, const void *data, int64_t bytes) {
  DenseWeight *w = NEW(t->a, DenseWeight);
  *w = (DenseWeight){data, (size_t)bytes};
  return program_add_weight(t->p, (Weight){.name = "w", .desc = "dense", .source = data, .bytes = bytes, .fill = weight_fill_dense, .ctx = w});
}

/* ---- kernels ---- */

Build *bench_kernel(Bench *t, const char *what) {
  Kernel *k = kernel_new(t->a, what);
  k->name = arena_printf(t->a, "k%d", t->p->kernels.n);
  k->flops = k->bytes = 1e9;   /* worth sharing out */
  vec_push(t->a, &t->p->kernels, k);
  vec_push(t->a, &t->p->calls, ((Call){.kernel = k, .args = NEW_N(t->a, Arg, 16), .onnx_op = "Test"}));
  build_start(&t->b, t->a, k);
  return &t->b;
}

Var *bench_param(Bench *t, const char *name, DType dt, Access access, int buffer) {
  Var *v = build_param(&t->b, name, dt, access);
  if (access == ACCESS_SCRATCH) v->scratch_bytes = t->p->buffers.at[buffer].bytes;
  t->p->calls.at[t->p->calls.n - 1].args[t->b.k->params.n - 1] = (Arg){buffer, 0};
  return v;
}

void bench_plan(Bench *t) {
  int64_t at = 0;
  for (int i = 0; i < t->p->buffers.n; i++) {
    Buffer *b = &t->p->buffers.at[i];
    if (b->kind != BUF_ARENA && b->kind != BUF_SCRATCH) continue;
    b->offset = at;
    b->first = 0;
    b->last = t->p->calls.n - 1;
    int64_t part = (b->bytes + 63) / 64 * 64;
    if (b->kind == BUF_SCRATCH) b->stride = part;
    at += b->kind == BUF_SCRATCH ? part * t->p->max_threads : part;
  }
  t->p->workspace_bytes = MAXI(at, 64);
  program_layout_weights(t->p);
}

/* ---- values ---- */

static const double odd_floats[] = {0.0,     -0.0,   1,      -1,      0.5,   -0.5, 1.5,    2.5,          -2.5,          3.75,          -3.75,      INFINITY,
                                    NAN,     -1e30,  1e30,   1e-30,   1e-40, 127.5, 255.5, -129,         32768,         65536.5,       2147483520, 2147483648.0,
                                    -2147483648.0,   4294967296.0, 9.3e18, -9.3e18, 2e19,  -INFINITY,    1e-3,          16777217};
static const int64_t odd_ints[] = {0, 1, -1, 2, 3, 7, -7, 31, 64, 127, -128, 128, 255, 32767, -32768, 65535, INT32_MAX, INT32_MIN, UINT32_MAX, INT64_MAX, INT64_MIN};

void bench_fill(void *data, DType dt, int64_t n, int phase) {
  Rng r = rng_new((uint64_t)phase + 17);
  for (int64_t i = 0; i < n; i++) {
    int64_t nodd = dt_is_float(dt) ? COUNTOF(odd_floats) : COUNTOF(odd_ints);
    int64_t pick = phase == 0 ? i % nodd : phase == 1 ? i / nodd % nodd : (i + i / nodd * phase) % nodd;
    bool odd = i < nodd * nodd;
    if (dt_is_float(dt)) data_set_f(data, dt, i, odd ? odd_floats[pick] : rng_normal(&r) * 10);
    else if (dt == DT_BOOL) ((uint8_t *)data)[i] = (uint8_t)rng_below(&r, 2);
    else data_set_i(data, dt, i, odd ? odd_ints[pick] : (int64_t)rng_next(&r));
  }
}

/* ---- running ---- */

void **bench_outputs(Bench *t) {
  void **out = NEW_N(t->a, void *, t->p->outputs.n + 1);
  for (int i = 0; i < t->p->outputs.n; i++) {
    const Port *o = &t->p->outputs.at[i];
    size_t bytes = (size_t)shape_count(&o->shape) * dt_size(o->dt);
    out[i] = memset(arena_alloc(t->a, bytes + 1), 0x55, bytes);
  }
  return out;
}

void bench_run(Bench *t, Runner *r, void **out, const char *who) {
  if (!r) fail_msg("%s: %s", who, bench_messages(t));
  if (r->run(r, (const void *const *)t->data, out, t->d)) fail_msg("%s: %s", who, bench_messages(t));
  r->close(r);
}

const char *bench_what(const Bench *t, int output) {
  for (int c = 0; c < t->p->calls.n; c++) {
    const Call *call = &t->p->calls.at[c];
    for (int k = 0; k < call->kernel->params.n; k++) {
      const Buffer *b = &t->p->buffers.at[call->args[k].buffer];
      if (b->kind == BUF_OUTPUT && b->index == output) return call->kernel->what;
    }
  }
  return "?";
}

static double flushed(double x, DType dt) { return dt == DT_F32 && fabs(x) < (double)FLT_MIN ? 0 : x; }

static bool same_float(double x, double y, DType dt, Slack slack, bool libm) {
  if (isnan(x) || isnan(y)) return isnan(x) && isnan(y);
  if (slack.flush) x = flushed(x, dt), y = flushed(y, dt);
  if (x == y) return signbit(x) == signbit(y) || slack.flush;
  return libm && fabs(x - y) <= fabs(x) * (dt == DT_F32 ? 4e-7 : 2e-15);
}

/* Kernels of the suite are named after their operator. */
static bool is_libm(const char *what) {
  for (int op = X_POW; op <= X_SIGMOID; op++) {
    size_t n = strlen(x_table[op].text);
    if ((op == X_POW || op >= X_EXP) && !strncmp(what, x_table[op].text, n) && what[n] == ' ') return true;
  }
  return false;
}

void bench_same(const Bench *t, void *const *want, void *const *got, Slack slack, const char *who) {
  for (int o = 0; o < t->p->outputs.n; o++) {
    const Port *port = &t->p->outputs.at[o];
    size_t size = dt_size(port->dt);
    const char *w = want[o], *g = got[o], *what = bench_what(t, o);
    bool libm = slack.libm && is_libm(what);
    for (int64_t i = 0; i < shape_count(&port->shape); i++, w += size, g += size) {
      if (!memcmp(w, g, size)) continue;
      if (dt_is_float(port->dt) && same_float(data_get_f(w, port->dt, 0), data_get_f(g, port->dt, 0), port->dt, slack, libm)) continue;
      uint64_t x = 0, y = 0;
      memcpy(&x, w, size);
      memcpy(&y, g, size);
      fail_msg("%s: %s, element %lld: %s %llx (%g) should be %llx (%g)", who, what, (long long)i, dt_name(port->dt), (unsigned long long)y,
               data_get_f(g, port->dt, 0), (unsigned long long)x, data_get_f(w, port->dt, 0));
    }
  }
}
