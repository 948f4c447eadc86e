/* backend/llvm/build_kernel.c: statements and kernels.
 *
 * Registers are allocas of the entry block; mem2reg turns them into values. Loops are written rotated, with the test at the bottom and a
 * guard above where the bounds are not constants, so that no pass has to do it.
 *
 * What is known of a parameter (alignment, bytes that may be touched, no other parameter points there) goes to its attributes.
 */
#include "llvm.h"
#include <llvm-c/DebugInfo.h>
#include <string.h>

/* ---- facts ---- */

#define BUFFER_ALIGN 64

static int64_t argument_align(const Program *p, const Arg *a, DType dt) {
  const Buffer *b = &p->buffers.at[a->buffer];
  int64_t size = (int64_t)dt_size(dt), at = a->offset;
  if (b->kind == BUF_INPUT || b->kind == BUF_OUTPUT) return size;
  at |= b->kind == BUF_WEIGHT ? p->weights.at[b->index].offset : b->offset;
  if (b->kind == BUF_SCRATCH) at |= b->stride;
  at |= BUFFER_ALIGN;
  return MAXI(size, at & -at);
}

KernelFact *program_facts(const Program *p, Arena *a) {
  KernelFact *facts = NEW_N(a, KernelFact, MAXI(p->kernels.n, 1));
  for (int i = 0; i < p->kernels.n; i++) {
    const Kernel *k = p->kernels.at[i];
    ParamFact *f = facts[i].param = NEW_N(a, ParamFact, MAXI(k->params.n, 1));
    for (int c = 0; c < p->calls.n; c++) {
      const Call *call = &p->calls.at[c];
      for (int j = 0; call->kernel == k && j < k->params.n; j++) {
        int64_t align = argument_align(p, &call->args[j], k->params.at[j]->type.dt);
        int64_t bytes = MAXI(0, p->buffers.at[call->args[j].buffer].bytes - call->args[j].offset);
        bool first = !f[j].align;
        f[j].align = first ? align : MINI(f[j].align, align);
        f[j].bytes = first ? bytes : MINI(f[j].bytes, bytes);
      }
    }
  }
  return facts;
}

/* ---- loops ---- */

static LLVMBasicBlockRef block_new(Gen *g) { return LLVMAppendBasicBlockInContext(g->u->m->ctx, g->fn, ""); }

static bool expr_has_vector(const Expr *e) {
  if (e->type.lanes > 1) return true;
  for (int i = 0; i < x_table[e->op].nargs; i++) {
    if (e->a[i] && expr_has_vector(e->a[i])) return true;
  }
  return false;
}

static bool block_has_vector(const Block *b) {
  for (const Stmt *s = b->first; s; s = s->next) {
    if ((s->e && expr_has_vector(s->e)) || block_has_vector(&s->body) || block_has_vector(&s->other)) return true;
  }
  return false;
}

/* A loop with vectors in it is scheduled already: other tools that read the module shall not unroll or vectorise it again. */
static void mark_loop(Gen *g, LLVMValueRef branch, const Block *body) {
  if (!block_has_vector(body)) return;
  LLVMContextRef c = g->u->m->ctx;
  LLVMMetadataRef unroll = LLVMMDStringInContext2(c, "llvm.loop.unroll.disable", 24);
  LLVMMetadataRef width[2] = {LLVMMDStringInContext2(c, "llvm.loop.vectorize.width", 25),
                              LLVMValueAsMetadata(LLVMConstInt(LLVMInt32TypeInContext(c), 1, false))};
  LLVMMetadataRef node[3] = {NULL, LLVMMDNodeInContext2(c, &unroll, 1), LLVMMDNodeInContext2(c, width, 2)};
  /* The first operand is the node itself, which keeps loops apart. */
  LLVMMetadataRef self = LLVMTemporaryMDNode(c, NULL, 0);
  node[0] = self;
  LLVMMetadataRef id = LLVMMDNodeInContext2(c, node, 3);
  LLVMMetadataReplaceAllUsesWith(self, id);
  LLVMSetMetadata(branch, g->u->md_loop, LLVMMetadataAsValue(c, id));
}

static void gen_block(Gen *g, const Block *b);

static void gen_for(Gen *g, const Var *counter, LLVMValueRef begin, LLVMValueRef end, int64_t step, const Block *body) {
  LLVMBuilderRef b = g->u->b;
  LLVMBasicBlockRef head = LLVMGetInsertBlock(b), loop = block_new(g), done = block_new(g);
  LLVMValueRef enter = LLVMBuildICmp(b, LLVMIntSLT, begin, end, "");
  if (!LLVMIsConstant(enter) || !LLVMConstIntGetZExtValue(enter)) {
    head = block_new(g);   /* a preheader of its own, for what is hoisted */
    LLVMBuildCondBr(b, enter, head, done);
    LLVMPositionBuilderAtEnd(b, head);
  }
  LLVMBuildBr(b, loop);
  LLVMPositionBuilderAtEnd(b, loop);
  LLVMValueRef i = LLVMBuildPhi(b, g->u->t_idx, g->u->names ? counter->name : "");
  g->val[counter->id] = i;
  gen_block(g, body);
  LLVMValueRef next = LLVMBuildNSWAdd(b, i, gen_idx(g->u, step), "");
  LLVMValueRef back = LLVMBuildCondBr(b, LLVMBuildICmp(b, LLVMIntSLT, next, end, ""), loop, done);
  LLVMAddIncoming(i, (LLVMValueRef[]){begin, next}, (LLVMBasicBlockRef[]){head, LLVMGetInsertBlock(b)}, 2);
  mark_loop(g, back, body);
  LLVMPositionBuilderAtEnd(b, done);
}

static void gen_while(Gen *g, const Stmt *s) {
  LLVMBuilderRef b = g->u->b;
  LLVMBasicBlockRef test = block_new(g), loop = block_new(g), done = block_new(g);
  LLVMBuildBr(b, test);
  LLVMPositionBuilderAtEnd(b, test);
  LLVMBuildCondBr(b, gen_expr(g, s->e), loop, done);
  LLVMPositionBuilderAtEnd(b, loop);
  gen_block(g, &s->body);
  mark_loop(g, LLVMBuildBr(b, test), &s->body);
  LLVMPositionBuilderAtEnd(b, done);
}

static void gen_if(Gen *g, const Stmt *s) {
  LLVMBuilderRef b = g->u->b;
  LLVMBasicBlockRef yes = block_new(g), no = s->other.first ? block_new(g) : NULL, done = block_new(g);
  LLVMBuildCondBr(b, gen_expr(g, s->e), yes, no ? no : done);
  LLVMPositionBuilderAtEnd(b, yes);
  gen_block(g, &s->body);
  LLVMBuildBr(b, done);
  if (no) {
    LLVMPositionBuilderAtEnd(b, no);
    gen_block(g, &s->other);
    LLVMBuildBr(b, done);
  }
  LLVMPositionBuilderAtEnd(b, done);
}

/* ---- statements ---- */

static void gen_let(Gen *g, const Stmt *s) {
  LLVMValueRef v = gen_expr(g, s->e);
  if (g->u->names && LLVMIsAInstruction(v)) LLVMSetValueName2(v, s->var->name, strlen(s->var->name));
  g->val[s->var->id] = v;
}

static void gen_reg(Gen *g, const Stmt *s) {
  LLVMBuilderRef b = g->u->b;
  LLVMValueRef v = gen_expr(g, s->e);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(b);
  LLVMPositionBuilderAtEnd(b, g->entry);
  g->val[s->var->id] = LLVMBuildAlloca(b, gen_type(g->u, s->var->type), g->u->names ? s->var->name : "");
  LLVMPositionBuilderAtEnd(b, here);
  LLVMBuildStore(b, v, g->val[s->var->id]);
}

static void gen_stmt(Gen *g, const Stmt *s) {
  switch (s->kind) {
  case S_FOR: {
    LLVMValueRef begin = gen_expr(g, s->e);
    gen_for(g, s->var, begin, gen_expr(g, s->end), s->step, &s->body);
    break;
  }
  case S_WHILE: gen_while(g, s); break;
  case S_IF: gen_if(g, s); break;
  case S_LET: gen_let(g, s); break;
  case S_REG: gen_reg(g, s); break;
  case S_SET: LLVMBuildStore(g->u->b, gen_expr(g, s->e), g->val[s->var->id]); break;
  case S_STORE: gen_store(g, s); break;
  case S_PREFETCH: gen_prefetch(g, s); break;
  case S_PIN:   /* LLVM folds a load into an operation only where that is its single use */
  case S_COMMENT: break;
  }
}

static void gen_block(Gen *g, const Block *b) {
  for (const Stmt *s = b->first; s; s = s->next) gen_stmt(g, s);
}

/* ---- kernels ---- */

LLVMTypeRef kernel_type(const Unit *u, const Kernel *k) {
  LLVMTypeRef params[2 + 64], *t = params;
  int n = k->params.n;
  if (n > 64) t = NEW_N(u->m->arena, LLVMTypeRef, n + 2);
  for (int i = 0; i < n; i++) t[i] = u->t_ptr;
  t[n] = t[n + 1] = u->t_idx;
  return LLVMFunctionType(u->t_void, t, (unsigned)n + 2, false);
}

static void param_attributes(const Gen *g, int i) {
  const Unit *u = g->u;
  const Var *v = g->k->params.at[i];
  unsigned at = (unsigned)i + 1;
  if (!v->may_alias) unit_attribute(u, g->fn, at, "noalias", 0);
  unit_attribute(u, g->fn, at, "nocapture", 0);
  if (v->access == ACCESS_IN || v->access == ACCESS_CONST) unit_attribute(u, g->fn, at, "readonly", 0);
  if (v->access == ACCESS_OUT) unit_attribute(u, g->fn, at, "writeonly", 0);
  const ParamFact *f = &g->fact->param[i];
  if (f->align > 1) unit_attribute(u, g->fn, at, "align", (uint64_t)f->align);
  if (f->bytes > 0) unit_attribute(u, g->fn, at, "dereferenceable", (uint64_t)f->bytes);
}

LLVMValueRef kernel_build(Unit *u, const Kernel *k, const KernelFact *fact, const char *name) {
  Gen g = {.u = u, .k = k, .fact = fact, .val = NEW_N(u->m->arena, LLVMValueRef, MAXI(k->vars.n, 1))};
  g.fn = LLVMAddFunction(u->mod, name, kernel_type(u, k));
  LLVMSetLinkage(g.fn, LLVMInternalLinkage);
  unit_function(u, g.fn);
  for (int i = 0; i < k->params.n; i++) {
    g.val[k->params.at[i]->id] = LLVMGetParam(g.fn, (unsigned)i);
    if (u->names) LLVMSetValueName2(LLVMGetParam(g.fn, (unsigned)i), k->params.at[i]->name, strlen(k->params.at[i]->name));
  }
  g.entry = block_new(&g);
  LLVMBasicBlockRef start = block_new(&g);
  LLVMPositionBuilderAtEnd(u->b, start);
  LLVMValueRef begin = LLVMGetParam(g.fn, (unsigned)k->params.n), end = LLVMGetParam(g.fn, (unsigned)k->params.n + 1);
  if (k->range) gen_for(&g, k->range, begin, end, 1, &k->body);
  else gen_block(&g, &k->body);
  LLVMBuildRetVoid(u->b);
  LLVMPositionBuilderAtEnd(u->b, g.entry);
  LLVMBuildBr(u->b, start);
  for (int i = 0; i < k->params.n; i++) param_attributes(&g, i);
  return g.fn;
}
