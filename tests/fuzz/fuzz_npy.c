/* .npy files from anywhere: whatever loads has as many bytes as its shape says. */
#include <stdlib.h>

#include "runtime/runtime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  spinec_tensor t;
  char err[RT_ERR_MAX];
  if (npy_parse(data, size, "fuzz", &t, err)) return 0;
  int64_t count;
  size_t bytes;
  if (!rt_shape_bytes(t.dtype, t.rank, t.dims, &count, &bytes) || bytes > size) abort();
  volatile uint8_t last = 0;
  for (size_t i = 0; i < bytes; i++) last = ((uint8_t *)t.data)[i];  /* all of it is readable and written */
  (void)last;
  free(t.data);
  return 0;
}
