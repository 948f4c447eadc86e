/* npy.c: NumPy's array files.
 *
 * A file is "\x93NUMPY", two version bytes, the header's length (2 bytes in version 1, 4 in versions 2 and 3, little endian), the header,
 * and the elements. The header is a Python dictionary literal with the keys descr, fortran_order and shape.
 * Source: NumPy Enhancement Proposal 1 and the numpy.lib.format documentation.
 *
 * Nothing in the header is believed before the bytes it speaks of are known to be there.
 */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_HEADER 65536
#define MAGIC "\x93NUMPY"

typedef struct {
  spinec_dtype dtype;
  int rank;
  int64_t dims[SPINEC_MAX_RANK];
  bool swap;     /* bytes within an element */
  bool fortran;  /* first index fastest */
} NpyHeader;

typedef struct {
  FILE *f;
  uint64_t left;  /* bytes not yet read */
  const char *name;
  char *err;
} NpyReader;

static bool big_endian(void) {
  const uint16_t one = 1;
  return *(const uint8_t *)&one == 0;
}

static const struct { char kind, size; spinec_dtype dtype; } codes[] = {
  {'f', 4, SPINEC_F32}, {'f', 8, SPINEC_F64}, {'f', 2, SPINEC_F16}, {'V', 2, SPINEC_BF16}, {'b', 1, SPINEC_BOOL}, {'?', 1, SPINEC_BOOL},
  {'i', 1, SPINEC_I8},  {'i', 2, SPINEC_I16}, {'i', 4, SPINEC_I32}, {'i', 8, SPINEC_I64},
  {'u', 1, SPINEC_U8},  {'u', 2, SPINEC_U16}, {'u', 4, SPINEC_U32}, {'u', 8, SPINEC_U64},
};
#define NCODES (sizeof codes / sizeof *codes)

/* ---- header ---- */

static const char *skip_space(const char *s) {
  while (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r') s++;
  return s;
}

/* A quoted string without escapes into out[size]; NULL if there is none or it is too long. */
static const char *parse_string(const char *s, char *out, size_t size) {
  char quote = *s++;
  if (quote != '\'' && quote != '"') return NULL;
  const char *end = strchr(s, quote);
  if (!end || (size_t)(end - s) >= size || memchr(s, '\\', (size_t)(end - s))) return NULL;
  memcpy(out, s, (size_t)(end - s));
  out[end - s] = 0;
  return end + 1;
}

static const char *parse_bool(const char *s, bool *out) {
  *out = !strncmp(s, "True", 4);
  return *out ? s + 4 : !strncmp(s, "False", 5) ? s + 5 : NULL;
}

/* A tuple of non-negative integers. *rank counts them all, though only SPINEC_MAX_RANK are kept. */
static const char *parse_shape(const char *s, int *rank, int64_t *dims) {
  if (*s != '(') return NULL;
  *rank = 0;
  for (s = skip_space(s + 1); *s != ')';) {
    if (*s < '0' || *s > '9') return NULL;
    errno = 0;
    char *end;
    long long v = strtoll(s, &end, 10);
    if (errno) return NULL;
    if (*rank < SPINEC_MAX_RANK) dims[*rank] = v;
    ++*rank;
    s = skip_space(*end == 'L' ? end + 1 : end);  /* Python 2 wrote long integers so */
    if (*s == ',') s = skip_space(s + 1);
    else if (*s != ')' || *rank == 1) return NULL;  /* (3) is a number, not a tuple */
  }
  return s + 1;
}

static bool parse_descr(const char *descr, NpyHeader *h) {
  bool big = big_endian();
  if (*descr == '<' || *descr == '>' || *descr == '=' || *descr == '|') {
    if (*descr == '<') big = false;
    if (*descr == '>') big = true;
    descr++;
  }
  for (size_t i = 0; i < NCODES; i++)
    if (descr[0] == codes[i].kind && ((descr[1] == '0' + codes[i].size && !descr[2]) || (codes[i].kind == '?' && !descr[1]))) {
      h->dtype = codes[i].dtype;
      h->swap = codes[i].size > 1 && big != big_endian();
      return true;
    }
  return false;
}

static spinec_status parse_header(const char *text, NpyHeader *h, const NpyReader *r) {
  char key[32], descr[64] = "";
  bool have_order = false, have_shape = false;
  const char *s = skip_space(text);
  if (*s != '{') return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: npy header is not a dictionary", r->name);
  s = skip_space(s + 1);
  while (s && *s != '}') {
    s = parse_string(s, key, sizeof key);
    if (s) s = skip_space(s);
    if (!s || *s != ':') return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: malformed npy header", r->name);
    s = skip_space(s + 1);
    if (!strcmp(key, "descr")) {
      if (*s == '[') return rt_fail(r->err, SPINEC_ERR_UNSUPPORTED, "%s: arrays of records are not supported", r->name);
      s = parse_string(s, descr, sizeof descr);
    } else if (!strcmp(key, "fortran_order")) {
      have_order = true;
      s = parse_bool(s, &h->fortran);
    } else if (!strcmp(key, "shape")) {
      have_shape = true;
      s = parse_shape(s, &h->rank, h->dims);
    } else {
      return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: unknown key '%s' in npy header", r->name, key);
    }
    if (!s) return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: malformed '%s' in npy header", r->name, key);
    s = skip_space(s);
    if (*s == ',') s = skip_space(s + 1);
    else if (*s != '}') s = NULL;
  }
  if (!s || !*descr || !have_order || !have_shape || *skip_space(s + 1))
    return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: malformed npy header", r->name);
  if (!parse_descr(descr, h)) return rt_fail(r->err, SPINEC_ERR_UNSUPPORTED, "%s: element type '%s' is not supported", r->name, descr);
  if (h->rank > SPINEC_MAX_RANK)
    return rt_fail(r->err, SPINEC_ERR_UNSUPPORTED, "%s: rank %d is larger than %d", r->name, h->rank, SPINEC_MAX_RANK);
  return SPINEC_OK;
}

/* ---- reading ---- */

static bool take(NpyReader *r, void *to, size_t n) {
  if (n > r->left || (n && fread(to, 1, n, r->f) != n)) return false;
  r->left -= n;
  return true;
}

static spinec_status read_header(NpyReader *r, NpyHeader *h) {
  uint8_t start[8], len[4] = {0};
  if (!take(r, start, sizeof start) || memcmp(start, MAGIC, 6)) return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: not a .npy file", r->name);
  if (start[6] < 1 || start[6] > 3) return rt_fail(r->err, SPINEC_ERR_UNSUPPORTED, "%s: npy version %d is not known", r->name, start[6]);
  if (!take(r, len, start[6] == 1 ? 2 : 4)) return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: npy header is cut off", r->name);
  uint32_t n = len[0] | (uint32_t)len[1] << 8 | (uint32_t)len[2] << 16 | (uint32_t)len[3] << 24;
  if (n > r->left) return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: npy header is cut off", r->name);
  if (n > MAX_HEADER) return rt_fail(r->err, SPINEC_ERR_UNSUPPORTED, "%s: npy header of %u bytes is too long", r->name, n);
  char *text = malloc((size_t)n + 1);
  if (!text) return rt_fail(r->err, SPINEC_ERR_MEMORY, "%s: out of memory", r->name);
  spinec_status status;
  if (!take(r, text, n)) {
    status = rt_fail(r->err, SPINEC_ERR_IO, "%s: cannot read", r->name);
  } else {
    text[n] = 0;
    status = strlen(text) == n ? parse_header(text, h, r) : rt_fail(r->err, SPINEC_ERR_INPUT, "%s: malformed npy header", r->name);
  }
  free(text);
  return status;
}

static void swap_elements(uint8_t *p, size_t bytes, size_t size) {
  for (uint8_t *end = p + bytes; p < end; p += size)
    for (size_t i = 0; i < size / 2; i++) {
      uint8_t t = p[i];
      p[i] = p[size - 1 - i];
      p[size - 1 - i] = t;
    }
}

/* Gathers column-major `from` into row-major `to`: the indices count up as the output runs, the source offset follows them. */
static void from_fortran(const uint8_t *from, uint8_t *to, const NpyHeader *h, int64_t count, size_t size) {
  int64_t index[SPINEC_MAX_RANK] = {0}, stride[SPINEC_MAX_RANK], s = 1;
  for (int i = 0; i < h->rank; i++) {
    stride[i] = s;
    s *= h->dims[i];
  }
  int64_t at = 0;
  for (int64_t k = 0; k < count; k++) {
    memcpy(to + (size_t)k * size, from + (size_t)at * size, size);
    for (int i = h->rank - 1; i >= 0; i--) {
      at += stride[i];
      if (++index[i] < h->dims[i]) break;
      at -= stride[i] * h->dims[i];
      index[i] = 0;
    }
  }
}

static spinec_status read_array(NpyReader *r, spinec_tensor *out) {
  NpyHeader h = {0};
  spinec_status status = read_header(r, &h);
  if (status) return status;
  int64_t count;
  size_t bytes, size = rt_dtype_size(h.dtype);
  if (!rt_shape_bytes(h.dtype, h.rank, h.dims, &count, &bytes)) return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: npy shape is too large", r->name);
  if (bytes > r->left)
    return rt_fail(r->err, SPINEC_ERR_INPUT, "%s: npy header promises %zu bytes of data, the file has %llu", r->name, bytes,
                   (unsigned long long)r->left);
  bool transpose = h.fortran && h.rank > 1 && count > 1;
  uint8_t *raw = malloc(bytes ? bytes : 1), *data = transpose ? malloc(bytes) : raw;
  if (!raw || !data) {
    status = rt_fail(r->err, SPINEC_ERR_MEMORY, "%s: out of memory", r->name);
  } else if (!take(r, raw, bytes)) {
    status = rt_fail(r->err, SPINEC_ERR_IO, "%s: cannot read", r->name);
  } else {
    if (h.swap) swap_elements(raw, bytes, size);
    if (h.dtype == SPINEC_BOOL)
      for (size_t i = 0; i < bytes; i++) raw[i] = raw[i] != 0;  /* any other byte in a C bool is undefined */
    if (transpose) from_fortran(raw, data, &h, count, size);
    *out = (spinec_tensor){.dtype = h.dtype, .rank = h.rank, .data = data};
    memcpy(out->dims, h.dims, sizeof out->dims);
  }
  if (status && data != raw) free(data);
  if (status || data != raw) free(raw);
  return status;
}

spinec_status npy_load(const char *path, spinec_tensor *out, char err[RT_ERR_MAX]) {
  memset(out, 0, sizeof *out);
  struct stat st;
  if (stat(path, &st)) return rt_fail(err, SPINEC_ERR_IO, "%s: %s", path, strerror(errno));
  if (!S_ISREG(st.st_mode)) return rt_fail(err, SPINEC_ERR_IO, "%s: not a regular file", path);
  FILE *f = fopen(path, "rb");
  if (!f) return rt_fail(err, SPINEC_ERR_IO, "%s: %s", path, strerror(errno));
  NpyReader r = {.f = f, .left = (uint64_t)st.st_size, .name = path, .err = err};
  spinec_status status = read_array(&r, out);
  fclose(f);
  return status;
}

spinec_status npy_parse(const void *bytes, size_t size, const char *name, spinec_tensor *out, char err[RT_ERR_MAX]) {
  memset(out, 0, sizeof *out);
  if (!size) return rt_fail(err, SPINEC_ERR_INPUT, "%s: not a .npy file", name);
  FILE *f = fmemopen((void *)(uintptr_t)bytes, size, "rb");
  if (!f) return rt_fail(err, SPINEC_ERR_MEMORY, "%s: out of memory", name);
  NpyReader r = {.f = f, .left = size, .name = name, .err = err};
  spinec_status status = read_array(&r, out);
  fclose(f);
  return status;
}

/* ---- writing ---- */

/* Magic, version, length and dictionary, padded with spaces to a multiple of 64 so that the data may be mapped. Returns its length. */
static size_t format_header(char *out, size_t size, const spinec_tensor *t) {
  char kind = 0;
  for (size_t i = 0; i < NCODES && !kind; i++)
    if (codes[i].dtype == t->dtype) kind = codes[i].kind;
  size_t element = rt_dtype_size(t->dtype), n = 10;
  char order = element == 1 ? '|' : big_endian() ? '>' : '<';
  n += (size_t)snprintf(out + n, size - n, "{'descr': '%c%c%zu', 'fortran_order': False, 'shape': (", order, kind, element);
  for (int i = 0; i < t->rank; i++)
    n += (size_t)snprintf(out + n, size - n, t->rank == 1 ? "%lld," : i ? ", %lld" : "%lld", (long long)t->dims[i]);
  n += (size_t)snprintf(out + n, size - n, "), }");
  while ((n + 1) % 64) out[n++] = ' ';
  out[n++] = '\n';
  memcpy(out, MAGIC "\x01\x00", 8);
  out[8] = (char)((n - 10) & 0xff);
  out[9] = (char)((n - 10) >> 8);
  return n;
}

spinec_status npy_save(const char *path, const spinec_tensor *t, char err[RT_ERR_MAX]) {
  int64_t count;
  size_t bytes;
  if (!rt_shape_bytes(t->dtype, t->rank, t->dims, &count, &bytes))
    return rt_fail(err, SPINEC_ERR_UNSUPPORTED, "%s: a tensor of this type or shape cannot be saved", path);
  OutFile o;
  spinec_status status = outfile_open(&o, path, err);
  if (status) return status;
  char header[512];  /* 8 dimensions of 19 digits take 168 bytes, the rest 70 */
  size_t n = format_header(header, sizeof header, t);
  fwrite(header, 1, n, o.f);
  if (bytes) fwrite(t->data, 1, bytes, o.f);
  return outfile_commit(&o, err);  /* notices any failed write */
}
