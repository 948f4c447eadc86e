/* ops/conv_sum.c: the sum of 1x1 convolutions of several tensors, element by element.
 *
 * What the merge_sum pass makes of added convolutions. It does so for what passes/lower/conv_direct.c computes in register tiles; this is
 * the reference, and what is left without vectors.
 */
#include "ops.h"

enum { DATA, WEIGHT, SCALE, SOURCE };   /* operands of a source; the bias comes after the last one's */

static bool check_source(Graph *g, Node *n, int i, DType dt, Shape *y) {
  const ConvSumAttr *a = n->attr;
  Value *const *in = n->in + i * SOURCE;
  if (!in[DATA] || !in[WEIGHT]) REFUSE(g, n, NULL, "source %d has no data or no weight", i);
  const Shape *x = &in[DATA]->shape, *w = &in[WEIGHT]->shape;
  int rank = y->rank;
  if (!op_check_rank(g, n, in[DATA], "the data", rank, rank) || !op_check_rank(g, n, in[WEIGHT], "the weight", rank, rank)) return false;
  if (in[DATA]->dt != dt || in[WEIGHT]->dt != dt) REFUSE(g, n, NULL, "source %d is not %s", i, dt_name(dt));
  if (shape_count_from(w, 2) != 1 || w->d[0].n != y->d[1].n || w->d[1].n != x->d[1].n || x->d[0].n != y->d[0].n)
    REFUSE(g, n, NULL, "the weight %s of source %d does not take %s to %lld channels", shape_text(g->arena, w), i, shape_text(g->arena, x),
           (long long)y->d[1].n);
  for (int d = 2; d < rank; d++) {
    int64_t out = window_extent(x->d[d].n, 1, a->strides.v[i * (rank - 2) + d - 2], 0, 0, 1, false);
    if (i == 0) y->d[d] = dim_of(out);
    if (out != y->d[d].n || out < 0) REFUSE(g, n, NULL, "source %d has an extent of %lld along axis %d", i, (long long)out, d);
  }
  return true;
}

bool infer_conv_sum(Graph *g, Node *n) {
  const ConvSumAttr *a = n->attr;
  if (n->ncore % SOURCE != 1 || n->ncore < 2 * SOURCE) REFUSE(g, n, NULL, "%d operands are no sources and a bias", n->ncore);
  int sources = n->ncore / SOURCE;
  const Value *x = n->in[DATA], *w = n->in[WEIGHT];
  if (!op_check_rank(g, n, x, "the data", 3, MAX_RANK) || !op_check_rank(g, n, w, "the weight", 3, MAX_RANK)) return false;
  if (!op_check_float(g, n, x, "the data")) return false;
  if (!op_check_ints(g, n, "strides", a->strides, sources * (x->shape.rank - 2), 1, EXTENT_MAX)) return false;
  Shape y = {.rank = x->shape.rank, .d = {x->shape.d[0], w->shape.d[0]}};
  for (int i = 0; i < sources; i++) {
    const Value *scale = n->in[i * SOURCE + SCALE];
    if (!check_source(g, n, i, x->dt, &y)) return false;
    if (scale && (scale->dt != x->dt || scale->shape.rank != 1 || scale->shape.d[0].n != y.d[1].n))
      REFUSE(g, n, NULL, "scale %d is no vector of %lld %s", i, (long long)y.d[1].n, dt_name(x->dt));
  }
  const Value *bias = n->in[n->ncore - 1];
  if (bias && (bias->dt != x->dt || bias->shape.rank != 1 || bias->shape.d[0].n != y.d[1].n))
    REFUSE(g, n, NULL, "the bias is no vector of %lld %s", (long long)y.d[1].n, dt_name(x->dt));
  return op_set_out(g, n, 0, x->dt, &y);
}

/* ---- lowering ---- */

static Expr *source_sum(Lower *l, Value *const *in, const int64_t *strides, DType acc, const At *at) {
  Build *b = &l->b;
  Var *sum = s_reg(b, "sum", x_num(b, type_of(acc, 1), 0));
  Expr *c = s_for_n(b, "c", in[WEIGHT]->shape.d[1].n);
  At xa = *at, wa = at_zero(b, at->rank);
  xa.c[1] = wa.c[1] = c;
  wa.c[0] = at->c[1];
  for (int d = 2; d < at->rank; d++) xa.c[d] = x_muli(b, at->c[d], strides[d - 2]);
  Expr *x = x_cast(b, acc, lower_load(l, in[DATA], &xa)), *w = x_cast(b, acc, lower_load(l, in[WEIGHT], &wa));
  s_set(b, sum, x_fma(b, x, w, x_var(b, sum)));
  s_end(b);
  Expr *e = x_var(b, sum);
  return in[SCALE] ? x_mul(b, e, x_cast(b, acc, lower_load_vector(l, in[SCALE], at->c[1], 1, NULL))) : e;
}

static Expr *sum_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  Build *b = &l->b;
  const ConvSumAttr *a = n->attr;
  const Value *bias = n->in[n->ncore - 1];
  DType acc = acc_type(n->in[DATA]->dt);
  Expr *sum = bias ? x_cast(b, acc, lower_load_vector(l, bias, at->c[1], 1, NULL)) : NULL;
  for (int i = 0; i < n->ncore / SOURCE; i++) {
    Expr *e = source_sum(l, n->in + i * SOURCE, a->strides.v + i * (at->rank - 2), acc, at);
    sum = sum ? x_add(b, sum, e) : e;
  }
  return x_cast(b, n->in[DATA]->dt, sum);
}

void lower_conv_sum(Lower *l, const Node *n) {
  int64_t macs = node_macs(n), count = value_count(n->out[0]);
  lower_points(l, n, "sum of convolutions", sum_point, NULL, 0, count ? 2.0 * (double)macs / (double)count : 0);
}
