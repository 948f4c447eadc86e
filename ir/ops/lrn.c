/* ops/lrn.c: local response normalisation across channels: y = x / (bias + alpha/size * s)^beta, where s is the sum of squares of the
 * `size` channels around, floor((size-1)/2) of them before (ONNX LRN).
 *
 * In BLOCKED layout a vector is of neighbouring channels: sums take shifted copies of its squares, made of it and the vectors on either side.
 */
#include "ops.h"

bool infer_lrn(Graph *g, Node *n) {
  const LrnAttr *a = n->attr;
  const Value *x = n->in[0];
  if (!op_check_float(g, n, x, "the input") || !op_check_rank(g, n, x, "the input", 2, MAX_RANK)) return false;
  if (a->size < 1 || a->size > INT32_MAX) REFUSE(g, n, NULL, "size is %lld, expected at least 1", (long long)a->size);
  return op_set_out(g, n, 0, x->dt, &x->shape);
}

/* base^-beta; the exponents that networks use need no pow. */
static Expr *inverse_power(Build *b, Expr *base, double beta) {
  Expr *one = x_num(b, base->type, 1);
  if (beta == 1) return x_bin(b, X_DIV, one, base);
  if (beta == 0.5) return x_bin(b, X_DIV, one, x_un(b, X_SQRT, base));
  if (beta == 0.75) {
    Expr *root = s_let(b, "root", x_un(b, X_SQRT, base));
    return x_bin(b, X_DIV, one, x_mul(b, root, x_un(b, X_SQRT, root)));
  }
  return x_bin(b, X_POW, base, x_float(b, base->type, -beta));
}

static int64_t lrn_before(const LrnAttr *a) { return (a->size - 1) / 2; }

static Expr *lrn_result(Lower *l, const Node *n, Expr *x, Expr *sum) {
  const LrnAttr *a = n->attr;
  Build *b = &l->b;
  Expr *base = x_fma(b, sum, x_float(b, sum->type, a->alpha / (double)a->size), x_float(b, sum->type, a->bias));
  Expr *e = x_mul(b, x, inverse_power(b, s_let(b, "base", base), a->beta));
  return x_cast(b, n->in[0]->dt, e);
}

static Expr *lrn_point(Lower *l, const Node *n, const At *at, const void *user) {
  const LrnAttr *a = n->attr;
  const Value *x = n->in[0];
  Build *b = &l->b;
  (void)user;
  DType acc = acc_type(x->dt);
  Type t = type_of(acc, at->lanes);
  int64_t channels = x->shape.d[1].n, before = lrn_before(a), after = a->size - 1 - before;
  Var *sum = s_reg(b, "sum", x_num(b, t, 0));
  Expr *from = s_let(b, "from", x_bin(b, X_MAX, x_addi(b, at->c[1], -before), x_idx(b, 0)));
  Expr *to = s_let(b, "to", x_bin(b, X_MIN, x_addi(b, at->c[1], after + 1), x_idx(b, channels)));
  At near = *at;
  near.c[1] = s_for(b, "ch", from, to, 1);
  Expr *v = s_let(b, "v", x_cast(b, acc, lower_load(l, x, &near)));
  s_set(b, sum, x_fma(b, v, v, x_var(b, sum)));
  s_end(b);
  return lrn_result(l, n, x_cast(b, acc, lower_load(l, x, at)), x_var(b, sum));
}

/* Squares of the vector `ahead` channels from the place; zero where there are no channels. *of: the vector itself, if wanted. */
static Expr *squares(Lower *l, const Value *x, const At *at, int64_t ahead, Expr **of) {
  Build *b = &l->b;
  int64_t channels = x->shape.d[1].n;
  At place = *at;
  place.c[1] = x_addi(b, at->c[1], ahead);
  place.count = NULL;
  Var *square = s_reg(b, "square", x_float(b, type_of(DT_F32, at->lanes), 0));
  bool sure = ahead == 0;
  if (!sure) s_if(b, ahead < 0 ? x_bin(b, X_GE, place.c[1], x_idx(b, 0)) : x_bin(b, X_LT, place.c[1], x_idx(b, channels)));
  Expr *v = s_let(b, "v", lower_load(l, x, &place)), *s = x_mul(b, v, v);
  if (channels % at->lanes && ahead >= 0) {   /* lanes past the last channel hold anything */
    Expr *left = x_cast(b, DT_I32, x_bin(b, X_MIN, x_sub(b, x_idx(b, channels), place.c[1]), x_idx(b, at->lanes)));
    s = x_select(b, x_bin(b, X_LT, x_iota(b, at->lanes), x_splat(b, left, at->lanes)), s, x_float(b, s->type, 0));
  }
  s_set(b, square, s);
  if (!sure) s_end(b);
  if (of) *of = v;
  return x_var(b, square);
}

static Expr *lrn_blocked(Lower *l, const Node *n, const At *at, const void *user) {
  const LrnAttr *a = n->attr;
  const Value *x = n->in[0];
  Build *b = &l->b;
  if (at->lanes == 1) return lrn_point(l, n, at, user);
  int lanes = at->lanes;
  int64_t before = lrn_before(a), after = a->size - 1 - before;
  Expr *v, *mid = squares(l, x, at, 0, &v), *low = before ? squares(l, x, at, -lanes, NULL) : mid, *high = after ? squares(l, x, at, lanes, NULL) : mid;
  Expr *sum = NULL;
  for (int64_t d = -before; d <= after; d++) {
    uint8_t table[MAX_LANES];
    for (int i = 0; i < lanes; i++) table[i] = (uint8_t)(d < 0 ? lanes + i + d : i + d);
    Expr *e = d == 0 ? mid : x_shuffle(b, d < 0 ? low : mid, d < 0 ? mid : high, table, lanes);
    sum = sum ? s_let(b, "sum", x_add(b, sum, e)) : e;
  }
  return lrn_result(l, n, v, sum);
}

void lower_lrn(Lower *l, const Node *n) {
  const Value *x = n->in[0];
  const LrnAttr *a = n->attr;
  bool blocked = n->out[0]->layout.kind == LAYOUT_BLOCKED;
  /* Lanes run along the last axis: of a matrix that would be the channels themselves. */
  unsigned flags = x->shape.rank > 2 ? POINT_VECTOR : 0;
  /* A vector's sums reach into the vectors beside it, no further. */
  if (blocked && (x->layout.kind != LAYOUT_BLOCKED || x->dt != DT_F32 || a->size > lower_lanes(l, n))) flags = 0;
  lower_points(l, n, "lrn", blocked ? lrn_blocked : lrn_point, NULL, flags, 2.0 * (double)MINI(a->size, x->shape.d[1].n) + 4);
}
