/* picture.c: command line of the quick start's picture tool.
 *
 *   picture scene SIDE OUT.png OUT.npy              draws a street
 *   picture photo FILE SIDE OUT.png OUT.npy         takes a PNG or JPEG, cut to a square around its middle
 *   picture show FACTS PICTURE.png DIR OUT.png      composes the result sheet from what the network put out to DIR
 *
 * OUT.npy is the network's input: SIDE x SIDE, normalised as ImageNet pictures are.
 */
#include "quickstart.h"

#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, SIDE_MAX = 4096 };

static spinec_status save(const Image *im, const char *png, const char *npy, char err[RT_ERR_MAX]) {
  const ImageFormat format = image_format_imagenet();
  spinec_tensor t = {.data = NULL};
  spinec_status status = image_save_png(png, im, err);
  if (!status) status = image_to_tensor(im, &format, &t, err);
  if (!status) status = npy_save(npy, &t, err);
  free(t.data);
  return status;
}

static spinec_status cut_square(const Image *im, Image *out, char err[RT_ERR_MAX]) {
  const int side = im->w < im->h ? im->w : im->h, x = (im->w - side) / 2, y = (im->h - side) / 2;
  const spinec_status status = image_new(side, side, out, err);
  for (int j = 0; !status && j < side; j++)
    memcpy(out->rgb + (size_t)j * (size_t)side * 3, im->rgb + ((size_t)(y + j) * (size_t)im->w + (size_t)x) * 3, (size_t)side * 3);
  return status;
}

static spinec_status photo(const char *path, int side, Image *out, char err[RT_ERR_MAX]) {
  Image im = {0}, square = {0};
  spinec_status status = image_load(path, &im, err);
  if (!status) status = cut_square(&im, &square, err);
  if (!status) status = image_resize(&square, side, side, out, err);
  image_free(&im);
  image_free(&square);
  return status;
}

static int side_of(const char *s) {
  char *end;
  const long v = strtol(s, &end, 10);
  return end != s && !*end && v >= 1 && v <= SIDE_MAX ? (int)v : 0;
}

static int usage(void) {
  fprintf(stderr, "usage: picture scene SIDE OUT.png OUT.npy | photo FILE SIDE OUT.png OUT.npy | show FACTS PICTURE.png DIR OUT.png\n");
  return EXIT_USAGE;
}

int main(int argc, char **argv) {
  char err[RT_ERR_MAX] = "";
  Image im = {0};
  spinec_status status;
  if (argc == 5 && !strcmp(argv[1], "scene") && side_of(argv[2])) {
    status = scene_draw(side_of(argv[2]), &im, err);
    if (!status) status = save(&im, argv[3], argv[4], err);
  } else if (argc == 6 && !strcmp(argv[1], "photo") && side_of(argv[3])) {
    status = photo(argv[2], side_of(argv[3]), &im, err);
    if (!status) status = save(&im, argv[4], argv[5], err);
  } else if (argc == 6 && !strcmp(argv[1], "show")) {
    status = show_result(argv[2], argv[3], argv[4], argv[5], err);
  } else {
    return usage();
  }
  image_free(&im);
  if (status) fprintf(stderr, "picture: %s\n", err);
  return status ? EXIT_FAILURE : EXIT_SUCCESS;
}
