/* tests/unit/loop_test.h: running kernels of the loop IR in tests.
 *
 *   LoopTest t;  loop_open(&t);  Kernel *k = loop_kernel(&t, "kernel k \"\" (x: f32 in, y: f32 out) range r in 0..1 { ... }");
 *   loop_run(&t, k, (void *[]){x, y}, (int64_t[]){sizeof x, sizeof y}, 1);  loop_close(&t);
 */
#ifndef LOOP_TEST_H
#define LOOP_TEST_H

#include "backend/backend.h"
#include "ir/loop_eval.h"
#include "ir/loop_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct LoopTest {
  Diag *diag;
  Arena *arena;
  Target target;
} LoopTest;

/* No Fail is armed: running out of memory and misuse of the builder abort the test. */
static inline void loop_open(LoopTest *t) {
  t->diag = spinec_diagnostics_new();
  t->arena = arena_new(NULL);
  t->target = (Target){.name = "test", .lanes = 16, .vregs = 32, .fma = true, .masks = true, .pointer_bits = 64};
}

static inline const char *loop_message(const LoopTest *t) {
  return spinec_diagnostics_count(t->diag) ? spinec_diagnostics_text(t->diag, 0) : "(no message)";
}

static inline void loop_close(LoopTest *t) {
  arena_free(t->arena);
  spinec_diagnostics_free(t->diag);
}

static inline Kernel *loop_kernel(LoopTest *t, const char *text) {
  Kernel *k = kernel_parse(t->arena, t->diag, "test", text);
  if (!k) fail_msg("%s in\n%s", loop_message(t), text);
  return k;
}

static inline const char *loop_text(LoopTest *t, const Kernel *k) {
  Text out = {.a = t->arena};
  kernel_print(k, &out);
  return out.s;
}

/* A program of one call of k, its parameters in data[]: inputs and outputs are bound, constants are weights. */
static inline Program *loop_program(LoopTest *t, Kernel *k, void *const *data, const int64_t *bytes, int threads) {
  Program *p = program_new(t->arena, &t->target);
  p->max_threads = threads;
  Call c = {.kernel = k, .args = NEW_N(t->arena, Arg, k->params.n)};
  for (int i = 0; i < k->params.n; i++) {
    const Var *v = k->params.at[i];
    Port port = {v->name, v->type.dt, {.rank = 1, .d = {{bytes[i] / (int64_t)dt_size(v->type.dt), NULL}}}};
    Buffer b = {.bytes = bytes[i]};
    if (v->access == ACCESS_IN) {
      b.kind = BUF_INPUT;
      b.index = p->inputs.n;
      vec_push(t->arena, &p->inputs, port);
    } else if (v->access == ACCESS_SCRATCH) {
      b.kind = BUF_SCRATCH;
      b.bytes = v->scratch_bytes;
    } else if (v->access == ACCESS_CONST) {
      DenseWeight *d = NEW(t->arena, DenseWeight);
      *d = (DenseWeight){data[i], (size_t)bytes[i]};
      c.args[i].buffer = program_add_weight(p, (Weight){.name = v->name, .bytes = bytes[i], .fill = weight_fill_dense, .ctx = d});
      continue;
    } else {
      b.kind = BUF_OUTPUT;
      b.index = p->outputs.n;
      vec_push(t->arena, &p->outputs, port);
    }
    c.args[i].buffer = program_add_buffer(p, b);
  }
  vec_push(t->arena, &p->kernels, k);
  vec_push(t->arena, &p->calls, c);
  return p;
}

static inline Status loop_try(LoopTest *t, Kernel *k, void *const *data, const int64_t *bytes, int threads) {
  Program *p = loop_program(t, k, data, bytes, threads);
  const void *in[16];
  void *out[16];
  int nin = 0, nout = 0;
  for (int i = 0; i < k->params.n; i++) {
    Access a = k->params.at[i]->access;
    if (a == ACCESS_IN) in[nin++] = data[i];
    else if (a == ACCESS_OUT || a == ACCESS_INOUT) out[nout++] = data[i];
  }
  Runner *r = interp_open(p, threads, t->diag);
  if (!r) return diag_status(t->diag);
  Status s = r->run(r, in, out, t->diag);
  r->close(r);
  return s;
}

static inline void loop_run(LoopTest *t, Kernel *k, void *const *data, const int64_t *bytes, int threads) {
  if (loop_try(t, k, data, bytes, threads) != SPINEC_OK) fail_msg("%s in\n%s", loop_message(t), loop_text(t, k));
}

/* splitmix64: G. L. Steele, D. Lea, C. H. Flood 2014. */
static inline uint64_t test_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
static inline int test_pick(uint64_t *state, int n) { return (int)(test_random(state) % (unsigned)n); }

#endif
