/* ir/loop_fold.c: builds expressions of the loop IR, simplifying as it goes.
 *
 * Laws used, each of them bit-exact:
 *  - an operator on constants is its value (loop_eval.c, as the interpreter computes it)
 *  - integers and idx: x+0, x*1, x*0, x/1, x%1, x&0, ...; constants gather to the right: (x+a)+b, (x+a)+y = (x+y)+a, (x*a)*b
 *  - idx only (it never overflows): (x+a)*b = x*b + a*b
 *  - idx division, whose operands are >= 0: if every term of s is a multiple of c and 0 <= r < c then (s+r)/c = s/c and (s+r)%c = r;
 *    (x/a)/b = x/(a*b)
 *  - floats: only what holds for NaN, infinities and -0 too: x*1, x/1, x-0
 *
 * Constants are kept on the right of + and * of integers. A sum with a negative constant is stored as a difference.
 */
#include "loop_eval.h"

static Expr *expr_new(Build *b, XOp op, Type type) {
  Expr *e = NEW(b->arena, Expr);
  e->op = op;
  e->type = type;
  return e;
}

/* ---- leaves ---- */

Expr *x_idx(Build *b, int64_t i) { return x_int(b, type_idx(), i); }

Expr *x_int(Build *b, Type t, int64_t i) {
  Expr *e = expr_new(b, X_CONST, t);
  e->i = int_wrap(t.dt, i);
  return e;
}

Expr *x_float(Build *b, Type t, double f) {
  Expr *e = expr_new(b, X_CONST, t);
  /* One NaN only: the text form has no other. */
  e->f = isnan(f) ? (double)NAN : t.dt == DT_F32 ? (float)f : f;
  return e;
}

Expr *x_num(Build *b, Type t, double v) {
  if (dt_is_float(t.dt)) return x_float(b, t, v);
  return x_int(b, t, t.dt == DT_BOOL ? v != 0 : float_to_int(v, t.dt));
}

static Expr *const_of(Build *b, Type t, XValue v) { return dt_is_float(t.dt) ? x_float(b, t, v.f) : x_int(b, t, v.i); }

static XValue const_value(const Expr *e) {
  XValue v;
  if (dt_is_float(e->type.dt)) v.f = e->f;
  else v.i = e->i;
  return v;
}

Expr *x_var(Build *b, Var *v) {
  Expr *e = expr_new(b, X_VAR, v->type);
  e->var = v;
  return e;
}

bool x_is_int(const Expr *e, int64_t *out) {
  if (e->op != X_CONST || !xt_is_int(e->type.dt)) return false;
  *out = e->i;
  return true;
}

static bool is_int(const Expr *e, int64_t i) { return e->op == X_CONST && !dt_is_float(e->type.dt) && e->i == i; }

/* Exactly this float: 0.0 is not -0.0. */
static bool is_float(const Expr *e, double f) {
  return e->op == X_CONST && dt_is_float(e->type.dt) && e->f == f && !signbit(e->f) == !signbit(f);
}

/* ---- sums and products of integers ---- */

static Expr *raw2(Build *b, XOp op, Type t, Expr *l, Expr *r) {
  Expr *e = expr_new(b, op, t);
  e->a[0] = l;
  e->a[1] = r;
  return e;
}

/* e = *base + c; *base is NULL for a constant. */
static int64_t split_sum(Expr *e, Expr **base) {
  *base = e->op == X_CONST ? NULL : e;
  if (e->op == X_CONST) return e->i;
  if ((e->op == X_ADD || e->op == X_SUB) && e->a[1]->op == X_CONST) {
    *base = e->a[0];
    return e->op == X_ADD ? e->a[1]->i : ev_sub(0, e->a[1]->i);
  }
  return 0;
}

/* x + c, for an x that split_sum finds no constant in. */
static Expr *add_const(Build *b, Expr *x, int64_t c) {
  Type t = x->type;
  c = int_wrap(t.dt, c);
  if (c == 0) return x;
  bool minus = xt_is_signed(t.dt) && c < 0 && int_wrap(t.dt, ev_sub(0, c)) > 0;
  return raw2(b, minus ? X_SUB : X_ADD, t, x, x_int(b, t, minus ? ev_sub(0, c) : c));
}

static Expr *fold_sum(Build *b, XOp op, Expr *l, Expr *r) {
  Expr *x, *y;
  int64_t c = split_sum(l, &x), d = split_sum(r, &y);
  c = op == X_ADD ? ev_add(c, d) : ev_sub(c, d);
  if (x && y) return add_const(b, raw2(b, op, l->type, x, y), c);
  if (x) return add_const(b, x, c);
  return op == X_ADD ? add_const(b, y, c) : raw2(b, X_SUB, l->type, x_int(b, l->type, c), y);
}

static Expr *fold_mul(Build *b, Expr *l, Expr *r) {
  if (l->op == X_CONST) {
    Expr *t = l;
    l = r;
    r = t;
  }
  if (r->op != X_CONST) return raw2(b, X_MUL, l->type, l, r);
  int64_t c = r->i;
  if (c == 0 || c == 1) return c ? l : r;
  if (l->op == X_MUL && l->a[1]->op == X_CONST) return fold_mul(b, l->a[0], x_int(b, l->type, ev_mul(l->a[1]->i, c)));
  if (l->type.dt == DT_IDX) {
    Expr *x;
    int64_t d = split_sum(l, &x);
    if (d) return add_const(b, fold_mul(b, x, r), ev_mul(d, c));
  }
  return raw2(b, X_MUL, l->type, l, r);
}

/* ---- division of idx ---- */

static bool multiple_of(const Expr *e, int64_t c) {
  if (e->op == X_CONST) return e->i % c == 0;
  if (e->op == X_ADD || e->op == X_SUB) return multiple_of(e->a[0], c) && multiple_of(e->a[1], c);
  return e->op == X_MUL && e->a[1]->op == X_CONST && (e->a[1]->i % c == 0 || multiple_of(e->a[0], c));
}

/* e / c for an e that is a multiple of c. */
static Expr *exact_div(Build *b, Expr *e, int64_t c) {
  if (e->op == X_CONST) return x_idx(b, e->i / c);
  if (e->op == X_ADD || e->op == X_SUB) return x_bin(b, e->op, exact_div(b, e->a[0], c), exact_div(b, e->a[1], c));
  int64_t m = e->a[1]->i;
  return m % c == 0 ? x_muli(b, e->a[0], m / c) : x_muli(b, exact_div(b, e->a[0], c), m);
}

static Expr *fold_div(Build *b, XOp op, Expr *l, Expr *r) {
  Type t = l->type;
  if (is_int(r, 1)) return op == X_DIV ? l : x_int(b, t, 0);
  if (t.dt != DT_IDX || r->op != X_CONST || r->i <= 0) return raw2(b, op, t, l, r);
  int64_t c = r->i;
  Expr *x;
  int64_t k = split_sum(l, &x), rest = k % c;
  if (rest < 0) rest += c;
  if (x && multiple_of(x, c)) return op == X_REM ? x_idx(b, rest) : x_addi(b, exact_div(b, x, c), (k - rest) / c);
  if (op == X_DIV && l->op == X_DIV && l->a[1]->op == X_CONST && l->a[1]->i > 0 && l->a[1]->i < INT64_MAX / c)
    return fold_div(b, X_DIV, l->a[0], x_idx(b, l->a[1]->i * c));
  return raw2(b, op, t, l, r);
}

/* ---- operators ---- */

static Expr *fold_bits(Build *b, XOp op, Expr *l, Expr *r) {
  if (l->op == X_CONST && op <= X_XOR) {
    Expr *t = l;
    l = r;
    r = t;
  }
  Type t = l->type;
  int64_t ones = int_wrap(t.dt, -1);
  if (is_int(r, 0)) return op == X_AND ? x_int(b, t, 0) : l;
  if (is_int(r, ones) && op == X_AND) return l;
  if (is_int(r, ones) && op == X_OR) return x_int(b, t, ones);
  return raw2(b, op, t, l, r);
}

static Expr *fold_float(Build *b, XOp op, Expr *l, Expr *r) {
  if ((op == X_MUL || op == X_DIV) && is_float(r, 1)) return l;
  if (op == X_MUL && is_float(l, 1)) return r;
  if (op == X_SUB && is_float(r, 0.0)) return l;
  return raw2(b, op, l->type, l, r);
}

static Expr *fold_const(Build *b, XOp op, Type to, Expr *const *a, int n) {
  XValue v[3] = {{0}}, r;
  for (int i = 0; i < n; i++) {
    if (a[i]->op != X_CONST) return NULL;
    v[i] = const_value(a[i]);
  }
  /* A NaN's payload is not kept, so its bits are not a constant. */
  if (op == X_BITCAST && dt_is_float(a[0]->type.dt) && isnan(v[0].f)) return NULL;
  if (!x_eval(op, to.dt, a[0]->type.dt, v, &r)) return NULL;
  if (op == X_BITCAST && dt_is_float(to.dt) && isnan(r.f)) return NULL;
  return const_of(b, to, r);
}

Expr *x_un(Build *b, XOp op, Expr *a) {
  Expr *e = fold_const(b, op, a->type, &a, 1);
  if (e) return e;
  e = expr_new(b, op, a->type);
  e->a[0] = a;
  return e;
}

Expr *x_bin(Build *b, XOp op, Expr *l, Expr *r) {
  if (l->type.lanes == 1 && r->type.lanes > 1) l = x_splat(b, l, r->type.lanes);
  if (r->type.lanes == 1 && l->type.lanes > 1) r = x_splat(b, r, l->type.lanes);
  Type t = x_is_compare(op) ? type_of(DT_BOOL, l->type.lanes) : l->type;
  Expr *e = fold_const(b, op, t, (Expr *[]){l, r}, 2);
  if (e) return e;
  if (!type_equal(l->type, r->type) || x_is_compare(op)) return raw2(b, op, t, l, r);
  if (dt_is_float(t.dt)) return fold_float(b, op, l, r);
  if (op >= X_AND && op <= X_SHR) return fold_bits(b, op, l, r);
  if (!xt_is_int(t.dt)) return raw2(b, op, t, l, r);
  if (op == X_ADD || op == X_SUB) return fold_sum(b, op, l, r);
  if (op == X_MUL) return fold_mul(b, l, r);
  if (op == X_DIV || op == X_REM) return fold_div(b, op, l, r);
  return raw2(b, op, t, l, r);
}

Expr *x_fma(Build *b, Expr *l, Expr *r, Expr *add) {
  if (!dt_is_float(add->type.dt)) return x_add(b, x_mul(b, l, r), add);
  int n = MAXI(MAXI(l->type.lanes, r->type.lanes), add->type.lanes);
  Expr *a[3] = {x_splat(b, l, n), x_splat(b, r, n), x_splat(b, add, n)};
  Expr *e = fold_const(b, X_FMA, a[0]->type, a, 3);
  if (e) return e;
  e = raw2(b, X_FMA, a[0]->type, a[0], a[1]);
  e->a[2] = a[2];
  return e;
}

Expr *x_select(Build *b, Expr *cond, Expr *yes, Expr *no) {
  int n = MAXI(MAXI(cond->type.lanes, yes->type.lanes), no->type.lanes);
  cond = x_splat(b, cond, n);
  yes = x_splat(b, yes, n);
  no = x_splat(b, no, n);
  if (yes == no) return yes;
  if (cond->op == X_CONST) return cond->i ? yes : no;
  Expr *e = raw2(b, X_SELECT, yes->type, cond, yes);
  e->a[2] = no;
  return e;
}

static Expr *convert(Build *b, XOp op, DType to, Expr *a) {
  if (a->type.dt == to) return a;
  Type t = type_of(to, a->type.lanes);
  Expr *e = fold_const(b, op, t, &a, 1);
  if (e) return e;
  e = expr_new(b, op, t);
  e->a[0] = a;
  return e;
}

Expr *x_cast(Build *b, DType to, Expr *a) { return convert(b, X_CAST, to, a); }

Expr *x_bitcast(Build *b, DType to, Expr *a) { return convert(b, X_BITCAST, to, a); }

/* ---- lanes ---- */

Expr *x_splat(Build *b, Expr *a, int lanes) {
  if (lanes == a->type.lanes) return a;
  Type t = type_of(a->type.dt, lanes);
  if (a->op == X_CONST) return const_of(b, t, const_value(a));
  Expr *e = expr_new(b, X_SPLAT, t);
  e->a[0] = a;
  return e;
}

Expr *x_extract(Build *b, Expr *a, int lane) {
  Type t = type_of(a->type.dt, 1);
  if (a->type.lanes == 1) return a;
  if (a->op == X_CONST) return const_of(b, t, const_value(a));
  if (a->op == X_SPLAT) return a->a[0];
  Expr *e = expr_new(b, X_EXTRACT, t);
  e->a[0] = a;
  e->i = lane;
  return e;
}

Expr *x_shuffle(Build *b, Expr *l, Expr *r, const uint8_t *lanes, int n) {
  bool same = n == l->type.lanes;
  for (int i = 0; same && i < n; i++) same = lanes[i] == i;
  if (same) return l;
  Expr *e = raw2(b, X_SHUFFLE, type_of(l->type.dt, n), l, r);
  uint8_t *copy = NEW_N(b->arena, uint8_t, n);
  memcpy(copy, lanes, (size_t)n);
  e->shuffle = copy;
  return e;
}

static XOp reduce_step(XOp op) { return op == X_REDUCE_ADD ? X_ADD : op == X_REDUCE_MUL ? X_MUL : op == X_REDUCE_MIN ? X_MIN : X_MAX; }

Expr *x_reduce(Build *b, XOp op, Expr *a) {
  if (a->type.lanes == 1) return a;
  if (a->op == X_CONST) {
    Expr *e = x_extract(b, a, 0);
    for (int n = a->type.lanes; n > 1; n /= 2) e = x_bin(b, reduce_step(op), e, e);
    return e;
  }
  Expr *e = expr_new(b, op, type_of(a->type.dt, 1));
  e->a[0] = a;
  return e;
}

Expr *x_iota(Build *b, int lanes) {
  Type t = type_of(DT_I32, lanes);
  return lanes == 1 ? x_int(b, t, 0) : expr_new(b, X_IOTA, t);
}

Expr *x_load(Build *b, Var *buf, Expr *index, int lanes) { return x_load_part(b, buf, index, lanes, NULL, NULL); }

Expr *x_load_part(Build *b, Var *buf, Expr *index, int lanes, Expr *count, Expr *stride) {
  int64_t i;
  if (count && x_is_int(count, &i) && i >= lanes) count = NULL;
  if (stride && (lanes == 1 || (x_is_int(stride, &i) && i == 1))) stride = NULL;
  if (stride && !count && x_is_int(stride, &i) && i == 0) return x_splat(b, x_load(b, buf, index, 1), lanes);
  Expr *e = expr_new(b, X_LOAD, type_of(buf->type.dt, lanes));
  e->var = buf;
  e->a[0] = index;
  e->a[1] = count;
  e->a[2] = stride;
  return e;
}
