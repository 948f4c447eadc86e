#!/bin/sh
# The quick start: a SpineNet with RetinaNet head becomes C, the C becomes a small program, the program looks at a picture.
#
#   sh examples/quickstart.sh [--variant 49S] [--size 384] [--picture FILE] [--target native]
#
#   --variant  which network; examples/spinenet writes any SpineNet, see `spinenet-gen --help`
#   --size     side of the picture in pixels, a multiple of 128
#   --picture  a PNG or JPEG of your own instead of the drawn street
#   --target   what to compile for, see `spinec --help`; must run on this machine
#
# Everything it makes is in build/quickstart/VARIANT-SIZE. What is there and up to date is not made again; only the timed runs always are.
set -eu

fail() { echo "quickstart: $*" >&2; exit 1; }

variant=49S size=384 picture= target=native
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
  case $1 in
  --variant) variant=$2 ;;
  --size) size=$2 ;;
  --picture) picture=$2 ;;
  --target) target=$2 ;;
  *) fail "no option '$1'" ;;
  esac
  shift 2
done
case $variant in *[!A-Za-z0-9-]* | '') fail "'$variant' is no variant" ;; esac
case $size in *[!0-9]* | '') fail "'$size' is no size" ;; esac
case $picture in /* | '') ;; *) picture=$PWD/$picture ;; esac
[ -z "$picture" ] || [ -f "$picture" ] || fail "$picture: no such file"

cd "$(dirname "$0")/.."
out=build/quickstart/$variant-$size
bin=build/release/bin
cc=${CC:-cc}

# ---- steps ----

now() { date +%s%N; }
seconds() { awk -v ns="$1" 'BEGIN { printf "%.1f s", ns / 1e9 }'; }

# step TEXT LOG COMMAND...: runs the command with its output in LOG, which is shown if it fails. Leaves its nanoseconds in $spent.
step() {
  text=$1 log=$2
  shift 2
  printf '  %-46s' "$text"
  start=$(now)
  if ! "$@" >"$log" 2>&1; then
    echo "failed: $*"
    cat "$log"
    exit 1
  fi
  spent=$(($(now) - start))
  seconds "$spent"
  echo
}

# stale OUT IN...: OUT is missing or older than one of the others.
stale() {
  made=$1
  shift
  [ ! -e "$made" ] || [ -n "$(find "$@" -newer "$made")" ]
}

# remember FILE TEXT: FILE holds TEXT, and is only touched when that changes.
remember() { [ "$(cat "$1" 2>/dev/null)" = "$2" ] || printf '%s\n' "$2" >"$1"; }

mkdir -p "$out"
echo "SpineNet-$variant with RetinaNet head, $size x $size"

step "install what is missing" "$out/setup.log" sh .ci/setup build
build_spinec() {
  [ -f build/release/build.ninja ] || cmake --preset release
  cmake --build --preset release --target spinec spinenet-gen picture
}
step "build spinec" "$out/build.log" build_spinec

if stale "$out/model.onnx" $bin/spinenet-gen; then
  step "write the network" "$out/model.log" $bin/spinenet-gen --variant "$variant" --head retinanet --size "$size" --keep-bn -o "$out/model.onnx"
fi

remember "$out/picture.source" "${picture:-scene}"
if stale "$out/input.npy" $bin/picture "$out/picture.source" ${picture:+"$picture"}; then
  if [ -n "$picture" ]; then
    step "prepare the picture" "$out/picture.log" $bin/picture photo "$picture" "$size" "$out/picture.png" "$out/input.npy"
  else
    step "draw a picture" "$out/picture.log" $bin/picture scene "$size" "$out/picture.png" "$out/input.npy"
  fi
fi

# make_program DIR TEXT OPTION...: the network as C in DIR, and a program around it.
make_program() {
  dir=$1 kind=$2
  shift 2
  mkdir -p "$dir"
  remember "$dir/options" "$*"
  if stale "$dir/spinenet.c" "$out/model.onnx" $bin/spinec "$dir/options"; then
    step "compile the network to C$kind" "$dir/compile.log" \
      $bin/spinec compile "$out/model.onnx" "$@" --quiet --weights obj --prefix spinenet -o "$dir/spinenet.c"
    echo "$spent" >"$dir/compile.ns"
  fi
  # The compiler flags for the target are those the generated file asks for.
  flags=$(sed -n 's/^ \* compile  *cc \(.*\) *-c spinenet\.c$/\1/p' "$dir/spinenet.c")
  [ -n "$flags" ] || fail "$dir/spinenet.c names no compiler flags"
  remember "$dir/cc" "$cc $flags"
  if stale "$dir/detect" "$dir/spinenet.c" examples/quickstart/detect.c "$dir/cc"; then
    # shellcheck disable=SC2086
    step "build the program with $cc$kind" "$dir/cc.log" \
      $cc -std=c11 $flags -I"$dir" -o "$dir/detect.new" examples/quickstart/detect.c "$dir/spinenet.c" "$dir/spinenet_weights.S" -lm
    mv "$dir/detect.new" "$dir/detect"
    echo "$spent" >"$dir/cc.ns"
  fi
}
make_program "$out" "" --target "$target"
make_program "$out/plain" ", not optimised" --target "$target" -O0

step "run it" "$out/run.txt" "$out/detect" "$out/input.npy" "$out"
step "run the one not optimised" "$out/plain/run.txt" "$out/plain/detect" "$out/input.npy" "$out/plain"

# The reference shares neither passes nor C with the program: the imported network in plain loops, interpreted.
check() {
  set --
  for level in 3 4 5 6 7; do set -- "$@" --expect "cls$level=$out/cls$level.npy" --expect "box$level=$out/box$level.npy"; done
  $bin/spinec verify "$out/model.onnx" -O0 --backend interp --threads "$(nproc)" --input "input=$out/input.npy" "$@"
}
if stale "$out/check.txt" "$out/detect" "$out/input.npy"; then
  rm -f "$out/check.txt"
  step "check it against the interpreter" "$out/check.log" check
  mv "$out/check.log" "$out/check.txt"
  echo "$spent" >"$out/check.ns"
fi

# ---- what was measured ----

if stale "$out/inspect.json" "$out/model.onnx" $bin/spinec "$out/options"; then
  $bin/spinec inspect "$out/model.onnx" --target "$target" --quiet --json >"$out/inspect.json.new"
  mv "$out/inspect.json.new" "$out/inspect.json"
fi
bytes() { cat "$@" | wc -c; }
ms_in() { awk '{ printf "%.0f", $1 / 1e6 }' "$1"; }
median() { sed -n "s/^ms_median //p" "$1"; }
inspected() { sed -n "s/^  \"$1\": \([0-9]*\),*$/\1/p" "$out/inspect.json"; }
compiler() { case $($cc --version) in *clang*) echo "clang $($cc -dumpversion)" ;; *) echo "gcc $($cc -dumpfullversion)" ;; esac; }
cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)
error=$(awk '/largest error/ { for (i = 1; i < NF; i++) if ($(i + 1) == "of" && $(i + 2) == "magnitude" && $i > e) e = $i } END { printf "%.2g", e }' "$out/check.txt")
{
  echo "network SpineNet-$variant"
  echo "side $size"
  for name in params macs weight_bytes workspace_bytes kernels calls; do echo "$name $(inspected $name)"; done
  echo "source_bytes $(bytes "$out/spinenet.c")"
  echo "program_bytes $(bytes "$out/detect")"
  echo "target $(sed -n 's/^ \* target  *//p' "$out/spinenet.c" | sed 's/^this machine, as //; s/:.*//')"
  echo "compiler $(compiler)"
  echo "cpu ${cpu:-$(uname -m)}"
  cat "$out/run.txt"
  echo "compile_ms $(ms_in "$out/compile.ns")"
  echo "cc_ms $(ms_in "$out/cc.ns")"
  echo "error $error"
  echo "check all 10 outputs compared with the imported network, interpreted without optimisation"
  echo "bar $(median "$out/run.txt") generated C"
  echo "bar $(median "$out/plain/run.txt") generated C, not optimised (-O0)"
} >"$out/facts"
$bin/picture show "$out/facts" "$out/picture.png" "$out" "$out/result.png"

awk -v dir="$out" -v plain="$(median "$out/plain/run.txt")" -v libraries="$(ldd "$out/detect" 2>/dev/null | sed -n 's/^[[:space:]]*\(lib[a-z]*\)\.so.*/\1/p' | tr '\n' ' ')" '
  { name = $1; sub(/^[^ ]* /, ""); v[name] = $0 }
  function row(head, text) { printf "  %-14s %s\n", head, text }
  END {
    print ""
    row("network", sprintf("%.1f M parameters, %.2f G multiply-adds per picture", v["params"] / 1e6, v["macs"] / 1e9))
    row("C", sprintf("%.2f MB in %s/spinenet.c, %d kernels in %d calls; %.1f MB of weights", v["source_bytes"] / 1e6, dir, v["kernels"], v["calls"], v["weight_bytes"] / 1e6))
    row("program", sprintf("%.1f MB, %.1f MB workspace, links %s", v["program_bytes"] / 1e6, v["workspace_bytes"] / 1e6, libraries ? libraries : "libm"))
    row("made for", v["target"])
    row("time", sprintf("%.1f ms per picture on one thread, %.0f GFLOP/s (median of %d)", v["ms_median"], 2 * v["macs"] / v["ms_median"] / 1e6, v["runs"]))
    row("not optimised", sprintf("%.1f ms (spinec -O0, the same cc)", plain))
    row("check", sprintf("largest error %s of magnitude; %s", v["error"], v["check"]))
    row("look at", dir "/result.png")
  }' "$out/facts"
