/* PNG and JPEG files from anywhere. Pictures that would take long to decode are left to libpng's and libjpeg's own fuzzing. */
#include "runtime/runtime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Image im, small;
  char err[RT_ERR_MAX];
  if (image_decode(data, size, "fuzz", &im, err)) return 0;
  if (im.w < 512 && im.h < 512 && !image_resize(&im, 7, 5, &small, err)) image_free(&small);
  image_free(&im);
  return 0;
}
