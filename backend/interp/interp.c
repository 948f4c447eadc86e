/* backend/interp/interp.c: runs programs: memory for the workspace and the weights, kernels' code, calls.
 *
 * The oracle for every other backend, so it looks for mistakes instead of trusting: programs are verified when opened; accesses are
 * checked; where assertions are on, the workspace holds NaNs before a run and scratch holds them before every iteration of a range, so
 * that reading what was not written shows. A run "on several threads" executes the parts of each range one after the other, last part
 * first, which shows iterations that depend on each other.
 */
#include "interp.h"
#include "../backend.h"
#include "../../runtime/runtime.h"
#include <stdlib.h>

#define ALIGN 64
#ifdef NDEBUG
#define POISON 0
#else
#define POISON 1
#endif

typedef struct Interp {
  Runner runner;
  Arena *arena;
  const Program *p;
  Routine **image;           /* by call */
  char *workspace, *weights;
  int64_t workspace_bytes;
  int64_t *offset, *stride;   /* by buffer */
  int threads;
} Interp;

#define TOO_MUCH ((int64_t)1 << 60)   /* bytes; sums of sizes are kept below it */

static int64_t round_up(int64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

static char *alloc_bytes(int64_t n) {
  if (n < 0 || (uint64_t)n > SIZE_MAX / 2) return NULL;
  return aligned_alloc(ALIGN, (size_t)round_up(n ? n : 1));
}

/* ---- opening ---- */

/* Where every buffer lies. A program without a memory plan gets one of its own: everything side by side. */
static void place(Interp *it) {
  const Program *p = it->p;
  it->offset = NEW_N(it->arena, int64_t, p->buffers.n);
  it->stride = NEW_N(it->arena, int64_t, p->buffers.n);
  int64_t at = 0, weight = 0;
  bool planned = p->workspace_bytes > 0;
  int64_t *weight_at = NEW_N(it->arena, int64_t, p->weights.n);
  for (int i = 0; i < p->weights.n; i++) {
    weight_at[i] = weight;
    weight += round_up(p->weights.at[i].bytes);
    if (weight > TOO_MUCH) fail_out_of_memory(arena_fail(it->arena));
  }
  for (int i = 0; i < p->buffers.n; i++) {
    const Buffer *b = &p->buffers.at[i];
    bool local = b->kind == BUF_ARENA || b->kind == BUF_SCRATCH;
    it->offset[i] = b->kind == BUF_WEIGHT ? weight_at[b->index] : b->offset;
    it->stride[i] = b->stride;
    if (!local || planned || b->part) continue;
    it->offset[i] = at;
    it->stride[i] = round_up(b->bytes);
    int64_t parts = b->kind == BUF_SCRATCH ? it->threads : 1;
    if (it->stride[i] > (TOO_MUCH - at) / parts) fail_out_of_memory(arena_fail(it->arena));
    at += it->stride[i] * parts;
  }
  for (int i = 0; i < p->buffers.n && !planned; i++)
    if (p->buffers.at[i].part && p->buffers.at[i].kind == BUF_ARENA) it->offset[i] = it->offset[p->buffers.at[i].whole] + p->buffers.at[i].at;
  it->workspace_bytes = planned ? p->workspace_bytes : at;
}

static bool load_weights(Interp *it) {
  const Program *p = it->p;
  int64_t total = 0;
  for (int i = 0; i < p->weights.n; i++) total += round_up(p->weights.at[i].bytes);
  it->weights = alloc_bytes(total);
  if (!it->weights) return false;
  for (int i = 0; i < p->buffers.n; i++) {
    const Buffer *b = &p->buffers.at[i];
    if (b->kind != BUF_WEIGHT) continue;
    const Weight *w = &p->weights.at[b->index];
    w->fill(w->ctx, it->weights + it->offset[i]);
  }
  return true;
}

static void compile_kernels(Interp *it) {
  const Program *p = it->p;
  Routine **made = NEW_N(it->arena, Routine *, p->kernels.n);
  it->image = NEW_N(it->arena, Routine *, p->calls.n);
  for (int i = 0, k = 0; i < p->calls.n; i++) {
    /* Calls come in about the order of the kernels. */
    const Kernel *kernel = p->calls.at[i].kernel;
    for (int tries = 0; p->kernels.at[k] != kernel && tries < p->kernels.n; tries++) k = (k + 1) % p->kernels.n;
    if (!made[k]) made[k] = interp_compile(it->arena, kernel);
    it->image[i] = made[k];
  }
}

/* ---- running ---- */

static char *buffer_base(const Interp *it, int i, int thread, const void *const *inputs, void *const *outputs) {
  const Buffer *b = &it->p->buffers.at[i];
  switch (b->kind) {
  case BUF_ARENA: return it->workspace + it->offset[i];
  case BUF_SCRATCH: return it->workspace + it->offset[i] + thread * it->stride[i];
  case BUF_WEIGHT: return it->weights + it->offset[i];
  /* Verified kernels do not write to inputs. */
  case BUF_INPUT: return (char *)(uintptr_t)inputs[b->index] + it->offset[i];
  case BUF_OUTPUT: return (char *)outputs[b->index] + it->offset[i];
  }
  return NULL;
}

static Status report(const Program *p, int call, const Fault *f, const Memory *mem, Diag *d) {
  const Call *c = &p->calls.at[call];
  const Var *v = c->kernel->params.at[f->param];
  Where w = {.file = p->file, .node = c->norigin ? c->origin[0] : NULL, .op = c->onnx_op};
  return diag_error(d, SPINEC_ERR_INTERNAL, &w, NULL,
                    "interpreter: call %d of kernel %s (%s): %s %s[%lld] to [%lld] is outside its %lld elements", call, c->kernel->name,
                    c->kernel->what, f->store ? "store to" : "load from", v->name, (long long)f->index, (long long)f->last,
                    (long long)mem[f->param].n);
}

static bool has_scratch(const Kernel *k) {
  for (int i = 0; i < k->params.n; i++) {
    if (k->params.at[i]->access == ACCESS_SCRATCH) return true;
  }
  return false;
}

/* One thread's part of a range. */
static bool run_part(const Routine *m, const Memory *mem, int64_t begin, int64_t end, Fault *f) {
  const Kernel *k = m->kernel;
  if (!POISON || !has_scratch(k)) return exec_run(m, mem, begin, end, f);
  for (int64_t r = begin; r < end; r++) {
    for (int i = 0; i < k->params.n; i++) {
      const Var *v = k->params.at[i];
      if (v->access == ACCESS_SCRATCH) memset(mem[i].base, 0xff, (size_t)mem[i].n * dt_size(v->type.dt));
    }
    if (!exec_run(m, mem, r, r + 1, f)) return false;
  }
  return true;
}

static Status run_call(const Interp *it, int call, Memory *mem, const void *const *inputs, void *const *outputs, Diag *d) {
  const Call *c = &it->p->calls.at[call];
  const Kernel *k = c->kernel;
  int64_t parts = MAXI(1, MINI(it->threads, k->extent));
  for (int64_t t = parts - 1; t >= 0; t--) {
    for (int i = 0; i < k->params.n; i++) {
      const Arg *a = &c->args[i];
      const Var *v = k->params.at[i];
      int64_t bytes = it->p->buffers.at[a->buffer].bytes - a->offset;
      if (v->access == ACCESS_SCRATCH) bytes = MINI(bytes, v->scratch_bytes);
      mem[i].base = buffer_base(it, a->buffer, (int)t, inputs, outputs) + a->offset;
      mem[i].n = bytes / (int64_t)dt_size(v->type.dt);
    }
    Fault f = {0};
    int64_t begin = k->extent / parts * t + MINI(t, k->extent % parts), end = begin + k->extent / parts + (t < k->extent % parts);
    if (!run_part(it->image[call], mem, begin, end, &f)) return report(it->p, call, &f, mem, d);
  }
  return SPINEC_OK;
}

static Status interp_profile(Runner *r, const void *const *inputs, void *const *outputs, double *ns, Diag *d) {
  Interp *it = (Interp *)r;
  int nparams = 1;
  for (int i = 0; i < it->p->calls.n; i++) nparams = MAXI(nparams, it->p->calls.at[i].kernel->params.n);
  Memory *mem = malloc((size_t)nparams * sizeof *mem);
  if (!mem) return diag_error(d, SPINEC_ERR_MEMORY, NULL, NULL, "out of memory");
  if (POISON) memset(it->workspace, 0xff, (size_t)it->workspace_bytes);
  Status s = SPINEC_OK;
  for (int i = 0; i < it->p->calls.n && s == SPINEC_OK; i++) {
    int64_t start = ns ? time_ns() : 0;
    s = run_call(it, i, mem, inputs, outputs, d);
    if (ns) ns[i] = (double)(time_ns() - start);
  }
  free(mem);
  return s;
}

static Status interp_run(Runner *r, const void *const *inputs, void *const *outputs, Diag *d) {
  return interp_profile(r, inputs, outputs, NULL, d);
}

static void interp_close(Runner *r) {
  Interp *it = (Interp *)r;
  free(it->workspace);
  free(it->weights);
  arena_free(it->arena);
}

/* Fills `it`; leaves through the arena's Fail when memory runs out. */
static Status open_in(Interp *it, Diag *d) {
  const char *wrong = program_verify(it->p, it->arena);
  if (wrong) return diag_error(d, SPINEC_ERR_INTERNAL, NULL, NULL, "interpreter: the program is not valid: %s", wrong);
  place(it);
  it->workspace = alloc_bytes(it->workspace_bytes);
  if (!it->workspace || !load_weights(it)) fail_out_of_memory(arena_fail(it->arena));
  compile_kernels(it);
  return SPINEC_OK;
}

Runner *interp_open(const Program *p, int threads, Diag *d) {
  Fail fail;
  Interp *volatile it = NULL;
  Arena *volatile arena = NULL;
  Status s;
  if (FAIL_ARM(&fail, d)) {
    arena = arena_new(&fail);
    it = NEW(arena, Interp);
    it->runner = (Runner){interp_run, interp_profile, interp_close};
    it->arena = arena;
    it->p = p;
    it->threads = MAXI(1, MINI(threads, p->max_threads));
    s = open_in(it, d);
  } else {
    s = fail.status;
  }
  if (s == SPINEC_OK) {
    arena_set_fail(arena, NULL);
    return &it->runner;
  }
  if (it) {
    free(it->workspace);
    free(it->weights);
  }
  arena_free(arena);
  return NULL;
}

Status interp_eval(const Program *p, const void *const *inputs, void *const *outputs, Diag *d) {
  Runner *r = interp_open(p, 1, d);
  if (!r) return diag_errors(d) ? diag_status(d) : SPINEC_ERR_MEMORY;
  Status s = r->run(r, inputs, outputs, d);
  r->close(r);
  return s;
}
