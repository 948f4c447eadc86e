/* ops/topk.c: the k largest or smallest elements along an axis, in order; of equal ones the lower index comes first. NaN is the largest.
 *
 * Each slice keeps its k best so far in a heap with the worst of them at the root: an element that beats the root replaces it. Emptying
 * the heap gives the results from the last to the first: O(n log k) whatever the data. The heap is per-thread scratch.
 */
#include "ops.h"

bool infer_topk(Graph *g, Node *n) {
  const TopKAttr *a = n->attr;
  const Value *x = n->in[0];
  int axis;
  if (!op_check_computable(g, n, x, "the input") || !op_axis(g, n, a->axis, x->shape.rank, &axis)) return false;
  int64_t extent = x->shape.d[axis].n;
  if (extent > INT32_MAX) REFUSE(g, n, NULL, "axis %d has %lld elements, expected at most %d", axis, (long long)extent, INT32_MAX);
  if (a->k < 0 || a->k > extent) REFUSE(g, n, NULL, "k is %lld, axis %d has %lld elements", (long long)a->k, axis, (long long)extent);
  Shape s = x->shape;
  s.d[axis] = dim_of(a->k);
  return op_set_out(g, n, 0, x->dt, &s) && op_set_out(g, n, 1, DT_I64, &s);
}

typedef struct TopK {
  const Node *n;
  int axis;
  bool largest;
  DType dt;            /* of the heap's values */
  int64_t k;
  Var *value, *index;  /* the heap */
} TopK;

typedef struct Item { Expr *v, *i; } Item;

/* x comes after y in the results. */
static Expr *worse(Build *b, const TopK *t, Item x, Item y) {
  Expr *after = x_bin(b, t->largest ? X_LT : X_GT, x.v, y.v), *tie = x_bin(b, X_EQ, x.v, y.v);
  if (dt_is_float(t->dt)) {
    Expr *nx = s_let(b, "nx", x_is_nan(b, x.v)), *ny = s_let(b, "ny", x_is_nan(b, y.v));
    Expr *lone = t->largest ? x_bin(b, X_AND, ny, x_un(b, X_NOT, nx)) : x_bin(b, X_AND, nx, x_un(b, X_NOT, ny));
    after = x_bin(b, X_OR, after, lone);
    tie = x_bin(b, X_OR, tie, x_bin(b, X_AND, nx, ny));
  }
  return s_let(b, "after", x_bin(b, X_OR, after, x_bin(b, X_AND, tie, x_bin(b, X_GT, x.i, y.i))));
}

static Item heap_get(Build *b, const TopK *t, Expr *at) {
  Expr *v = s_let(b, "hv", x_load(b, t->value, at, 1));
  return (Item){v, s_let(b, "hi", x_load(b, t->index, at, 1))};
}

static void heap_set(Build *b, const TopK *t, Expr *at, Item x) {
  s_store(b, t->value, at, x.v);
  s_store(b, t->index, at, x.i);
}

/* Puts x into the heap of `size` elements at the hole `at`, moving worse children up. */
static void sift_down(Build *b, const TopK *t, Expr *at, Expr *size, Item x) {
  Var *hole = s_reg(b, "hole", at), *child = s_reg(b, "child", x_addi(b, x_muli(b, at, 2), 1));
  s_while(b, x_bin(b, X_LT, x_var(b, child), size));
  Expr *left = s_let(b, "left", x_var(b, child));
  Expr *right = s_let(b, "right", x_bin(b, X_MIN, x_addi(b, left, 1), x_addi(b, size, -1)));
  Item lower = heap_get(b, t, left), upper = heap_get(b, t, right);
  Expr *pick = s_let(b, "pick", x_select(b, worse(b, t, upper, lower), right, left));
  Item c = heap_get(b, t, pick);
  s_if(b, worse(b, t, c, x));
  heap_set(b, t, x_var(b, hole), c);
  s_set(b, hole, pick);
  s_set(b, child, x_addi(b, x_muli(b, pick, 2), 1));
  s_else(b);
  s_set(b, child, size);
  s_end(b);
  s_end(b);
  heap_set(b, t, x_var(b, hole), x);
}

static Item element(Lower *l, const TopK *t, const At *at, Expr *j) {
  Build *b = &l->b;
  At here = *at;
  here.c[t->axis] = j;
  Expr *v = s_let(b, "v", x_cast(b, t->dt, lower_load(l, t->n->in[0], &here)));
  return (Item){v, s_let(b, "i", x_cast(b, DT_I32, j))};
}

static void topk_place(Lower *l, const At *at, void *user) {
  const TopK *t = user;
  Build *b = &l->b;
  const Node *n = t->n;
  Expr *k = x_idx(b, t->k), *zero = x_idx(b, 0);
  /* The first k as they come, then made a heap from the last parent back. */
  Expr *j = s_for_n(b, "j", t->k);
  heap_set(b, t, j, element(l, t, at, j));
  s_end(b);
  if (t->k > 1) {
    j = s_for_n(b, "j", t->k / 2);
    Expr *p = s_let(b, "p", x_sub(b, x_idx(b, t->k / 2 - 1), j));
    sift_down(b, t, p, k, heap_get(b, t, p));
    s_end(b);
  }
  j = s_for(b, "j", k, x_idx(b, n->in[0]->shape.d[t->axis].n), 1);
  Item x = element(l, t, at, j);
  s_if(b, worse(b, t, heap_get(b, t, zero), x));
  sift_down(b, t, zero, k, x);
  s_end(b);
  s_end(b);
  j = s_for_n(b, "j", t->k);
  At to = *at;
  Expr *last = s_let(b, "last", x_sub(b, x_idx(b, t->k - 1), j));
  to.c[t->axis] = last;
  Item root = heap_get(b, t, zero);
  if (value_used(n->out[0])) lower_store(l, n->out[0], &to, x_cast(b, n->in[0]->dt, root.v));
  if (value_used(n->out[1])) lower_store(l, n->out[1], &to, x_cast(b, DT_I64, root.i));
  sift_down(b, t, zero, last, heap_get(b, t, last));
  s_end(b);
}

void lower_topk(Lower *l, const Node *n) {
  const TopKAttr *a = n->attr;
  const Value *x = n->in[0];
  TopK t = {.n = n, .largest = a->largest, .k = a->k};
  if (value_count(n->out[0]) == 0 || !op_axis(l->g, n, a->axis, x->shape.rank, &t.axis)) return;
  if (!value_used(n->out[0]) && !value_used(n->out[1])) return;
  t.dt = x->dt == DT_BOOL ? DT_I32 : x->dt == DT_F16 || x->dt == DT_BF16 ? DT_F32 : x->dt;
  Shape rows = x->shape;
  rows.d[t.axis] = dim_of(1);
  lower_open(l, n, "topk %lld of %lld", (long long)a->k, (long long)x->shape.d[t.axis].n);
  t.value = lower_scratch(l, "value", t.dt, a->k * (int64_t)dt_size(t.dt));
  t.index = lower_scratch(l, "index", DT_I32, a->k * 4);
  lower_nest(l, &rows, n->out[0]->layout, rows.rank - 1, 1, topk_place, &t);
  lower_close(l, (double)value_count(x));
}
