/* ops/elementwise.c: elementwise operators: inference, arithmetic and logic, and the lowering of fused groups of them.
 *
 * An ew_ function gives the expression of one operator for operands of one width; it may put statements into the open kernel. What it uses
 * twice it names with s_let. NaN goes through Relu, Clip, Min, Max and Sign: x_bin(MAX, c, x) is x when x is NaN (see loop_ops.def).
 * Integers: division truncates, x/0 and x%0 are 0, INT_MIN/-1 wraps; shifts by the width or more give 0; powers wrap.
 *
 * lower_map joins neighbouring dimensions that no operand tells apart, so that operands of one shape are one flat loop.
 */
#include "ops.h"

#include <math.h>
#include <string.h>

/* ---- operand types ---- */

enum { F = 1, I = 2, B = 4 };

/* What operand 0 may be (Where: operands 1 and 2). */
static const unsigned char accepts[OP_COUNT] = {
    [OP_Neg] = F | I, [OP_Abs] = F | I, [OP_Sign] = F | I, [OP_Floor] = F, [OP_Ceil] = F, [OP_Round] = F,
    [OP_Sqrt] = F, [OP_Reciprocal] = F, [OP_Exp] = F, [OP_Log] = F, [OP_Sin] = F, [OP_Cos] = F, [OP_Tan] = F, [OP_Asin] = F,
    [OP_Acos] = F, [OP_Atan] = F, [OP_Sinh] = F, [OP_Cosh] = F, [OP_Tanh] = F, [OP_Asinh] = F, [OP_Acosh] = F, [OP_Atanh] = F,
    [OP_Erf] = F, [OP_Sigmoid] = F, [OP_Relu] = F | I, [OP_LeakyRelu] = F, [OP_Elu] = F, [OP_Selu] = F, [OP_Celu] = F,
    [OP_HardSigmoid] = F, [OP_HardSwish] = F, [OP_Softplus] = F, [OP_Softsign] = F, [OP_ThresholdedRelu] = F, [OP_Shrink] = F | I,
    [OP_Gelu] = F, [OP_Mish] = F, [OP_Swish] = F, [OP_Clip] = F | I, [OP_Not] = B, [OP_BitwiseNot] = I, [OP_IsNaN] = F, [OP_IsInf] = F,
    [OP_Cast] = F | I | B, [OP_Add] = F | I, [OP_Sub] = F | I, [OP_Mul] = F | I, [OP_Div] = F | I, [OP_Mod] = F | I, [OP_Pow] = F | I,
    [OP_Min] = F | I, [OP_Max] = F | I, [OP_PRelu] = F | I, [OP_And] = B, [OP_Or] = B, [OP_Xor] = B, [OP_BitwiseAnd] = I,
    [OP_BitwiseOr] = I, [OP_BitwiseXor] = I, [OP_BitShift] = I, [OP_Equal] = F | I | B, [OP_Less] = F | I, [OP_LessOrEqual] = F | I,
    [OP_Greater] = F | I, [OP_GreaterOrEqual] = F | I, [OP_Where] = F | I | B,
};

bool ew_accepts(Op op, DType t) {
  int class = dt_is_float(t) ? F : dt_is_int(t) ? I : t == DT_BOOL ? B : 0;
  return (accepts[op] & class) != 0;
}

/* ---- inference ---- */

static bool check_type(Graph *g, const Node *n, const Value *v) {
  if (!ew_accepts(n->op, v->dt)) REFUSE(g, n, NULL, "operands of type %s are not defined for it", dt_name(v->dt));
  return true;
}

static bool same_types(Graph *g, const Node *n, const Value *a, const Value *b) {
  if (a->dt != b->dt) REFUSE(g, n, NULL, "operands have different types, %s and %s", dt_name(a->dt), dt_name(b->dt));
  return true;
}

static bool broadcast(Graph *g, const Node *n, const Shape *a, const Shape *b, Shape *out) {
  if (shape_broadcast(a, b, out)) return true;
  REFUSE(g, n, NULL, "shapes %s and %s do not broadcast", shape_text(g->arena, a), shape_text(g->arena, b));
}

bool infer_same(Graph *g, Node *n) {
  if ((op_info(n->op)->flags & OPF_EW) && !check_type(g, n, n->in[0])) return false;
  return op_set_out(g, n, 0, n->in[0]->dt, &n->in[0]->shape);
}

bool infer_bool(Graph *g, Node *n) { return check_type(g, n, n->in[0]) && op_set_out(g, n, 0, DT_BOOL, &n->in[0]->shape); }

bool infer_cast(Graph *g, Node *n) {
  DType to = ((const CastAttr *)n->attr)->to;
  if (!ew_accepts(OP_Cast, to)) REFUSE(g, n, NULL, "casts to %s are not defined", dt_name(to));
  return check_type(g, n, n->in[0]) && op_set_out(g, n, 0, to, &n->in[0]->shape);
}

static bool infer_two(Graph *g, Node *n, DType to) {
  Shape s;
  return check_type(g, n, n->in[0]) && broadcast(g, n, &n->in[0]->shape, &n->in[1]->shape, &s) && op_set_out(g, n, 0, to, &s);
}

bool infer_broadcast(Graph *g, Node *n) { return same_types(g, n, n->in[0], n->in[1]) && infer_two(g, n, n->in[0]->dt); }
bool infer_compare(Graph *g, Node *n) { return same_types(g, n, n->in[0], n->in[1]) && infer_two(g, n, DT_BOOL); }
bool infer_pow(Graph *g, Node *n) { return check_type(g, n, n->in[1]) && infer_two(g, n, n->in[0]->dt); }

bool infer_where(Graph *g, Node *n) {
  Shape s;
  if (n->in[0]->dt != DT_BOOL) REFUSE(g, n, NULL, "the condition is %s, expected bool", dt_name(n->in[0]->dt));
  if (!same_types(g, n, n->in[1], n->in[2]) || !check_type(g, n, n->in[1])) return false;
  if (!broadcast(g, n, &n->in[0]->shape, &n->in[1]->shape, &s) || !broadcast(g, n, &s, &n->in[2]->shape, &s)) return false;
  return op_set_out(g, n, 0, n->in[1]->dt, &s);
}

/* Whether the body reads operand i at half resolution or less, and how much less. */
static int operand_up(const Node *n, int i) {
  for (int s = 0; s < n->nbody; s++)
    for (int j = 0; j < n->body[s].nargs; j++)
      if (n->body[s].arg[j].kind == ARG_IN && n->body[s].arg[j].i == i && n->body[s].arg[j].up) return n->body[s].arg[j].up;
  return 0;
}

/* The common shape of the operands; those read upsampled count with their enlarged size where no other tells the exact one. */
bool infer_map(Graph *g, Node *n) {
  if (!n->nbody) REFUSE(g, n, NULL, "a Map without steps");
  Shape y = {0};
  for (int i = 0; i < n->nin; i++)
    if (!operand_up(n, i) && !broadcast(g, n, &y, &n->in[i]->shape, &y)) return false;
  for (int i = 0; i < n->nin; i++) {
    int up = operand_up(n, i);
    if (!up) continue;
    Shape s = n->in[i]->shape;
    if (up > 30) REFUSE(g, n, NULL, "operand %d is upsampled by 2^%d", i, up);
    for (int d = s.rank - 1; d >= 0; d--) {
      int at = y.rank - s.rank + d, from_back = s.rank - d;
      bool spatial = MAXI(y.rank, s.rank) - from_back >= 2;
      if (!spatial || s.d[d].n == 1) continue;
      int64_t full = at >= 0 ? y.d[at].n : 1;
      if (s.d[d].n > EXTENT_MAX >> up) REFUSE(g, n, NULL, "operand %d is too large to be upsampled", i);
      if (full > 1 && s.d[d].n == (full >> up) + ((full & (((int64_t)1 << up) - 1)) != 0)) s.d[d].n = full;
      else s.d[d].n <<= up;
    }
    if (!broadcast(g, n, &y, &s, &y)) return false;
  }
  return op_set_out(g, n, 0, n->body[n->nbody - 1].dt, &y);
}

/* ---- arithmetic ---- */

#define EW(Name) Expr *ew_##Name(Build *b, const void *attr_, Expr *const *in, int n)
#define UNUSED (void)attr_, (void)n
#define UNARY(Name, expr)                                                                                                              \
  EW(Name) {                                                                                                                           \
    UNUSED;                                                                                                                            \
    Expr *x = in[0];                                                                                                                   \
    return expr;                                                                                                                       \
  }
#define BINARY(Name, expr)                                                                                                             \
  EW(Name) {                                                                                                                           \
    UNUSED;                                                                                                                            \
    Expr *x = in[0], *y = in[1];                                                                                                       \
    return expr;                                                                                                                       \
  }

static Expr *num(Build *b, const Expr *like, double v) { return x_num(b, like->type, v); }
static bool is_float(const Expr *x) { return dt_is_float(x->type.dt); }
static bool is_unsigned(const Expr *x) { return !dt_is_signed(x->type.dt); }
static Expr *is(Build *b, XOp op, Expr *x, double v) { return x_bin(b, op, x, num(b, x, v)); }

UNARY(Neg, x_un(b, X_NEG, x))
UNARY(Abs, is_unsigned(x) ? x : x_un(b, X_ABS, x))
UNARY(Relu, is_unsigned(x) ? x : x_bin(b, X_MAX, num(b, x, 0), x))
UNARY(Not, x_un(b, X_NOT, x))
UNARY(BitwiseNot, x_un(b, X_NOT, x))
UNARY(IsNaN, x_is_nan(b, s_let(b, "v", x)))
BINARY(Add, x_add(b, x, y))
BINARY(Sub, x_sub(b, x, y))
BINARY(Mul, x_mul(b, x, y))
BINARY(And, x_bin(b, X_AND, x, y))
BINARY(Or, x_bin(b, X_OR, x, y))
BINARY(Xor, x_bin(b, X_XOR, x, y))
BINARY(BitwiseAnd, x_bin(b, X_AND, x, y))
BINARY(BitwiseOr, x_bin(b, X_OR, x, y))
BINARY(BitwiseXor, x_bin(b, X_XOR, x, y))
BINARY(Less, x_bin(b, X_LT, x, y))
BINARY(LessOrEqual, x_bin(b, X_LE, x, y))
BINARY(Greater, x_bin(b, X_GT, x, y))
BINARY(GreaterOrEqual, x_bin(b, X_GE, x, y))
BINARY(Equal, x->type.dt == DT_BOOL ? x_un(b, X_NOT, x_bin(b, X_XOR, x, y)) : x_bin(b, X_EQ, x, y))

EW(Sign) {
  UNUSED;
  Expr *x = s_let(b, "v", in[0]);
  Expr *rest = is_unsigned(x) ? x : x_select(b, is(b, X_LT, x, 0), num(b, x, -1), x);   /* 0 and NaN are their own sign */
  return x_select(b, is(b, X_GT, x, 0), num(b, x, 1), rest);
}

EW(Clip) {
  const ClipAttr *a = attr_;
  (void)n;
  Expr *x = in[0];
  /* Bounds past every finite number are none; x_num saturates for integers. */
  bool lo = is_float(x) ? a->lo > -INFINITY : a->lo > -9.3e18, hi = is_float(x) ? a->hi < INFINITY : a->hi < 1.85e19;
  if (lo) x = x_bin(b, X_MAX, num(b, x, a->lo), x);
  if (hi) x = x_bin(b, X_MIN, num(b, x, a->hi), x);
  return x;
}

static Expr *extreme(Build *b, XOp op, Expr *x, Expr *y) {
  if (!is_float(x)) return x_bin(b, op, x, y);
  if (x->op == X_CONST && !isnan(x->f)) return x_bin(b, op, x, y);
  if (y->op == X_CONST && !isnan(y->f)) return x_bin(b, op, y, x);
  x = s_let(b, "v", x);
  return x_select(b, x_is_nan(b, x), x, x_bin(b, op, x, y));
}
BINARY(Min, extreme(b, X_MIN, x, y))
BINARY(Max, extreme(b, X_MAX, x, y))

EW(PRelu) {
  UNUSED;
  Expr *x = s_let(b, "v", in[0]);
  return x_select(b, is(b, X_LT, x, 0), x_mul(b, x, in[1]), x);
}

/* A divisor that division by is defined for: 1 in place of 0, and of -1, by which the smallest integer cannot be divided. */
static Expr *divisor(Build *b, Expr *y) {
  Expr *bad = is(b, X_EQ, y, 0);
  if (!is_unsigned(y)) bad = x_bin(b, X_OR, bad, is(b, X_EQ, y, -1));
  return x_select(b, bad, num(b, y, 1), y);
}

static bool plain_divisor(const Expr *y) { return y->op == X_CONST && y->i != 0 && y->i != -1; }

EW(Div) {
  UNUSED;
  Expr *x = in[0], *y = in[1];
  if (is_float(x) || plain_divisor(y)) return x_bin(b, X_DIV, x, y);
  x = s_let(b, "v", x);
  y = s_let(b, "d", y);
  Expr *q = x_bin(b, X_DIV, x, s_let(b, "d", divisor(b, y)));
  if (!is_unsigned(x)) q = x_select(b, is(b, X_EQ, y, -1), x_un(b, X_NEG, x), q);
  return x_select(b, is(b, X_EQ, y, 0), num(b, x, 0), q);
}

/* fmod (alpha) has the sign of the dividend, otherwise the result has that of the divisor. */
EW(Mod) {
  (void)n;
  bool c = ((const AlphaAttr *)attr_)->alpha != 0;
  Expr *x = in[0], *y = s_let(b, "d", in[1]);
  Expr *r = x_bin(b, X_REM, x, is_float(x) || plain_divisor(y) ? y : s_let(b, "d", divisor(b, y)));   /* x % 1 is 0, as x % 0 is to be */
  if (c || is_unsigned(x)) return r;
  r = s_let(b, "rem", r);
  Expr *differ = x_bin(b, X_XOR, is(b, X_LT, r, 0), is(b, X_LT, y, 0));
  return x_select(b, x_bin(b, X_AND, is(b, X_NE, r, 0), differ), x_add(b, r, y), r);
}

/* By squaring; wraps. A negative exponent leaves 1 and -1 only. */
static Expr *int_power(Build *b, Expr *x, Expr *y) {
  x = s_let(b, "v", x);
  y = s_let(b, "n", y);
  Var *base = s_reg(b, "base", x), *left = s_reg(b, "left", y), *p = s_reg(b, "power", num(b, x, 1));
  Expr *vbase = x_var(b, base), *vleft = x_var(b, left), *vp = x_var(b, p);
  s_while(b, is(b, X_GT, vleft, 0));
  s_set(b, p, x_select(b, is(b, X_NE, x_bin(b, X_AND, vleft, num(b, y, 1)), 0), x_mul(b, vp, vbase), vp));
  s_set(b, base, x_mul(b, vbase, vbase));
  s_set(b, left, x_bin(b, X_SHR, vleft, num(b, y, 1)));
  s_end(b);
  if (is_unsigned(y)) return vp;
  Expr *odd = is(b, X_NE, x_bin(b, X_AND, y, num(b, y, 1)), 0), *inverse = num(b, x, 0);
  if (!is_unsigned(x)) inverse = x_select(b, is(b, X_EQ, x, -1), x_select(b, odd, num(b, x, -1), num(b, x, 1)), inverse);
  inverse = x_select(b, is(b, X_EQ, x, 1), num(b, x, 1), inverse);
  return x_select(b, is(b, X_LT, y, 0), inverse, vp);
}

EW(Pow) {
  UNUSED;
  Expr *x = in[0], *y = in[1];
  double e = y->op != X_CONST ? NAN : is_float(y) ? y->f : (double)y->i;
  if (e == 1) return x;
  if (e == 2 || e == 3) {
    x = s_let(b, "v", x);
    return e == 2 ? x_mul(b, x, x) : x_mul(b, x_mul(b, x, x), x);
  }
  if (is_float(x)) {
    if (e == 0.5) return x_un(b, X_SQRT, x);
    if (e == -1) return x_bin(b, X_DIV, num(b, x, 1), x);
    return x_bin(b, X_POW, x, x_cast(b, x->type.dt, y));
  }
  if (!is_float(y)) return s_let(b, "power", int_power(b, x, y));
  return x_cast(b, x->type.dt, x_bin(b, X_POW, x_cast(b, DT_F64, x), x_cast(b, DT_F64, y)));
}

EW(BitShift) {
  (void)n;
  Expr *x = in[0], *y = s_let(b, "n", in[1]);
  int bits = dt_bits(x->type.dt);
  Expr *fits = is(b, X_LT, y, bits);
  if (!is_unsigned(y)) fits = x_bin(b, X_AND, fits, is(b, X_GE, y, 0));
  fits = s_let(b, "fits", fits);
  XOp op = ((const AlphaAttr *)attr_)->alpha != 0 ? X_SHL : X_SHR;
  return x_select(b, fits, x_bin(b, op, x, x_select(b, fits, y, num(b, y, 0))), num(b, x, 0));
}

EW(IsInf) {
  const AlphaAttr *a = attr_;
  (void)n;
  Expr *x = in[0];
  if (a->alpha != 0 && a->beta != 0) return is(b, X_EQ, x_un(b, X_ABS, x), INFINITY);
  if (a->alpha != 0) return is(b, X_EQ, x, INFINITY);
  if (a->beta != 0) return is(b, X_EQ, x, -INFINITY);
  return x_int(b, type_of(DT_BOOL, x->type.lanes), 0);
}

EW(Cast) {
  (void)n;
  DType to = ((const CastAttr *)attr_)->to;
  Expr *x = in[0];
  if (x->type.dt == to) return x;
  if (to == DT_BOOL) return is(b, X_NE, x, 0);
  Type t = type_of(to, x->type.lanes);
  if (x->type.dt == DT_BOOL) return x_select(b, x, x_num(b, t, 1), x_num(b, t, 0));
  return x_cast(b, to, x);
}

EW(Where) {
  UNUSED;
  if (in[1]->type.dt != DT_BOOL) return x_select(b, in[0], in[1], in[2]);
  Expr *c = s_let(b, "c", in[0]);
  return x_bin(b, X_OR, x_bin(b, X_AND, c, in[1]), x_bin(b, X_AND, x_un(b, X_NOT, c), in[2]));
}

/* ---- lowering ---- */

/* Neighbouring dims of the result that every operand either has in full or broadcasts, joined. */
typedef struct Joint { int rank; int first[MAX_RANK]; int64_t extent[MAX_RANK]; } Joint;

static bool has_dim(const Value *v, const Shape *y, int d) {
  int at = d - (y->rank - v->shape.rank);
  return at >= 0 && v->shape.d[at].n != 1;
}

static bool immediate(const Value *v) { return value_is_const(v) && value_count(v) == 1; }

static bool may_join(const Node *n, int a, int b) {
  const Value *y = n->out[0];
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    if (immediate(v)) continue;
    if (has_dim(v, &y->shape, a) != has_dim(v, &y->shape, b)) return false;
    if (b >= 2 && operand_up(n, i)) return false;
  }
  return true;
}

/* The first `apart` dims stay by themselves. */
static Joint join_dims(const Node *n, int apart) {
  const Value *y = n->out[0];
  Joint j = {0};
  int last = -1;   /* the last dim with an extent, in the group being made */
  for (int d = 0; d < y->shape.rank; d++) {
    bool one = y->shape.d[d].n == 1;
    if (j.rank && d > apart && (one || last < 0 || may_join(n, last, d))) {
      j.extent[j.rank - 1] *= y->shape.d[d].n;
      if (one) continue;
      if (last < 0) j.first[j.rank - 1] = d;
      last = d;
      continue;
    }
    j.first[j.rank] = d;
    j.extent[j.rank++] = y->shape.d[d].n;
    last = one ? -1 : d;
  }
  return j;
}

/* All non-constant operands lie exactly as the result does: blocks and their padding are just elements. */
static bool all_alike(const Node *n) {
  const Value *y = n->out[0];
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    if (immediate(v)) continue;
    if (!shape_equal(&v->shape, &y->shape) || v->layout.kind != y->layout.kind || v->layout.block != y->layout.block || operand_up(n, i))
      return false;
  }
  return true;
}

/* Blocks and upsampling tell dims 0 and 1 from the spatial ones. */
static bool knows_space(const Node *n) {
  for (int i = 0; i < n->nin; i++)
    if (n->in[i]->layout.kind == LAYOUT_BLOCKED || operand_up(n, i)) return true;
  return n->out[0]->layout.kind == LAYOUT_BLOCKED;
}

void lower_see_joined(Lower *l, const Node *n) {
  Value *y = n->out[0];
  Joint j = join_dims(n, knows_space(n) ? 2 : 0);
  Shape all = {.rank = j.rank};
  for (int k = 0; k < j.rank; k++) all.d[k] = dim_of(j.extent[k]);
  lower_see_as(l, y, &all, y->layout);
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    Shape s = {.rank = j.rank};
    for (int k = 0; k < j.rank; k++) s.d[k] = dim_of(has_dim(v, &y->shape, j.first[k]) ? j.extent[k] : 1);
    /* Upsampled operands keep their own, smaller extents: none of their spatial dims were joined. */
    for (int k = 0; operand_up(n, i) && k < j.rank; k++)
      if (j.first[k] >= 2 && has_dim(v, &y->shape, j.first[k])) s.d[k] = v->shape.d[j.first[k] - (y->shape.rank - v->shape.rank)];
    lower_see_as(l, v, &s, v->layout);
  }
}

static void map_place(Lower *l, const At *at, void *user) {
  const Node *n = user;
  Expr *acc = NULL, *x[3] = {0};
  if (n->op != OP_Map) {
    for (int i = 0; i < n->ncore; i++) x[i] = i && n->in[i] == n->in[0] ? x[0] : lower_load_broadcast(l, n->in[i], at, 0);
    if (n->ncore > 1 && n->in[0] == n->in[1]) x[0] = x[1] = s_let(&l->b, "v", x[0]);
    Value *y = n->out[0];
    DType args[3] = {0};
    for (int i = 0; i < n->ncore; i++) args[i] = n->in[i]->dt;
    DType dt = n->nbody ? op_ew_dtype(n->op, n->attr, args, n->ncore) : y->dt;
    acc = lower_ew(l, n->op, n->attr, dt, x, n->ncore);
  }
  lower_finish(l, n, acc, at);
}

static const char *map_name(Lower *l, const Node *n) {
  Text t = {.a = l->arena};
  if (n->op != OP_Map) text_add(&t, op_info(n->op)->name);
  for (int i = 0; i < n->nbody && t.n < 100; i++) text_addf(&t, "%s%s", t.n ? "+" : "", op_info(n->body[i].op)->name);
  return t.s;
}

void lower_map(Lower *l, const Node *n) {
  Value *y = n->out[0];
  if (value_count(y) == 0) return;
  Text dims = {.a = l->arena};
  for (int i = 0; i < y->shape.rank; i++) text_addf(&dims, "%s%lld", i ? "x" : " ", (long long)y->shape.d[i].n);
  lower_open(l, n, "%s%s", map_name(l, n), dims.s ? dims.s : "");
  if (all_alike(n)) {
    Shape flat = shape_of(1, (int64_t[]){value_storage_count(y)});
    lower_see_as(l, y, &flat, (Layout){LAYOUT_PLAIN, 0});
    for (int i = 0; i < n->nin; i++)
      if (!immediate(n->in[i])) lower_see_as(l, n->in[i], &flat, (Layout){LAYOUT_PLAIN, 0});
  } else {
    lower_see_joined(l, n);
  }
  Layout layout;
  Shape s = lower_shape(l, y, &layout);
  int vdim = layout.kind == LAYOUT_BLOCKED ? 1 : MAXI(s.rank - 1, 0);
  lower_nest(l, &s, layout, vdim, lower_lanes(l, n), map_place, (void *)n);
  lower_body_in_place(l, n, n->ncore);
  lower_close(l, (double)(n->nbody + (n->op != OP_Map)) * (double)value_count(y));
}
