/* Pictures: every kind of PNG and JPEG, resizing against known values, tensors, and damaged files. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <jpeglib.h>

#include "runtime/runtime.h"

typedef struct { uint8_t *bytes; size_t size; } Bytes;

/* ---- writing samples ---- */

/* Samples as the file stores them: 16-bit ones big endian, smaller ones packed. */
static Bytes make_png(int w, int h, int depth, int colour, const uint8_t *rows, size_t stride, bool interlaced, const png_color *palette,
                      int colours, bool transparent) {
  Bytes b = {0};
  FILE *f = open_memstream((char **)&b.bytes, &b.size);
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
  png_infop info = png_create_info_struct(png);
  if (setjmp(png_jmpbuf(png))) fail_msg("libpng cannot write the sample");
  png_init_io(png, f);
  png_set_IHDR(png, info, (uint32_t)w, (uint32_t)h, depth, colour, interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (palette) png_set_PLTE(png, info, palette, colours);
  if (transparent) png_set_tRNS(png, info, (const png_byte[]){0, 128}, 2, NULL);
  png_write_info(png, info);
  png_bytep lines[64];
  for (int y = 0; y < h; y++) lines[y] = (png_bytep)(uintptr_t)rows + (size_t)y * stride;
  png_write_image(png, lines);
  png_write_end(png, NULL);
  png_destroy_write_struct(&png, &info);
  fclose(f);
  return b;
}

static Bytes make_jpeg(int w, int h, int components, J_COLOR_SPACE in, const uint8_t *rows, bool progressive, bool ycck) {
  Bytes b = {0};
  struct jpeg_compress_struct j;
  struct jpeg_error_mgr errors;
  unsigned long size = 0;
  j.err = jpeg_std_error(&errors);
  jpeg_create_compress(&j);
  jpeg_mem_dest(&j, &b.bytes, &size);
  j.image_width = (unsigned)w;
  j.image_height = (unsigned)h;
  j.input_components = components;
  j.in_color_space = in;
  jpeg_set_defaults(&j);
  if (ycck) jpeg_set_colorspace(&j, JCS_YCCK);
  jpeg_set_quality(&j, 100, TRUE);
  for (int i = 0; i < components; i++) j.comp_info[i].h_samp_factor = j.comp_info[i].v_samp_factor = 1;
  if (progressive) jpeg_simple_progression(&j);
  jpeg_start_compress(&j, TRUE);
  while (j.next_scanline < j.image_height) {
    JSAMPROW row = (JSAMPROW)(uintptr_t)rows + (size_t)j.next_scanline * (size_t)w * (size_t)components;
    jpeg_write_scanlines(&j, &row, 1);
  }
  jpeg_finish_compress(&j);
  jpeg_destroy_compress(&j);
  b.size = size;
  return b;
}

static Image decode(Bytes b) {
  Image im;
  char err[RT_ERR_MAX] = "";
  if (image_decode(b.bytes, b.size, "sample", &im, err)) fail_msg("%s", err);
  free(b.bytes);
  return im;
}

static void expect_pixels(Bytes b, int w, int h, const uint8_t *rgb, int tolerance) {
  Image im = decode(b);
  assert_int_equal(im.w, w);
  assert_int_equal(im.h, h);
  for (int i = 0; i < w * h * 3; i++)
    if (abs(im.rgb[i] - rgb[i]) > tolerance) fail_msg("byte %d is %d, expected %d", i, im.rgb[i], rgb[i]);
  image_free(&im);
}

/* ---- PNG ---- */

static void png_colour_types(void **state) {
  (void)state;
  static const uint8_t rgb[] = {255, 0, 0, 0, 255, 0, 1, 2, 3, 250, 251, 252};
  static const uint8_t rgba[] = {255, 0, 0, 255, 0, 255, 0, 0, 1, 2, 3, 128, 250, 251, 252, 1};
  static const uint8_t grey[] = {0, 255, 7, 200}, grey_rgb[] = {0, 0, 0, 255, 255, 255, 7, 7, 7, 200, 200, 200};
  static const uint8_t grey_alpha[] = {0, 255, 255, 0, 7, 128, 200, 1};
  static const uint8_t rgb16[] = {255, 255, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 1, 1, 2, 2, 3, 3, 250, 250, 251, 251, 252, 252};
  static const uint8_t grey16[] = {0, 0, 255, 255, 7, 7, 200, 200};
  for (int interlaced = 0; interlaced < 2; interlaced++) {
    expect_pixels(make_png(2, 2, 8, PNG_COLOR_TYPE_RGB, rgb, 6, interlaced, NULL, 0, false), 2, 2, rgb, 0);
    expect_pixels(make_png(2, 2, 8, PNG_COLOR_TYPE_RGB_ALPHA, rgba, 8, interlaced, NULL, 0, false), 2, 2, rgb, 0);
    expect_pixels(make_png(2, 2, 8, PNG_COLOR_TYPE_GRAY, grey, 2, interlaced, NULL, 0, false), 2, 2, grey_rgb, 0);
    expect_pixels(make_png(2, 2, 8, PNG_COLOR_TYPE_GRAY_ALPHA, grey_alpha, 4, interlaced, NULL, 0, false), 2, 2, grey_rgb, 0);
    expect_pixels(make_png(2, 2, 16, PNG_COLOR_TYPE_RGB, rgb16, 12, interlaced, NULL, 0, false), 2, 2, rgb, 0);
    expect_pixels(make_png(2, 2, 16, PNG_COLOR_TYPE_GRAY, grey16, 4, interlaced, NULL, 0, false), 2, 2, grey_rgb, 0);
  }
}

static void png_few_bits(void **state) {
  (void)state;
  static const png_color palette[] = {{10, 20, 30}, {40, 50, 60}, {70, 80, 90}, {255, 254, 253}};
  static const uint8_t one[] = {0x40, 0x80}, two[] = {0x1b}, four[] = {0x0f, 0x80}, eight[] = {3, 1};
  static const uint8_t one_rgb[] = {0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0};
  static const uint8_t two_rgb[] = {0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255};
  static const uint8_t four_rgb[] = {0, 0, 0, 255, 255, 255, 136, 136, 136};
  static const uint8_t two_palette[] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 255, 254, 253};
  static const uint8_t eight_palette[] = {255, 254, 253, 40, 50, 60};
  expect_pixels(make_png(2, 2, 1, PNG_COLOR_TYPE_GRAY, one, 1, false, NULL, 0, false), 2, 2, one_rgb, 0);
  expect_pixels(make_png(4, 1, 2, PNG_COLOR_TYPE_GRAY, two, 1, false, NULL, 0, false), 4, 1, two_rgb, 0);
  expect_pixels(make_png(3, 1, 4, PNG_COLOR_TYPE_GRAY, four, 2, false, NULL, 0, false), 3, 1, four_rgb, 0);
  for (int transparent = 0; transparent < 2; transparent++) {
    expect_pixels(make_png(4, 1, 2, PNG_COLOR_TYPE_PALETTE, two, 1, false, palette, 4, transparent), 4, 1, two_palette, 0);
    expect_pixels(make_png(2, 1, 8, PNG_COLOR_TYPE_PALETTE, eight, 2, false, palette, 4, transparent), 2, 1, eight_palette, 0);
  }
}

static void png_round_trip(void **state) {
  (void)state;
  char *folder, path[512];
  assert_int_equal(tempdir_new(&folder, NULL), SPINEC_OK);
  snprintf(path, sizeof path, "%s/p.png", folder);
  Image im, back;
  assert_int_equal(image_new(37, 21, &im, NULL), SPINEC_OK);
  for (int i = 0; i < 37 * 21 * 3; i++) im.rgb[i] = (uint8_t)(i * 7);
  assert_int_equal(image_save_png(path, &im, NULL), SPINEC_OK);
  assert_int_equal(image_load(path, &back, NULL), SPINEC_OK);
  assert_int_equal(back.w, 37);
  assert_int_equal(back.h, 21);
  assert_memory_equal(back.rgb, im.rgb, 37 * 21 * 3);
  image_free(&im);
  image_free(&back);
  char err[RT_ERR_MAX] = "";
  assert_int_equal(image_load(folder, &back, err), SPINEC_ERR_IO);
  strcat(path, ".absent");
  assert_int_equal(image_load(path, &back, err), SPINEC_ERR_IO);
  assert_non_null(strstr(err, "absent"));
  assert_int_equal(image_save_png(path, &back, err), SPINEC_ERR_OPTION);  /* an empty picture */
  tempdir_remove(folder);
}

/* ---- JPEG ---- */

static void jpeg_colour_spaces(void **state) {
  (void)state;
  enum { W = 16, H = 8 };
  uint8_t rgb[W * H * 3], grey[W * H], grey_rgb[W * H * 3], cmyk[W * H * 4], cmyk_rgb[W * H * 3];
  for (int i = 0; i < W * H; i++) {
    int x = i % W, y = i / W;
    const int pixel[3] = {x * 10 + 40, y * 20 + 30, 200 - x * 5}, ink[4] = {x * 12, y * 25, 90, 40};
    grey[i] = (uint8_t)(x * 8 + y * 10);
    for (int c = 0; c < 3; c++) {
      rgb[i * 3 + c] = (uint8_t)pixel[c];
      grey_rgb[i * 3 + c] = grey[i];
      cmyk_rgb[i * 3 + c] = (uint8_t)((255 - ink[c]) * (255 - ink[3]) / 255);
    }
    for (int c = 0; c < 4; c++) cmyk[i * 4 + c] = (uint8_t)(255 - ink[c]);  /* inverted, as files with an Adobe marker are */
  }
  for (int progressive = 0; progressive < 2; progressive++) {
    expect_pixels(make_jpeg(W, H, 3, JCS_RGB, rgb, progressive, false), W, H, rgb, 4);
    expect_pixels(make_jpeg(W, H, 1, JCS_GRAYSCALE, grey, progressive, false), W, H, grey_rgb, 3);
    expect_pixels(make_jpeg(W, H, 4, JCS_CMYK, cmyk, progressive, false), W, H, cmyk_rgb, 4);
    expect_pixels(make_jpeg(W, H, 4, JCS_CMYK, cmyk, progressive, true), W, H, cmyk_rgb, 6);
  }
}

/* ---- damage ---- */

/* `must_fail` for every cut; changed bytes must only not crash. */
static void mutilate(Bytes b, size_t tail) {
  for (size_t n = 0; n + tail < b.size; n++) {
    uint8_t *cut = malloc(n + 1);  /* exact, so that a sanitizer sees reads past the end */
    memcpy(cut, b.bytes, n);
    Image im;
    char err[RT_ERR_MAX] = "";
    if (!image_decode(cut, n, "cut", &im, err)) fail_msg("%zu of %zu bytes were accepted", n, b.size);
    assert_null(im.rgb);
    assert_true(err[0]);
    free(cut);
  }
  Rng r = rng_new(1);
  for (int i = 0; i < 3000; i++) {
    size_t at = (size_t)rng_below(&r, (int64_t)b.size);
    uint8_t old = b.bytes[at];
    b.bytes[at] = (uint8_t)rng_next(&r);
    Image im;
    (void)image_decode(b.bytes, b.size, "changed", &im, NULL);
    image_free(&im);
    b.bytes[at] = old;
  }
  free(b.bytes);
}

static void damaged_files(void **state) {
  (void)state;
  uint8_t rgb[16 * 16 * 3];
  for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i * i / 7);
  mutilate(make_png(16, 16, 8, PNG_COLOR_TYPE_RGB, rgb, 48, false, NULL, 0, false), 0);
  mutilate(make_png(16, 16, 8, PNG_COLOR_TYPE_RGB, rgb, 48, true, NULL, 0, false), 0);
  /* The end marker and the last bits of padding may go missing without loss. */
  mutilate(make_jpeg(16, 16, 3, JCS_RGB, rgb, false, false), 4);
  mutilate(make_jpeg(16, 16, 3, JCS_RGB, rgb, true, false), 4);
}

static void other_formats(void **state) {
  (void)state;
  Image im;
  assert_int_equal(image_decode("GIF89a..........", 16, "a.gif", &im, NULL), SPINEC_ERR_UNSUPPORTED);
  assert_int_equal(image_decode("", 0, "empty", &im, NULL), SPINEC_ERR_UNSUPPORTED);
  assert_int_equal(image_new(0, 5, &im, NULL), SPINEC_ERR_UNSUPPORTED);
  assert_int_equal(image_new(5, -1, &im, NULL), SPINEC_ERR_UNSUPPORTED);
  assert_int_equal(image_new(IMAGE_MAX_SIDE, IMAGE_MAX_SIDE, &im, NULL), SPINEC_ERR_UNSUPPORTED);
  /* A PNG header that claims the largest sides there are: refused before anything is allocated. */
  static const uint8_t huge[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0x7f, 0xff, 0xff, 0xff,
                                 0x7f, 0xff, 0xff, 0xff, 8, 2, 0, 0, 0, 0x2d, 0xc6, 0x36, 0x67};
  char err[RT_ERR_MAX] = "";
  assert_int_not_equal(image_decode(huge, sizeof huge, "huge.png", &im, err), SPINEC_OK);
  assert_non_null(strstr(err, "huge.png"));
}

/* ---- resizing ---- */

static Image ramp(int w, int h) {
  Image im;
  assert_int_equal(image_new(w, h, &im, NULL), SPINEC_OK);
  for (int i = 0; i < w * h; i++)
    for (int c = 0; c < 3; c++) im.rgb[i * 3 + c] = (uint8_t)(i % w * 20 + i / w * (c + 1) * 5);
  return im;
}

static void resize_identity(void **state) {
  (void)state;
  Image im = ramp(9, 5), out;
  assert_int_equal(image_resize(&im, 9, 5, &out, NULL), SPINEC_OK);
  assert_memory_equal(out.rgb, im.rgb, 9 * 5 * 3);
  image_free(&im);
  image_free(&out);
}

/* Hand-computed. Two to four: positions 0, 0.25, 0.75, 1 between the pixels. Four to two: the triangle reaches two input pixels to each
 * side of its centre: weights 3/7, 3/7, 1/7 at the border. */
static void resize_values(void **state) {
  (void)state;
  Image two, four, out;
  assert_int_equal(image_new(2, 1, &two, NULL), SPINEC_OK);
  assert_int_equal(image_new(4, 1, &four, NULL), SPINEC_OK);
  for (int c = 0; c < 3; c++) {
    two.rgb[3 + c] = 200;
    for (int x = 0; x < 4; x++) four.rgb[3 * x + c] = (uint8_t)(70 * x);
  }
  static const uint8_t up[] = {0, 50, 150, 200}, down[] = {50, 160};
  assert_int_equal(image_resize(&two, 4, 3, &out, NULL), SPINEC_OK);
  for (int i = 0; i < 4 * 3 * 3; i++) assert_int_equal(out.rgb[i], up[i / 3 % 4]);
  image_free(&out);
  assert_int_equal(image_resize(&four, 2, 1, &out, NULL), SPINEC_OK);
  for (int i = 0; i < 2 * 3; i++) assert_int_equal(out.rgb[i], down[i / 3]);
  image_free(&out);
  image_free(&two);
  image_free(&four);
}

static void resize_keeps_flat_pictures(void **state) {
  (void)state;
  static const int sizes[][2] = {{1, 1}, {2, 3}, {7, 5}, {64, 64}, {101, 3}};
  Image im, out;
  assert_int_equal(image_new(23, 17, &im, NULL), SPINEC_OK);
  memset(im.rgb, 137, 23 * 17 * 3);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    assert_int_equal(image_resize(&im, sizes[i][0], sizes[i][1], &out, NULL), SPINEC_OK);
    for (int k = 0; k < sizes[i][0] * sizes[i][1] * 3; k++) assert_int_equal(out.rgb[k], 137);
    image_free(&out);
  }
  assert_int_equal(image_resize(&im, 0, 5, &out, NULL), SPINEC_ERR_UNSUPPORTED);
  assert_null(out.rgb);
  image_free(&im);
}

/* ---- tensors ---- */

static void tensors(void **state) {
  (void)state;
  Image im = ramp(3, 2);
  ImageFormat f = image_format_imagenet();
  spinec_tensor t;
  assert_int_equal(image_to_tensor(&im, &f, &t, NULL), SPINEC_OK);
  static const int64_t nchw[] = {1, 3, 2, 3}, nhwc[] = {1, 2, 3, 3};
  assert_int_equal(t.rank, 4);
  assert_memory_equal(t.dims, nchw, sizeof nchw);
  for (int c = 0; c < 3; c++)
    for (int i = 0; i < 6; i++) {
      double expected = (im.rgb[i * 3 + c] / 255.0 - f.mean[c]) / f.std[c];
      assert_true(fabs(((float *)t.data)[c * 6 + i] - expected) < 1e-6);
    }
  free(t.data);
  f.layout = IMAGE_NHWC;
  f.dtype = SPINEC_U8;
  assert_int_equal(image_to_tensor(&im, &f, &t, NULL), SPINEC_OK);
  assert_memory_equal(t.dims, nhwc, sizeof nhwc);
  assert_memory_equal(t.data, im.rgb, 18);
  free(t.data);
  f.dtype = SPINEC_I32;
  assert_int_equal(image_to_tensor(&im, &f, &t, NULL), SPINEC_ERR_OPTION);
  f.dtype = SPINEC_F32;
  f.std[1] = 0;
  assert_int_equal(image_to_tensor(&im, &f, &t, NULL), SPINEC_ERR_OPTION);
  assert_null(t.data);
  image_free(&im);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(png_colour_types), cmocka_unit_test(png_few_bits),  cmocka_unit_test(png_round_trip),
    cmocka_unit_test(jpeg_colour_spaces), cmocka_unit_test(damaged_files), cmocka_unit_test(other_formats),
    cmocka_unit_test(resize_identity),  cmocka_unit_test(resize_values), cmocka_unit_test(resize_keeps_flat_pictures),
    cmocka_unit_test(tensors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
