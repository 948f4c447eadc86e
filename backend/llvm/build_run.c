/* backend/llvm/build_run.c: the PREFIX_run function of objects, with the contract of the C backend's.
 *
 *   void PREFIX_run(const PREFIX_inputs *in, const PREFIX_outputs *out[, const void *weights], void *workspace[, PREFIX_parallel *parallel, void *user])
 *
 * in and out are structs of pointers in signature order. A kernel whose range is shared out gets a second function,
 *
 *   void k_part(void *ctx, idx begin, idx end, int thread)
 *
 * with ctx a struct of its pointers, followed by the distances between the threads' parts of its scratch parameters.
 */
#include "llvm.h"
#include "../c/c_backend.h"

typedef struct Run {
  Unit *u;
  CGen *g;
  LLVMValueRef *kernel, *part;   /* by position in the program; part: NULL until needed */
  LLVMValueRef fn, in, out, weights, workspace, parallel, user;
} Run;

static LLVMValueRef at_byte(const Run *r, LLVMValueRef p, int64_t offset) {
  LLVMValueRef i = gen_idx(r->u, offset);
  return offset ? LLVMBuildInBoundsGEP2(r->u->b, LLVMInt8TypeInContext(r->u->m->ctx), p, &i, 1, "") : p;
}

static LLVMValueRef at_pointer(const Run *r, LLVMValueRef p, int64_t i) {
  LLVMValueRef at = gen_idx(r->u, i);
  return i ? LLVMBuildInBoundsGEP2(r->u->b, r->u->t_ptr, p, &at, 1, "") : p;
}

static LLVMValueRef load_pointer(const Run *r, LLVMValueRef p, int64_t i) {
  return LLVMBuildLoad2(r->u->b, r->u->t_ptr, at_pointer(r, p, i), "");
}

/* Of the first thread, for scratch. */
static LLVMValueRef argument(const Run *r, const Arg *a) {
  const Program *p = r->g->p;
  const Buffer *b = &p->buffers.at[a->buffer];
  switch (b->kind) {
  case BUF_ARENA:
  case BUF_SCRATCH: return at_byte(r, r->workspace, b->offset + a->offset);
  case BUF_WEIGHT: return at_byte(r, r->weights, p->weights.at[b->index].offset + a->offset);
  case BUF_INPUT: return at_byte(r, load_pointer(r, r->in, b->index), b->offset + a->offset);
  case BUF_OUTPUT: return at_byte(r, load_pointer(r, r->out, b->index), b->offset + a->offset);
  }
  return NULL;
}

static void direct_call(Run *r, const Call *c, int kernel) {
  int n = c->kernel->params.n;
  LLVMValueRef *args = NEW_N(r->u->m->arena, LLVMValueRef, n + 2);
  for (int i = 0; i < n; i++) args[i] = argument(r, &c->args[i]);
  args[n] = gen_idx(r->u, 0);
  args[n + 1] = gen_idx(r->u, c->kernel->extent);
  LLVMBuildCall2(r->u->b, kernel_type(r->u, c->kernel), r->kernel[kernel], args, (unsigned)n + 2, "");
}

/* ---- shared ranges ---- */

static LLVMTypeRef part_type(const Run *r) {
  LLVMTypeRef params[4] = {r->u->t_ptr, r->u->t_idx, r->u->t_idx, LLVMInt32TypeInContext(r->u->m->ctx)};
  return LLVMFunctionType(r->u->t_void, params, 4, false);
}

static LLVMValueRef build_part(Run *r, const Kernel *k, int kernel) {
  Unit *u = r->u;
  LLVMValueRef fn = LLVMAddFunction(u->mod, arena_printf(u->m->arena, "%s_%s_part", r->g->prefix, r->g->kernel_names[kernel]), part_type(r));
  LLVMSetLinkage(fn, LLVMInternalLinkage);
  unit_function(u, fn);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(u->b);
  LLVMPositionBuilderAtEnd(u->b, LLVMAppendBasicBlockInContext(u->m->ctx, fn, ""));
  int n = k->params.n, steps = 0;
  LLVMValueRef *args = NEW_N(u->m->arena, LLVMValueRef, n + 2), ctx = LLVMGetParam(fn, 0);
  LLVMValueRef thread = LLVMBuildIntCast2(u->b, LLVMGetParam(fn, 3), u->t_idx, true, "");
  for (int i = 0; i < n; i++) {
    args[i] = load_pointer(r, ctx, i);
    if (k->params.at[i]->access != ACCESS_SCRATCH) continue;
    LLVMValueRef step = LLVMBuildLoad2(u->b, u->t_idx, at_pointer(r, ctx, n + steps++), "");
    LLVMValueRef offset = LLVMBuildNSWMul(u->b, thread, step, "");
    args[i] = LLVMBuildInBoundsGEP2(u->b, LLVMInt8TypeInContext(u->m->ctx), args[i], &offset, 1, "");
  }
  args[n] = LLVMGetParam(fn, 1);
  args[n + 1] = LLVMGetParam(fn, 2);
  LLVMBuildCall2(u->b, kernel_type(u, k), r->kernel[kernel], args, (unsigned)n + 2, "");
  LLVMBuildRetVoid(u->b);
  LLVMPositionBuilderAtEnd(u->b, here);
  return fn;
}

/* parallel ? parallel(user, part, ctx, n, max_threads) : part(ctx, 0, n, 0) */
static void shared_call(Run *r, const Call *c, int kernel, LLVMValueRef ctx) {
  Unit *u = r->u;
  const Program *p = r->g->p;
  int n = c->kernel->params.n, steps = 0;
  if (!r->part[kernel]) r->part[kernel] = build_part(r, c->kernel, kernel);
  for (int i = 0; i < n; i++) {
    LLVMBuildStore(u->b, argument(r, &c->args[i]), at_pointer(r, ctx, i));
    if (c->kernel->params.at[i]->access != ACCESS_SCRATCH) continue;
    LLVMBuildStore(u->b, gen_idx(u, p->buffers.at[c->args[i].buffer].stride), at_pointer(r, ctx, n + steps++));
  }
  LLVMTypeRef i32 = LLVMInt32TypeInContext(u->m->ctx), params[5] = {u->t_ptr, u->t_ptr, u->t_ptr, u->t_idx, i32};
  LLVMBasicBlockRef many = LLVMAppendBasicBlockInContext(u->m->ctx, r->fn, ""), one = LLVMAppendBasicBlockInContext(u->m->ctx, r->fn, ""),
                    done = LLVMAppendBasicBlockInContext(u->m->ctx, r->fn, "");
  LLVMValueRef extent = gen_idx(u, c->kernel->extent), zero = gen_idx(u, 0);
  LLVMBuildCondBr(u->b, LLVMBuildIsNotNull(u->b, r->parallel, ""), many, one);
  LLVMPositionBuilderAtEnd(u->b, many);
  LLVMBuildCall2(u->b, LLVMFunctionType(u->t_void, params, 5, false), r->parallel,
                 (LLVMValueRef[]){r->user, r->part[kernel], ctx, extent, LLVMConstInt(i32, (unsigned)MAXI(p->max_threads, 1), false)}, 5, "");
  LLVMBuildBr(u->b, done);
  LLVMPositionBuilderAtEnd(u->b, one);
  LLVMBuildCall2(u->b, part_type(r), r->part[kernel], (LLVMValueRef[]){ctx, zero, extent, LLVMConstInt(i32, 0, false)}, 4, "");
  LLVMBuildBr(u->b, done);
  LLVMPositionBuilderAtEnd(u->b, done);
}

/* ---- the function ---- */

static void open_function(Run *r) {
  Unit *u = r->u;
  const spinec_emit_options *o = r->g->o;
  LLVMTypeRef params[6];
  LLVMValueRef *const file[4] = {&r->in, &r->out, &r->weights, &r->workspace}, *const own[3] = {&r->in, &r->out, &r->workspace};
  bool separate = o->weights == SPINEC_WEIGHTS_FILE, callback = o->threads == SPINEC_THREADS_CALLBACK;
  LLVMValueRef *const *into = separate ? file : own;
  unsigned fixed = separate ? 4 : 3, n = callback ? fixed + 2 : fixed;
  for (unsigned i = 0; i < n; i++) params[i] = u->t_ptr;
  r->fn = LLVMAddFunction(u->mod, arena_printf(u->m->arena, "%s_run", r->g->prefix), LLVMFunctionType(u->t_void, params, n, false));
  unit_function(u, r->fn);
  for (unsigned i = 0; i < fixed; i++) *into[i] = LLVMGetParam(r->fn, i);
  if (callback) {
    r->parallel = LLVMGetParam(r->fn, fixed);
    r->user = LLVMGetParam(r->fn, fixed + 1);
  }
  LLVMPositionBuilderAtEnd(u->b, LLVMAppendBasicBlockInContext(u->m->ctx, r->fn, ""));
}

void run_build(Unit *u, struct CGen *g, LLVMValueRef *kernel, LLVMValueRef weights) {
  const Program *p = g->p;
  Run r = {.u = u, .g = g, .kernel = kernel, .weights = weights, .part = NEW_N(u->m->arena, LLVMValueRef, MAXI(p->kernels.n, 1))};
  open_function(&r);
  int slots = 1;
  for (int i = 0; i < p->kernels.n; i++) slots = MAXI(slots, 2 * p->kernels.at[i]->params.n);
  LLVMValueRef ctx = r.parallel ? LLVMBuildArrayAlloca(u->b, u->t_ptr, gen_idx(u, slots), "") : NULL;
  for (int i = 0, k = 0; i < p->calls.n; i++) {
    const Call *c = &p->calls.at[i];
    while (p->kernels.at[k] != c->kernel) k = (k + 1) % p->kernels.n;
    if (call_is_parallel(g, c)) shared_call(&r, c, k, ctx);
    else direct_call(&r, c, k);
  }
  LLVMBuildRetVoid(u->b);
}
