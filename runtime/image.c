/* image.c: pictures to tensors and back to PNG.
 *
 * Decoding is left to libpng and libjpeg, which are told to hand over 8-bit RGB. Both report errors by longjmp here: the state that must
 * survive one lives in a struct behind a pointer, never in locals. Dimensions are checked before anything is allocated.
 * Resizing is a separable triangle filter whose width grows with the reduction, rounding to 8 bits after the horizontal
 * pass: the definition Pillow's "bilinear" and hence torchvision's transforms follow.
 */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <jpeglib.h>
#include <jerror.h>

#define JPEG_MAX_SCANS 500
#define MAX_FILE_BYTES ((size_t)1 << 30)

static spinec_status out_of_memory(char err[RT_ERR_MAX], const char *name) {
  return rt_fail(err, SPINEC_ERR_MEMORY, "%s: out of memory", name);
}

static bool size_ok(uint64_t w, uint64_t h) {
  return w >= 1 && h >= 1 && w <= IMAGE_MAX_SIDE && h <= IMAGE_MAX_SIDE && w * h <= IMAGE_MAX_PIXELS;
}

static spinec_status bad_size(char err[RT_ERR_MAX], const char *name, uint64_t w, uint64_t h) {
  return rt_fail(err, SPINEC_ERR_UNSUPPORTED, "%s: picture of %llux%llu pixels is empty or too large", name, (unsigned long long)w,
                 (unsigned long long)h);
}

spinec_status image_new(int w, int h, Image *out, char err[RT_ERR_MAX]) {
  memset(out, 0, sizeof *out);
  if (w < 1 || h < 1 || !size_ok((uint64_t)w, (uint64_t)h)) return bad_size(err, "image", w < 0 ? 0 : (uint64_t)w, h < 0 ? 0 : (uint64_t)h);
  uint8_t *rgb = calloc((size_t)w * (size_t)h, 3);
  if (!rgb) return out_of_memory(err, "image");
  *out = (Image){w, h, rgb};
  return SPINEC_OK;
}

void image_free(Image *im) {
  free(im->rgb);
  memset(im, 0, sizeof *im);
}

/* ---- PNG ---- */

typedef struct {
  const uint8_t *bytes;
  size_t size, at;
  const char *name;
  char *err;
  Image im;
  uint8_t **rows;
  png_structp png;
  png_infop info;
  OutFile file;
} PngJob;

static void png_on_error(png_structp png, png_const_charp message) {
  PngJob *j = png_get_error_ptr(png);
  rt_fail(j->err, SPINEC_ERR_INPUT, "%s: %s", j->name, message);
  png_longjmp(png, 1);
}

static void png_on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void png_on_read(png_structp png, png_bytep to, size_t n) {
  PngJob *j = png_get_io_ptr(png);
  if (n > j->size - j->at) png_error(png, "PNG data is cut off");
  memcpy(to, j->bytes + j->at, n);
  j->at += n;
}

/* Asks libpng for 8-bit RGB whatever the file holds. */
static void png_ask_rgb(png_structp png, png_infop info) {
  int colour = png_get_color_type(png, info);
  if (png_get_bit_depth(png, info) == 16) png_set_scale_16(png);
  if (colour == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (colour == PNG_COLOR_TYPE_GRAY || colour == PNG_COLOR_TYPE_GRAY_ALPHA) {
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_gray_to_rgb(png);
  }
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
}

static spinec_status png_read_job(PngJob *j) {
  if (setjmp(png_jmpbuf(j->png))) return SPINEC_ERR_INPUT;
  png_set_read_fn(j->png, j, png_on_read);
  png_set_user_limits(j->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
  png_read_info(j->png, j->info);
  uint32_t w = png_get_image_width(j->png, j->info), h = png_get_image_height(j->png, j->info);
  if (!size_ok(w, h)) return bad_size(j->err, j->name, w, h);
  png_ask_rgb(j->png, j->info);
  if (png_get_rowbytes(j->png, j->info) != (size_t)w * 3) png_error(j->png, "unexpected PNG row size");
  spinec_status status = image_new((int)w, (int)h, &j->im, j->err);
  if (status) return status;
  j->rows = malloc(h * sizeof *j->rows);
  if (!j->rows) return out_of_memory(j->err, j->name);
  for (uint32_t y = 0; y < h; y++) j->rows[y] = j->im.rgb + (size_t)y * w * 3;
  png_read_image(j->png, j->rows);
  png_read_end(j->png, NULL);
  return SPINEC_OK;
}

static spinec_status png_decode(const uint8_t *bytes, size_t size, const char *name, Image *out, char err[RT_ERR_MAX]) {
  PngJob j = {.bytes = bytes, .size = size, .name = name, .err = err};
  j.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &j, png_on_error, png_on_warning);
  j.info = j.png ? png_create_info_struct(j.png) : NULL;
  spinec_status status = j.info ? png_read_job(&j) : out_of_memory(err, name);
  png_destroy_read_struct(&j.png, &j.info, NULL);
  free(j.rows);
  if (status) image_free(&j.im);
  else *out = j.im;
  return status;
}

static spinec_status png_write_job(PngJob *j, const Image *im) {
  if (setjmp(png_jmpbuf(j->png))) return SPINEC_ERR_IO;
  png_init_io(j->png, j->file.f);
  png_set_IHDR(j->png, j->info, (uint32_t)im->w, (uint32_t)im->h, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_write_info(j->png, j->info);
  for (int y = 0; y < im->h; y++) png_write_row(j->png, im->rgb + (size_t)y * (size_t)im->w * 3);
  png_write_end(j->png, NULL);
  return SPINEC_OK;
}

spinec_status image_save_png(const char *path, const Image *im, char err[RT_ERR_MAX]) {
  if (im->w < 1 || im->h < 1 || !im->rgb) return rt_fail(err, SPINEC_ERR_OPTION, "%s: the picture is empty", path);
  PngJob j = {.name = path, .err = err};
  spinec_status status = outfile_open(&j.file, path, err);
  if (status) return status;
  j.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &j, png_on_error, png_on_warning);
  j.info = j.png ? png_create_info_struct(j.png) : NULL;
  status = j.info ? png_write_job(&j, im) : out_of_memory(err, path);
  png_destroy_write_struct(&j.png, &j.info);
  if (!status) return outfile_commit(&j.file, err);
  outfile_discard(&j.file);
  return status;
}

/* ---- JPEG ---- */

typedef struct {
  struct jpeg_error_mgr errors;  /* first: libjpeg hands back a pointer to it */
  struct jpeg_progress_mgr progress;
  struct jpeg_decompress_struct jpeg;
  jmp_buf on_error;
  const char *name;
  char *err;
  Image im;
  uint8_t *row;  /* one row of CMYK */
} JpegJob;

static void jpeg_on_error(j_common_ptr jpeg) {
  JpegJob *j = (JpegJob *)jpeg->err;
  char message[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, message);
  rt_fail(j->err, SPINEC_ERR_INPUT, "%s: %s", j->name, message);
  longjmp(j->on_error, 1);
}

/* Corrupt data makes libjpeg warn and invent pixels; a wrong picture without a word would be worse than none. Odd bytes between
 * segments and odd version numbers are common and do no harm. */
static void jpeg_on_message(j_common_ptr jpeg, int level) {
  int code = jpeg->err->msg_code;
  if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_JFIF_MAJOR && code != JWRN_ADOBE_XFORM) jpeg_on_error(jpeg);
}

/* A progressive file may hold millions of tiny scans, each of which walks the whole picture. */
static void jpeg_on_progress(j_common_ptr jpeg) {
  JpegJob *j = (JpegJob *)jpeg->err;
  if (!jpeg->is_decompressor || j->jpeg.input_scan_number <= JPEG_MAX_SCANS) return;
  rt_fail(j->err, SPINEC_ERR_INPUT, "%s: JPEG with more than %d scans", j->name, JPEG_MAX_SCANS);
  longjmp(j->on_error, 1);
}

static void cmyk_to_rgb(const uint8_t *from, uint8_t *to, int w, bool inverted) {
  for (int x = 0; x < w; x++, from += 4, to += 3)
    for (int c = 0; c < 3; c++) {
      int ink = inverted ? 255 - from[c] : from[c], black = inverted ? 255 - from[3] : from[3];
      to[c] = (uint8_t)(((255 - ink) * (255 - black) + 127) / 255);
    }
}

static spinec_status jpeg_read_job(JpegJob *j, const uint8_t *bytes, size_t size) {
  struct jpeg_decompress_struct *jpeg = &j->jpeg;
  if (setjmp(j->on_error)) return SPINEC_ERR_INPUT;
  jpeg_create_decompress(jpeg);
  jpeg->progress = &j->progress;
  jpeg_mem_src(jpeg, bytes, (unsigned long)size);
  jpeg_read_header(jpeg, TRUE);
  if (!size_ok(jpeg->image_width, jpeg->image_height)) return bad_size(j->err, j->name, jpeg->image_width, jpeg->image_height);
  bool cmyk = jpeg->num_components == 4;
  jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(jpeg);
  int w = (int)jpeg->output_width;
  spinec_status status = image_new(w, (int)jpeg->output_height, &j->im, j->err);
  if (status) return status;
  if (cmyk && !(j->row = malloc((size_t)w * 4))) return out_of_memory(j->err, j->name);
  while (jpeg->output_scanline < jpeg->output_height) {
    uint8_t *to = j->im.rgb + (size_t)jpeg->output_scanline * (size_t)w * 3, *row = cmyk ? j->row : to;
    if (jpeg_read_scanlines(jpeg, &row, 1) != 1) return rt_fail(j->err, SPINEC_ERR_INPUT, "%s: JPEG data is cut off", j->name);
    if (cmyk) cmyk_to_rgb(j->row, to, w, jpeg->saw_Adobe_marker);  /* Adobe's files store the inks inverted */
  }
  jpeg_finish_decompress(jpeg);
  return SPINEC_OK;
}

static spinec_status jpeg_decode(const uint8_t *bytes, size_t size, const char *name, Image *out, char err[RT_ERR_MAX]) {
  JpegJob *j = calloc(1, sizeof *j);
  if (!j) return out_of_memory(err, name);
  j->name = name;
  j->err = err;
  j->jpeg.err = jpeg_std_error(&j->errors);
  j->errors.error_exit = jpeg_on_error;
  j->errors.emit_message = jpeg_on_message;
  j->progress.progress_monitor = jpeg_on_progress;
  spinec_status status = jpeg_read_job(j, bytes, size);
  jpeg_destroy_decompress(&j->jpeg);
  free(j->row);
  if (status) image_free(&j->im);
  else *out = j->im;
  free(j);
  return status;
}

/* ---- either ---- */

spinec_status image_decode(const void *bytes, size_t size, const char *name, Image *out, char err[RT_ERR_MAX]) {
  memset(out, 0, sizeof *out);
  const uint8_t *b = bytes;
  if (size >= 8 && !png_sig_cmp(b, 0, 8)) return png_decode(b, size, name, out, err);
  if (size >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff) return jpeg_decode(b, size, name, out, err);
  return rt_fail(err, SPINEC_ERR_UNSUPPORTED, "%s: neither PNG nor JPEG", name);
}

/* The whole stream, which may be a pipe. NULL: errno says why. */
static uint8_t *read_all(FILE *f, size_t *size) {
  size_t room = 65536;
  uint8_t *data = NULL;
  for (*size = 0;; room *= 2) {
    uint8_t *more = realloc(data, room);
    if (!more) break;
    data = more;
    *size += fread(data + *size, 1, room - *size, f);
    if (*size < room) {
      if (!ferror(f)) return data;
      break;
    }
    if (room >= MAX_FILE_BYTES) {
      errno = EFBIG;
      break;
    }
  }
  free(data);
  return NULL;
}

spinec_status image_load(const char *path, Image *out, char err[RT_ERR_MAX]) {
  memset(out, 0, sizeof *out);
  FILE *f = fopen(path, "rb");
  size_t size = 0;
  uint8_t *bytes = f ? read_all(f, &size) : NULL;
  spinec_status status = bytes ? image_decode(bytes, size, path, out, err) : rt_fail(err, SPINEC_ERR_IO, "%s: %s", path, strerror(errno));
  free(bytes);
  if (f) fclose(f);
  return status;
}

/* ---- resizing ---- */

/* For every output position the run of inputs it sums and their weights, `taps` apart. */
typedef struct {
  int taps;
  int *first, *count;
  float *weights;
} Filter;

static void filter_free(Filter *f) {
  free(f->first);
  free(f->count);
  free(f->weights);
}

static bool filter_make(Filter *f, int from, int to) {
  double scale = (double)from / to, radius = scale > 1 ? scale : 1;
  f->taps = 2 * (int)ceil(radius) + 1;
  f->first = malloc((size_t)to * sizeof(int));
  f->count = malloc((size_t)to * sizeof(int));
  f->weights = malloc((size_t)to * (size_t)f->taps * sizeof(float));
  if (!f->first || !f->count || !f->weights) return false;
  for (int i = 0; i < to; i++) {
    double centre = (i + 0.5) * scale, sum = 0;
    int begin = (int)fmax(centre - radius + 0.5, 0), end = (int)fmin(centre + radius + 0.5, from);
    float *w = f->weights + (size_t)i * (size_t)f->taps;
    for (int k = begin; k < end; k++) sum += fmax(0, 1 - fabs((k + 0.5 - centre) / radius));
    for (int k = begin; k < end; k++) w[k - begin] = (float)(fmax(0, 1 - fabs((k + 0.5 - centre) / radius)) / sum);
    f->first[i] = begin;
    f->count[i] = end - begin;
  }
  return true;
}

static uint8_t round_pixel(float v) { return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)(v + 0.5f); }

static void resize_rows(const Image *from, Image *to, const Filter *f) {
  for (int y = 0; y < to->h; y++) {
    const uint8_t *row = from->rgb + (size_t)y * (size_t)from->w * 3;
    uint8_t *out = to->rgb + (size_t)y * (size_t)to->w * 3;
    for (int x = 0; x < to->w; x++, out += 3) {
      const float *w = f->weights + (size_t)x * (size_t)f->taps;
      const uint8_t *in = row + (size_t)f->first[x] * 3;
      float sum[3] = {0};
      for (int k = 0; k < f->count[x]; k++, in += 3)
        for (int c = 0; c < 3; c++) sum[c] += w[k] * in[c];
      for (int c = 0; c < 3; c++) out[c] = round_pixel(sum[c]);
    }
  }
}

static void resize_columns(const Image *from, Image *to, const Filter *f, float *sum) {
  size_t stride = (size_t)to->w * 3;
  for (int y = 0; y < to->h; y++) {
    const float *w = f->weights + (size_t)y * (size_t)f->taps;
    const uint8_t *in = from->rgb + (size_t)f->first[y] * stride;
    uint8_t *out = to->rgb + (size_t)y * stride;
    memset(sum, 0, stride * sizeof *sum);
    for (int k = 0; k < f->count[y]; k++, in += stride)
      for (size_t x = 0; x < stride; x++) sum[x] += w[k] * in[x];
    for (size_t x = 0; x < stride; x++) out[x] = round_pixel(sum[x]);
  }
}

spinec_status image_resize(const Image *im, int w, int h, Image *out, char err[RT_ERR_MAX]) {
  memset(out, 0, sizeof *out);
  if (im->w < 1 || im->h < 1) return rt_fail(err, SPINEC_ERR_OPTION, "image: the picture is empty");
  Filter across = {0}, down = {0};
  Image middle = {0};
  float *sum = NULL;
  spinec_status status = image_new(w, h, out, err);
  if (!status) status = image_new(w, im->h, &middle, err);
  if (!status) {
    sum = malloc((size_t)w * 3 * sizeof *sum);
    if (!sum || !filter_make(&across, im->w, w) || !filter_make(&down, im->h, h)) status = out_of_memory(err, "image");
  }
  if (!status) {
    resize_rows(im, &middle, &across);
    resize_columns(&middle, out, &down, sum);
  } else {
    image_free(out);
  }
  filter_free(&across);
  filter_free(&down);
  image_free(&middle);
  free(sum);
  return status;
}

/* ---- tensors ---- */

ImageFormat image_format_imagenet(void) {
  return (ImageFormat){.layout = IMAGE_NCHW, .dtype = SPINEC_F32, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
}

spinec_status image_to_tensor(const Image *im, const ImageFormat *format, spinec_tensor *out, char err[RT_ERR_MAX]) {
  memset(out, 0, sizeof *out);
  bool is_float = format->dtype == SPINEC_F32;
  if (!is_float && format->dtype != SPINEC_U8) return rt_fail(err, SPINEC_ERR_OPTION, "a picture can become an f32 or u8 tensor only");
  for (int c = 0; c < 3 && is_float; c++)
    if (!(format->std[c] > 0)) return rt_fail(err, SPINEC_ERR_OPTION, "the standard deviation must be positive");
  size_t pixels = (size_t)im->w * (size_t)im->h;
  void *data = malloc(pixels * 3 * rt_dtype_size(format->dtype) + 1);
  if (!data) return out_of_memory(err, "image");
  bool planar = format->layout == IMAGE_NCHW;
  for (size_t c = 0; c < 3; c++) {
    size_t at = planar ? c * pixels : c, step = planar ? 1 : 3;
    for (size_t i = 0; i < pixels; i++) {
      uint8_t v = im->rgb[i * 3 + c];
      if (is_float) ((float *)data)[at + i * step] = ((float)v / 255 - format->mean[c]) / format->std[c];
      else ((uint8_t *)data)[at + i * step] = v;
    }
  }
  *out = (spinec_tensor){.dtype = format->dtype, .rank = 4, .data = data};
  const int64_t nchw[4] = {1, 3, im->h, im->w}, nhwc[4] = {1, im->h, im->w, 3};
  memcpy(out->dims, planar ? nchw : nhwc, sizeof nchw);
  return SPINEC_OK;
}
