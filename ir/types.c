/* types.c: element types, dimensions, shapes, and single elements of dense data.
 *
 * Counts saturate at INT64_MAX instead of overflowing: whoever allocates by them checks a limit anyway, and a saturated count is past any.
 * Half precision follows IEEE 754 with round to nearest even; bfloat16 the same on the upper half of a float.
 */
#include "base.h"

#include <math.h>
#include <string.h>

typedef struct DTypeInfo { const char *name; unsigned char size, is_float, is_int, is_signed, computable; } DTypeInfo;

static const DTypeInfo dtypes[] = {
    [DT_NONE] = {"none", 0, 0, 0, 0, 0}, [DT_STRING] = {"string", 0, 0, 0, 0, 0}, [DT_BOOL] = {"bool", 1, 0, 0, 0, 1},
    [DT_F32] = {"f32", 4, 1, 0, 1, 1},   [DT_F64] = {"f64", 8, 1, 0, 1, 1},       [DT_F16] = {"f16", 2, 1, 0, 1, 0},
    [DT_BF16] = {"bf16", 2, 1, 0, 1, 0}, [DT_I8] = {"i8", 1, 0, 1, 1, 1},         [DT_I16] = {"i16", 2, 0, 1, 1, 1},
    [DT_I32] = {"i32", 4, 0, 1, 1, 1},   [DT_I64] = {"i64", 8, 0, 1, 1, 1},       [DT_U8] = {"u8", 1, 0, 1, 0, 1},
    [DT_U16] = {"u16", 2, 0, 1, 0, 1},   [DT_U32] = {"u32", 4, 0, 1, 0, 1},       [DT_U64] = {"u64", 8, 0, 1, 0, 1},
};

static const DTypeInfo *info(DType t) {
  return (unsigned)t < (unsigned)COUNTOF(dtypes) && dtypes[t].name ? &dtypes[t] : &dtypes[DT_NONE];
}

size_t spinec_dtype_size(spinec_dtype t) { return info(t)->size; }
const char *spinec_dtype_name(spinec_dtype t) { return info(t)->name; }
bool dt_is_float(DType t) { return info(t)->is_float; }
bool dt_is_int(DType t) { return info(t)->is_int; }
bool dt_is_signed(DType t) { return info(t)->is_signed; }
int dt_bits(DType t) { return info(t)->size * 8; }
bool dt_computable(DType t) { return info(t)->computable; }

bool dt_parse(const char *name, size_t n, DType *out) {
  for (int i = 0; i < COUNTOF(dtypes); i++) {
    const char *s = dtypes[i].name;
    if (i == (int)DT_NONE || !s || strlen(s) != n || memcmp(s, name, n)) continue;
    *out = (DType)i;
    return true;
  }
  return false;
}

int64_t spinec_tensor_count(const spinec_tensor *t) {
  if (t->rank < 0 || t->rank > MAX_RANK) return 0;
  Shape s = shape_of(t->rank, t->dims);
  return shape_count(&s);
}

/* ---- shapes ---- */

Shape shape_of(int rank, const int64_t *dims) {
  Shape s = {.rank = rank};
  for (int i = 0; i < rank; i++) s.d[i] = dim_of(dims[i]);
  return s;
}

bool shape_is_static(const Shape *s) {
  for (int i = 0; i < s->rank; i++)
    if (s->d[i].sym) return false;
  return true;
}

static bool dim_equal(Dim a, Dim b) {
  if (a.n != b.n || !a.sym != !b.sym) return false;
  return !a.sym || a.sym == b.sym || !strcmp(a.sym, b.sym);
}

bool shape_equal(const Shape *a, const Shape *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (!dim_equal(a->d[i], b->d[i])) return false;
  return true;
}

static int64_t count_range(const Shape *s, int from, int to) {
  int64_t n = 1;
  bool over = false;
  for (int i = from; i < to; i++) {
    if (s->d[i].n <= 0) return 0;
    if (n > INT64_MAX / s->d[i].n) over = true;
    else n *= s->d[i].n;
  }
  return over ? INT64_MAX : n;
}

int64_t shape_count(const Shape *s) { return count_range(s, 0, s->rank); }
int64_t shape_count_from(const Shape *s, int axis) { return count_range(s, axis, s->rank); }
int64_t shape_count_to(const Shape *s, int axis) { return count_range(s, 0, axis); }

void shape_strides(const Shape *s, int64_t strides[MAX_RANK]) {
  int64_t n = 1;
  for (int i = s->rank - 1; i >= 0; i--) {
    strides[i] = n;
    int64_t d = MAXI(s->d[i].n, 1);
    n = n > INT64_MAX / d ? INT64_MAX : n * d;
  }
}

bool shape_broadcast(const Shape *a, const Shape *b, Shape *out) {
  Shape r = {.rank = MAXI(a->rank, b->rank)};
  for (int i = 0; i < r.rank; i++) {
    int ia = i - (r.rank - a->rank), ib = i - (r.rank - b->rank);
    Dim x = ia >= 0 ? a->d[ia] : dim_of(1), y = ib >= 0 ? b->d[ib] : dim_of(1);
    if (dim_equal(x, y)) r.d[i] = x;
    else if (x.n == 1 && !x.sym) r.d[i] = y;
    else if (y.n == 1 && !y.sym) r.d[i] = x;
    else return false;
  }
  *out = r;
  return true;
}

bool axis_normalise(int64_t axis, int rank, int *out) {
  if (axis < -(int64_t)rank || axis >= rank) return false;
  *out = (int)(axis < 0 ? axis + rank : axis);
  return true;
}

Ints ints_copy(Arena *a, const int64_t *v, int n) {
  int64_t *p = NEW_N(a, int64_t, n);
  if (n) memcpy(p, v, (size_t)n * sizeof *p);
  return (Ints){p, n};
}

Ints ints_fill(Arena *a, int64_t x, int n) {
  int64_t *p = NEW_N(a, int64_t, n);
  for (int i = 0; i < n; i++) p[i] = x;
  return (Ints){p, n};
}

bool ints_equal(Ints a, Ints b) { return a.n == b.n && (!a.n || !memcmp(a.v, b.v, (size_t)a.n * sizeof *a.v)); }

Floats floats_copy(Arena *a, const double *v, int n) {
  double *p = NEW_N(a, double, n);
  if (n) memcpy(p, v, (size_t)n * sizeof *p);
  return (Floats){p, n};
}

/* ---- elements ---- */

static double half_to_double(uint16_t h) {
  int sign = h >> 15, exp = h >> 10 & 31, frac = h & 1023;
  double x = exp == 31 ? (frac ? (double)NAN : (double)INFINITY) : exp ? ldexp(1024 + frac, exp - 25) : ldexp(frac, -24);
  return sign ? -x : x;
}

static uint16_t double_to_half(double x) {
  uint16_t sign = signbit(x) ? 0x8000 : 0;
  if (isnan(x)) return sign | 0x7e00;
  x = fabs(x);
  if (x == 0) return sign;
  if (x >= 65520) return sign | 0x7c00;
  int e;
  frexp(x, &e);
  int scale = MAXI(e - 11, -24);                          /* of the last bit kept; the fraction may round up into the next exponent */
  unsigned m = (unsigned)nearbyint(ldexp(x, -scale));
  return (uint16_t)(sign | (scale == -24 ? m : ((unsigned)(scale + 24) << 10) + m));
}

static double bfloat_to_double(uint16_t b) {
  uint32_t u = (uint32_t)b << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static uint16_t double_to_bfloat(double x) {
  float f = (float)x;
  if (isnan(f)) return signbit(x) ? 0xffc0 : 0x7fc0;
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Toward zero, saturating; NaN gives 0: the rule of X_CAST. */
static int64_t to_signed(double x, int bits) {
  double top = ldexp(1, bits - 1);
  if (isnan(x)) return 0;
  int64_t max = bits == 64 ? INT64_MAX : ((int64_t)1 << (bits - 1)) - 1;
  if (x >= top) return max;
  if (x <= -top) return -max - 1;
  return (int64_t)x;
}

static uint64_t to_unsigned(double x, int bits) {
  if (isnan(x) || x <= 0) return 0;
  if (x >= ldexp(1, bits)) return bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
  return (uint64_t)x;
}

/* Data may be borrowed from a file at any address: elements are copied, not dereferenced. */
#define GET(T) T x; memcpy(&x, (const char *)data + (size_t)i * sizeof x, sizeof x)

double data_get_f(const void *data, DType t, int64_t i) {
  switch (t) {
  case SPINEC_F32: { GET(float); return x; }
  case SPINEC_F64: { GET(double); return x; }
  case SPINEC_F16: { GET(uint16_t); return half_to_double(x); }
  case SPINEC_BF16: { GET(uint16_t); return bfloat_to_double(x); }
  case SPINEC_U64: { GET(uint64_t); return (double)x; }
  case SPINEC_I8: case SPINEC_I16: case SPINEC_I32: case SPINEC_I64:
  case SPINEC_U8: case SPINEC_U16: case SPINEC_U32: case SPINEC_BOOL: return (double)data_get_i(data, t, i);
  case SPINEC_UNDEFINED: case SPINEC_STRING: break;
  }
  return 0;
}

int64_t data_get_i(const void *data, DType t, int64_t i) {
  switch (t) {
  case SPINEC_I8: { GET(int8_t); return x; }
  case SPINEC_I16: { GET(int16_t); return x; }
  case SPINEC_I32: { GET(int32_t); return x; }
  case SPINEC_I64: { GET(int64_t); return x; }
  case SPINEC_U8: { GET(uint8_t); return x; }
  case SPINEC_U16: { GET(uint16_t); return x; }
  case SPINEC_U32: { GET(uint32_t); return x; }
  case SPINEC_U64: { GET(uint64_t); return (int64_t)x; }
  case SPINEC_BOOL: { GET(uint8_t); return x != 0; }
  case SPINEC_F32: case SPINEC_F64: case SPINEC_F16: case SPINEC_BF16: return to_signed(data_get_f(data, t, i), 64);
  case SPINEC_UNDEFINED: case SPINEC_STRING: break;
  }
  return 0;
}

#define SET(T, value) T y = (T)(value); memcpy((char *)data + (size_t)i * sizeof y, &y, sizeof y); return

void data_set_f(void *data, DType t, int64_t i, double x) {
  switch (t) {
  case SPINEC_F32: { SET(float, x); }
  case SPINEC_F64: { SET(double, x); }
  case SPINEC_F16: { SET(uint16_t, double_to_half(x)); }
  case SPINEC_BF16: { SET(uint16_t, double_to_bfloat(x)); }
  case SPINEC_BOOL: { SET(uint8_t, x != 0); }
  case SPINEC_I8: case SPINEC_I16: case SPINEC_I32: case SPINEC_I64: data_set_i(data, t, i, to_signed(x, dt_bits(t))); return;
  case SPINEC_U8: case SPINEC_U16: case SPINEC_U32: case SPINEC_U64: data_set_i(data, t, i, (int64_t)to_unsigned(x, dt_bits(t))); return;
  case SPINEC_UNDEFINED: case SPINEC_STRING: break;
  }
}

void data_set_i(void *data, DType t, int64_t i, int64_t x) {
  switch (t) {
  case SPINEC_I8: case SPINEC_U8: { SET(uint8_t, x); }
  case SPINEC_I16: case SPINEC_U16: { SET(uint16_t, x); }
  case SPINEC_I32: case SPINEC_U32: { SET(uint32_t, x); }
  case SPINEC_I64: case SPINEC_U64: { SET(uint64_t, x); }
  case SPINEC_BOOL: { SET(uint8_t, x != 0); }
  case SPINEC_F32: case SPINEC_F64: case SPINEC_F16: case SPINEC_BF16: data_set_f(data, t, i, (double)x); return;
  case SPINEC_UNDEFINED: case SPINEC_STRING: break;
  }
}
