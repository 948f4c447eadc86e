/* op_attention.c: the building blocks of transformers: Attention, RotaryEmbedding, CausalConvWithState.
 *
 * Attention, per query head (several share a key head):
 *   Y = softmax(mask(softcap(scale * Q K^T))) V
 * Query i stands at position p = i + offset among the keys: offset counts the cached keys, or, per batch, the valid ones of a padded cache
 * minus the queries. Which keys it sees by position is a constant where the offset is one. Rows that see no key give zeros.
 */
#include "import.h"

#include <math.h>
#include <string.h>

typedef struct Attn {
  Value *q, *k, *v, *mask, *valid;                /* q, k, v: [batch, heads, length, size] */
  int64_t batch, heads, groups, rows, keys, past; /* groups: key heads */
  bool causal, may_be_blind;
  int64_t left, right; /* of the window; -1: unbounded */
  DType dt;
} Attn;

/* [batch, length, heads * size] or [batch, heads, length, size] as the latter. */
static Value *split_heads(Onode *o, Value *x, const char *attribute) {
  static const int64_t perm[] = {0, 2, 1, 3};
  if (x->shape.rank == 4) {
    attr_ignore(o, attribute);
    return x;
  }
  int64_t heads = attr_int_in(o, attribute, 0, 1, MAX_DIM);
  if (o->failed) return NULL;
  if (x->shape.rank != 3 || x->shape.d[2].n % heads) {
    onnx_bad(o, NULL, "an operand of rank %d does not split into %lld heads", x->shape.rank, (long long)heads);
    return NULL;
  }
  return emit_transpose(o, emit_reshape(o, x, 4, (int64_t[]){x->shape.d[0].n, x->shape.d[1].n, heads, x->shape.d[2].n / heads}), perm);
}

static Value *with_past(Onode *o, Value *x, int i) { return has_in(o, i) && x ? emit_concat(o, (Value *[]){o->in[i], x}, 2, 2) : x; }

static bool read_operands(Onode *o, Attn *a) {
  a->dt = o->in[0]->dt;
  for (int i = 1; i < 3; i++)
    if (o->in[i]->dt != a->dt) return onnx_refuse(o, NULL, "queries, keys and values of different types");
  if (has_in(o, 4) != has_in(o, 5)) return onnx_bad(o, NULL, "past keys and past values go together");
  if (has_in(o, 4) && has_in(o, 6)) return onnx_bad(o, NULL, "past keys and a count of valid keys exclude each other");
  a->past = has_in(o, 4) && o->in[4]->shape.rank == 4 ? o->in[4]->shape.d[2].n : 0;
  a->q = split_heads(o, o->in[0], "q_num_heads");
  a->k = with_past(o, split_heads(o, o->in[1], "kv_num_heads"), 4);
  a->v = with_past(o, split_heads(o, o->in[2], "kv_num_heads"), 5);
  if (!a->q || !a->k || !a->v) return false;
  const Shape *q = &a->q->shape, *k = &a->k->shape, *v = &a->v->shape;
  a->batch = q->d[0].n, a->heads = q->d[1].n, a->rows = q->d[2].n;
  a->groups = k->d[1].n, a->keys = k->d[2].n;
  bool fits = k->d[0].n == a->batch && v->d[0].n == a->batch && v->d[1].n == a->groups && v->d[2].n == a->keys && k->d[3].n == q->d[3].n;
  if (!fits || !a->groups || a->heads % a->groups) return onnx_bad(o, NULL, "queries, keys and values do not fit each other in shape");
  a->mask = has_in(o, 3) ? o->in[3] : NULL;
  a->valid = has_in(o, 6) ? o->in[6] : NULL;
  if (a->valid && (a->valid->shape.rank != 1 || a->valid->shape.d[0].n != a->batch || a->valid->dt != DT_I64))
    return onnx_bad(o, NULL, "the counts of valid keys must be one i64 per batch");
  return true;
}

/* x y, where x has a->heads heads and y a->groups: heads that share one are rows of one product. */
static Value *product(Onode *o, const Attn *a, Value *x, Value *y, bool trans) {
  MatMulAttr t = {.trans_b = trans};
  if (!x || !y || a->heads == a->groups) return emit2(o, OP_MatMul, &t, x, y);
  const Shape *s = &x->shape, *u = &y->shape;
  int64_t share = a->heads / a->groups;
  x = emit_reshape(o, x, 4, (int64_t[]){a->batch, a->groups, share * a->rows, s->d[3].n});
  return emit_reshape(o, emit2(o, OP_MatMul, &t, x, y), 4, (int64_t[]){a->batch, a->heads, a->rows, trans ? u->d[2].n : u->d[3].n});
}

/* ---- which keys a query sees ---- */

static bool sees(const Attn *a, int64_t key, int64_t p) {
  return (!a->causal || key <= p) && (a->left < 0 || key >= p - a->left) && (a->right < 0 || key <= p + a->right);
}

static Value *hide(Onode *o, const Attn *a, Value *visible, Value *s) {
  return emit3(o, OP_Where, NULL, visible, s, emit_scalar(o, a->dt, -(double)INFINITY));
}

/* By position, the offset being known. */
static Value *hide_fixed(Onode *o, Attn *a, Value *s) {
  Shape shape = shape_of(2, (int64_t[]){a->rows, a->keys});
  bool *data = made_data(o, DT_BOOL, &shape);
  for (int64_t i = 0; data && i < a->rows; i++) {
    bool any = false;
    for (int64_t j = 0; j < a->keys; j++) any |= data[i * a->keys + j] = sees(a, j, i + a->past);
    a->may_be_blind |= !any;
  }
  return hide(o, a, emit_const(o, DT_BOOL, &shape, data), s);
}

/* By position, the offset being valid - rows: d = key - p is compared with the bounds. */
static Value *hide_by_count(Onode *o, Attn *a, Value *s) {
  Shape shape = shape_of(2, (int64_t[]){a->rows, a->keys});
  int64_t *data = made_data(o, DT_I64, &shape);
  for (int64_t i = 0; data && i < a->rows; i++)
    for (int64_t j = 0; j < a->keys; j++) data[i * a->keys + j] = j - i + a->rows;
  Value *count = emit_reshape(o, a->valid, 4, (int64_t[]){a->batch, 1, 1, 1});
  Value *d = emit2(o, OP_Sub, NULL, emit_const(o, DT_I64, &shape, data), count);
  if (a->causal) s = hide(o, a, emit2(o, OP_LessOrEqual, NULL, d, emit_scalar(o, DT_I64, 0)), s);
  if (a->right >= 0) s = hide(o, a, emit2(o, OP_LessOrEqual, NULL, d, emit_scalar(o, DT_I64, (double)a->right)), s);
  if (a->left >= 0) s = hide(o, a, emit2(o, OP_GreaterOrEqual, NULL, d, emit_scalar(o, DT_I64, -(double)a->left)), s);
  return s;
}

static Value *hide_padding(Onode *o, Attn *a, Value *s) {
  int64_t *data = NEW_N(o->im->arena, int64_t, a->keys);
  for (int64_t j = 0; j < a->keys; j++) data[j] = j;
  Shape shape = shape_of(1, &a->keys);
  Value *count = emit_reshape(o, a->valid, 4, (int64_t[]){a->batch, 1, 1, 1});
  return hide(o, a, emit2(o, OP_Less, NULL, emit_const(o, DT_I64, &shape, data), count), s);
}

/* Keys past the mask's end are not seen. */
static Value *apply_mask(Onode *o, Attn *a, Value *s) {
  Value *m = a->mask;
  int rank = m->shape.rank;
  int64_t short_by = rank ? a->keys - m->shape.d[rank - 1].n : 0;
  if (m->dt != DT_BOOL && m->dt != a->dt) {
    onnx_refuse(o, NULL, "a mask of type %s", dt_name(m->dt));
    return NULL;
  }
  if (short_by > 0 && m->shape.d[rank - 1].n != 1 && o->opset >= 24) {
    int64_t pads[2 * MAX_RANK] = {0};
    pads[2 * rank - 1] = short_by;
    m = emit1(o, OP_Pad, &(PadAttr){.pads = {pads, 2 * rank}, .value = m->dt == DT_BOOL ? 0 : -(double)INFINITY}, m);
  }
  Shape want = s ? s->shape : (Shape){0};
  s = m && m->dt == DT_BOOL ? hide(o, a, m, s) : emit2(o, OP_Add, NULL, s, m);
  if (s && !shape_equal(&s->shape, &want)) {
    onnx_bad(o, NULL, "the mask does not broadcast to the scores");
    return NULL;
  }
  return s;
}

static Value *masked(Onode *o, Attn *a, Value *s) {
  bool placed = a->causal || a->left >= 0 || a->right >= 0;
  a->may_be_blind = a->mask || a->valid;
  if (a->mask) s = s ? apply_mask(o, a, s) : NULL;
  if (a->valid) s = hide_padding(o, a, s);
  if (placed) s = a->valid ? hide_by_count(o, a, s) : hide_fixed(o, a, s);
  return s;
}

static Value *probabilities(Onode *o, const Attn *a, Value *s, DType precision) {
  Ints last = {(int64_t[]){3}, 1};
  Value *p = emit_cast(o, emit1(o, OP_Softmax, &(AxisAttr){.axis = 3}, emit_cast(o, s, precision)), a->dt);
  if (!a->may_be_blind) return p;
  Value *blind = emit2(o, OP_Equal, NULL, emit_reduce(o, OP_ReduceMax, s, last, true), emit_scalar(o, a->dt, -(double)INFINITY));
  return emit3(o, OP_Where, NULL, blind, emit_scalar(o, a->dt, 0), p);
}

bool onnx_attention(Onode *o) {
  static const int64_t perm[] = {0, 2, 1, 3};
  Attn a = {.left = -1, .right = -1};
  double cap = attr_float(o, "softcap", 0);
  int64_t mode = attr_int_in(o, "qk_matmul_output_mode", 0, 0, 3), precision = attr_int(o, "softmax_precision", 0);
  a.causal = attr_flag(o, "is_causal", false);
  if (o->opset >= 25) {
    a.left = attr_int_in(o, "left_window_size", -1, -1, MAX_DIM);
    a.right = attr_int_in(o, "right_window_size", -1, -1, MAX_DIM);
  }
  if (!read_operands(o, &a)) return false;
  double scale = attr_float(o, "scale", 1 / sqrt((double)MAXI(a.q->shape.d[3].n, 1)));
  Value *stage[4];
  Value *s = product(o, &a, emit2(o, OP_Mul, NULL, a.q, emit_scalar(o, a.dt, scale)), a.k, true);
  stage[0] = s;
  if (cap != 0) {
    Value *c = emit_scalar(o, a.dt, cap);
    s = emit2(o, OP_Mul, NULL, emit1(o, OP_Tanh, NULL, emit2(o, OP_Div, NULL, s, c)), c);
  }
  stage[1] = s;
  stage[2] = s = masked(o, &a, s);
  stage[3] = s = probabilities(o, &a, s, precision == SPINEC_F64 ? DT_F64 : a.dt);
  Value *y = product(o, &a, s, a.v, false);
  if (y && o->in[0]->shape.rank == 3)
    y = emit_reshape(o, emit_transpose(o, y, perm), 3, (int64_t[]){a.batch, a.rows, a.heads * y->shape.d[3].n});
  onnx_out(o, 1, a.k);
  onnx_out(o, 2, a.v);
  onnx_out(o, 3, stage[mode]);
  return onnx_out(o, 0, y);
}

/* ---- RotaryEmbedding ---- */

/* Columns start, start + step, ... of the last dimension. */
static Value *columns(Onode *o, Value *x, int64_t start, int64_t step, int64_t n) {
  if (!x) return NULL;
  int r = x->shape.rank;
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK], sizes[MAX_RANK];
  for (int i = 0; i < r; i++) steps[i] = 1, sizes[i] = x->shape.d[i].n;
  starts[r - 1] = start, steps[r - 1] = step, sizes[r - 1] = n;
  return emit1(o, OP_Slice, &(SliceAttr){.starts = {starts, r}, .steps = {steps, r}, .sizes = {sizes, r}}, x);
}

/* A table of angles as [batch, 1, length, half]. */
static Value *angles(Onode *o, Value *cache, const Shape *x, int64_t half) {
  if (has_in(o, 3)) cache = cache->shape.rank == 2 ? emit2(o, OP_Gather, &(GatherAttr){.axis = 0}, cache, o->in[3]) : NULL;
  bool fits = cache && cache->shape.rank == 3 && cache->shape.d[0].n == x->d[0].n && cache->shape.d[1].n == x->d[2].n &&
              cache->shape.d[2].n == half;
  if (!fits) {
    if (!o->failed) onnx_bad(o, NULL, "the table of angles does not fit the operand");
    return NULL;
  }
  return emit_reshape(o, cache, 4, (int64_t[]){x->d[0].n, 1, x->d[2].n, half});
}

bool onnx_rotary_embedding(Onode *o) {
  static const int64_t perm[] = {0, 2, 1, 3};
  Value *x = split_heads(o, o->in[0], "num_heads");
  bool pairs = attr_flag(o, "interleaved", false);
  if (!x) return false;
  Shape s = x->shape;
  int64_t size = s.d[3].n, turned = attr_int_in(o, "rotary_embedding_dim", 0, 0, size);
  if (!turned) turned = size;
  int64_t half = turned / 2;
  if (turned % 2 || !half) return onnx_bad(o, NULL, "an odd number of elements (%lld) cannot be rotated in pairs", (long long)turned);
  Value *c = angles(o, o->in[1], &s, half), *d = angles(o, o->in[2], &s, half);
  Value *u = columns(o, x, 0, pairs ? 2 : 1, half), *v = columns(o, x, pairs ? 1 : half, pairs ? 2 : 1, half);
  Value *re = emit2(o, OP_Sub, NULL, emit2(o, OP_Mul, NULL, c, u), emit2(o, OP_Mul, NULL, d, v));
  Value *im = emit2(o, OP_Add, NULL, emit2(o, OP_Mul, NULL, d, u), emit2(o, OP_Mul, NULL, c, v));
  int64_t one[] = {s.d[0].n, s.d[1].n, s.d[2].n, half, 1}, both[] = {s.d[0].n, s.d[1].n, s.d[2].n, turned};
  Value *y;
  if (pairs)
    y = emit_reshape(o, emit_concat(o, (Value *[]){emit_reshape(o, re, 5, one), emit_reshape(o, im, 5, one)}, 2, 4), 4, both);
  else
    y = emit_concat(o, (Value *[]){re, im}, 2, 3);
  if (turned < size) y = emit_concat(o, (Value *[]){y, columns(o, x, turned, 1, size - turned)}, 2, 3);
  return onnx_out(o, 0, o->in[0]->shape.rank == 4 ? y : emit_reshape_to(o, emit_transpose(o, y, perm), &o->in[0]->shape));
}

/* ---- CausalConvWithState: a depthwise convolution over the last positions and the new ones ---- */

bool onnx_causal_conv(Onode *o) {
  static const char *const activations[] = {"none", "silu", "swish", NULL};
  Value *x = o->in[0], *w = o->in[1], *past = has_in(o, 3) ? o->in[3] : NULL;
  int activation = attr_choice(o, "activation", activations, 0);
  if (x->shape.rank != 3 || w->shape.rank != 3)
    return onnx_bad(o, NULL, "operands of rank %d and %d, expected 3", x->shape.rank, w->shape.rank);
  int64_t b = x->shape.d[0].n, c = x->shape.d[1].n, n = x->shape.d[2].n, keep = w->shape.d[2].n - 1;
  if (keep < 0) return onnx_bad(o, NULL, "the kernel has no elements");
  if (past && (past->shape.rank != 3 || past->shape.d[0].n != b || past->shape.d[1].n != c || past->shape.d[2].n != keep))
    return onnx_bad(o, NULL, "the past state does not fit operand and kernel");
  int64_t pads[6] = {0, 0, keep};
  Value *all = past && keep ? emit_concat(o, (Value *[]){past, x}, 2, 2) : keep ? emit1(o, OP_Pad, &(PadAttr){.pads = {pads, 6}}, x) : x;
  static const int64_t ones[] = {1}, zeros[] = {0, 0};
  ConvAttr a = {.strides = {ones, 1}, .pads = {zeros, 2}, .dilations = {ones, 1}, .group = c};
  Value *bias = has_in(o, 2) ? o->in[2] : NULL;
  Value *y = all ? emit(o, OP_Conv, &a, (Value *[]){all, w, bias}, bias ? 3 : 2) : NULL;
  if (activation) y = emit1(o, OP_Swish, &(AlphaAttr){.alpha = 1}, y);
  onnx_out(o, 1, emit_slice(o, all, 2, n, keep));
  return onnx_out(o, 0, y);
}
