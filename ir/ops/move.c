/* ops/move.c: lowering of data movement: Transpose, Slice, Concat, Expand, Tile, Pad, Trilu, ReverseSequence.
 *
 * Without a body, what is a strided copy is left to copy.c. With one, the op is a point function: the place of the operand's element from
 * the place of the result's.
 */
#include "ops.h"

/* ---- strided copies ---- */

static Copy copy_all(const Value *y) {
  Copy c = {.ndims = y->shape.rank};
  int64_t stride[MAX_RANK];
  shape_strides(&y->shape, stride);
  for (int i = 0; i < c.ndims; i++) c.d[i] = (CopyDim){y->shape.d[i].n, 0, stride[i]};
  return c;
}

static Expr *transpose_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  Ints perm = ((const PermAttr *)n->attr)->perm;
  At a = *at;
  for (int i = 0; i < perm.n; i++) a.c[perm.v[i]] = at->c[i];
  if (perm.n) a.vdim = (int)perm.v[at->vdim];
  return lower_load(l, n->in[0], &a);
}

void lower_transpose(Lower *l, const Node *n) {
  if (n->nbody) {
    lower_points(l, n, "Transpose", transpose_point, NULL, POINT_VECTOR, 0);
    return;
  }
  Ints perm = ((const PermAttr *)n->attr)->perm;
  Copy c = copy_all(n->out[0]);
  int64_t stride[MAX_RANK];
  shape_strides(&n->in[0]->shape, stride);
  for (int i = 0; i < perm.n; i++) c.d[i].from = stride[perm.v[i]];
  copy_strided(l, n, "Transpose", n->in[0], n->out[0], &c);
}

static Expr *slice_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  const SliceAttr *s = n->attr;
  At a = *at;
  for (int i = 0; i < at->rank; i++) a.c[i] = x_addi(&l->b, x_muli(&l->b, at->c[i], s->steps.v[i]), s->starts.v[i]);
  return lower_load(l, n->in[0], &a);
}

void lower_slice(Lower *l, const Node *n) {
  const SliceAttr *s = n->attr;
  int rank = n->out[0]->shape.rank;
  if (lower_slice_part(l, n)) return;
  if (n->in[0]->layout.kind == LAYOUT_BLOCKED) {
    lower_channels(l, n);
    return;
  }
  if (n->nbody) {
    lower_points(l, n, "Slice", slice_point, NULL, rank && s->steps.v[rank - 1] == 1 ? POINT_VECTOR : 0, 0);
    return;
  }
  if (value_count(n->out[0]) == 0) return;
  Copy c = copy_all(n->out[0]);
  int64_t stride[MAX_RANK];
  shape_strides(&n->in[0]->shape, stride);
  for (int i = 0; i < rank; i++) {
    c.d[i].from = c.d[i].n == 1 ? 0 : stride[i] * s->steps.v[i];
    c.from += stride[i] * s->starts.v[i];
  }
  copy_strided(l, n, "Slice", n->in[0], n->out[0], &c);
}

static Expr *expand_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  return lower_load_broadcast(l, n->in[0], at, 0);
}

void lower_expand(Lower *l, const Node *n) {
  if (n->nbody) {
    lower_points(l, n, "Expand", expand_point, NULL, POINT_VECTOR, 0);
    return;
  }
  const Shape *x = &n->in[0]->shape;
  Copy c = copy_all(n->out[0]);
  int64_t stride[MAX_RANK];
  shape_strides(x, stride);
  for (int i = 0; i < x->rank; i++)
    if (x->d[i].n != 1) c.d[i + c.ndims - x->rank].from = stride[i];
  copy_strided(l, n, "Expand", n->in[0], n->out[0], &c);
}

static Expr *tile_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  At a = *at;
  for (int i = 0; i < at->rank; i++)
    if (((const TileAttr *)n->attr)->repeats.v[i] != 1) a.c[i] = x_remi(&l->b, at->c[i], n->in[0]->shape.d[i].n);
  return lower_load(l, n->in[0], &a);
}

void lower_tile(Lower *l, const Node *n) {
  Ints repeats = ((const TileAttr *)n->attr)->repeats;
  const Shape *x = &n->in[0]->shape;
  int last = x->rank - 1;
  int64_t from[MAX_RANK], to[MAX_RANK];
  if (value_count(n->out[0]) == 0) return;
  shape_strides(x, from);
  shape_strides(&n->out[0]->shape, to);
  Copy c = {.ndims = 2 * x->rank};
  for (int i = 0; i <= last; i++) {
    c.d[2 * i] = (CopyDim){repeats.v[i], 0, to[i] * x->d[i].n};
    c.d[2 * i + 1] = (CopyDim){x->d[i].n, x->d[i].n == 1 ? 0 : from[i], to[i]};
  }
  if (!n->nbody && copy_strided(l, n, "Tile", n->in[0], n->out[0], &c)) return;
  bool vectors = last >= 0 && (repeats.v[last] == 1 || x->d[last].n == 1);
  lower_points(l, n, "Tile", tile_point, NULL, vectors ? POINT_VECTOR : 0, 0);
}

/* ---- Concat ---- */

#define CONCAT_JOINT 16    /* operands that one kernel takes */

/* One kernel: each range iteration writes a whole stretch of the result, operand after operand. */
static void concat_joint(Lower *l, const Node *n, int64_t outer, int axis) {
  Value *y = n->out[0];
  int64_t stretch = shape_count_from(&y->shape, axis), at = 0;
  Build *b = lower_open(l, n, "Concat of %d, axis %d", n->ncore, axis);
  Expr *r = lower_range(l, "r", outer);
  for (int i = 0; i < n->ncore; i++) {
    const Value *x = n->in[i];
    int64_t count = shape_count_from(&x->shape, axis);
    if (count) copy_run(l, lower_in(l, x), x_muli(b, r, count), lower_out(l, y), x_addi(b, x_muli(b, r, stretch), at), count);
    at += count;
  }
  lower_close(l, 0);
}

void lower_concat(Lower *l, const Node *n) {
  Value *y = n->out[0];
  int axis;
  if (value_count(y) == 0 || !axis_normalise(((const AxisAttr *)n->attr)->axis, y->shape.rank, &axis)) return;
  if (lower_concat_parts(l, n)) return;
  if (y->layout.kind == LAYOUT_BLOCKED) {
    lower_channels(l, n);
    return;
  }
  int64_t outer = shape_count_to(&y->shape, axis), at = 0, stride = shape_count_from(&y->shape, axis + 1);
  if (outer >= 16 && n->ncore <= CONCAT_JOINT) {
    concat_joint(l, n, outer, axis);
    return;
  }
  for (int i = 0; i < n->ncore; i++) {
    const Value *x = n->in[i];
    int64_t count = shape_count_from(&x->shape, axis);
    Copy c = {.ndims = 2, .d = {{outer, count, shape_count_from(&y->shape, axis)}, {count, 1, 1}}, .to = at * stride};
    copy_strided(l, n, "Concat", x, y, &c);
    at += x->shape.d[axis].n;
  }
}

/* ---- Pad ---- */

static Expr *pad_value(Lower *l, const Node *n) {
  const Value *y = n->in[0];
  return x_num(&l->b, type_of(y->dt, 1), ((const PadAttr *)n->attr)->value);
}

/* The operand's coordinate for coordinate c of a padded dimension. What negative pads cropped is not padded with. */
static Expr *pad_source(Build *b, const PadAttr *a, int rank, int dim, int64_t in, Expr *c, Expr **inside) {
  int64_t lo = a->pads.v[dim], hi = a->pads.v[rank + dim], first = MAXI(-lo, 0), m = in - first - MAXI(-hi, 0), before = MAXI(lo, 0);
  if (lo == 0 && hi == 0) return c;
  if (m <= 0) {   /* cropped away: nothing but padding */
    *inside = x_int(b, type_of(DT_BOOL, 1), 0);
    return x_idx(b, 0);
  }
  Expr *i = x_addi(b, c, -before);   /* within the cropped operand, if in 0..m */
  if (a->mode == PAD_CONSTANT) {
    i = s_let(b, "p", i);
    Expr *ok = x_bin(b, X_AND, x_bin(b, X_GE, i, x_idx(b, 0)), x_bin(b, X_LT, i, x_idx(b, m)));
    *inside = *inside ? x_bin(b, X_AND, *inside, ok) : ok;
  }
  /* Divisions are of what is not negative. */
  if (a->mode == PAD_WRAP) return x_addi(b, x_remi(b, x_addi(b, i, (before + m - 1) / m * m), m), first);
  if (a->mode == PAD_REFLECT) {
    if (m == 1) return x_idx(b, first);
    int64_t period = 2 * (m - 1);
    Expr *k = s_let(b, "p", x_remi(b, x_addi(b, i, (before + period - 1) / period * period), period));
    return x_addi(b, x_bin(b, X_MIN, k, x_sub(b, x_idx(b, period), k)), first);
  }
  return x_addi(b, x_clamp_idx(b, i, 0, m - 1), first);
}

static Expr *pad_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  Build *b = &l->b;
  const PadAttr *a = n->attr;
  const Value *x = n->in[0];
  At from = *at;
  Expr *inside = NULL;
  if (value_count(x) == 0) return pad_value(l, n);
  for (int i = 0; i < at->rank; i++) from.c[i] = pad_source(b, a, at->rank, i, x->shape.d[i].n, at->c[i], &inside);
  Expr *e = lower_load(l, x, &from);
  return inside ? x_select(b, inside, e, pad_value(l, n)) : e;
}

typedef struct PadDim { int64_t in, out, first, before, take; } PadDim;   /* out[before..before+take) = in[first..] */

/* Dims that nothing is added to or taken from join the one before. */
static int pad_dims(const Node *n, PadDim *d) {
  const PadAttr *a = n->attr;
  int rank = n->in[0]->shape.rank, k = 0;
  for (int i = 0; i < rank; i++) {
    int64_t lo = a->pads.v[i], hi = a->pads.v[rank + i], in = n->in[0]->shape.d[i].n, out = n->out[0]->shape.d[i].n;
    PadDim p = {in, out, MINI(MAXI(-lo, 0), in), MAXI(lo, 0), MAXI(in - MAXI(-lo, 0) - MAXI(-hi, 0), 0)};
    if (k && lo == 0 && hi == 0) {
      PadDim *to = &d[k - 1];
      *to = (PadDim){to->in * in, to->out * out, to->first * in, to->before * in, to->take * in};
    } else {
      d[k++] = p;
    }
  }
  return k;
}

/* A row of the result per range iteration: filled, copied, filled; or all filled. */
static void pad_rows(Lower *l, const Node *n) {
  PadDim d[MAX_RANK] = {{1, 1, 0, 0, 1}};
  int rank = MAXI(pad_dims(n, d), 1);
  Build *b = lower_open(l, n, "Pad");
  Value *y = n->out[0];
  const PadDim *row = &d[rank - 1];
  int64_t extent[MAX_RANK], rows = 1;
  for (int i = 0; i < rank - 1; i++) rows *= extent[i] = d[i].out;
  Expr *r = lower_range(l, "r", rows), *c[MAX_RANK], *inside = NULL, *value = pad_value(l, n), *from = x_idx(b, 0);
  Var *to = lower_out(l, y);
  unflatten(b, r, extent, rank - 1, c);
  for (int i = 0; i < rank - 1; i++) {
    const PadDim *p = &d[i];
    if (p->take != p->out) {
      Expr *ok = x_bin(b, X_AND, x_bin(b, X_GE, c[i], x_idx(b, p->before)), x_bin(b, X_LT, c[i], x_idx(b, p->before + p->take)));
      inside = inside ? x_bin(b, X_AND, inside, ok) : ok;
    }
    from = x_add(b, x_muli(b, from, p->in), x_addi(b, c[i], p->first - p->before));
  }
  Expr *start = s_let(b, "row", x_muli(b, r, row->out));
  from = x_addi(b, x_muli(b, from, row->in), row->first);
  if (inside) s_if(b, inside);
  fill_run(l, value, to, start, row->before);
  if (row->take) copy_run(l, lower_in(l, n->in[0]), from, to, x_addi(b, start, row->before), row->take);
  fill_run(l, value, to, x_addi(b, start, row->before + row->take), row->out - row->before - row->take);
  if (inside) {
    s_else(b);
    fill_run(l, value, to, start, row->out);
    s_end(b);
  }
  lower_close(l, 0);
}

void lower_pad(Lower *l, const Node *n) {
  const PadAttr *a = n->attr;
  int rank = n->in[0]->shape.rank;
  if (value_count(n->out[0]) == 0) return;
  if (a->mode == PAD_CONSTANT && !n->nbody) {
    pad_rows(l, n);
    return;
  }
  bool vectors = a->mode != PAD_CONSTANT && rank && a->pads.v[rank - 1] == 0 && a->pads.v[2 * rank - 1] == 0;
  lower_points(l, n, "Pad", pad_point, NULL, vectors ? POINT_VECTOR : 0, 0);
}

/* ---- Trilu, ReverseSequence ---- */

static Expr *trilu_point(Lower *l, const Node *n, const At *at, const void *user) {
  (void)user;
  Build *b = &l->b;
  const TriluAttr *a = n->attr;
  const Value *x = n->in[0];
  int r = at->rank;
  /* Past the matrix's edges k makes no difference. */
  int64_t k = MAXI(-x->shape.d[r - 2].n - 1, MINI(a->k, x->shape.d[r - 1].n + 1));
  Expr *off = x_addi(b, x_sub(b, at->c[r - 1], at->c[r - 2]), -k), *keep;   /* above the k-th diagonal: positive */
  if (at->lanes > 1) {
    Expr *lane = x_add(b, x_splat(b, x_cast(b, DT_I32, off), at->lanes), x_iota(b, at->lanes));
    keep = x_bin(b, a->upper ? X_GE : X_LE, lane, x_int(b, lane->type, 0));
  } else {
    keep = x_bin(b, a->upper ? X_GE : X_LE, off, x_idx(b, 0));
  }
  Expr *e = lower_load(l, x, at);
  return x->dt == DT_BOOL ? x_bin(b, X_AND, e, keep) : x_select(b, keep, e, x_num(b, e->type, 0));
}

void lower_trilu(Lower *l, const Node *n) {
  const Shape *s = &n->in[0]->shape;
  bool vectors = s->d[s->rank - 1].n < 1 << 30 && s->d[s->rank - 2].n < 1 << 30;   /* diagonals are counted in i32 lanes */
  lower_points(l, n, "Trilu", trilu_point, NULL, (vectors ? POINT_VECTOR : 0) | POINT_IN_PLACE, 1);
}

typedef struct Axes { int batch, time; } Axes;

static Expr *reverse_point(Lower *l, const Node *n, const At *at, const void *user) {
  Build *b = &l->b;
  const Axes *axes = user;
  At len = {.rank = 1, .c = {at->c[axes->batch]}, .lanes = 1}, from = *at;
  int64_t steps = n->in[0]->shape.d[axes->time].n;
  Expr *count = s_let(b, "len", x_clamp_idx(b, x_cast(b, DT_IDX, lower_load(l, n->in[1], &len)), 0, steps));
  Expr *t = at->c[axes->time], *back = x_addi(b, x_sub(b, count, t), -1);
  from.c[axes->time] = s_let(b, "t", x_select(b, x_bin(b, X_LT, t, count), back, t));
  return lower_load(l, n->in[0], &from);
}

/* Lengths outside 0..steps are taken as the nearest of the two. */
void lower_reverse_sequence(Lower *l, const Node *n) {
  const ReverseSequenceAttr *a = n->attr;
  int rank = n->in[0]->shape.rank;
  Axes axes;
  if (!axis_normalise(a->batch_axis, rank, &axes.batch) || !axis_normalise(a->time_axis, rank, &axes.time)) return;
  bool vectors = axes.batch != rank - 1 && axes.time != rank - 1;
  lower_points(l, n, "ReverseSequence", reverse_point, &axes, vectors ? POINT_VECTOR : 0, 0);
}
