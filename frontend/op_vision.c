/* op_vision.c: resampling of images: Resize and Upsample, GridSample, regions of interest.
 *
 * Resize: the canonical node has, for every dimension, the result's size and the scale that coordinates are computed with. A given scale is
 * used as given; with given sizes the scale is their quotient. What operator sets before 11 leave unsaid is asymmetric coordinates and,
 * for nearest, rounding down (as onnx/version_converter does).
 */
#include "import.h"

#include <math.h>
#include <string.h>

static const char *const modes[] = {"nearest", "linear", "cubic", NULL};
static const char *const coords[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",   "align_corners",
                                     "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn", NULL};
static const char *const nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
static const char *const policies[] = {"stretch", "not_larger", "not_smaller", NULL};

typedef struct Sizes {
  int64_t size[MAX_RANK];
  double scale[MAX_RANK], roi[2 * MAX_RANK];
} Sizes;

static bool set_size(Onode *o, Sizes *s, int axis, double size) {
  if (!(size >= 0 && size <= (double)MAX_DIM)) return onnx_bad(o, NULL, "dimension %d would become %g", axis, size);
  s->size[axis] = (int64_t)size;
  return true;
}

/* Scales per axis; the result's extent is rounded down, of the cropped part for crop-and-resize. */
static bool sizes_from_scales(Onode *o, const Shape *x, Floats scales, const int *axes, bool crop, Sizes *s) {
  for (int i = 0; i < scales.n; i++) {
    int axis = axes[i];
    if (!(scales.v[i] > 0 && isfinite(scales.v[i]))) return onnx_bad(o, NULL, "a scale of %g", scales.v[i]);
    double part = crop ? s->roi[x->rank + axis] - s->roi[axis] : 1;
    s->scale[axis] = scales.v[i];
    /* In the operand's f32, where 10 * 0.7 is 7 as exporters expect. */
    if (!set_size(o, s, axis,
                  crop ? floor((double)x->d[axis].n * part * scales.v[i]) : (double)floorf((float)x->d[axis].n * (float)scales.v[i])))
      return false;
  }
  return true;
}

static bool sizes_given(Onode *o, const Shape *x, Ints sizes, const int *axes, int policy, Sizes *s) {
  double common = 0;
  for (int i = 0; policy && i < sizes.n; i++) {
    double k = (double)sizes.v[i] / (double)MAXI(x->d[axes[i]].n, 1);
    if (i == 0 || (policy == 1 ? k < common : k > common)) common = k;
  }
  for (int i = 0; i < sizes.n; i++) {
    int axis = axes[i];
    int64_t in = x->d[axis].n;
    if (!set_size(o, s, axis, policy ? floor(common * (double)in + 0.5) : (double)sizes.v[i])) return false;
    s->scale[axis] = policy ? common : in ? (double)s->size[axis] / (double)in : 1;
  }
  return true;
}

/* Which axes the lists refer to. */
static bool resize_axes(Onode *o, int rank, int *axes, int *n) {
  Ints given;
  bool any;
  *n = rank;
  for (int i = 0; i < rank; i++) axes[i] = i;
  if (o->opset < 18) return true;
  if (!axes_of(o, 1, INT32_MAX, rank, &given, &any)) return false;
  for (int i = 0; any && i < given.n; i++) axes[i] = (int)given.v[i];
  if (any) *n = given.n;
  return true;
}

static bool read_roi(Onode *o, int rank, const int *axes, int n, Sizes *s) {
  Floats roi;
  for (int i = 0; i < rank; i++) s->roi[i] = 0, s->roi[rank + i] = 1;
  if (!const_floats(o, 1, "the region of interest", &roi)) return false;
  if (roi.n != 2 * n) return onnx_bad(o, NULL, "the region of interest has %d numbers, expected %d", roi.n, 2 * n);
  for (int i = 0; i < n; i++) {
    s->roi[axes[i]] = roi.v[i];
    s->roi[rank + axes[i]] = roi.v[n + i];
  }
  return true;
}

static bool make_resize(Onode *o, ResizeAttr *a, const Sizes *s, bool crop) {
  Value *x = o->in[0];
  int rank = x->shape.rank;
  bool same = !crop && a->coord != COORD_TF_CROP_AND_RESIZE;
  for (int i = 0; i < rank; i++) same &= s->size[i] == x->shape.d[i].n && s->scale[i] == 1;
  a->sizes = (Ints){s->size, rank};
  a->scales = (Floats){s->scale, rank};
  if (crop) a->roi = (Floats){s->roi, 2 * rank};
  return onnx_out(o, 0, same ? x : emit1(o, OP_Resize, a, x));
}

static bool resize_attributes(Onode *o, ResizeAttr *a, int *policy) {
  *policy = 0;
  a->mode = (ResizeMode)attr_choice(o, "mode", modes, RESIZE_NEAREST);
  a->coord = COORD_ASYMMETRIC;
  a->nearest = NEAREST_FLOOR;
  a->cubic_a = -0.75;
  if (o->opset < 11) return !o->failed;
  int coord = attr_choice(o, "coordinate_transformation_mode", coords, COORD_HALF_PIXEL);
  a->nearest = (NearestMode)attr_choice(o, "nearest_mode", nearest, NEAREST_ROUND_PREFER_FLOOR);
  a->cubic_a = attr_float(o, "cubic_coeff_a", -0.75);
  a->exclude_outside = attr_flag(o, "exclude_outside", false);
  a->extrapolation = attr_float(o, "extrapolation_value", 0);
  if (o->opset >= 18) {
    a->antialias = attr_flag(o, "antialias", false);
    *policy = attr_choice(o, "keep_aspect_ratio_policy", policies, 0);
  }
  if (coord > COORD_TF_CROP_AND_RESIZE) return onnx_refuse(o, NULL, "coordinates of mode '%s'", coords[coord]);
  a->coord = (CoordMode)coord;
  return !o->failed;
}

bool onnx_resize(Onode *o) {
  const Shape *x = &o->in[0]->shape;
  ResizeAttr a = {0};
  Sizes s;
  Floats scales;
  Ints sizes;
  int axes[MAX_RANK], n, policy, at = o->opset < 11 ? 1 : 2;
  if (!resize_attributes(o, &a, &policy) || !resize_axes(o, x->rank, axes, &n)) return false;
  for (int i = 0; i < x->rank; i++) s.size[i] = x->d[i].n, s.scale[i] = 1;
  bool crop = a.coord == COORD_TF_CROP_AND_RESIZE;
  if (crop && !read_roi(o, x->rank, axes, n, &s)) return false;
  /* Operator set 11 has no optional operands: what is not meant is an empty list. */
  bool by_size = o->opset >= 11 && has_in(o, 3) && value_count(o->in[3]) != 0;
  if (by_size) {
    if (!const_ints(o, 3, "the list of sizes", &sizes)) return false;
    if (sizes.n != n) return onnx_bad(o, NULL, "%d sizes given for %d axes", sizes.n, n);
    if (!sizes_given(o, x, sizes, axes, policy, &s)) return false;
  } else {
    if (!const_floats(o, at, "the list of scales", &scales)) return false;
    if (scales.n != n) return onnx_bad(o, NULL, "%d scales given for %d axes", scales.n, n);
    if (!sizes_from_scales(o, x, scales, axes, crop, &s)) return false;
  }
  return make_resize(o, &a, &s, crop);
}

bool onnx_upsample(Onode *o) {
  static const char *const old_modes[] = {"nearest", "linear", "bilinear", NULL};
  const Shape *x = &o->in[0]->shape;
  ResizeAttr a = {.coord = COORD_ASYMMETRIC, .nearest = NEAREST_FLOOR, .cubic_a = -0.75};
  Sizes s;
  Floats scales;
  int axes[MAX_RANK];
  a.mode = attr_choice(o, "mode", old_modes, 0) ? RESIZE_LINEAR : RESIZE_NEAREST;
  if (o->opset < 9 ? !attr_floats(o, "scales", &scales) : !const_floats(o, 1, "the list of scales", &scales))
    return !o->failed && onnx_bad(o, NULL, "no scales");
  if (scales.n != x->rank) return onnx_bad(o, NULL, "%d scales given for rank %d", scales.n, x->rank);
  for (int i = 0; i < x->rank; i++) axes[i] = i, s.size[i] = x->d[i].n, s.scale[i] = 1;
  return sizes_from_scales(o, x, scales, axes, false, &s) && make_resize(o, &a, &s, false);
}

/* ---- sampling at given places ---- */

bool onnx_grid_sample(Onode *o) {
  /* Operator set 20 renamed bilinear and bicubic. */
  static const char *const grid_modes[] = {"nearest", "linear", "cubic", "bilinear", "bicubic", NULL};
  static const char *const paddings[] = {"zeros", "border", "reflection", NULL};
  int mode = attr_choice(o, "mode", grid_modes, GRID_LINEAR);
  GridSampleAttr a = {.mode = (GridMode)(mode > 2 ? mode - 2 : mode),
                      .padding = (GridPad)attr_choice(o, "padding_mode", paddings, GRID_PAD_ZEROS),
                      .align_corners = attr_flag(o, "align_corners", false)};
  return onnx_out(o, 0, emit2(o, OP_GridSample, &a, o->in[0], emit_cast(o, o->in[1], o->in[0]->dt)));
}

bool onnx_roi_align(Onode *o) {
  static const char *const roi_modes[] = {"avg", "max", NULL};
  static const char *const roi_coords[] = {"half_pixel", "output_half_pixel", NULL};
  RoiAlignAttr a = {.height = attr_int_in(o, "output_height", 1, 1, MAX_DIM),
                    .width = attr_int_in(o, "output_width", 1, 1, MAX_DIM),
                    .sampling_ratio = attr_int_in(o, "sampling_ratio", 0, 0, MAX_DIM),
                    .scale = attr_float(o, "spatial_scale", 1),
                    .mode = (RoiMode)attr_choice(o, "mode", roi_modes, POOL_AVG)};
  a.half_pixel = o->opset >= 16 && attr_choice(o, "coordinate_transformation_mode", roi_coords, 0) == 0;
  return onnx_out(o, 0, emit3(o, OP_RoiAlign, &a, o->in[0], o->in[1], o->in[2]));
}

bool onnx_max_roi_pool(Onode *o) {
  if (!attr_given(o, "pooled_shape")) return onnx_bad(o, NULL, "attribute 'pooled_shape' is missing");
  Ints shape = attr_ints_n(o, "pooled_shape", 2, 1, 1, MAX_DIM);
  MaxRoiPoolAttr a = {.height = shape.v[0], .width = shape.v[1], .scale = attr_float(o, "spatial_scale", 1)};
  return onnx_out(o, 0, emit2(o, OP_MaxRoiPool, &a, o->in[0], o->in[1]));
}
