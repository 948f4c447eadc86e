/* ops/fold.c: sums, products and extrema over loop nests: what reductions, softmax, normalisation and contractions are made of.
 *
 * A long sum runs in FOLD_UNROLL registers (latency) that are emptied into a total every FOLD_CHUNK steps, so that no f32 partial sum
 * has more than a few hundred terms: its rounding error grows with that number and not with the extent. Outer loops add one finished
 * inner sum per iteration for the same reason. The order is fixed, so results do not depend on threads.
 */
#include "ops.h"

#define FOLD_UNROLL 4
#define FOLD_CHUNK 512   /* a multiple of FOLD_UNROLL */

Expr *fold_identity(Build *b, Fold f, Type t) {
  switch (f) {
  case FOLD_SUM: return x_num(b, t, 0);
  case FOLD_PROD: return x_num(b, t, 1);
  case FOLD_MAX: return x_lowest(b, t);
  case FOLD_MIN: return x_highest(b, t);
  }
  return NULL;
}

Expr *fold_combine(Build *b, Fold f, Expr *acc, Expr *x) {
  bool is_bool = acc->type.dt == DT_BOOL;
  switch (f) {
  case FOLD_SUM: return x_bin(b, is_bool ? X_OR : X_ADD, acc, x);
  case FOLD_PROD: return x_bin(b, is_bool ? X_AND : X_MUL, acc, x);
  case FOLD_MAX:
  case FOLD_MIN: break;
  }
  if (is_bool) return x_bin(b, f == FOLD_MAX ? X_OR : X_AND, acc, x);
  Expr *e = x_bin(b, f == FOLD_MAX ? X_MAX : X_MIN, acc, x);
  /* min and max give the right operand when either is NaN: a NaN x arrives, a NaN acc has to be kept. */
  return dt_is_float(acc->type.dt) ? x_select(b, x_is_nan(b, acc), acc, e) : e;
}

Expr *fold_lanes(Build *b, Fold f, Expr *v) {
  int n = v->type.lanes;
  if (n == 1) return v;
  if (f == FOLD_SUM) return x_reduce(b, X_REDUCE_ADD, v);
  if (f == FOLD_PROD) return x_reduce(b, X_REDUCE_MUL, v);
  if (!dt_is_float(v->type.dt)) return x_reduce(b, f == FOLD_MAX ? X_REDUCE_MAX : X_REDUCE_MIN, v);
  uint8_t turn[MAX_LANES];
  for (int h = n / 2; h > 0; h /= 2) {
    for (int i = 0; i < n; i++) turn[i] = (uint8_t)((i + h) % n);
    v = s_let(b, "v", v);
    v = fold_combine(b, f, v, x_shuffle(b, v, v, turn, n));
  }
  return x_extract(b, s_let(b, "v", v), 0);
}

typedef struct FoldRun {
  Lower *l;
  Fold f;
  Type acc;
  const int64_t *extent;
  int nloops;
  bool along;
  FoldTerm term;
  void *user;
  Expr *i[FOLD_LOOPS];
} FoldRun;

static Expr *term_at(FoldRun *r, Expr *j, Expr *count) {
  r->i[r->nloops - 1] = j;
  return r->term(r->l, r->i, r->acc.lanes, count, r->user);
}

static void add_term(FoldRun *r, Var *into, Expr *j) {
  Build *b = &r->l->b;
  Expr *x = s_let(b, "t", term_at(r, j, NULL));
  s_set(b, into, fold_combine(b, r->f, x_var(b, into), x));
}

/* Steps [begin, end) of width w into `total` through FOLD_UNROLL registers; their number is a multiple of FOLD_UNROLL. */
static void unrolled(FoldRun *r, Var *total, Expr *begin, Expr *end, int w) {
  Build *b = &r->l->b;
  Var *part[FOLD_UNROLL];
  for (int u = 0; u < FOLD_UNROLL; u++) part[u] = s_reg(b, "part", fold_identity(b, r->f, r->acc));
  Expr *j = s_for(b, "j", begin, end, (int64_t)FOLD_UNROLL * w);
  for (int u = 0; u < FOLD_UNROLL; u++) add_term(r, part[u], x_addi(b, j, (int64_t)u * w));
  s_end(b);
  for (int n = FOLD_UNROLL / 2; n > 0; n /= 2)
    for (int u = 0; u < n; u++) s_set(b, part[u], fold_combine(b, r->f, x_var(b, part[u]), x_var(b, part[u + n])));
  s_set(b, total, fold_combine(b, r->f, x_var(b, total), x_var(b, part[0])));
}

static Expr *fold_last(FoldRun *r) {
  Build *b = &r->l->b;
  int w = r->along ? r->acc.lanes : 1;
  int64_t n = r->extent[r->nloops - 1], steps = n / w, rest = n % w;
  if (!r->along && n == 1) return term_at(r, x_idx(b, 0), NULL);
  Expr *sum = NULL;
  if (steps > 0 || rest == 0) {
    Var *total = s_reg(b, "total", fold_identity(b, r->f, r->acc));
    int64_t main = steps >= 2 * FOLD_UNROLL ? steps / FOLD_UNROLL * FOLD_UNROLL : 0;
    if (r->f == FOLD_SUM && dt_is_float(r->acc.dt) && main >= 2 * FOLD_CHUNK) {
      Expr *c = s_for(b, "chunk", x_idx(b, 0), x_idx(b, main * w), (int64_t)FOLD_CHUNK * w);
      unrolled(r, total, c, s_let(b, "end", x_bin(b, X_MIN, x_addi(b, c, (int64_t)FOLD_CHUNK * w), x_idx(b, main * w))), w);
      s_end(b);
    } else if (main > 0) {
      unrolled(r, total, x_idx(b, 0), x_idx(b, main * w), w);
    }
    if (main < steps) {
      Expr *j = s_for(b, "j", x_idx(b, main * w), x_idx(b, steps * w), w);
      add_term(r, total, j);
      s_end(b);
    }
    sum = x_var(b, total);
  }
  if (rest > 0) {
    Expr *there = x_bin(b, X_LT, x_iota(b, w), x_int(b, type_of(DT_I32, w), rest));
    Expr *x = x_select(b, there, term_at(r, x_idx(b, steps * w), x_idx(b, rest)), fold_identity(b, r->f, r->acc));
    sum = sum ? fold_combine(b, r->f, sum, s_let(b, "t", x)) : x;
  }
  return r->along ? fold_lanes(b, r->f, sum) : sum;
}

static Expr *fold_level(FoldRun *r, int d) {
  if (d == r->nloops - 1) return fold_last(r);
  Build *b = &r->l->b;
  Type t = type_of(r->acc.dt, r->along ? 1 : r->acc.lanes);
  Var *total = s_reg(b, "total", fold_identity(b, r->f, t));
  r->i[d] = s_for_n(b, "i", r->extent[d]);
  Expr *inner = fold_level(r, d + 1);
  s_set(b, total, fold_combine(b, r->f, x_var(b, total), s_let(b, "t", inner)));
  s_end(b);
  return x_var(b, total);
}

Expr *fold_nest(Lower *l, Fold f, Type acc, const int64_t *extent, int nloops, bool along, FoldTerm term, void *user) {
  FoldRun r = {.l = l, .f = f, .acc = acc, .extent = extent, .nloops = nloops, .along = along, .term = term, .user = user};
  if (nloops == 0) return term(l, r.i, acc.lanes, NULL, user);
  return fold_level(&r, 0);
}
