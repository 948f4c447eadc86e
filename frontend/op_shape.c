/* op_shape.c: ONNX operators that rearrange without choosing elements: views, transposes, repetition, joining. */
#include "import.h"

#include <string.h>

/* ---- views ---- */

/* Operator set 5 and later: the shape is an operand; 0 copies the input's dimension unless allowzero is set, one -1 takes the rest. */
bool onnx_reshape(Onode *o) {
  Value *x = o->in[0];
  Ints want;
  bool zero = attr_flag(o, "allowzero", false);
  if (o->opset < 5 ? !attr_ints(o, "shape", &want) : !const_ints(o, 1, "the target shape", &want))
    return !o->failed && onnx_bad(o, NULL, "no target shape");
  if (want.n > MAX_RANK) return onnx_refuse(o, NULL, "a target shape of %d dimensions; at most %d are supported", want.n, MAX_RANK);
  Shape s = {.rank = want.n};
  int open = -1;
  for (int i = 0; i < want.n; i++) {
    int64_t d = want.v[i];
    if (d == 0 && !zero) {
      if (i >= x->shape.rank) return onnx_bad(o, NULL, "dimension %d is to be copied from an operand of rank %d", i, x->shape.rank);
      d = x->shape.d[i].n;
    }
    if (d < -1 || (d == -1 && open >= 0)) return onnx_bad(o, NULL, "the target shape holds more than one open dimension");
    if (d == -1) open = i, d = 1;
    s.d[i] = dim_of(d);
  }
  int64_t count = value_count(x), rest = shape_count(&s);
  if (open >= 0 && rest == 0) return onnx_bad(o, NULL, "the open dimension is ambiguous beside one of no elements");
  if (open >= 0) s.d[open] = dim_of(count / rest);
  if (shape_count(&s) != count) return onnx_bad(o, NULL, "%lld elements do not fill the target shape", (long long)count);
  return onnx_out(o, 0, emit_reshape_to(o, x, &s));
}

bool onnx_flatten(Onode *o) {
  Value *x = o->in[0];
  int64_t axis = attr_int(o, "axis", 1);
  if (axis < 0) axis += x->shape.rank;
  if (axis < 0 || axis > x->shape.rank) return onnx_bad(o, NULL, "axis is out of range for rank %d", x->shape.rank);
  return onnx_out(o, 0, emit_reshape(o, x, 2, (int64_t[]){shape_count_to(&x->shape, (int)axis), shape_count_from(&x->shape, (int)axis)}));
}

bool onnx_squeeze(Onode *o) {
  Value *x = o->in[0];
  Ints axes;
  bool given, drop[MAX_RANK] = {0};
  if (!axes_of(o, 1, 13, x->shape.rank, &axes, &given)) return false;
  for (int i = 0; i < axes.n; i++) {
    if (x->shape.d[axes.v[i]].n != 1)
      return onnx_bad(o, NULL, "dimension %lld is %lld, not 1", (long long)axes.v[i], (long long)x->shape.d[axes.v[i]].n);
    drop[axes.v[i]] = true;
  }
  Shape s = {0};
  for (int i = 0; i < x->shape.rank; i++)
    if (given ? !drop[i] : x->shape.d[i].n != 1) s.d[s.rank++] = x->shape.d[i];
  return onnx_out(o, 0, emit_reshape_to(o, x, &s));
}

bool onnx_unsqueeze(Onode *o) {
  Value *x = o->in[0];
  Ints axes;
  bool given, add[MAX_RANK] = {0};
  Ints raw = {0};
  if (o->opset < 13 ? !attr_ints(o, "axes", &raw) : !const_ints(o, 1, "the list of axes", &raw))
    return !o->failed && onnx_bad(o, NULL, "no axes");
  if (x->shape.rank + (int64_t)raw.n > MAX_RANK)
    return onnx_refuse(o, NULL, "a tensor of %d dimensions; at most %d are supported", x->shape.rank + raw.n, MAX_RANK);
  Shape s = {.rank = x->shape.rank + raw.n};
  if (!axes_of(o, 1, 13, s.rank, &axes, &given)) return false;
  for (int i = 0; i < axes.n; i++) add[axes.v[i]] = true;
  for (int i = 0, from = 0; i < s.rank; i++) s.d[i] = add[i] ? dim_of(1) : x->shape.d[from++];
  return onnx_out(o, 0, emit_reshape_to(o, x, &s));
}

/* ---- what is known of a shape ---- */

bool onnx_shape(Onode *o) {
  const Shape *s = &o->in[0]->shape;
  int64_t dims[MAX_RANK], start = attr_int(o, "start", 0), end = attr_int(o, "end", s->rank);
  if (start < 0) start += s->rank;
  if (end < 0) end += s->rank;
  start = MINI(MAXI(start, 0), s->rank);
  end = MINI(MAXI(end, 0), s->rank);
  for (int i = 0; i < s->rank; i++) dims[i] = s->d[i].n;
  return onnx_out(o, 0, emit_i64s(o, dims + start, (int)MAXI(end - start, 0)));
}

bool onnx_size(Onode *o) {
  int64_t n = value_count(o->in[0]);
  return onnx_out(o, 0, emit_reshape(o, emit_i64s(o, &n, 1), 0, NULL));
}

/* ---- order of dimensions ---- */

bool onnx_transpose(Onode *o) {
  Value *x = o->in[0];
  int rank = x->shape.rank;
  Ints perm;
  int64_t reversed[MAX_RANK];
  for (int i = 0; i < rank; i++) reversed[i] = rank - 1 - i;
  if (!attr_ints(o, "perm", &perm)) perm = (Ints){reversed, rank};
  if (o->failed || perm.n != rank) return !o->failed && onnx_bad(o, NULL, "perm has %d elements, the operand rank %d", perm.n, rank);
  unsigned seen = 0;
  for (int i = 0; i < rank; i++) {
    if (perm.v[i] < 0 || perm.v[i] >= rank || seen >> perm.v[i] & 1)
      return onnx_bad(o, NULL, "perm is no permutation of 0 to %d", rank - 1);
    seen |= 1u << perm.v[i];
  }
  return onnx_out(o, 0, emit_transpose(o, x, perm.v));
}

static bool block_of(Onode *o, int64_t *b) {
  if (!attr_given(o, "blocksize")) return onnx_bad(o, NULL, "attribute 'blocksize' is missing");
  if (o->in[0]->shape.rank != 4) return onnx_bad(o, NULL, "the operand has rank %d, expected 4", o->in[0]->shape.rank);
  *b = attr_int_in(o, "blocksize", 1, 1, MAX_DIM);
  return !o->failed;
}

bool onnx_depth_to_space(Onode *o) {
  static const char *const modes[] = {"DCR", "CRD", NULL};
  Value *x = o->in[0];
  int64_t b;
  bool crd = attr_choice(o, "mode", modes, 0) == 1;
  if (!block_of(o, &b)) return false;
  int64_t n = x->shape.d[0].n, c = x->shape.d[1].n, h = x->shape.d[2].n, w = x->shape.d[3].n;
  if (b > 46340 || c % (b * b))
    return onnx_bad(o, NULL, "%lld channels do not divide into blocks of %lldx%lld", (long long)c, (long long)b, (long long)b);
  int64_t depth = c / (b * b);
  static const int64_t perm_dcr[] = {0, 3, 4, 1, 5, 2}, perm_crd[] = {0, 1, 4, 2, 5, 3};
  Value *y = emit_reshape(o, x, 6, crd ? (int64_t[]){n, depth, b, b, h, w} : (int64_t[]){n, b, b, depth, h, w});
  y = emit_transpose(o, y, crd ? perm_crd : perm_dcr);
  return onnx_out(o, 0, emit_reshape(o, y, 4, (int64_t[]){n, depth, h * b, w * b}));
}

bool onnx_space_to_depth(Onode *o) {
  static const int64_t perm[] = {0, 3, 5, 1, 2, 4};
  Value *x = o->in[0];
  int64_t b;
  if (!block_of(o, &b)) return false;
  int64_t n = x->shape.d[0].n, c = x->shape.d[1].n, h = x->shape.d[2].n, w = x->shape.d[3].n;
  if (b > 46340 || h % b || w % b)
    return onnx_bad(o, NULL, "%lldx%lld does not divide into blocks of %lldx%lld", (long long)h, (long long)w, (long long)b, (long long)b);
  Value *y = emit_transpose(o, emit_reshape(o, x, 6, (int64_t[]){n, c, h / b, b, w / b, b}), perm);
  return onnx_out(o, 0, emit_reshape(o, y, 4, (int64_t[]){n, c * b * b, h / b, w / b}));
}

/* ---- repetition and joining ---- */

static bool const_shape(Onode *o, int i, const char *what, Shape *s) {
  Ints v;
  if (!const_ints(o, i, what, &v)) return false;
  if (v.n > MAX_RANK) return onnx_refuse(o, NULL, "%s has %d dimensions; at most %d are supported", what, v.n, MAX_RANK);
  for (int k = 0; k < v.n; k++)
    if (v.v[k] < 0 || v.v[k] > MAX_DIM) return onnx_bad(o, NULL, "%s holds %lld", what, (long long)v.v[k]);
  *s = shape_of(v.n, v.v);
  return true;
}

bool onnx_expand(Onode *o) {
  Value *x = o->in[0];
  Shape want, to;
  if (!const_shape(o, 1, "the target shape", &want)) return false;
  if (!shape_broadcast(&x->shape, &want, &to)) return onnx_bad(o, NULL, "the operand does not broadcast to the target shape");
  return onnx_out(o, 0, emit_expand(o, x, &to));
}

bool onnx_tile(Onode *o) {
  Value *x = o->in[0];
  Shape r;
  if (!const_shape(o, 1, "the list of repeats", &r)) return false;
  if (r.rank != x->shape.rank) return onnx_bad(o, NULL, "%d repeats given for rank %d", r.rank, x->shape.rank);
  int64_t repeats[MAX_RANK];
  bool once = true;
  for (int i = 0; i < r.rank; i++) once &= (repeats[i] = r.d[i].n) == 1;
  return onnx_out(o, 0, once ? x : emit1(o, OP_Tile, &(TileAttr){.repeats = {repeats, r.rank}}, x));
}

bool onnx_concat(Onode *o) {
  int rank = o->in[0]->shape.rank;
  if (!attr_given(o, "axis")) return onnx_bad(o, NULL, "attribute 'axis' is missing");
  int axis = attr_axis(o, "axis", 0, rank);
  Value **in = NEW_N(o->im->arena, Value *, o->nin);
  int n = 0;
  /* An operand that adds nothing is left out: exporters join empty lists. */
  for (int i = 0; i < o->nin; i++) {
    if (!o->in[i]) return onnx_bad(o, NULL, "operand %d is missing", i + 1);
    bool fits = o->in[i]->shape.rank == rank;
    for (int d = 0; fits && d < rank; d++) fits = d == axis || o->in[i]->shape.d[d].n == o->in[0]->shape.d[d].n;
    if (!fits) return onnx_bad(o, NULL, "operand %d does not fit the others in shape", i + 1);
    if (o->in[i]->shape.d[axis].n) in[n++] = o->in[i];
  }
  if (o->failed) return false;
  return onnx_out(o, 0, n ? emit_concat(o, in, n, axis) : o->in[0]);
}
