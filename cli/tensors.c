/* tensors.c: tensors from files or made up, and how two of them compare. */
#define _GNU_SOURCE
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void tensors_free(Tensors *t) {
  for (int i = 0; i < t->n; i++) free(t->t[i].data);
  free(t->t);
  *t = (Tensors){0};
}

static bool has_suffix(const char *s, const char *suffix) {
  size_t n = strlen(s), k = strlen(suffix);
  return n >= k && !strcasecmp(s + n - k, suffix);
}

static bool picture_read(const Options *o, const char *path, int w, int h, spinec_dtype dtype, spinec_tensor *out) {
  char err[RT_ERR_MAX];
  Image im, sized;
  spinec_status s = image_load(path, &im, err);
  if (!s) {
    s = image_resize(&im, w ? w : im.w, h ? h : im.h, &sized, err);
    image_free(&im);
    if (!s) {
      ImageFormat f = o->image;
      f.dtype = dtype == SPINEC_U8 ? SPINEC_U8 : SPINEC_F32;
      s = image_to_tensor(&sized, &f, out, err);
      image_free(&sized);
    }
  }
  if (s) fprintf(stderr, "spinec: %s\n", err);
  return s == SPINEC_OK;
}

static bool is_picture(const char *path) { return has_suffix(path, ".png") || has_suffix(path, ".jpg") || has_suffix(path, ".jpeg"); }

bool tensor_read(const Options *o, const char *path, spinec_tensor *out) {
  char err[RT_ERR_MAX];
  if (is_picture(path)) return picture_read(o, path, o->resize_w, o->resize_h, SPINEC_F32, out);
  if (has_suffix(path, ".pb")) {
    spinec_diagnostics *d = spinec_diagnostics_new();
    spinec_status s = spinec_read_tensor_proto(path, out, d);
    print_diagnostics(d, s);
    spinec_diagnostics_free(d);
    return s == SPINEC_OK;
  }
  if (!has_suffix(path, ".npy")) return fprintf(stderr, "spinec: %s: cannot tell what this is; .npy, .pb, .png or .jpg\n", path), false;
  if (npy_load(path, out, err)) return fprintf(stderr, "spinec: %s\n", err), false;
  return true;
}

void tensor_describe(const spinec_tensor *t, char *s, size_t size) {
  size_t n = (size_t)snprintf(s, size, "%s [", spinec_dtype_name(t->dtype));
  for (int i = 0; i < t->rank && n < size; i++) n += (size_t)snprintf(s + n, size - n, "%s%lld", i ? "x" : "", (long long)t->dims[i]);
  if (n < size) snprintf(s + n, size - n, "]");
}

static bool same_type(const spinec_tensor *a, const spinec_tensor *b) {
  return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]);
}

/* A picture takes the input's size and element type unless told otherwise, and repeats over a batch. */
static bool input_from_picture(const Options *o, const char *path, const spinec_tensor *want, spinec_tensor *out) {
  bool nhwc = o->image.layout == IMAGE_NHWC;
  int w = o->resize_w, h = o->resize_h;
  if (want->rank == 4 && !w) {
    h = (int)want->dims[nhwc ? 1 : 2];
    w = (int)want->dims[nhwc ? 2 : 3];
  }
  if (!picture_read(o, path, w, h, want->dtype, out)) return false;
  if (want->rank != 4 || want->dims[0] <= 1) return true;
  size_t one = (size_t)spinec_tensor_count(out) * spinec_dtype_size(out->dtype);
  char *many = want->dims[0] < 65536 ? malloc(one * (size_t)want->dims[0]) : NULL;
  if (!many) return fprintf(stderr, "spinec: %s: batch too large\n", path), free(out->data), false;
  for (int64_t i = 0; i < want->dims[0]; i++) memcpy(many + (size_t)i * one, out->data, one);
  free(out->data);
  out->data = many;
  out->dims[0] = want->dims[0];
  return true;
}

static bool input_from_file(const Options *o, const char *path, const char *name, const spinec_tensor *want, spinec_tensor *out) {
  if (is_picture(path) ? !input_from_picture(o, path, want, out) : !tensor_read(o, path, out)) return false;
  if (same_type(out, want)) return true;
  char have[160], need[160];
  tensor_describe(out, have, sizeof have);
  tensor_describe(want, need, sizeof need);
  fprintf(stderr, "spinec: %s is %s, input '%s' needs %s", path, have, name, need);
  if (out->dtype == want->dtype) fprintf(stderr, "; hint: --shape %s=... compiles for another shape", name);
  fprintf(stderr, "\n");
  free(out->data);
  out->data = NULL;
  return false;
}

static bool made_up(const Options *o, int i, spinec_tensor *t) {
  size_t bytes = (size_t)spinec_tensor_count(t) * spinec_dtype_size(t->dtype);
  t->data = malloc(bytes + 1);
  if (!t->data) return fprintf(stderr, "spinec: out of memory\n"), false;
  random_fill(t, o->seed + (uint64_t)i * 1000003u);
  return true;
}

/* The file given for port i: by name, else the k-th unnamed one for the k-th port not named. -1: none. */
static int given_for(const NamedFile *files, int n, const char *name, int unnamed_before) {
  for (int f = 0; f < n; f++)
    if (files[f].name && !strcmp(files[f].name, name)) return f;
  for (int f = 0; f < n; f++)
    if (!files[f].name && unnamed_before-- == 0) return f;
  return -1;
}

static bool names_exist(const Options *o, const spinec_model *m) {
  int inputs = spinec_model_inputs(m);
  for (int f = 0; f < o->ninputs; f++) {
    bool found = !o->inputs[f].name;
    for (int i = 0; i < inputs && !found; i++) found = !strcmp(o->inputs[f].name, spinec_model_input_name(m, i));
    if (found) continue;
    fprintf(stderr, "spinec: the model has no input '%s'; hint: it has", o->inputs[f].name);
    for (int i = 0; i < inputs; i++) fprintf(stderr, "%s '%s'", i ? "," : "", spinec_model_input_name(m, i));
    return fprintf(stderr, "%s\n", inputs ? "" : " none"), false;
  }
  if (o->ninputs > inputs) return fprintf(stderr, "spinec: %d input files for %d inputs\n", o->ninputs, inputs), false;
  return true;
}

bool inputs_read(const Options *o, const spinec_model *m, Tensors *out) {
  int n = spinec_model_inputs(m), unnamed = 0;
  *out = (Tensors){calloc((size_t)n + 1, sizeof(spinec_tensor)), n};
  if (!out->t || !names_exist(o, m)) return tensors_free(out), false;
  for (int i = 0; i < n; i++) {
    const char *name = spinec_model_input_name(m, i);
    spinec_tensor want = spinec_model_input(m, i);
    int f = given_for(o->inputs, o->ninputs, name, unnamed);
    if (f >= 0 && !o->inputs[f].name) unnamed++;
    out->t[i] = want;
    bool ok = f < 0 ? made_up(o, i, &out->t[i]) : input_from_file(o, o->inputs[f].path, name, &want, &out->t[i]);
    if (!ok) return tensors_free(out), false;
  }
  return true;
}

bool outputs_new(const spinec_model *m, Tensors *out) {
  int n = spinec_model_outputs(m);
  *out = (Tensors){calloc((size_t)n + 1, sizeof(spinec_tensor)), n};
  for (int i = 0; out->t && i < n; i++) {
    out->t[i] = spinec_model_output(m, i);
    out->t[i].data = malloc((size_t)spinec_tensor_count(&out->t[i]) * spinec_dtype_size(out->t[i].dtype) + 1);
    if (!out->t[i].data) tensors_free(out);
  }
  if (!out->t) fprintf(stderr, "spinec: out of memory\n");
  return out->t != NULL;
}

/* ---- comparing ---- */

static double element(const spinec_tensor *t, int64_t i) {
  switch (t->dtype) {
  case SPINEC_F32: return ((const float *)t->data)[i];
  case SPINEC_F64: return ((const double *)t->data)[i];
  case SPINEC_U8: case SPINEC_BOOL: return ((const uint8_t *)t->data)[i];
  case SPINEC_I8: return ((const int8_t *)t->data)[i];
  case SPINEC_U16: return ((const uint16_t *)t->data)[i];
  case SPINEC_I16: return ((const int16_t *)t->data)[i];
  case SPINEC_I32: return ((const int32_t *)t->data)[i];
  case SPINEC_U32: return ((const uint32_t *)t->data)[i];
  case SPINEC_I64: return (double)((const int64_t *)t->data)[i];
  case SPINEC_U64: return (double)((const uint64_t *)t->data)[i];
  case SPINEC_F16: case SPINEC_BF16: case SPINEC_STRING: case SPINEC_UNDEFINED: break;
  }
  return 0;
}

static bool is_float(spinec_dtype t) { return t == SPINEC_F32 || t == SPINEC_F64; }

Difference tensor_compare(const spinec_tensor *a, const spinec_tensor *b, double rtol, double atol, bool by_element) {
  Difference d = {.first = -1};
  if (!same_type(a, b)) return d.reason = "types or shapes differ", d;
  int64_t n = spinec_tensor_count(a);
  size_t size = spinec_dtype_size(a->dtype);
  bool exact = !is_float(a->dtype) && atol < 1;
  for (int64_t i = 0; i < n; i++) {
    double y = fabs(element(b, i));
    if (isfinite(y) && y > d.magnitude) d.magnitude = y;
  }
  for (int64_t i = 0; i < n; i++) {
    double x = element(a, i), y = element(b, i), gap = fabs(x - y);
    bool right;
    if (exact) right = !memcmp((const char *)a->data + (size_t)i * size, (const char *)b->data + (size_t)i * size, size);
    else if (isnan(x) || isnan(y)) right = isnan(x) && isnan(y);
    else if (isinf(x) || isinf(y)) right = x == y;
    else right = gap <= atol + rtol * (by_element ? fabs(y) : d.magnitude);
    if (isfinite(gap) && gap > d.max_abs) d.max_abs = gap;
    if (!right && d.wrong++ == 0) d.first = i;
  }
  return d;
}
