/* ops/sample.c: GridSample over 1 to 3 spatial axes.
 *
 * A grid point gives one real coordinate per axis (last axis first), from which each axis gets 1, 2 or 4 taps: source position, weight,
 * and with zero padding whether it exists. These are computed once per point and used for all channels. Coordinates are data: they are
 * brought into a small range as floats before they become integers, so that none, NaN included, leads outside the input.
 *
 * Semantics where ONNX leaves room: those of its reference implementation (border and reflection move the coordinate first, then each tap;
 * nearest rounds half to even).
 */
#include "ops.h"

#define SAMPLE_DIMS 3
#define SAMPLE_TAPS 64   /* of all axes */
#define FAR 1e7          /* coordinates beyond this are as good as this */

bool infer_grid_sample(Graph *g, Node *n) {
  const GridSampleAttr *a = n->attr;
  const Value *x = n->in[0], *grid = n->in[1];
  if (!op_check_computable(g, n, x, "the input") || !op_check_float(g, n, grid, "the grid")) return false;
  if (a->mode != GRID_NEAREST && !op_check_float(g, n, x, "the input")) return false;
  int rank = x->shape.rank, dims = rank - 2;
  if (!op_check_rank(g, n, x, "the input", 3, 2 + SAMPLE_DIMS) || !op_check_rank(g, n, grid, "the grid", rank, rank)) return false;
  if (a->mode == GRID_CUBIC && dims > 2) REFUSE(g, n, NULL, "cubic sampling has at most two spatial axes");
  if (grid->shape.d[dims + 1].n != dims || grid->shape.d[0].n != x->shape.d[0].n)
    REFUSE(g, n, "the grid is [N, output extents..., spatial axes]", "the grid %s does not fit the input %s",
           shape_text(g->arena, &grid->shape),
           shape_text(g->arena, &x->shape));
  Shape s = {.rank = x->shape.rank, .d = {x->shape.d[0], x->shape.d[1]}};
  for (int i = 0; i < dims; i++) {
    if (x->shape.d[i + 2].n < 1 || x->shape.d[i + 2].n > INT32_MAX)
      REFUSE(g, n, NULL, "the input's axis %d has %lld elements", i + 2, (long long)x->shape.d[i + 2].n);
    s.d[i + 2] = grid->shape.d[i + 1];
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

typedef struct Taps { int n; Expr *at[4], *weight[4], *valid[4]; } Taps;   /* valid NULL: it exists */

typedef struct Sample {
  const Node *n;
  const GridSampleAttr *a;
  const Value *x;
  DType coord, acc;
  int dims;
} Sample;

/* v mirrored at lo and hi until it lies between. */
static Expr *reflect(Build *b, Expr *v, double lo, double hi) {
  Type t = v->type;
  double range = hi - lo;
  if (range <= 0) return x_float(b, t, lo);
  Expr *below = s_let(b, "below", x_bin(b, X_LT, v, x_float(b, t, lo)));
  Expr *over = x_select(b, below, x_sub(b, x_float(b, t, lo), v), x_sub(b, v, x_float(b, t, hi)));
  over = s_let(b, "over", over);
  Expr *times = s_let(b, "times", x_un(b, X_FLOOR, x_bin(b, X_DIV, over, x_float(b, t, range))));
  Expr *rest = s_let(b, "rest", x_sub(b, over, x_mul(b, times, x_float(b, t, range))));
  Expr *half = x_mul(b, times, x_float(b, t, 0.5));
  Expr *even = s_let(b, "even", x_bin(b, X_EQ, x_un(b, X_FLOOR, half), half));
  /* An even number of turns ends counting from the border that was crossed. */
  Expr *up = x_add(b, x_float(b, t, lo), rest), *down = x_sub(b, x_float(b, t, hi), rest);
  Expr *from_lo = x_un(b, X_NOT, x_bin(b, X_XOR, below, even));
  Expr *mirrored = x_select(b, from_lo, up, down);
  Expr *inside = x_bin(b, X_LT, over, x_float(b, t, 0));
  return x_select(b, inside, v, mirrored);
}

/* The real source coordinate along an axis of n elements, moved as the padding mode says. */
static Expr *coordinate(Build *b, const Sample *s, Expr *v, int64_t n) {
  Type t = v->type;
  double len = (double)n, lo = s->a->align_corners ? 0 : -0.5, hi = s->a->align_corners ? len - 1 : len - 0.5;
  Expr *shift = x_add(b, v, x_float(b, t, 1));
  if (s->a->align_corners) v = x_mul(b, x_bin(b, X_DIV, shift, x_float(b, t, 2)), x_float(b, t, len - 1));
  else v = x_bin(b, X_DIV, x_sub(b, x_mul(b, shift, x_float(b, t, len)), x_float(b, t, 1)), x_float(b, t, 2));
  /* NaN becomes the lower bound. */
  v = s_let(b, "v", x_bin(b, X_MIN, x_bin(b, X_MAX, v, x_float(b, t, -FAR)), x_float(b, t, FAR)));
  if (s->a->mode == GRID_NEAREST) v = s_let(b, "near", x_un(b, X_ROUND, v));
  if (s->a->padding == GRID_PAD_REFLECTION) v = s_let(b, "v", reflect(b, v, lo, hi));
  Expr *outside = x_bin(b, X_OR, x_bin(b, X_LT, v, x_float(b, t, lo)), x_bin(b, X_GT, v, x_float(b, t, hi)));
  Expr *clamped = x_bin(b, X_MIN, x_bin(b, X_MAX, v, x_float(b, t, 0)), x_float(b, t, len - 1));
  if (s->a->padding == GRID_PAD_BORDER) v = x_select(b, outside, clamped, v);
  /* Four steps past the ends nothing is left to reach: that keeps the integers small. */
  return s_let(b, "v", x_bin(b, X_MIN, x_bin(b, X_MAX, v, x_float(b, t, -4)), x_float(b, t, len + 4)));
}

/* Position i, at most 8 outside [0, n), moved inside. */
static Expr *settle(Build *b, const Sample *s, Expr *i, int64_t n) {
  if (s->a->padding == GRID_PAD_REFLECTION && n > 1) {
    int64_t period = s->a->align_corners ? 2 * (n - 1) : 2 * n, turn = (8 + period - 1) / period * period;
    Expr *m = s_let(b, "m", x_remi(b, x_addi(b, i, turn), period));
    i = x_bin(b, X_MIN, m, x_sub(b, x_idx(b, s->a->align_corners ? period : period - 1), m));
  }
  return x_clamp_idx(b, i, 0, n - 1);
}

/* Keys' cubic convolution kernel, a = -0.75, at distances 1+f, f, 1-f, 2-f. */
static void cubic_weights(Build *b, Expr *f, Expr *w[4]) {
  Type t = f->type;
  Expr *one = x_float(b, t, 1);
  for (int k = 0; k < 4; k++) {
    Expr *d = k == 0 ? x_add(b, f, one) : k == 1 ? f : k == 2 ? x_sub(b, one, f) : x_sub(b, x_float(b, t, 2), f);
    d = s_let(b, "d", d);
    double a = -0.75;
    if (k == 1 || k == 2) {
      Expr *e = x_sub(b, x_mul(b, x_float(b, t, a + 2), d), x_float(b, t, a + 3));
      w[k] = x_add(b, x_mul(b, x_mul(b, e, d), d), one);
    } else {
      Expr *e = x_sub(b, x_mul(b, x_float(b, t, a), d), x_float(b, t, 5 * a));
      e = x_add(b, x_mul(b, e, d), x_float(b, t, 8 * a));
      w[k] = x_sub(b, x_mul(b, e, d), x_float(b, t, 4 * a));
    }
  }
}

static Taps axis_taps(Build *b, const Sample *s, Expr *v, int64_t n) {
  Taps p = {.n = s->a->mode == GRID_NEAREST ? 1 : s->a->mode == GRID_LINEAR ? 2 : 4};
  v = coordinate(b, s, v, n);
  Expr *floor = s_let(b, "floor", x_un(b, X_FLOOR, v));
  Expr *first = s_let(b, "first", x_addi(b, x_cast(b, DT_IDX, floor), p.n == 4 ? -1 : 0));
  if (p.n > 1) {
    Expr *f = s_let(b, "f", x_sub(b, v, floor));
    if (p.n == 2) {
      p.weight[0] = x_sub(b, x_float(b, f->type, 1), f);
      p.weight[1] = f;
    } else {
      cubic_weights(b, f, p.weight);
    }
  }
  for (int k = 0; k < p.n; k++) {
    Expr *i = x_addi(b, first, k);
    if (s->a->padding == GRID_PAD_ZEROS)
      p.valid[k] = s_let(b, "valid", x_bin(b, X_AND, x_bin(b, X_GE, i, x_idx(b, 0)), x_bin(b, X_LT, i, x_idx(b, n))));
    p.at[k] = s_let(b, "at", settle(b, s, i, n));
    if (p.n > 1) p.weight[k] = s_let(b, "wt", x_cast(b, s->acc, p.weight[k]));
  }
  return p;
}

typedef struct Source { Expr *offset[SAMPLE_TAPS], *valid[SAMPLE_TAPS]; int n; } Source;

/* Offsets in an image plane of every combination of taps, row-major. */
static void combine(Build *b, const Sample *s, const Taps *taps, int d, Expr *offset, Expr *valid, Source *out) {
  if (d == s->dims) {
    out->offset[out->n] = s_let(b, "off", offset);
    out->valid[out->n++] = valid ? s_let(b, "ok", valid) : NULL;
    return;
  }
  for (int k = 0; k < taps[d].n; k++) {
    Expr *v = taps[d].valid[k];
    if (v && valid) v = x_bin(b, X_AND, valid, v);
    combine(b, s, taps, d + 1, x_add(b, offset, x_muli(b, taps[d].at[k], value_stride(s->x, d + 2))), v, out);
  }
}

static Expr *weighted(Lower *l, const Sample *s, const Taps *taps, const Source *src, Expr *plane, int d, int *next) {
  Build *b = &l->b;
  if (d == s->dims) {
    int i = (*next)++;
    Expr *e = x_cast(b, s->acc, x_load(b, lower_in(l, s->x), x_add(b, plane, src->offset[i]), 1));
    return src->valid[i] ? x_select(b, src->valid[i], e, x_num(b, e->type, 0)) : e;
  }
  Expr *sum = NULL;
  for (int k = 0; k < taps[d].n; k++) {
    Expr *e = weighted(l, s, taps, src, plane, d + 1, next);
    if (taps[d].n == 1) return e;
    sum = sum ? x_fma(b, e, taps[d].weight[k], sum) : x_mul(b, e, taps[d].weight[k]);
  }
  return s_let(b, "s", sum);
}

static void sample_point(Lower *l, const At *at, void *user) {
  const Sample *s = user;
  Build *b = &l->b;
  const Value *grid = s->n->in[1];
  Taps taps[SAMPLE_DIMS];
  At point = at_zero(b, grid->shape.rank), plane = at_zero(b, at->rank), to = *at;
  point.c[0] = plane.c[0] = at->c[0];
  for (int i = 0; i < s->dims; i++) point.c[i + 1] = at->c[i + 2];
  for (int i = 0; i < s->dims; i++) {
    point.c[s->dims + 1] = x_idx(b, s->dims - 1 - i);
    Expr *v = s_let(b, "g", x_cast(b, s->coord, lower_load(l, grid, &point)));
    taps[i] = axis_taps(b, s, v, s->x->shape.d[i + 2].n);
  }
  Source src = {.n = 0};
  combine(b, s, taps, 0, x_idx(b, 0), NULL, &src);
  to.c[1] = plane.c[1] = s_for_n(b, "ch", s->x->shape.d[1].n);
  int next = 0;
  Expr *base = s_let(b, "plane", lower_index(l, s->x, &plane, NULL));
  Expr *e = weighted(l, s, taps, &src, base, 0, &next);
  lower_finish(l, s->n, x_cast(b, s->x->dt, e), &to);
  s_end(b);
}

void lower_grid_sample(Lower *l, const Node *n) {
  const GridSampleAttr *a = n->attr;
  const Value *x = n->in[0], *y = n->out[0];
  if (value_count(y) == 0) return;
  Sample s = {.n = n, .a = a, .x = x, .coord = acc_type(n->in[1]->dt), .dims = x->shape.rank - 2};
  s.acc = a->mode == GRID_NEAREST ? x->dt : acc_type(x->dt);
  Shape points = y->shape;
  points.d[1] = dim_of(1);
  lower_open(l, n, "grid_sample %lld points, %lld channels", (long long)shape_count(&points), (long long)y->shape.d[1].n);
  lower_nest(l, &points, y->layout, points.rank - 1, 1, sample_point, &s);
  lower_body_in_place(l, n, 0);
  double taps = 1;
  for (int i = 0; i < s.dims; i++) taps *= a->mode == GRID_NEAREST ? 1 : a->mode == GRID_LINEAR ? 2 : 4;
  lower_close(l, 2 * taps * (double)value_count(y));
}
