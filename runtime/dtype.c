/* dtype.c: sizes of element types and shapes, and the error messages of this folder.
 *
 * The compiler has its own table; this one keeps the runtime free of it.
 */
#include "runtime/runtime.h"

#include <stdarg.h>

size_t rt_dtype_size(spinec_dtype t) {
  switch (t) {
  case SPINEC_U8: case SPINEC_I8: case SPINEC_BOOL: return 1;
  case SPINEC_U16: case SPINEC_I16: case SPINEC_F16: case SPINEC_BF16: return 2;
  case SPINEC_F32: case SPINEC_I32: case SPINEC_U32: return 4;
  case SPINEC_F64: case SPINEC_I64: case SPINEC_U64: return 8;
  case SPINEC_UNDEFINED: case SPINEC_STRING: break;
  }
  return 0;
}

bool rt_shape_bytes(spinec_dtype t, int rank, const int64_t *dims, int64_t *count, size_t *bytes) {
  size_t size = rt_dtype_size(t);
  if (!size || rank < 0 || rank > SPINEC_MAX_RANK) return false;
  size_t total = size;
  bool empty = false;
  for (int i = 0; i < rank; i++) {
    if (dims[i] < 0) return false;
    if (dims[i] == 0) { empty = true; continue; }
    if ((uint64_t)dims[i] > (uint64_t)PTRDIFF_MAX / total) return false;
    total *= (size_t)dims[i];
  }
  *bytes = empty ? 0 : total;
  *count = (int64_t)(*bytes / size);
  return true;
}

spinec_status rt_fail(char err[RT_ERR_MAX], spinec_status status, const char *format, ...) {
  if (!err) return status;
  va_list args;
  va_start(args, format);
  vsnprintf(err, RT_ERR_MAX, format, args);
  va_end(args);
  return status;
}
