#!/bin/sh
# What the rewrites leave of every published SpineNet: no upsampling is stored, no addition, activation or BatchNormalization has a kernel of
# its own, no gate is multiplied into a stored image; and the multiply-adds that went into convolutions behind upsamplings.
#
#   rewrites.sh SPINEC SPINENET_GEN
set -eu
spinec=$1 gen=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*"; exit 1; }

# Multiply-adds of convolutions that read an upsampling, in a graph as text.
behind_upsamplings() {
  awk 'function count(type,   d, n, i, p) { sub(/.*\[/, "", type); sub(/\].*/, "", type); n = split(type, d, ","); p = 1; for (i = 1; i <= n; i++) p *= d[i]; return p }
  function channels(type,   d) { sub(/.*\[/, "", type); split(type, d, ","); return d[2] }
  $1 == "const" { sub(/:$/, "", $2); weight[$2] = channels($3); next }
  / = Resize\(/ { name = $1; sub(/:$/, "", name); resized[name] = 1 }
  / = Conv\(/ { call = $0; sub(/.* = Conv\(/, "", call); split(call, arg, /[,);]+ ?/); if (arg[1] in resized) sum += count($2) * weight[arg[2]] }
  END { printf "%.0f\n", sum }' "$1"
}

check() {  # NAME, generator options
  name=$1
  shift
  "$gen" "$@" --keep-bn -o m.onnx >/dev/null
  "$spinec" compile m.onnx -o m.ir --emit ir --stop-after epilogue --target x86-64-v4 --stats -q 2>stats || { cat stats; fail "$name does not compile"; }
  left=$(sed -n 's/^  %[^=]* = \([A-Za-z]*\)(.*/\1/p' m.ir | sort | uniq -c | tr -s ' \n' ' ')
  echo "$name:$left"
  stored=$(grep -E ' = Resize\(' m.ir | grep -cv ' body {' || true)
  [ "$stored" = 0 ] || fail "$name stores $stored upsamplings"
  for op in Add Mul Relu Sigmoid Swish HardSigmoid HardSwish Map; do
    case $left in *" $op "*) fail "$name has a kernel for $op" ;; esac
  done
}

for variant in 49S 49 96 143 190 mobile-49XS mobile-49S mobile-49; do
  case $variant in mobile*) scale=0.5 ;; *) scale=0.1 ;; esac
  check "$variant" --variant $variant --filter-scale $scale --size 256
  check "$variant with a head" --variant $variant --filter-scale $scale --size 128 --head retinanet --classes 3
done

"$gen" --variant 49 --size 640 -o m.onnx >/dev/null
"$spinec" compile m.onnx -o before.ir --emit ir --stop-after share_weights -q
"$spinec" compile m.onnx -o after.ir --emit ir --stop-after commute --stats -q 2>stats
before=$(behind_upsamplings before.ir) after=$(behind_upsamplings after.ir)
saved=$(sed -n 's/^stats: commute applied.* \([0-9]*\) macs.*/\1/p' stats)
echo "49 at 640: $before multiply-adds behind upsamplings, $((before - saved)) in front, $after left behind"
[ "$after" = 0 ] || fail "convolutions behind upsamplings"
[ "$before $((before - saved))" = '1114112000 190054400' ] || fail "multiply-adds"
