/* ops/shape.c: inference of data movement, and views.
 *
 * Attributes are full rank (as import writes them) but may come from a file: every entry is checked.
 */
#include "ops.h"

static bool check_shape_attr(Graph *g, const Node *n, Ints s, int64_t lo) {
  if (s.n > MAX_RANK) REFUSE(g, n, NULL, "shape has rank %d, at most %d is supported", s.n, MAX_RANK);
  return op_check_ints(g, n, "shape", s, s.n, lo, EXTENT_MAX);
}

/* One entry may be -1: what is left. */
bool infer_reshape(Graph *g, Node *n) {
  Ints want = ((const ShapeAttr *)n->attr)->shape;
  const Value *x = n->in[0];
  if (!check_shape_attr(g, n, want, -1)) return false;
  Shape s = shape_of(want.n, want.v);
  int open = -1;
  for (int i = 0; i < s.rank; i++) {
    if (s.d[i].n >= 0) continue;
    if (open >= 0) REFUSE(g, n, NULL, "shape %s has two open dimensions", shape_text(g->arena, &s));
    open = i;
    s.d[i].n = 1;
  }
  int64_t count = value_count(x), rest = shape_count(&s);
  if (open >= 0) s.d[open].n = rest > 0 ? count / rest : 0;
  if (shape_count(&s) != count || count == INT64_MAX) {
    Shape asked = shape_of(want.n, want.v);
    REFUSE(g, n, NULL, "%s cannot be reshaped to %s", shape_text(g->arena, &x->shape), shape_text(g->arena, &asked));
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_transpose(Graph *g, Node *n) {
  Ints perm = ((const PermAttr *)n->attr)->perm;
  const Value *x = n->in[0];
  Shape s = {.rank = x->shape.rank};
  if (!op_check_ints(g, n, "perm", perm, s.rank, 0, s.rank - 1)) return false;
  unsigned seen = 0;
  for (int i = 0; i < s.rank; i++) {
    if (seen >> perm.v[i] & 1) REFUSE(g, n, NULL, "perm names dimension %lld twice", (long long)perm.v[i]);
    seen |= 1u << perm.v[i];
    s.d[i] = x->shape.d[perm.v[i]];
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_slice(Graph *g, Node *n) {
  const SliceAttr *a = n->attr;
  const Value *x = n->in[0];
  int rank = x->shape.rank;
  if (!op_check_ints(g, n, "sizes", a->sizes, rank, 0, EXTENT_MAX) || !op_check_ints(g, n, "starts", a->starts, rank, 0, EXTENT_MAX) ||
      !op_check_ints(g, n, "steps", a->steps, rank, -EXTENT_MAX, EXTENT_MAX))
    return false;
  for (int i = 0; i < rank; i++) {
    int64_t size = a->sizes.v[i], step = a->steps.v[i], start = a->starts.v[i], extent = x->shape.d[i].n;
    if (step == 0) REFUSE(g, n, NULL, "step of dimension %d is 0", i);
    if (size == 0) continue;
    /* Divided, not multiplied: (size - 1) * step may overflow. */
    int64_t room = step > 0 ? (extent - 1 - start) / step : start / -step;
    if (start >= extent || size - 1 > room)
      REFUSE(g, n, NULL, "dimension %d: %lld elements from %lld by %lld are not inside 0..%lld", i, (long long)size, (long long)start,
             (long long)step, (long long)extent);
  }
  Shape s = shape_of(rank, a->sizes.v);
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_concat(Graph *g, Node *n) {
  int axis;
  const Value *x = n->in[0];
  if (!op_check_rank(g, n, x, "operand 0", 1, MAX_RANK) || !op_axis(g, n, ((const AxisAttr *)n->attr)->axis, x->shape.rank, &axis))
    return false;
  Shape s = x->shape;
  for (int i = 1; i < n->ncore; i++) {
    const Value *v = n->in[i];
    bool fits = v->shape.rank == s.rank;
    for (int d = 0; fits && d < s.rank; d++) fits = d == axis || v->shape.d[d].n == s.d[d].n;
    if (!fits)
      REFUSE(g, n, NULL, "operand %d of shape %s does not join %s along axis %d", i, shape_text(g->arena, &v->shape),
             shape_text(g->arena, &s), axis);
    if (v->dt != x->dt) REFUSE(g, n, NULL, "operand %d is %s, operand 0 is %s", i, dt_name(v->dt), dt_name(x->dt));
    int64_t sum = s.d[axis].n + v->shape.d[axis].n;
    if (sum > EXTENT_MAX) REFUSE(g, n, NULL, "the result is too large");
    s.d[axis] = dim_of(sum);
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_expand(Graph *g, Node *n) {
  Ints want = ((const ShapeAttr *)n->attr)->shape;
  const Value *x = n->in[0];
  if (!check_shape_attr(g, n, want, 0)) return false;
  Shape to = shape_of(want.n, want.v), s;
  if (!shape_broadcast(&x->shape, &to, &s))
    REFUSE(g, n, NULL, "%s does not expand to %s", shape_text(g->arena, &x->shape), shape_text(g->arena, &to));
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_tile(Graph *g, Node *n) {
  Ints r = ((const TileAttr *)n->attr)->repeats;
  const Value *x = n->in[0];
  Shape s = x->shape;
  if (!op_check_ints(g, n, "repeats", r, s.rank, 0, EXTENT_MAX)) return false;
  for (int i = 0; i < s.rank; i++) {
    if (r.v[i] && s.d[i].n > EXTENT_MAX / r.v[i]) REFUSE(g, n, NULL, "dimension %d becomes too large", i);
    s.d[i] = dim_of(s.d[i].n * r.v[i]);
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_pad(Graph *g, Node *n) {
  const PadAttr *a = n->attr;
  const Value *x = n->in[0];
  Shape s = x->shape;
  if (!op_check_ints(g, n, "pads", a->pads, 2 * s.rank, -EXTENT_MAX, EXTENT_MAX)) return false;
  for (int i = 0; i < s.rank; i++) {
    int64_t lo = a->pads.v[i], hi = a->pads.v[s.rank + i], in = s.d[i].n, out = in + lo + hi;
    if (out < 0)
      REFUSE(g, n, NULL, "dimension %d: %lld elements cannot be cropped by %lld and %lld", i, (long long)in, (long long)-lo,
             (long long)-hi);
    if (out > 0 && a->mode != PAD_CONSTANT && in + MINI(lo, 0) + MINI(hi, 0) <= 0)
      REFUSE(g, n, NULL, "dimension %d has no elements to pad with", i);
    s.d[i] = dim_of(out);
  }
  return op_set_out(g, n, 0, x->dt, &s);
}

bool infer_trilu(Graph *g, Node *n) {
  const Value *x = n->in[0];
  return op_check_rank(g, n, x, "the operand", 2, MAX_RANK) && op_set_out(g, n, 0, x->dt, &x->shape);
}

bool infer_reverse_sequence(Graph *g, Node *n) {
  const ReverseSequenceAttr *a = n->attr;
  const Value *x = n->in[0], *len = n->in[1];
  int batch, time;
  if (!op_axis(g, n, a->batch_axis, x->shape.rank, &batch) || !op_axis(g, n, a->time_axis, x->shape.rank, &time)) return false;
  if (batch == time) REFUSE(g, n, NULL, "batch_axis and time_axis are both %d", batch);
  if (!dt_is_int(len->dt) || len->shape.rank != 1 || len->shape.d[0].n != x->shape.d[batch].n)
    REFUSE(g, n, NULL, "lengths are %s%s, expected integers, one for each of the %lld sequences", dt_name(len->dt),
           shape_text(g->arena, &len->shape), (long long)x->shape.d[batch].n);
  return op_set_out(g, n, 0, x->dt, &x->shape);
}

/* ---- views ---- */

void lower_view(Lower *l, const Node *n) {
  const Value *x = n->in[0], *y = n->out[0];
  if (x->layout.kind != y->layout.kind || x->layout.block != y->layout.block) ice(l->g, n, "lower_view", "layouts differ");
  lower_alias(l, n->out[0], n->in[0]);
}
