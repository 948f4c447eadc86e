/* op_generate.c: ONNX operators whose result depends on shapes and parameters only: they become constants. */
#include "import.h"

#include <math.h>
#include <string.h>

/* ---- Constant ---- */

static bool decode_value(Onode *o, Tensor *out) {
  const Onnx__TensorProto *t = attr_tensor(o, "value");
  Where w = onode_where(o);
  if (!t) return false;
  if (!tensor_decode(o->im->arena, o->im->diag, &w, t, "value", o->im->ext, out)) return true;
  o->failed = true;
  o->im->errors++;
  return false;
}

bool onnx_constant(Onode *o) {
  Ints ints;
  Floats floats;
  Tensor x;
  static const char *const refused[] = {"value_string", "value_strings", "sparse_value"};
  for (int i = 0; i < COUNTOF(refused); i++)
    if (attr_given(o, refused[i])) return onnx_refuse(o, NULL, "constants given as %s are not supported", refused[i]);
  if (attr_given(o, "value")) return decode_value(o, &x) && onnx_out(o, 0, emit_const(o, x.dt, &x.shape, x.data));
  if (attr_given(o, "value_float")) return onnx_out(o, 0, emit_scalar(o, DT_F32, attr_float(o, "value_float", 0)));
  if (attr_given(o, "value_int")) {
    int64_t whole = attr_int(o, "value_int", 0);
    return onnx_out(o, 0, emit_reshape(o, emit_i64s(o, &whole, 1), 0, NULL));
  }
  if (attr_ints(o, "value_ints", &ints)) return onnx_out(o, 0, emit_i64s(o, ints.v, ints.n));
  if (attr_floats(o, "value_floats", &floats)) {
    Shape s = shape_of(1, &(int64_t){floats.n});
    float *data = made_data(o, DT_F32, &s);
    for (int i = 0; data && i < floats.n; i++) data[i] = (float)floats.v[i];
    return onnx_out(o, 0, emit_const(o, DT_F32, &s, data));
  }
  return !o->failed && onnx_bad(o, NULL, "no value");
}

bool onnx_constant_of_shape(Onode *o) {
  Ints dims;
  if (!const_ints(o, 0, "the shape", &dims)) return false;
  if (dims.n > MAX_RANK) return onnx_refuse(o, NULL, "a shape of %d dimensions; at most %d are supported", dims.n, MAX_RANK);
  Shape s = shape_of(dims.n, dims.v);
  if (!attr_given(o, "value")) return onnx_out(o, 0, emit_full(o, DT_F32, &s, 0));
  Tensor x;
  if (!decode_value(o, &x)) return false;
  if (shape_count(&x.shape) != 1) return onnx_bad(o, NULL, "the value has %lld elements, expected one", (long long)shape_count(&x.shape));
  return onnx_out(o, 0, emit_filled(o, emit_const(o, x.dt, &(Shape){0}, x.data), &s));
}

/* ---- Range, EyeLike ---- */

bool onnx_range(Onode *o) {
  DType dt = o->in[0]->dt;
  double lo, hi, by;
  int64_t first, end, step, n;
  attr_ignore(o, "stash_type");
  if (!const_float(o, 0, "the start", &lo) || !const_float(o, 1, "the limit", &hi) || !const_float(o, 2, "the step", &by)) return false;
  if (by == 0 || isnan(lo) || isnan(hi) || isnan(by)) return onnx_bad(o, NULL, "no range from %g to %g by %g", lo, hi, by);
  double count = fmax(ceil((hi - lo) / by), 0);
  if (!(count <= (double)MAX_DIM)) return onnx_bad(o, NULL, "the range has %g elements", count);
  n = (int64_t)count;
  const_int(o, 0, "the start", &first);
  const_int(o, 1, "the limit", &end);
  const_int(o, 2, "the step", &step);
  if (!dt_is_float(dt)) { /* exactly: doubles cannot tell all integers apart */
    bool up = step > 0, any = up ? first < end : first > end;
    uint64_t span = !any ? 0 : up ? (uint64_t)end - (uint64_t)first : (uint64_t)first - (uint64_t)end;
    uint64_t width = up ? (uint64_t)step : -(uint64_t)step;
    n = (int64_t)MINI(span / width + (span % width != 0), (uint64_t)MAX_DIM);
  }
  Shape s = shape_of(1, &n);
  void *data = made_data(o, dt, &s);
  for (int64_t i = 0; data && i < n; i++) {
    if (dt == DT_F32)
      data_set_f(data, dt, i, (double)((float)lo + (float)i * (float)by));
    else if (dt_is_float(dt))
      data_set_f(data, dt, i, lo + (double)i * by);
    else
      data_set_i(data, dt, i, (int64_t)((uint64_t)first + (uint64_t)i * (uint64_t)step));
  }
  return onnx_out(o, 0, emit_const(o, dt, &s, data));
}

bool onnx_eye_like(Onode *o) {
  const Shape *s = &o->in[0]->shape;
  DType dt = attr_dtype(o, "dtype", o->in[0]->dt);
  int64_t k = attr_int(o, "k", 0);
  if (s->rank != 2) return onnx_bad(o, NULL, "the operand has rank %d, expected 2", s->rank);
  void *data = dt ? made_data(o, dt, s) : NULL;
  for (int64_t i = 0; data && i < s->d[0].n; i++)
    if (k >= -i && k < s->d[1].n - i) data_set_f(data, dt, i * s->d[1].n + i + k, 1);
  return onnx_out(o, 0, emit_const(o, dt, s, data));
}

/* ---- windows of signal processing: a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n) ---- */

static bool cosine_window(Onode *o, double a0, double a1, double a2) {
  DType dt = attr_dtype(o, "output_datatype", DT_F32);
  bool periodic = attr_flag(o, "periodic", true);
  int64_t n;
  if (!const_int(o, 0, "the size", &n)) return false;
  if (n < 0 || n > MAX_DIM) return onnx_bad(o, NULL, "a size of %lld", (long long)n);
  Shape s = shape_of(1, &n);
  double step = 2 * 3.14159265358979323846 / (double)MAXI(periodic ? n : n - 1, 1);
  void *data = dt ? made_data(o, dt, &s) : NULL;
  for (int64_t i = 0; data && i < n; i++) data_set_f(data, dt, i, a0 - a1 * cos(step * (double)i) + a2 * cos(2 * step * (double)i));
  return onnx_out(o, 0, emit_const(o, dt, &s, data));
}

bool onnx_window_hann(Onode *o) { return cosine_window(o, 0.5, 0.5, 0); }
bool onnx_window_hamming(Onode *o) { return cosine_window(o, 25.0 / 46, 21.0 / 46, 0); }
bool onnx_window_blackman(Onode *o) { return cosine_window(o, 0.42, 0.5, 0.08); }

/* ---- AffineGrid: the positions of an image's pixels, a constant, times the matrices ---- */

bool onnx_affine_grid(Onode *o) {
  Value *theta = o->in[0];
  Ints size;
  bool corners = attr_flag(o, "align_corners", false);
  if (!const_ints(o, 1, "the size", &size)) return false;
  int dims = size.n - 2;
  if ((dims != 2 && dims != 3) || theta->shape.rank != 3 || theta->shape.d[0].n != size.v[0] || theta->shape.d[1].n != dims ||
      theta->shape.d[2].n != dims + 1)
    return onnx_bad(o, NULL, "the matrices do not fit the size");
  for (int i = 0; i < size.n; i++)
    if (size.v[i] < 1 || size.v[i] > MAX_DIM) return onnx_bad(o, NULL, "a size of %lld", (long long)size.v[i]);
  int64_t count = 1;
  for (int i = 2; i < size.n; i++) count = count > MAX_DIM / size.v[i] ? MAX_DIM : count * size.v[i];
  Shape s = shape_of(2, (int64_t[]){count, dims + 1});
  void *data = made_data(o, theta->dt, &s);
  for (int64_t i = 0; data && i < count; i++) {
    int64_t rest = i;
    for (int d = 0; d < dims; d++) { /* x first: the last dimension */
      int64_t n = size.v[size.n - 1 - d], at = rest % n;
      rest /= n;
      double x = corners ? (n > 1 ? -1 + 2 * (double)at / (double)(n - 1) : 0) : (2 * (double)at + 1) / (double)n - 1;
      data_set_f(data, theta->dt, i * (dims + 1) + d, x);
    }
    data_set_f(data, theta->dt, i * (dims + 1) + dims, 1);
  }
  Value *y = emit2(o, OP_MatMul, &(MatMulAttr){.trans_b = true}, emit_const(o, theta->dt, &s, data), theta);
  int64_t out[5] = {size.v[0]};
  for (int i = 0; i < dims; i++) out[1 + i] = size.v[2 + i];
  out[dims + 1] = dims;
  return onnx_out(o, 0, emit_reshape(o, y, dims + 2, out));
}
