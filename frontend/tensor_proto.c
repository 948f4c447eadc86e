/* tensor_proto.c: every way ONNX writes a dense tensor down.
 *
 * raw_data is little-endian bytes; the typed fields hold the wider types as they are and the narrow ones one element per int32 (f16 and
 * bf16 as their bits), u32 per uint64; external data is raw bytes in a file. Data is borrowed wherever its bytes are what the graph wants:
 * it is copied where the field is wider than the type, where it is not aligned to its elements, and where a bool is neither 0 nor 1.
 */
#include "import.h"

#include <string.h>

DType onnx_dtype(int64_t type, const char **why) {
  /* Of onnx.proto, from the first that has no counterpart here. */
  static const char *const newer[] = {"float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",
                                      "int4",         "float4e2m1",     "float8e8m0", "uint2",          "int2"};
  *why = NULL;
  if (type == 14 || type == 15)
    *why = type == 14 ? "complex64" : "complex128";
  else if (type == SPINEC_STRING)
    *why = "string";
  else if (type >= 17 && type < 17 + COUNTOF(newer))
    *why = newer[type - 17];
  else if (type < 1 || type > 16)
    *why = type == 0 ? "undefined" : "unknown";
  return *why ? DT_NONE : (DType)type;
}

typedef struct Decode {
  Arena *a;
  Diag *diag;
  const Where *w;
  const Onnx__TensorProto *t;
  const char *name;
  Tensor *out;
  int64_t count;
  size_t bytes;
} Decode;

static Status wrong_size(const Decode *d, const char *field, size_t have, size_t want) {
  return diag_error(d->diag, SPINEC_ERR_INPUT, d->w, NULL, "tensor '%s' has %zu %s, its shape needs %zu", d->name, have, field, want);
}

static Status decode_shape(Decode *d) {
  const Onnx__TensorProto *t = d->t;
  if (t->n_dims > MAX_RANK)
    return diag_error(d->diag, SPINEC_ERR_UNSUPPORTED, d->w, NULL, "tensor '%s' has %zu dimensions, at most %d are supported", d->name,
                      t->n_dims, MAX_RANK);
  for (size_t i = 0; i < t->n_dims; i++)
    if (t->dims[i] < 0 || t->dims[i] > MAX_DIM)
      return diag_error(d->diag, SPINEC_ERR_INPUT, d->w, NULL, "tensor '%s' has a dimension of %lld", d->name, (long long)t->dims[i]);
  d->out->shape = shape_of((int)t->n_dims, t->dims);
  d->count = shape_count(&d->out->shape);
  int64_t size = (int64_t)dt_size(d->out->dt);
  if (d->count > MAX_TENSOR_BYTES / size) return diag_error(d->diag, SPINEC_ERR_INPUT, d->w, NULL, "tensor '%s' is too large", d->name);
  d->bytes = (size_t)(d->count * size);
  return SPINEC_OK;
}

static const void *copied(Arena *a, const void *data, size_t bytes) { return memcpy(arena_alloc(a, bytes), data, bytes); }

/* Bytes in memory order: fit for use, or made so. */
static const void *usable(Decode *d, const void *data) {
  size_t size = dt_size(d->out->dt);
  if ((uintptr_t)data % size) data = copied(d->a, data, d->bytes);
  if (d->out->dt != DT_BOOL) return data;
  const uint8_t *b = data;
  size_t i = 0;
  while (i < d->bytes && b[i] <= 1) i++;
  if (i == d->bytes) return data;
  uint8_t *c = arena_alloc(d->a, d->bytes);
  for (i = 0; i < d->bytes; i++) c[i] = b[i] != 0;
  return c;
}

/* int32_data holds types of one to four bytes, the narrow ones in its low bits. */
static const void *from_int32(Decode *d) {
  const int32_t *v = d->t->int32_data;
  size_t size = dt_size(d->out->dt);
  if (size == 4) return v;
  uint8_t *c = arena_alloc(d->a, d->bytes);
  for (int64_t i = 0; i < d->count; i++) {
    if (d->out->dt == DT_BOOL)
      c[i] = v[i] != 0;
    else if (size == 1)
      c[i] = (uint8_t)v[i];
    else
      memcpy(c + 2 * i, &(uint16_t){(uint16_t)v[i]}, 2);
  }
  return c;
}

static const void *from_uint64(Decode *d) {
  if (d->out->dt == DT_U64) return d->t->uint64_data;
  uint32_t *c = arena_alloc_array(d->a, (size_t)d->count, sizeof *c);
  for (int64_t i = 0; i < d->count; i++) c[i] = (uint32_t)d->t->uint64_data[i];
  return c;
}

static Status decode_typed(Decode *d) {
  const Onnx__TensorProto *t = d->t;
  const char *field = "int32_data";
  size_t n = t->n_int32_data;
  switch (d->out->dt) {
  case SPINEC_F32: field = "float_data", n = t->n_float_data; break;
  case SPINEC_F64: field = "double_data", n = t->n_double_data; break;
  case SPINEC_I64: field = "int64_data", n = t->n_int64_data; break;
  case SPINEC_U64:
  case SPINEC_U32: field = "uint64_data", n = t->n_uint64_data; break;
  case SPINEC_I8:
  case SPINEC_I16:
  case SPINEC_I32:
  case SPINEC_U8:
  case SPINEC_U16:
  case SPINEC_BOOL:
  case SPINEC_F16:
  case SPINEC_BF16:
  case SPINEC_UNDEFINED:
  case SPINEC_STRING: break;
  }
  if (n != (size_t)d->count) return wrong_size(d, field, n, (size_t)d->count);
  if (n == 0)
    d->out->data = "";
  else if (d->out->dt == DT_F32)
    d->out->data = t->float_data;
  else if (d->out->dt == DT_F64)
    d->out->data = t->double_data;
  else if (d->out->dt == DT_I64)
    d->out->data = t->int64_data;
  else if (d->out->dt == DT_U64 || d->out->dt == DT_U32)
    d->out->data = from_uint64(d);
  else
    d->out->data = from_int32(d);
  return SPINEC_OK;
}

static Status decode_external(Decode *d, External *ext) {
  if (!ext) return diag_error(d->diag, SPINEC_ERR_UNSUPPORTED, d->w, NULL, "tensor '%s' keeps its data in another file", d->name);
  const void *data = external_data(ext, d->diag, d->w, d->t, d->name, d->bytes);
  if (!data) return SPINEC_ERR_INPUT;
  d->out->data = d->bytes ? usable(d, data) : "";
  return SPINEC_OK;
}

Status tensor_decode(Arena *a, Diag *diag, const Where *w, const Onnx__TensorProto *t, const char *name, External *ext, Tensor *out) {
  *out = (Tensor){0};
  Decode d = {.a = a, .diag = diag, .w = w, .t = t, .name = name ? name : "", .out = out};
  const char *why;
  out->dt = onnx_dtype(t->data_type, &why);
  if (!out->dt)
    return diag_error(diag, SPINEC_ERR_UNSUPPORTED, w, NULL, "tensor '%s' has element type %s, which is not supported", d.name, why);
  if (t->segment) return diag_error(diag, SPINEC_ERR_UNSUPPORTED, w, NULL, "tensor '%s' is split into segments", d.name);
  Status s = decode_shape(&d);
  if (s) return s;
  if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) return decode_external(&d, ext);
  if (!t->has_raw_data || (t->raw_data.len == 0 && d.bytes)) return decode_typed(&d);
  if (t->raw_data.len != d.bytes) return wrong_size(&d, "bytes of raw_data", t->raw_data.len, d.bytes);
  out->data = d.bytes ? usable(&d, t->raw_data.data) : "";
  return SPINEC_OK;
}
