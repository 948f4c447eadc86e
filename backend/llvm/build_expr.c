/* backend/llvm/build_expr.c: operators of the loop IR as LLVM instructions.
 *
 * Where LLVM leaves a result open and the loop IR does not, the open cases are guarded: integer division by 0 and of the smallest value
 * by -1, shift counts out of range, conversions that do not fit. The guards vanish for constant operands, which is most of them.
 *
 * f32 mathematics that legalisation left is done by libm in double and rounded once, as the interpreter does. The calls are nobuiltin:
 * LLVM would otherwise rewrite some of them to cheaper ones with other bits.
 */
#include "llvm.h"
#include <string.h>

/* ---- types ---- */

LLVMTypeRef gen_scalar(const Unit *u, DType dt) {
  LLVMContextRef c = u->m->ctx;
  if (dt == DT_IDX) return u->t_idx;
  if (dt == DT_F32) return LLVMFloatTypeInContext(c);
  if (dt == DT_F64) return LLVMDoubleTypeInContext(c);
  if (dt == DT_BOOL) return LLVMInt1TypeInContext(c);
  return LLVMIntTypeInContext(c, (unsigned)MAXI(8, dt_bits(dt)));
}

LLVMTypeRef gen_type(const Unit *u, Type t) {
  LLVMTypeRef s = gen_scalar(u, t.dt);
  return t.lanes == 1 ? s : LLVMVectorType(s, (unsigned)t.lanes);
}

LLVMTypeRef gen_memory_type(const Unit *u, Type t) { return gen_type(u, t.dt == DT_BOOL ? type_of(DT_U8, t.lanes) : t); }

static bool is_signed(DType t) { return t == DT_IDX || dt_is_signed(t); }

/* ---- constants, splats ---- */

LLVMValueRef gen_idx(const Unit *u, int64_t i) { return LLVMConstInt(u->t_idx, (unsigned long long)i, true); }

static LLVMValueRef const_splat(LLVMValueRef c, int lanes) {
  LLVMValueRef v[MAX_LANES];
  if (lanes == 1) return c;
  for (int i = 0; i < lanes; i++) v[i] = c;
  return LLVMConstVector(v, (unsigned)lanes);
}

static LLVMValueRef const_int(const Unit *u, Type t, int64_t i) {
  return const_splat(LLVMConstInt(gen_scalar(u, t.dt), (unsigned long long)i, true), t.lanes);
}

static LLVMValueRef const_float(const Unit *u, Type t, double f) { return const_splat(LLVMConstReal(gen_scalar(u, t.dt), f), t.lanes); }

LLVMValueRef gen_splat(const Unit *u, LLVMValueRef x, int lanes) {
  if (lanes == 1) return x;
  if (LLVMIsConstant(x)) return const_splat(x, lanes);
  LLVMTypeRef i32 = LLVMInt32TypeInContext(u->m->ctx), vec = LLVMVectorType(LLVMTypeOf(x), (unsigned)lanes);
  LLVMValueRef first = LLVMBuildInsertElement(u->b, LLVMGetPoison(vec), x, LLVMConstInt(i32, 0, false), "");
  return LLVMBuildShuffleVector(u->b, first, LLVMGetPoison(vec), LLVMConstNull(LLVMVectorType(i32, (unsigned)lanes)), "");
}

static LLVMValueRef lane(const Unit *u, LLVMValueRef v, int i) {
  return LLVMBuildExtractElement(u->b, v, LLVMConstInt(LLVMInt32TypeInContext(u->m->ctx), (unsigned)i, false), "");
}

static LLVMValueRef shuffle(const Unit *u, LLVMValueRef l, LLVMValueRef r, const uint8_t *pick, int n) {
  LLVMTypeRef i32 = LLVMInt32TypeInContext(u->m->ctx);
  LLVMValueRef at[MAX_LANES];
  for (int i = 0; i < n; i++) at[i] = LLVMConstInt(i32, pick[i], false);
  return LLVMBuildShuffleVector(u->b, l, r, LLVMConstVector(at, (unsigned)n), "");
}

LLVMValueRef gen_intrinsic(const Unit *u, const char *name, LLVMTypeRef *types, int ntypes, LLVMValueRef *args, int nargs) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LLVMValueRef fn = LLVMGetIntrinsicDeclaration(u->mod, id, types, (size_t)ntypes);
  return LLVMBuildCall2(u->b, LLVMIntrinsicGetType(u->m->ctx, id, types, (size_t)ntypes), fn, args, (unsigned)nargs, "");
}

static LLVMValueRef unary(const Unit *u, const char *name, LLVMValueRef x) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return gen_intrinsic(u, name, &t, 1, &x, 1);
}

/* ---- arithmetic ---- */

/* a < b ? a : b and a > b ? a : b, exactly: what minps and maxps compute. */
static LLVMValueRef min_max(const Unit *u, bool max, DType dt, LLVMValueRef a, LLVMValueRef b) {
  if (dt_is_float(dt)) return LLVMBuildSelect(u->b, LLVMBuildFCmp(u->b, max ? LLVMRealOGT : LLVMRealOLT, a, b, ""), a, b, "");
  static const char *const names[2][2] = {{"llvm.umin", "llvm.umax"}, {"llvm.smin", "llvm.smax"}};
  LLVMTypeRef t = LLVMTypeOf(a);
  return gen_intrinsic(u, names[is_signed(dt)][max], &t, 1, (LLVMValueRef[]){a, b}, 2);
}

/* x/0 and x%0 are 0, and the smallest value divided by -1 wraps. idx operands are not negative. */
static LLVMValueRef divide(const Unit *u, bool rem, const Expr *e, LLVMValueRef a, LLVMValueRef b) {
  LLVMBuilderRef bld = u->b;
  Type t = e->type;
  bool sgn = is_signed(t.dt) && t.dt != DT_IDX;
  LLVMValueRef zero = const_int(u, t, 0), one = const_int(u, t, 1), d = b, by_zero = NULL, by_minus = NULL;
  if (e->a[1]->op != X_CONST || e->a[1]->i == 0 || (sgn && e->a[1]->i == -1)) {
    by_zero = LLVMBuildICmp(bld, LLVMIntEQ, b, zero, "");
    d = LLVMBuildSelect(bld, by_zero, one, b, "");
    if (sgn) {
      by_minus = LLVMBuildICmp(bld, LLVMIntEQ, b, const_int(u, t, -1), "");
      d = LLVMBuildSelect(bld, by_minus, one, d, "");
    }
  }
  LLVMValueRef r;
  if (rem) r = sgn ? LLVMBuildSRem(bld, a, d, "") : LLVMBuildURem(bld, a, d, "");
  else r = sgn ? LLVMBuildSDiv(bld, a, d, "") : LLVMBuildUDiv(bld, a, d, "");
  if (by_minus) r = LLVMBuildSelect(bld, by_minus, rem ? zero : LLVMBuildNeg(bld, a, ""), r, "");
  return by_zero ? LLVMBuildSelect(bld, by_zero, zero, r, "") : r;
}

static LLVMValueRef shift(const Unit *u, const Expr *e, LLVMValueRef a, LLVMValueRef n) {
  int bits = (int)LLVMGetIntTypeWidth(gen_scalar(u, e->type.dt));
  n = LLVMBuildAnd(u->b, n, const_int(u, e->type, bits - 1), "");
  if (e->op == X_SHL) return LLVMBuildShl(u->b, a, n, "");
  return is_signed(e->type.dt) ? LLVMBuildAShr(u->b, a, n, "") : LLVMBuildLShr(u->b, a, n, "");
}

static LLVMValueRef add_sub_mul(const Unit *u, XOp op, DType dt, LLVMValueRef a, LLVMValueRef b) {
  LLVMBuilderRef bld = u->b;
  if (op == X_ADD) return dt_is_float(dt) ? LLVMBuildFAdd(bld, a, b, "") : dt == DT_IDX ? LLVMBuildNSWAdd(bld, a, b, "") : LLVMBuildAdd(bld, a, b, "");
  if (op == X_SUB) return dt_is_float(dt) ? LLVMBuildFSub(bld, a, b, "") : dt == DT_IDX ? LLVMBuildNSWSub(bld, a, b, "") : LLVMBuildSub(bld, a, b, "");
  return dt_is_float(dt) ? LLVMBuildFMul(bld, a, b, "") : dt == DT_IDX ? LLVMBuildNSWMul(bld, a, b, "") : LLVMBuildMul(bld, a, b, "");
}

static LLVMValueRef compare(const Unit *u, const Expr *e, LLVMValueRef a, LLVMValueRef b) {
  static const LLVMRealPredicate real[] = {LLVMRealOEQ, LLVMRealUNE, LLVMRealOLT, LLVMRealOLE, LLVMRealOGT, LLVMRealOGE};
  static const LLVMIntPredicate sign[] = {LLVMIntEQ, LLVMIntNE, LLVMIntSLT, LLVMIntSLE, LLVMIntSGT, LLVMIntSGE};
  static const LLVMIntPredicate plain[] = {LLVMIntEQ, LLVMIntNE, LLVMIntULT, LLVMIntULE, LLVMIntUGT, LLVMIntUGE};
  DType dt = e->a[0]->type.dt;
  int i = (int)e->op - X_EQ;
  if (dt_is_float(dt)) return LLVMBuildFCmp(u->b, real[i], a, b, "");
  return LLVMBuildICmp(u->b, is_signed(dt) ? sign[i] : plain[i], a, b, "");
}

/* ---- mathematics ---- */

static LLVMValueRef libm(const Unit *u, const char *name, LLVMValueRef *args, int nargs) {
  LLVMTypeRef d = LLVMDoubleTypeInContext(u->m->ctx), params[2] = {d, d}, type = LLVMFunctionType(d, params, (unsigned)nargs, false);
  LLVMValueRef fn = LLVMGetNamedFunction(u->mod, name);
  if (!fn) {
    fn = LLVMAddFunction(u->mod, name, type);
    unit_attribute(u, fn, (unsigned)LLVMAttributeFunctionIndex, "memory", 0);
    unit_attribute(u, fn, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
    unit_attribute(u, fn, (unsigned)LLVMAttributeFunctionIndex, "willreturn", 0);
    unit_attribute(u, fn, (unsigned)LLVMAttributeFunctionIndex, "nobuiltin", 0);
  }
  return LLVMBuildCall2(u->b, type, fn, args, (unsigned)nargs, "");
}

/* x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)) */
static LLVMValueRef sigmoid(const Unit *u, LLVMValueRef x) {
  LLVMTypeRef d = LLVMTypeOf(x);
  LLVMValueRef one = LLVMConstReal(d, 1), minus = LLVMBuildFNeg(u->b, unary(u, "llvm.fabs", x), ""), e = libm(u, "exp", &minus, 1);
  LLVMValueRef top = LLVMBuildSelect(u->b, LLVMBuildFCmp(u->b, LLVMRealOGE, x, LLVMConstNull(d), ""), one, e, "");
  return LLVMBuildFDiv(u->b, top, LLVMBuildFAdd(u->b, one, e, ""), "");
}

static LLVMValueRef math_lane(const Unit *u, const Expr *e, LLVMValueRef *args, int nargs) {
  LLVMTypeRef d = LLVMDoubleTypeInContext(u->m->ctx);
  bool wide = e->type.dt == DT_F64;
  LLVMValueRef x[2];
  for (int i = 0; i < nargs; i++) x[i] = wide ? args[i] : LLVMBuildFPExt(u->b, args[i], d, "");
  LLVMValueRef r = e->op == X_SIGMOID ? sigmoid(u, x[0]) : libm(u, x_table[e->op].text, x, nargs);
  return wide ? r : LLVMBuildFPTrunc(u->b, r, LLVMFloatTypeInContext(u->m->ctx), "");
}

static LLVMValueRef math(const Unit *u, const Expr *e, LLVMValueRef *args, int nargs) {
  if (e->type.lanes == 1) return math_lane(u, e, args, nargs);
  LLVMValueRef r = LLVMGetPoison(gen_type(u, e->type));
  for (int i = 0; i < e->type.lanes; i++) {
    LLVMValueRef x[2];
    for (int k = 0; k < nargs; k++) x[k] = lane(u, args[k], i);
    r = LLVMBuildInsertElement(u->b, r, math_lane(u, e, x, nargs), LLVMConstInt(LLVMInt32TypeInContext(u->m->ctx), (unsigned)i, false), "");
  }
  return r;
}

/* ---- conversions ---- */

static LLVMValueRef int_resize(const Unit *u, LLVMValueRef x, bool sgn, LLVMTypeRef to) {
  unsigned have = LLVMGetIntTypeWidth(LLVMGetTypeKind(LLVMTypeOf(x)) == LLVMVectorTypeKind ? LLVMGetElementType(LLVMTypeOf(x)) : LLVMTypeOf(x));
  unsigned want = LLVMGetIntTypeWidth(LLVMGetTypeKind(to) == LLVMVectorTypeKind ? LLVMGetElementType(to) : to);
  if (want == have) return x;
  if (want < have) return LLVMBuildTrunc(u->b, x, to, "");
  return sgn ? LLVMBuildSExt(u->b, x, to, "") : LLVMBuildZExt(u->b, x, to, "");
}

static LLVMValueRef cast(const Unit *u, const Expr *e, LLVMValueRef x) {
  DType from = e->a[0]->type.dt, to = e->type.dt;
  LLVMTypeRef t = gen_type(u, e->type), have = LLVMTypeOf(x);
  if (dt_is_float(from)) {
    if (to == DT_BOOL) return LLVMBuildFCmp(u->b, LLVMRealUNE, x, LLVMConstNull(have), "");
    if (dt_is_float(to)) return LLVMBuildFPCast(u->b, x, t, "");
    return gen_intrinsic(u, is_signed(to) ? "llvm.fptosi.sat" : "llvm.fptoui.sat", (LLVMTypeRef[]){t, have}, 2, &x, 1);
  }
  if (to == DT_BOOL) return LLVMBuildICmp(u->b, LLVMIntNE, x, LLVMConstNull(have), "");
  if (dt_is_float(to)) return is_signed(from) ? LLVMBuildSIToFP(u->b, x, t, "") : LLVMBuildUIToFP(u->b, x, t, "");
  return int_resize(u, x, is_signed(from), t);
}

/* ---- lanes ---- */

static LLVMValueRef iota(const Unit *u, Type t) {
  LLVMValueRef v[MAX_LANES];
  for (int i = 0; i < t.lanes; i++) v[i] = LLVMConstInt(gen_scalar(u, t.dt), (unsigned)i, false);
  return LLVMConstVector(v, (unsigned)t.lanes);
}

/* By halves: the lower with the upper, until one lane is left. */
static LLVMValueRef reduce(const Unit *u, const Expr *e, LLVMValueRef v) {
  DType dt = e->type.dt;
  for (int n = e->a[0]->type.lanes / 2; n >= 1; n /= 2) {
    uint8_t pick[MAX_LANES];
    for (int i = 0; i < 2 * n; i++) pick[i] = (uint8_t)i;
    LLVMValueRef l = n == 1 ? lane(u, v, 0) : shuffle(u, v, v, pick, n), h = n == 1 ? lane(u, v, 1) : shuffle(u, v, v, pick + n, n);
    if (e->op == X_REDUCE_MIN || e->op == X_REDUCE_MAX) v = min_max(u, e->op == X_REDUCE_MAX, dt, l, h);
    else v = add_sub_mul(u, e->op == X_REDUCE_ADD ? X_ADD : X_MUL, dt, l, h);
  }
  return v;
}

/* ---- expressions ---- */

static LLVMValueRef variable(Gen *g, const Var *v) {
  if (v->kind != VAR_REG) return g->val[v->id];
  return LLVMBuildLoad2(g->u->b, gen_type(g->u, v->type), g->val[v->id], "");
}

static LLVMValueRef negate(const Unit *u, DType dt, LLVMValueRef x) {
  return dt_is_float(dt) ? LLVMBuildFNeg(u->b, x, "") : dt == DT_IDX ? LLVMBuildNSWNeg(u->b, x, "") : LLVMBuildNeg(u->b, x, "");
}

static LLVMValueRef absolute(const Unit *u, DType dt, LLVMValueRef x) {
  if (dt_is_float(dt)) return unary(u, "llvm.fabs", x);
  if (!is_signed(dt)) return x;
  LLVMTypeRef t = LLVMTypeOf(x);
  return gen_intrinsic(u, "llvm.abs", &t, 1, (LLVMValueRef[]){x, LLVMConstInt(LLVMInt1TypeInContext(u->m->ctx), 0, false)}, 2);
}

LLVMValueRef gen_expr(Gen *g, const Expr *e) {
  const Unit *u = g->u;
  LLVMBuilderRef b = u->b;
  LLVMValueRef x[3] = {NULL, NULL, NULL};
  DType dt = e->type.dt;
  if (e->op == X_LOAD) return gen_load(g, e);
  for (int i = 0; i < x_table[e->op].nargs; i++) x[i] = gen_expr(g, e->a[i]);
  switch (e->op) {
  case X_CONST: return dt_is_float(dt) ? const_float(u, e->type, e->f) : const_int(u, e->type, e->i);
  case X_VAR: return variable(g, e->var);
  case X_LOAD: break;
  case X_IOTA: return iota(u, e->type);
  case X_ADD:
  case X_SUB:
  case X_MUL: return add_sub_mul(u, e->op, dt, x[0], x[1]);
  case X_DIV: return dt_is_float(dt) ? LLVMBuildFDiv(b, x[0], x[1], "") : divide(u, false, e, x[0], x[1]);
  case X_REM: return dt_is_float(dt) ? LLVMBuildFRem(b, x[0], x[1], "") : divide(u, true, e, x[0], x[1]);
  case X_MIN: return min_max(u, false, dt, x[0], x[1]);
  case X_MAX: return min_max(u, true, dt, x[0], x[1]);
  case X_AND: return LLVMBuildAnd(b, x[0], x[1], "");
  case X_OR: return LLVMBuildOr(b, x[0], x[1], "");
  case X_XOR: return LLVMBuildXor(b, x[0], x[1], "");
  case X_SHL:
  case X_SHR: return shift(u, e, x[0], x[1]);
  case X_FMA: {
    LLVMTypeRef t = LLVMTypeOf(x[0]);
    return gen_intrinsic(u, "llvm.fma", &t, 1, x, 3);
  }
  case X_NEG: return negate(u, dt, x[0]);
  case X_NOT: return LLVMBuildNot(b, x[0], "");
  case X_ABS: return absolute(u, dt, x[0]);
  case X_SQRT: return unary(u, "llvm.sqrt", x[0]);
  case X_FLOOR: return unary(u, "llvm.floor", x[0]);
  case X_CEIL: return unary(u, "llvm.ceil", x[0]);
  case X_ROUND: return unary(u, "llvm.nearbyint", x[0]);   /* where it is a call, one of C99's; roundeven is newer */
  case X_TRUNC: return unary(u, "llvm.trunc", x[0]);
  case X_EQ:
  case X_NE:
  case X_LT:
  case X_LE:
  case X_GT:
  case X_GE: return compare(u, e, x[0], x[1]);
  case X_SELECT: return LLVMBuildSelect(b, x[0], x[1], x[2], "");
  case X_POW: return math(u, e, x, 2);
  case X_EXP:
  case X_LOG:
  case X_SIN:
  case X_COS:
  case X_TAN:
  case X_ASIN:
  case X_ACOS:
  case X_ATAN:
  case X_SINH:
  case X_COSH:
  case X_TANH:
  case X_ASINH:
  case X_ACOSH:
  case X_ATANH:
  case X_ERF:
  case X_SIGMOID: return math(u, e, x, 1);
  case X_CAST: return cast(u, e, x[0]);
  case X_BITCAST: return LLVMBuildBitCast(b, x[0], gen_type(u, e->type), "");
  case X_SPLAT: return gen_splat(u, x[0], e->type.lanes);
  case X_EXTRACT: return lane(u, x[0], (int)e->i);
  case X_SHUFFLE: return shuffle(u, x[0], x[1], e->shuffle, e->type.lanes);
  case X_REDUCE_ADD:
  case X_REDUCE_MUL:
  case X_REDUCE_MIN:
  case X_REDUCE_MAX: return reduce(u, e, x[0]);
  case X_COUNT: break;
  }
  return LLVMGetUndef(gen_type(u, e->type));
}
