/* tests/llvm/support.c: see support.h. */
#include "support.h"

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

int bench_input(Bench *t, DType dt, int64_t n) { return port(t, BUF_INPUT, dt, n); }
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

void bench_call(Bench *t) { assert_int_equal(t->b.depth, 1); }

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

static bool is_nan(const char *x, DType dt) { return dt_is_float(dt) && isnan(data_get_f(x, dt, 0)); }

void bench_same(const Bench *t, int index, const void *want, const void *got, const char *what) {
  const Port *o = &t->p->outputs.at[index];
  size_t size = dt_size(o->dt);
  const char *w = want, *g = got;
  for (int64_t i = 0; i < shape_count(&o->shape); i++, w += size, g += size) {
    if (!memcmp(w, g, size) || (is_nan(w, o->dt) && is_nan(g, o->dt))) continue;
    uint64_t x = 0, y = 0;
    memcpy(&x, w, size);
    memcpy(&y, g, size);
    fail_msg("%s, element %lld: %s %llx (%g) should be %llx (%g)", what, (long long)i, dt_name(o->dt), (unsigned long long)y, data_get_f(g, o->dt, 0),
             (unsigned long long)x, data_get_f(w, o->dt, 0));
  }
}

static void **outputs_new(const Bench *t) {
  void **out = calloc((size_t)t->p->outputs.n + 1, sizeof *out);
  for (int i = 0; i < t->p->outputs.n; i++) {
    const Port *o = &t->p->outputs.at[i];
    size_t bytes = (size_t)shape_count(&o->shape) * dt_size(o->dt);
    out[i] = malloc(bytes + 1);
    memset(out[i], 0x55, bytes);
  }
  return out;
}

static void outputs_free(const Bench *t, void **out) {
  for (int i = 0; i < t->p->outputs.n; i++) free(out[i]);
  free(out);
}

static void run_once(Bench *t, Runner *r, const void *const *inputs, void **out, const char *who) {
  if (!r) fail_msg("%s: %s", who, bench_messages(t));
  if (r->run(r, inputs, out, t->d)) fail_msg("%s: %s", who, bench_messages(t));
  r->close(r);
}

void bench_compare(Bench *t, const void *const *inputs, int threads) {
  void **want = outputs_new(t), **got = outputs_new(t);
  run_once(t, interp_open(t->p, 1, t->d), inputs, want, "interpreter");
  run_once(t, llvm_open(t->p, threads, t->d), inputs, got, "JIT");
  for (int i = 0; i < t->p->outputs.n; i++) {
    const char *what = "output";
    for (int c = 0; c < t->p->calls.n; c++) {
      const Call *call = &t->p->calls.at[c];
      for (int k = 0; k < call->kernel->params.n; k++) {
        const Buffer *b = &t->p->buffers.at[call->args[k].buffer];
        if (b->kind == BUF_OUTPUT && b->index == i) what = call->kernel->what;
      }
    }
    bench_same(t, i, want[i], got[i], what);
  }
  outputs_free(t, want);
  outputs_free(t, got);
}
