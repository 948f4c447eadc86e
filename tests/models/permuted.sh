#!/bin/sh
# Random scale-permuted networks, tiny and many: any parents, levels, kinds of block, odd channel counts, heads; each through the whole
# compiler for one target or another, against the interpreter of the network as imported. SPINEC_RANDOM_NETWORKS=N: how many (200).
#
#   permuted.sh SPINEC SPINENET_GEN [FIRST_SEED]
set -eu
spinec=$1 gen=$2 seed=${3:-1}
last=$((seed + ${SPINEC_RANDOM_NETWORKS:-200}))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 ran=0

while [ $seed -lt $last ]; do
  awk -v seed=$seed 'function below(n) { return int(rand() * n) }
  function parents(count,   a, b) {
    a = below(count); b = below(count)
    if (a == b) b = (b + 1) % count
    return a " " b (below(4) || count < 3 ? "" : " " (a + b + 1) % count)
  }
  BEGIN {
    srand(seed * 7919 + 13)
    split("bottleneck residual mbconv", kind, " ")
    n = 3 + below(7)
    for (i = 0; i < n; i++) printf "%d %s %s; ", 2 + below(4), kind[1 + below(3)], parents(i + 2)
    for (l = 3; l <= 5; l++) printf "%d %s %s out; ", l, kind[1 + below(3)], parents(n + 2)
    split("64 64x128 96x32 32", size, " ")
    print ""
    printf "--size %s --filter-scale %.3f --endpoint-filters %d --act %s --batch %d", size[1 + below(4)], 0.04 + 0.1 * rand(), 1 + below(20), \
           below(2) ? "relu" : "swish", below(5) ? 1 : 2
    if (below(2)) printf " --keep-bn"
    if (below(6) == 0) printf " --head retinanet --classes 2 --anchors 1 --head-convs 1 --head-filters %d", 3 + below(12)
    print ""
    split("generic x86-64-v3 x86-64-v4 armv8-a", target, " ")
    print target[1 + below(4)]
  }' >"$work/rows"
  { read -r rows; read -r options; read -r target; } <"$work/rows"
  # shellcheck disable=SC2086
  "$gen" --variant 49S --blocks "$rows" --levels 3-5 --seed $seed $options -o "$work/m.onnx" >"$work/log" 2>&1 || { echo "seed $seed: not made"; cat "$work/log"; exit 1; }
  if ! "$spinec" verify "$work/m.onnx" --backend interp --target "$target" -q >"$work/log" 2>&1; then
    echo "seed $seed, $target: --blocks '$rows' $options"
    cat "$work/log"
    failed=$((failed + 1))
  fi
  ran=$((ran + 1)) seed=$((seed + 1))
done
echo "$failed of $ran networks failed"
[ $failed = 0 ]
