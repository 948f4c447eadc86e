/* ops/support.c: what the families share: checks of operands and attributes, coordinates, small expressions. */
#include "ops.h"
#include <math.h>

/* ---- inference ---- */

const char *shape_text(Arena *a, const Shape *s) {
  Text t = {.a = a};
  text_add(&t, "[");
  for (int i = 0; i < s->rank; i++) text_addf(&t, "%s%lld", i ? ", " : "", (long long)s->d[i].n);
  text_add(&t, "]");
  return t.s;
}

bool op_set_out(Graph *g, Node *n, int i, DType dt, const Shape *s) {
  int64_t count = 1;
  for (int d = 0; d < s->rank; d++) {
    int64_t e = MAXI(s->d[d].n, 1);
    if (s->d[d].n < 0 || e > EXTENT_MAX || count > (INT64_MAX >> 8) / e)
      REFUSE(g, n, NULL, "the result's shape %s is out of range", shape_text(g->arena, s));
    count *= e;
  }
  Value *v = n->out[i];
  v->dt = i == 0 && n->nbody ? n->body[n->nbody - 1].dt : dt;
  v->shape = *s;
  return true;
}

bool op_check_float(Graph *g, const Node *n, const Value *v, const char *what) {
  if (!dt_is_float(v->dt)) REFUSE(g, n, NULL, "%s is %s, expected a floating-point type", what, dt_name(v->dt));
  return true;
}

bool op_check_computable(Graph *g, const Node *n, const Value *v, const char *what) {
  if (!dt_is_float(v->dt) && !dt_is_int(v->dt) && v->dt != DT_BOOL) REFUSE(g, n, NULL, "%s is %s, expected numbers", what, dt_name(v->dt));
  return true;
}

bool op_check_rank(Graph *g, const Node *n, const Value *v, const char *what, int lo, int hi) {
  int r = v->shape.rank;
  if (r >= lo && r <= hi) return true;
  if (lo == hi) REFUSE(g, n, NULL, "%s has rank %d, expected %d; shape %s", what, r, lo, shape_text(g->arena, &v->shape));
  REFUSE(g, n, NULL, "%s has rank %d, expected %d to %d; shape %s", what, r, lo, hi, shape_text(g->arena, &v->shape));
}

bool op_axis(Graph *g, const Node *n, int64_t axis, int rank, int *out) {
  if (!axis_normalise(axis, rank, out)) REFUSE(g, n, NULL, "axis %lld is out of range for rank %d", (long long)axis, rank);
  return true;
}

bool op_check_ints(Graph *g, const Node *n, const char *what, Ints v, int count, int64_t lo, int64_t hi) {
  if (v.n != count) REFUSE(g, n, NULL, "%s has %d entries, expected %d", what, v.n, count);
  for (int i = 0; i < count; i++) {
    if (v.v[i] < lo || v.v[i] > hi)
      REFUSE(g, n, NULL, "%s[%d] is %lld, expected %lld to %lld", what, i, (long long)v.v[i], (long long)lo, (long long)hi);
  }
  return true;
}

bool op_check_product(Graph *g, const Node *n, int operands, DType *out) {
  DType t = n->in[0]->dt;
  bool same = true, small = true;
  for (int i = 0; i < operands; i++) {
    const Value *v = n->in[i];
    if (!op_check_computable(g, n, v, "an operand")) return false;
    if (v->dt == DT_BOOL) REFUSE(g, n, NULL, "operand %d is bool, expected numbers", i);
    same &= v->dt == t;
    small &= dt_is_int(v->dt) && dt_size(v->dt) <= 2;
    if (!same && !small) REFUSE(g, n, NULL, "operand 0 is %s and operand %d %s, expected one type", dt_name(t), i, dt_name(v->dt));
  }
  *out = product_type(t);
  return true;
}

Value *op_in(const Node *n, int i) { return i < n->ncore ? n->in[i] : NULL; }
bool value_used(const Value *v) { return v->uses.n > 0 || v->is_output; }

/* ---- types and lanes ---- */

DType acc_type(DType t) {
  if (t == DT_F16 || t == DT_BF16) return DT_F32;
  if (t == DT_U8 || t == DT_I8 || t == DT_U16 || t == DT_I16) return DT_I32;
  return t;
}

DType product_type(DType t) { return dt_is_float(t) ? t : acc_type(t); }

int op_lanes(const Lower *l, const Node *n, DType dt) {
  if (dt != DT_F32 && dt != DT_I32) return 1;
  if (!lower_vectors_ok(l, n)) return 1;
  const Value *y = n->out[0];
  if (y->layout.kind == LAYOUT_BLOCKED) return y->shape.d[1].n == 1 ? 1 : lower_lanes(l, n);
  int lanes = l->t->lanes;
  for (int i = 0; i < n->nin; i++) {
    const Value *v = n->in[i];
    while (v && v->layout.kind == LAYOUT_BLOCKED && lanes > 1 && v->layout.block % lanes) lanes /= 2;
  }
  return lanes;
}

/* ---- coordinates ---- */

void unflatten(Build *b, Expr *i, const int64_t *extent, int n, Expr **c) {
  int first = 0;   /* dimensions before it have extent 1 */
  while (first < n && extent[first] == 1) c[first++] = x_idx(b, 0);
  for (int d = n - 1; d >= first; d--) {
    c[d] = extent[d] == 1 ? x_idx(b, 0) : d == first ? i : s_let(b, "c", x_remi(b, i, extent[d]));
    if (d > first) i = s_let(b, "c", x_divi(b, i, extent[d]));
  }
}

int64_t value_stride(const Value *v, int dim) {
  if (v->layout.kind == LAYOUT_PLAIN) return shape_count_from(&v->shape, dim + 1);
  int64_t s = v->layout.block;
  for (int d = v->shape.rank - 1; d > MAXI(dim, 1); d--) s *= v->shape.d[d].n;
  if (dim == 0) s *= (v->shape.d[1].n + v->layout.block - 1) / v->layout.block;
  return s;
}

At at_zero(Build *b, int rank) {
  At at = {.rank = rank, .lanes = 1, .vdim = MAXI(rank - 1, 0)};
  for (int d = 0; d < rank; d++) at.c[d] = x_idx(b, 0);
  return at;
}

/* ---- expressions ---- */

static int64_t int_limit(DType t, bool high) {
  if (t == DT_BOOL) return high;
  int bits = t == DT_IDX ? 64 : dt_bits(t);
  if (t == DT_IDX || dt_is_signed(t)) {
    int64_t top = (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
    return high ? top : -top - 1;
  }
  return !high ? 0 : bits == 64 ? -1 : ((int64_t)1 << bits) - 1;   /* u64: its bit pattern */
}

Expr *x_lowest(Build *b, Type t) { return dt_is_float(t.dt) ? x_float(b, t, -INFINITY) : x_int(b, t, int_limit(t.dt, false)); }
Expr *x_highest(Build *b, Type t) { return dt_is_float(t.dt) ? x_float(b, t, INFINITY) : x_int(b, t, int_limit(t.dt, true)); }

Expr *x_is_nan(Build *b, Expr *e) { return x_bin(b, X_NE, e, e); }

Expr *x_clamp_idx(Build *b, Expr *e, int64_t lo, int64_t hi) { return x_bin(b, X_MIN, x_bin(b, X_MAX, e, x_idx(b, lo)), x_idx(b, hi)); }

Expr *x_load_as(Build *b, DType dt, Var *buf, Expr *index, int lanes, Expr *count, int64_t stride) {
  Expr *e = lanes == 1 ? x_load(b, buf, index, 1) : x_load_part(b, buf, index, lanes, count, x_idx(b, stride));
  return x_cast(b, dt, e);
}

Expr *lower_load_vector(Lower *l, const Value *v, Expr *i, int lanes, Expr *count) {
  At at = {.rank = 1, .c = {i}, .lanes = lanes, .vdim = 0, .count = count};
  return lower_load(l, v, &at);
}
