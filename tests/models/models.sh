#!/bin/sh
# Networks against PyTorch's results (shared/spinenet, when it is there), and generated ones, random block lists among them, against the
# interpreter on the plain path.
#
#   models.sh SPINEC SPINENET_GEN SHARED "BACKENDS"
set -eu
spinec=$1 gen=$2 shared=$3 backends=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

report() {  # NAME LOG STATUS
  printf '%-48s %s\n' "$1" "$(tail -n 1 "$2")"
  [ "$3" = 0 ] || { cat "$2"; failed=1; }
}

for model in "$shared"/spinenet/*.onnx; do
  [ -f "$model" ] || continue
  stem=${model%.onnx}
  set -- --input "$stem.in.npy"
  for k in 0 1 2 3 4 5 6 7 8 9; do [ ! -f "$stem.out.$k.npy" ] || set -- "$@" --expect "$stem.out.$k.npy"; done
  for backend in $backends; do
    s=0
    "$spinec" verify "$model" "$@" --backend "$backend" -q >"$work/log" 2>&1 || s=1
    report "$(basename "$stem") $backend" "$work/log" $s
  done
done

last=${backends##* }
while read -r name options; do
  # shellcheck disable=SC2086
  "$gen" $options -o "$work/m.onnx" >/dev/null
  s=0
  "$spinec" verify "$work/m.onnx" --backend "$last" --threads 2 -q >"$work/log" 2>&1 || s=1
  report "$name $last" "$work/log" $s
done <<END
49S-none --variant 49S --size 128
49-classify --variant 49 --head classify --size 128 --keep-bn
mobile-49-retinanet --variant mobile-49 --head retinanet --size 128 --keep-bn
mobile-49S-batch --variant mobile-49S --size 128 --batch 2 --act relu
wide --variant 49S --size 128x256 --act swish --keep-bn
END

# Random scale-permuted networks: any parents, any levels, every kind of block.
seed=1
while [ $seed -le 6 ]; do
  rows=$(awk -v seed=$seed 'BEGIN {
    srand(seed)
    split("bottleneck residual mbconv", kind, " ")
    n = 4 + int(rand() * 6)
    for (i = 0; i < n; i++) {
      a = int(rand() * (i + 2)); b = int(rand() * (i + 2)); if (a == b) b = (b + 1) % (i + 2)
      printf "%d %s %d %d; ", 2 + int(rand() * 5), kind[1 + int(rand() * 3)], a, b
    }
    for (l = 3; l <= 5; l++) { a = int(rand() * (n + 2)); b = (a + 1) % (n + 2); printf "%d %s %d %d out; ", l, kind[1 + int(rand() * 3)], a, b }
  }')
  if "$gen" --variant 49S --blocks "$rows" --levels 3-5 --size 128 --seed $seed --keep-bn -o "$work/m.onnx" >"$work/log" 2>&1; then
    s=0
    "$spinec" verify "$work/m.onnx" --backend "$last" -q >"$work/log" 2>&1 || s=1
    report "random $seed $last" "$work/log" $s
  else
    echo "random $seed: $rows"; cat "$work/log"; failed=1
  fi
  seed=$((seed + 1))
done
exit $failed
