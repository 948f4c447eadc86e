/* emit.c: the canonical nodes a handler makes.
 *
 * A node gets its origin first, so that inference can say where it stands, then types and shapes, then a look at its size; if all operands
 * are constant it is evaluated at once, and a result without elements is a constant whatever made it. What is evaluated is bounded in work
 * and in memory: a few bytes of a file can ask for terabytes. Past the bounds a node simply stays for run time.
 */
#include "import.h"

#include <math.h>
#include <string.h>

#define FOLD_ALWAYS ((int64_t)1 << 22) /* elements of a result worth evaluating whatever its operands */
#define FOLD_WORK ((int64_t)1 << 27)   /* multiply-adds, roughly */

/* ---- limits ---- */

bool check_shape(Onode *o, const Shape *s, DType dt) {
  if (s->rank < 0 || s->rank > MAX_RANK)
    return onnx_refuse(o, NULL, "a tensor of %d dimensions; at most %d are supported", s->rank, MAX_RANK);
  for (int i = 0; i < s->rank; i++)
    if (s->d[i].n < 0 || s->d[i].n > MAX_DIM) return onnx_refuse(o, NULL, "a tensor with a dimension of %lld", (long long)s->d[i].n);
  int64_t size = MAXI((int64_t)dt_size(dt), 1);
  return shape_count(s) <= MAX_TENSOR_BYTES / size || onnx_refuse(o, NULL, "a tensor of more than %lld bytes", (long long)MAX_TENSOR_BYTES);
}

void *made_data(Onode *o, DType dt, const Shape *s) {
  if (!check_shape(o, s, dt)) return NULL;
  int64_t bytes = shape_count(s) * (int64_t)dt_size(dt);
  if (bytes > MAX_MADE_BYTES - o->im->made_bytes) {
    onnx_refuse(o, NULL, "constants made from this model take more than %lld bytes", (long long)MAX_MADE_BYTES);
    return NULL;
  }
  o->im->made_bytes += bytes;
  return arena_alloc(o->im->arena, (size_t)bytes);
}

/* ---- making nodes ---- */

static bool all_const(const Node *n) {
  if (!n->nin) return false;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && !value_is_const(n->in[i])) return false;
  return true;
}

static int64_t times(int64_t a, int64_t b) { return b && a > INT64_MAX / b ? INT64_MAX : a * b; }

/* Work per element of the result, roughly: what the operator sums or searches over. */
static int64_t work_per_element(const Node *n) {
  const Value *x = n->in[0];
  if (n->op == OP_Conv) return shape_count_from(&n->in[1]->shape, 1);
  if (n->op == OP_ConvTranspose) return times(x->shape.d[1].n, shape_count_from(&n->in[1]->shape, 2));
  if (n->op == OP_MatMul) return x->shape.d[x->shape.rank - 1 - (int)((const MatMulAttr *)n->attr)->trans_a].n;
  if (n->op == OP_Einsum) {
    int64_t all = 1;
    for (int i = 0; i < n->nin; i++) all = times(all, value_count(n->in[i]));
    return all;
  }
  if (n->op == OP_MaxPool || n->op == OP_AveragePool || n->op == OP_LpPool) {
    const PoolAttr *p = n->attr;
    int64_t k = 1;
    for (int i = 0; i < p->kernel.n; i++) k = times(k, p->kernel.v[i]);
    return k;
  }
  if (n->op == OP_TopK) return MAXI(value_count(x) / MAXI(value_count(n->out[0]), 1), 1) * 64;
  return 16;
}

static bool worth_folding(const Onode *o, const Node *n) {
  int64_t in = 0, out = 0;
  for (int i = 0; i < n->nin; i++)
    if (n->in[i]) in += value_count(n->in[i]);
  for (int i = 0; i < n->nout; i++) out += value_count(n->out[i]);
  if (out > FOLD_ALWAYS && out / 2 > in) return false;
  if (out > (MAX_MADE_BYTES - o->im->made_bytes) / 8) return false;
  return times(out, work_per_element(n)) <= FOLD_WORK || (work_per_element(n) <= 16 && out <= MAX_MADE_BYTES / 8);
}

/* Evaluates n. Folding puts new values where the old ones are used, so a node that uses them holds the places meanwhile. */
static bool fold(Onode *o, Node *n, Value **outs) {
  Import *im = o->im;
  int errors = diag_errors(im->diag), nout = n->nout;
  for (int i = 0; i < nout; i++) im->made_bytes += (int64_t)value_bytes(n->out[i]);
  Node *holder = graph_add_node(im->g, NULL, OP_Concat, NULL, n->out, nout);
  bool ok = im->options->fold(im->g, n, im->options->fold_user) || diag_errors(im->diag) == errors;
  for (int i = 0; i < nout; i++) outs[i] = holder->in[i];
  graph_erase(im->g, holder);
  if (ok) return true;
  o->failed = true;
  im->errors++;
  return false;
}

/* Outputs become constants where they can be. False after an error. */
static bool settle(Onode *o, Node *n, Value **outs) {
  bool empty = true;
  for (int i = 0; i < n->nout; i++) {
    outs[i] = n->out[i];
    empty &= value_count(outs[i]) == 0;
  }
  if (empty) {
    graph_erase(o->im->g, n);
    for (int i = 0; i < n->nout; i++) outs[i]->data = "";
    return true;
  }
  return !o->im->options->fold || !all_const(n) || !worth_folding(o, n) || fold(o, n, outs);
}

bool emit_outs(Onode *o, Op op, const void *attr, Value *const *in, int nin, Value **outs) {
  Import *im = o->im;
  int nout = op_info(op)->nout;
  for (int i = 0; i < nout; i++) outs[i] = NULL;
  if (o->failed) return false;
  Node *n = graph_add_node(im->g, NULL, op, attr, in, nin);
  node_add_origin(im->g, n, o->label);
  n->onnx_op = o->row->name;
  n->opset = o->opset;
  bool ok = op_info(op)->infer(im->g, n);
  if (!ok) o->failed = true, im->errors++;
  for (int i = 0; ok && i < nout; i++) ok = check_shape(o, &n->out[i]->shape, n->out[i]->dt);
  if (!ok) graph_erase(im->g, n);
  return ok && settle(o, n, outs);
}

Value *emit(Onode *o, Op op, const void *attr, Value *const *in, int nin) {
  Value *outs[4];
  return emit_outs(o, op, attr, in, nin, outs) ? outs[0] : NULL;
}

Value *emit1(Onode *o, Op op, const void *attr, Value *x) { return x ? emit(o, op, attr, &x, 1) : NULL; }
Value *emit2(Onode *o, Op op, const void *attr, Value *x, Value *y) { return x && y ? emit(o, op, attr, (Value *[]){x, y}, 2) : NULL; }
Value *emit3(Onode *o, Op op, const void *attr, Value *x, Value *y, Value *z) {
  return x && y && z ? emit(o, op, attr, (Value *[]){x, y, z}, 3) : NULL;
}

/* ---- constants ---- */

Value *emit_const(Onode *o, DType dt, const Shape *s, const void *data) {
  return o->failed || !data ? NULL : graph_add_const(o->im->g, NULL, dt, s, data);
}

/* Doubling copies: the constants of weights without values reach hundreds of megabytes. */
static Value *filled(Onode *o, DType dt, const Shape *s, const void *element) {
  static const char zeros[8];
  size_t size = dt_size(dt), total;
  char *data = made_data(o, dt, s);
  if (!data) return NULL;
  total = (size_t)shape_count(s) * size;
  if (total && memcmp(element, zeros, size)) {
    memcpy(data, element, size);
    for (size_t have = size; have < total; have *= 2) memcpy(data + have, data, MINI(have, total - have));
  }
  return emit_const(o, dt, s, data);
}

Value *emit_filled(Onode *o, const Value *one, const Shape *s) { return one ? filled(o, one->dt, s, one->data) : NULL; }

Value *emit_full(Onode *o, DType dt, const Shape *s, double x) {
  char element[8] = {0};
  data_set_f(element, dt, 0, x);
  return filled(o, dt, s, element);
}

Value *emit_scalar(Onode *o, DType dt, double x) { return emit_full(o, dt, &(Shape){0}, x); }

Value *emit_i64s(Onode *o, const int64_t *v, int n) {
  Shape s = shape_of(1, &(int64_t){n});
  int64_t *data = made_data(o, DT_I64, &s);
  if (data && n) memcpy(data, v, (size_t)n * sizeof *v);
  return emit_const(o, DT_I64, &s, data);
}

/* ---- data movement ---- */

Value *emit_reshape_to(Onode *o, Value *x, const Shape *s) {
  if (!x || o->failed) return NULL;
  if (shape_equal(&x->shape, s)) return x;
  if (shape_count(s) != value_count(x)) {
    onnx_bad(o, NULL, "%lld elements cannot take a shape of %lld", (long long)value_count(x), (long long)shape_count(s));
    return NULL;
  }
  if (!check_shape(o, s, x->dt)) return NULL;
  if (value_is_const(x)) return emit_const(o, x->dt, s, x->data);
  int64_t dims[MAX_RANK];
  for (int i = 0; i < s->rank; i++) dims[i] = s->d[i].n;
  return emit1(o, OP_Reshape, &(ShapeAttr){.shape = {dims, s->rank}}, x);
}

Value *emit_reshape(Onode *o, Value *x, int rank, const int64_t *dims) {
  if (!x || o->failed) return NULL;
  if (rank > MAX_RANK) {
    onnx_refuse(o, NULL, "a tensor of %d dimensions; at most %d are supported", rank, MAX_RANK);
    return NULL;
  }
  Shape s = shape_of(rank, dims);
  return emit_reshape_to(o, x, &s);
}

Value *emit_transpose(Onode *o, Value *x, const int64_t *perm) {
  if (!x) return NULL;
  bool same = true;
  for (int i = 0; i < x->shape.rank; i++) same &= perm[i] == i;
  return same ? x : emit1(o, OP_Transpose, &(PermAttr){.perm = {perm, x->shape.rank}}, x);
}

/* Half precision is a storage format of constants here: it can only be converted. */
static Value *convert_const(Onode *o, const Value *x, DType to) {
  char *data = made_data(o, to, &x->shape);
  bool whole = !dt_is_float(x->dt) && !dt_is_float(to);
  for (int64_t i = 0, n = data ? value_count(x) : 0; i < n; i++) {
    if (whole)
      data_set_i(data, to, i, data_get_i(x->data, x->dt, i));
    else
      data_set_f(data, to, i, data_get_f(x->data, x->dt, i));
  }
  return emit_const(o, to, &x->shape, data);
}

Value *emit_cast(Onode *o, Value *x, DType to) {
  if (!x || x->dt == to) return x;
  if (value_is_const(x) && (!dt_computable(x->dt) || !dt_computable(to) || value_count(x) <= 64)) return convert_const(o, x, to);
  return emit1(o, OP_Cast, &(CastAttr){.to = to}, x);
}

Value *emit_slice(Onode *o, Value *x, int axis, int64_t start, int64_t size) {
  if (!x) return NULL;
  int rank = x->shape.rank;
  if (start == 0 && size == x->shape.d[axis].n) return x;
  int64_t starts[MAX_RANK] = {0}, steps[MAX_RANK], sizes[MAX_RANK];
  for (int i = 0; i < rank; i++) steps[i] = 1, sizes[i] = x->shape.d[i].n;
  starts[axis] = start;
  sizes[axis] = size;
  return emit1(o, OP_Slice, &(SliceAttr){.starts = {starts, rank}, .steps = {steps, rank}, .sizes = {sizes, rank}}, x);
}

Value *emit_concat(Onode *o, Value *const *in, int n, int axis) {
  for (int i = 0; i < n; i++)
    if (!in[i]) return NULL;
  return n == 1 ? in[0] : emit(o, OP_Concat, &(AxisAttr){.axis = axis}, in, n);
}

Value *emit_expand(Onode *o, Value *x, const Shape *to) {
  if (!x || shape_equal(&x->shape, to)) return x;
  int64_t dims[MAX_RANK];
  for (int i = 0; i < to->rank; i++) dims[i] = to->d[i].n;
  return emit1(o, OP_Expand, &(ShapeAttr){.shape = {dims, to->rank}}, x);
}

Value *emit_channel(Onode *o, Value *x, int rank, int axis) {
  if (!x) return NULL;
  int64_t dims[MAX_RANK];
  for (int i = 0; i < rank; i++) dims[i] = i == axis ? value_count(x) : 1;
  return emit_reshape(o, x, rank, dims);
}

/* ---- reductions ---- */

/* What a reduction over no elements gives. */
static double neutral(Op op, DType dt) {
  int bits = dt_bits(dt);
  if (op == OP_ReduceSum) return 0;
  if (op == OP_ReduceProd) return 1;
  if (op == OP_ReduceMean) return (double)NAN;
  bool lowest = op == OP_ReduceMax;
  if (dt_is_float(dt)) return lowest ? -(double)INFINITY : (double)INFINITY;
  if (!dt_is_signed(dt)) return lowest ? 0 : dt == DT_BOOL ? 1 : ldexp(1, bits);
  return lowest ? -ldexp(1, bits - 1) : ldexp(1, bits - 1);
}

Value *emit_reduce(Onode *o, Op op, Value *x, Ints axes, bool keepdims) {
  if (!x) return NULL;
  bool reduced[MAX_RANK] = {0};
  for (int i = 0; i < axes.n; i++) reduced[axes.v[i]] = true;
  Shape s = {0};
  for (int i = 0; i < x->shape.rank; i++) {
    if (!reduced[i])
      s.d[s.rank++] = x->shape.d[i];
    else if (keepdims)
      s.d[s.rank++] = dim_of(1);
  }
  if (value_count(x) == 0) return emit_full(o, x->dt, &s, neutral(op, x->dt));
  if (axes.n == 0) return x;
  return emit1(o, op, &(ReduceAttr){.axes = axes, .keepdims = keepdims}, x);
}

/* ---- small helpers ---- */

bool onnx_out(Onode *o, int i, Value *v) {
  if (i < o->nout) o->out[i] = v;
  return v != NULL;
}

Shape shape_with(const Shape *s, int axis, int64_t n) {
  Shape r = *s;
  r.d[axis] = dim_of(n);
  return r;
}

Ints spatial_axes(Arena *a, int rank) {
  int64_t *v = NEW_N(a, int64_t, MAXI(rank - 2, 0));
  for (int i = 2; i < rank; i++) v[i - 2] = i;
  return (Ints){v, MAXI(rank - 2, 0)};
}
