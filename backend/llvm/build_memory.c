/* backend/llvm/build_memory.c: loads, stores, prefetches.
 *
 *   all lanes, stride 1      one vector access
 *   constant count           a shorter vector, widened with zeros
 *   count                    masked access; lanes past the count are not touched
 *   stride                   one access per lane, stores of many lanes in a loop
 *   count and stride         masked gather; stores in a loop over the lanes (a scatter takes up to three times as long where it is microcode)
 *
 * A bool is a byte in memory and a bit in a register. Addresses of whole accesses are inbounds; those of partial ones need not be, as
 * no lane may be valid.
 */
#include "llvm.h"

/* &buf[index + lane], where lane is a constant. The constants of the index are added last and apart: what is left is then the same for all
 * accesses of a tile, which share one register and differ in the displacement. */
static LLVMValueRef address(Gen *g, const Var *buf, const Expr *index, LLVMValueRef lane, bool inbounds) {
  const Unit *u = g->u;
  LLVMTypeRef t = gen_memory_type(u, buf->type);
  LLVMValueRef p = g->val[buf->id], at[2] = {NULL, lane};
  if ((index->op == X_ADD || index->op == X_SUB) && index->a[1]->op == X_CONST) {
    LLVMValueRef c = gen_idx(u, index->op == X_ADD ? index->a[1]->i : -index->a[1]->i);
    at[1] = lane ? LLVMBuildNSWAdd(u->b, c, lane, "") : c;
    index = index->a[0];
  }
  at[0] = gen_expr(g, index);
  for (int i = 0; i < 2 && at[i]; i++) p = inbounds ? LLVMBuildInBoundsGEP2(u->b, t, p, &at[i], 1, "") : LLVMBuildGEP2(u->b, t, p, &at[i], 1, "");
  return p;
}

/* Addresses of all lanes of a strided access. */
static LLVMValueRef addresses(Gen *g, const Var *buf, const Expr *index, LLVMValueRef stride, int lanes) {
  const Unit *u = g->u;
  LLVMValueRef lane[MAX_LANES];
  for (int i = 0; i < lanes; i++) lane[i] = gen_idx(u, i);
  LLVMValueRef at = LLVMBuildMul(u->b, LLVMConstVector(lane, (unsigned)lanes), gen_splat(u, stride, lanes), "");
  at = LLVMBuildAdd(u->b, at, gen_splat(u, gen_expr(g, index), lanes), "");
  return LLVMBuildGEP2(u->b, gen_memory_type(u, buf->type), g->val[buf->id], &at, 1, "");
}

/* Lane i < count. */
static LLVMValueRef mask(Gen *g, LLVMValueRef count, int lanes) {
  const Unit *u = g->u;
  LLVMTypeRef i32 = LLVMInt32TypeInContext(u->m->ctx), idx = u->t_idx;
  LLVMValueRef lane[MAX_LANES];
  for (int i = 0; i < lanes; i++) lane[i] = LLVMConstInt(i32, (unsigned)i, false);
  count = gen_intrinsic(u, "llvm.smax", &idx, 1, (LLVMValueRef[]){count, gen_idx(u, 0)}, 2);
  count = gen_intrinsic(u, "llvm.umin", &idx, 1, (LLVMValueRef[]){count, gen_idx(u, lanes)}, 2);
  if (LLVMGetIntTypeWidth(idx) > 32) count = LLVMBuildTrunc(u->b, count, i32, "");
  return LLVMBuildICmp(u->b, LLVMIntULT, LLVMConstVector(lane, (unsigned)lanes), gen_splat(u, count, lanes), "");
}

static unsigned element_align(const Var *buf) { return (unsigned)dt_size(buf->type.dt); }

static LLVMValueRef memory_access(Gen *g, LLVMValueRef access, const Var *buf) {
  LLVMSetAlignment(access, element_align(buf));
  if (buf->access == ACCESS_CONST && LLVMIsALoadInst(access)) LLVMSetMetadata(access, g->u->md_invariant, LLVMMDNodeInContext(g->u->m->ctx, NULL, 0));
  return access;
}

static LLVMValueRef load_plain(Gen *g, const Var *buf, LLVMValueRef p, int lanes) {
  return memory_access(g, LLVMBuildLoad2(g->u->b, gen_memory_type(g->u, type_of(buf->type.dt, lanes)), p, ""), buf);
}

static bool constant_count(const Expr *count, int lanes, int *n) {
  if (!count || count->op != X_CONST) return false;
  *n = count->i < 0 ? 0 : count->i > lanes ? lanes : (int)count->i;
  return true;
}

/* The first n lanes of v, filled up with zeros to `lanes`, or cut to them. */
static LLVMValueRef resize(Gen *g, LLVMValueRef v, int n, int lanes) {
  LLVMTypeRef i32 = LLVMInt32TypeInContext(g->u->m->ctx);
  LLVMValueRef pick[MAX_LANES];
  for (int i = 0; i < lanes; i++) pick[i] = LLVMConstInt(i32, (unsigned)(i < n ? i : n), false);
  return LLVMBuildShuffleVector(g->u->b, v, LLVMConstNull(LLVMTypeOf(v)), LLVMConstVector(pick, (unsigned)lanes), "");
}

static LLVMValueRef load_masked(Gen *g, const Expr *e, LLVMValueRef count, LLVMValueRef stride) {
  const Unit *u = g->u;
  int n = e->type.lanes;
  LLVMTypeRef t = gen_memory_type(u, e->type);
  LLVMValueRef align = LLVMConstInt(LLVMInt32TypeInContext(u->m->ctx), element_align(e->var), false);
  LLVMValueRef p = stride ? addresses(g, e->var, e->a[0], stride, n) : address(g, e->var, e->a[0], NULL, false);
  return gen_intrinsic(u, stride ? "llvm.masked.gather" : "llvm.masked.load", (LLVMTypeRef[]){t, LLVMTypeOf(p)}, 2,
                       (LLVMValueRef[]){p, align, mask(g, count, n), LLVMConstNull(t)}, 4);
}

static LLVMValueRef load_strided(Gen *g, const Expr *e, LLVMValueRef stride) {
  const Unit *u = g->u;
  LLVMTypeRef i32 = LLVMInt32TypeInContext(u->m->ctx);
  LLVMValueRef v = LLVMGetPoison(gen_memory_type(u, e->type));
  for (int i = 0; i < e->type.lanes; i++) {
    LLVMValueRef p = address(g, e->var, e->a[0], LLVMBuildNSWMul(u->b, stride, gen_idx(u, i), ""), true);
    v = LLVMBuildInsertElement(u->b, v, load_plain(g, e->var, p, 1), LLVMConstInt(i32, (unsigned)i, false), "");
  }
  return v;
}

static LLVMValueRef load_memory(Gen *g, const Expr *e) {
  int n, lanes = e->type.lanes;
  LLVMValueRef count = e->a[1] ? gen_expr(g, e->a[1]) : NULL, stride = e->a[2] ? gen_expr(g, e->a[2]) : NULL;
  if (!count) return stride ? load_strided(g, e, stride) : load_plain(g, e->var, address(g, e->var, e->a[0], NULL, true), lanes);
  if (stride || !constant_count(e->a[1], lanes, &n)) return load_masked(g, e, count, stride);
  if (!n) return LLVMConstNull(gen_memory_type(g->u, e->type));
  /* A vector type even for one lane, so that it can be widened. */
  LLVMTypeRef part = LLVMVectorType(gen_memory_type(g->u, e->var->type), (unsigned)n);
  LLVMValueRef v = memory_access(g, LLVMBuildLoad2(g->u->b, part, address(g, e->var, e->a[0], NULL, true), ""), e->var);
  return n == lanes ? v : resize(g, v, n, lanes);
}

LLVMValueRef gen_load(Gen *g, const Expr *e) {
  LLVMValueRef v = load_memory(g, e);
  return e->type.dt == DT_BOOL ? LLVMBuildICmp(g->u->b, LLVMIntNE, v, LLVMConstNull(LLVMTypeOf(v)), "") : v;
}

/* ---- stores ---- */

static void store_plain(Gen *g, const Var *buf, LLVMValueRef v, LLVMValueRef p) { memory_access(g, LLVMBuildStore(g->u->b, v, p), buf); }

static void store_masked(Gen *g, const Stmt *s, LLVMValueRef v, LLVMValueRef count) {
  const Unit *u = g->u;
  int n = s->e->type.lanes;
  LLVMValueRef align = LLVMConstInt(LLVMInt32TypeInContext(u->m->ctx), element_align(s->var), false);
  LLVMValueRef p = address(g, s->var, s->index, NULL, false);
  gen_intrinsic(u, "llvm.masked.store", (LLVMTypeRef[]){LLVMTypeOf(v), LLVMTypeOf(p)}, 2, (LLVMValueRef[]){v, p, align, mask(g, count, n)}, 4);
}

static LLVMValueRef entry_alloca(Gen *g, LLVMTypeRef t) {
  LLVMBuilderRef b = g->u->b;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(b);
  LLVMPositionBuilderAtEnd(b, g->entry);
  LLVMValueRef p = LLVMBuildAlloca(b, t, "");
  LLVMPositionBuilderAtEnd(b, here);
  return p;
}

/* The first `count` lanes of v, one by one, through memory: little code, and as quick as stores can be. */
static void store_lanes(Gen *g, const Stmt *s, LLVMValueRef v, LLVMValueRef count, LLVMValueRef stride) {
  const Unit *u = g->u;
  LLVMBuilderRef b = u->b;
  LLVMTypeRef idx = u->t_idx, t = gen_memory_type(u, s->var->type);
  LLVMValueRef lanes = entry_alloca(g, LLVMTypeOf(v)), to = address(g, s->var, s->index, NULL, false);
  LLVMBuildStore(b, v, lanes);
  LLVMValueRef end = gen_intrinsic(u, "llvm.smin", &idx, 1, (LLVMValueRef[]){count, gen_idx(u, s->e->type.lanes)}, 2);
  LLVMBasicBlockRef head = LLVMGetInsertBlock(b);
  LLVMBasicBlockRef loop = LLVMAppendBasicBlockInContext(u->m->ctx, g->fn, ""), done = LLVMAppendBasicBlockInContext(u->m->ctx, g->fn, "");
  LLVMBuildCondBr(b, LLVMBuildICmp(b, LLVMIntSGT, end, gen_idx(u, 0), ""), loop, done);
  LLVMPositionBuilderAtEnd(b, loop);
  LLVMValueRef i = LLVMBuildPhi(b, idx, ""), at = LLVMBuildMul(b, i, stride, "");
  LLVMValueRef x = LLVMBuildLoad2(b, t, LLVMBuildInBoundsGEP2(b, t, lanes, &i, 1, ""), "");
  store_plain(g, s->var, x, LLVMBuildGEP2(b, t, to, &at, 1, ""));
  LLVMValueRef next = LLVMBuildNSWAdd(b, i, gen_idx(u, 1), "");
  LLVMBuildCondBr(b, LLVMBuildICmp(b, LLVMIntSLT, next, end, ""), loop, done);
  LLVMAddIncoming(i, (LLVMValueRef[]){gen_idx(u, 0), next}, (LLVMBasicBlockRef[]){head, loop}, 2);
  LLVMPositionBuilderAtEnd(b, done);
}

static void store_strided(Gen *g, const Stmt *s, LLVMValueRef v, LLVMValueRef stride) {
  const Unit *u = g->u;
  LLVMTypeRef i32 = LLVMInt32TypeInContext(u->m->ctx);
  for (int i = 0; i < s->e->type.lanes; i++) {
    LLVMValueRef p = address(g, s->var, s->index, LLVMBuildNSWMul(u->b, stride, gen_idx(u, i), ""), true);
    store_plain(g, s->var, LLVMBuildExtractElement(u->b, v, LLVMConstInt(i32, (unsigned)i, false), ""), p);
  }
}

void gen_store(Gen *g, const Stmt *s) {
  int n, lanes = s->e->type.lanes;
  LLVMValueRef v = gen_expr(g, s->e);
  LLVMValueRef count = s->count ? gen_expr(g, s->count) : NULL, stride = s->stride ? gen_expr(g, s->stride) : NULL;
  if (s->e->type.dt == DT_BOOL) v = LLVMBuildZExt(g->u->b, v, gen_memory_type(g->u, s->e->type), "");
  if (!count) {
    if (stride && lanes >= 8) store_lanes(g, s, v, gen_idx(g->u, lanes), stride);
    else if (stride) store_strided(g, s, v, stride);
    else store_plain(g, s->var, v, address(g, s->var, s->index, NULL, true));
  } else if (stride) {
    store_lanes(g, s, v, count, stride);
  } else if (!constant_count(s->count, lanes, &n)) {
    store_masked(g, s, v, count);
  } else if (n) {
    store_plain(g, s->var, n == lanes ? v : resize(g, v, n, n), address(g, s->var, s->index, NULL, true));
  }
}

/* May point anywhere: prefetches do not fault. */
void gen_prefetch(Gen *g, const Stmt *s) {
  const Unit *u = g->u;
  LLVMTypeRef i32 = LLVMInt32TypeInContext(u->m->ctx), ptr = u->t_ptr;
  LLVMValueRef args[4] = {address(g, s->var, s->index, NULL, false), LLVMConstInt(i32, s->write, false),
                          LLVMConstInt(i32, (unsigned)s->locality, false), LLVMConstInt(i32, 1, false)};
  gen_intrinsic(u, "llvm.prefetch", &ptr, 1, args, 4);
}
