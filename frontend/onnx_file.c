/* onnx_file.c: ONNX files, read and written: models, and the tensors of test data.
 *
 * A file is mapped while protobuf-c unpacks it and unmapped right after, so that reading a model takes its size twice for a moment and once
 * from then on.
 */
#define _GNU_SOURCE
#include "import.h"
#include "../runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Mapping {
  void *data;
  size_t n;
} Mapping; /* n 0: none */

static void unmap(void *mapping) {
  Mapping *m = mapping;
  if (m->n) munmap(m->data, m->n);
  m->n = 0;
}

static Status map_file(const char *path, Mapping *m, Diag *diag, const char *what) {
  Where w = {.file = path};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return diag_error(diag, SPINEC_ERR_IO, &w, NULL, "cannot open: %s", strerror(errno));
  struct stat st;
  Status s = SPINEC_OK;
  if (fstat(fd, &st) != 0)
    s = diag_error(diag, SPINEC_ERR_IO, &w, NULL, "cannot stat: %s", strerror(errno));
  else if (!S_ISREG(st.st_mode))
    s = diag_error(diag, SPINEC_ERR_IO, &w, NULL, "not a regular file");
  else if (st.st_size == 0)
    s = diag_error(diag, SPINEC_ERR_INPUT, &w, NULL, "%s expected, the file is empty", what);
  else if (st.st_size > INT32_MAX)
    s = diag_error(diag, SPINEC_ERR_INPUT, &w, "keep the weights in external data", "a protobuf file must be smaller than 2 GiB");
  if (!s) {
    size_t n = (size_t)st.st_size;
    m->data = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (m->data == MAP_FAILED)
      s = diag_error(diag, SPINEC_ERR_IO, &w, NULL, "cannot map: %s", strerror(errno));
    else
      posix_madvise(m->data, m->n = n, POSIX_MADV_SEQUENTIAL);
  }
  close(fd);
  return s;
}

void *onnx_file_unpack(Arena *a, Diag *diag, const char *path, const ProtobufCMessageDescriptor *d, const char *what) {
  Mapping *m = NEW(a, Mapping);
  arena_on_free(a, unmap, m); /* unpacking may leave through the arena's Fail */
  if (map_file(path, m, diag, what)) return NULL;
  const char *why;
  size_t at, n = m->n;
  void *x = proto_unpack(a, d, m->data, n, &why, &at);
  unmap(m);
  Where w = {.file = path};
  if (!x) diag_error(diag, SPINEC_ERR_INPUT, &w, NULL, "%s expected: %s (at byte %zu of %zu)", what, why, at, n);
  return x;
}

/* ---- tensors ---- */

Status onnx_tensor_load(const char *path, spinec_tensor *out, Diag *d) {
  *out = (spinec_tensor){0};
  Fail fail;
  Arena *volatile a = NULL;
  volatile Status s;
  if (FAIL_ARM(&fail, d)) {
    a = arena_new(&fail);
    Where w = {.file = path};
    Onnx__TensorProto *t = onnx_file_unpack(a, d, path, &onnx__tensor_proto__descriptor, "an ONNX tensor");
    Tensor x;
    s = t ? tensor_decode(a, d, &w, t, t->name, NULL, &x) : diag_status(d) ? diag_status(d) : SPINEC_ERR_INPUT;
    if (!s) {
      size_t bytes = (size_t)shape_count(&x.shape) * dt_size(x.dt);
      *out = (spinec_tensor){.dtype = x.dt, .rank = x.shape.rank, .data = malloc(bytes ? bytes : 1)};
      for (int i = 0; i < out->rank; i++) out->dims[i] = x.shape.d[i].n;
      if (!out->data) fail_out_of_memory(&fail);
      if (bytes) memcpy(out->data, x.data, bytes);
    }
  } else {
    s = fail.status;
  }
  arena_free(a);
  return s;
}

Status onnx_tensor_save(const char *path, const char *name, const spinec_tensor *t, Diag *d) {
  Where w = {.file = path};
  if (t->rank < 0 || t->rank > MAX_RANK || !dt_size(t->dtype))
    return diag_error(d, SPINEC_ERR_OPTION, &w, NULL, "a tensor of type %s and rank %d cannot be written", dt_name(t->dtype), t->rank);
  int64_t count = spinec_tensor_count(t);
  if (count > INT32_MAX / (int64_t)dt_size(t->dtype))
    return diag_error(d, SPINEC_ERR_OPTION, &w, NULL, "too large for an ONNX tensor file");
  Onnx__TensorProto p = ONNX__TENSOR_PROTO__INIT;
  p.name = (char *)name;
  p.has_data_type = 1;
  p.data_type = (int32_t)t->dtype;
  p.n_dims = (size_t)t->rank;
  p.dims = (int64_t *)t->dims;
  p.has_raw_data = 1;
  p.raw_data = (ProtobufCBinaryData){(size_t)count * dt_size(t->dtype), t->data};
  size_t n = onnx__tensor_proto__get_packed_size(&p);
  uint8_t *bytes = malloc(n);
  if (!bytes) return diag_error(d, SPINEC_ERR_MEMORY, &w, NULL, "out of memory");
  onnx__tensor_proto__pack(&p, bytes);
  char err[RT_ERR_MAX];
  OutFile f;
  Status s = outfile_open(&f, path, err);
  if (!s) {
    fwrite(bytes, 1, n, f.f); /* a short write is found by outfile_commit */
    s = outfile_commit(&f, err);
  }
  free(bytes);
  return s ? diag_error(d, s, NULL, NULL, "%s", err) : SPINEC_OK;
}
