#!/bin/sh
# The light ONNX networks (ResNet-50, VGG-19, DenseNet-121, ...) against the outputs shipped with them, when the archive is there. Their weights
# are constants, so this tests shapes, operators and memory rather than weight layouts. Input: element i of n is i/n, as the ONNX runner has it.
#
#   light.sh SPINEC SHARED "BACKENDS"
set -eu
spinec=$1 shared=$2 backends=$3
archive=$(ls "$shared"/onnx-*-backend-tests.tar.xz 2>/dev/null | tail -n 1)
[ -n "$archive" ] || { echo "no archive of light networks: nothing to do"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar xJf "$archive" -C "$work" data/light 2>/dev/null || tar xJf "$archive" -C "$work"
backend=${backends##* }
cat >"$work/ramp.c" <<'END'
#include <stdio.h>
int main(void) {
  const int n = 3 * 224 * 224;
  char h[129];
  snprintf(h, sizeof h, "%-117s\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 224, 224), }");
  fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, stdout);
  fwrite(h, 1, 118, stdout);
  for (int i = 0; i < n; i++) { float x = (float)((double)i / n); fwrite(&x, 4, 1, stdout); }
  return 0;
}
END
cc "$work/ramp.c" -o "$work/ramp" && "$work/ramp" >"$work/ramp.npy"
failed=0
for model in "$work"/data/light/light_*.onnx; do
  s=0
  "$spinec" verify "$model" --input "$work/ramp.npy" --expect "${model%.onnx}_output_0.pb" --backend "$backend" --winograd auto -q >"$work/log" 2>&1 || s=1
  printf '%-28s %s\n' "$(basename "$model" .onnx)" "$(head -n 1 "$work/log")"
  [ $s = 0 ] || { cat "$work/log"; failed=1; }
done
exit $failed
