#!/bin/sh
# What the C backend promises of its output, on a SpineNet-49S: small source, only prefixed symbols and libm, the same bytes each time, a
# workspace near the largest live set, clean under every warning with two compilers and as C++, a self-check that passes under sanitizers, and
# two models in one program.
#
#   generated.sh SPINEC SPINENET_GEN
set -eu
spinec=$1 gen=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*"; exit 1; }
strict="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"

"$gen" --variant 49S --size 384 -o big.onnx >/dev/null
"$spinec" compile big.onnx -o big.c --target x86-64-v2 --prefix big -q
bytes=$(wc -c <big.c)
echo "source $bytes bytes"
[ "$bytes" -lt 2000000 ] || fail "source of $bytes bytes"
mkdir again
(cd again && cp ../big.onnx . && "$spinec" compile big.onnx -o big.c --target x86-64-v2 --prefix big -q)
for f in big.c big.h big.weights.bin; do cmp "$f" "again/$f" || fail "$f differs between two runs"; done
start=$(date +%s)
cc -O2 -msse4.2 -c big.c
echo "compiled in $(($(date +%s) - start)) s"
others=$(nm -g big.o | awk '$NF !~ /^big_/ { print $NF }' | grep -vxE '_GLOBAL_OFFSET_TABLE_|memcpy|memset|memmove|(exp|log|sqrt|floor|ceil|rint|nearbyint|trunc|fma|pow|erf|tanh|sin|cos|tan|fmod|fmax|fmin)f?' || true)
[ -z "$others" ] || fail "foreign symbols: $others"
"$spinec" inspect big.onnx --json >info.json
set -- $(sed -n 's/.*"\(workspace_bytes\|live_bytes\)": \([0-9]*\).*/\2/p' info.json)
echo "workspace $1, largest live set $2"
[ $(($1 * 100)) -le $(($2 * 115)) ] || fail "workspace $1 for a live set of $2"
rm -rf again big.*

"$gen" --variant mobile-49XS --size 128 --head retinanet -o small.onnx >/dev/null
"$gen" --variant 49S --size 128 --head classify -o other.onnx >/dev/null
for threads in none pthread; do
  "$spinec" compile small.onnx -o small.c --prefix small --emit-test --threads $threads -q
  for cc in "gcc -std=c11" "clang -std=c11" "g++ -std=c++17 -x c++" "clang++ -std=c++17 -x c++"; do
    set -- $cc
    command -v "$1" >/dev/null || { echo "$1 is not installed"; continue; }
    # shellcheck disable=SC2086
    $cc $strict -O1 -c small.c -o small.o || fail "$cc, threads $threads"
  done
done
echo "clean under warnings"
"$spinec" compile small.onnx -o small.c --prefix small --emit-test -q
tests=$(ls small*test*.c)
weights=$(ls small*.S 2>/dev/null || true)
# shellcheck disable=SC2086
gcc -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all $tests $( [ "$tests" = small.c ] || echo small.c ) $weights -lm -o selftest
./selftest || fail "the self-check"
"$spinec" compile other.onnx -o other.c --prefix other -q
cat >both.c <<'END'
#include "small.h"
#include "other.h"
int main(void) { return SMALL_WORKSPACE_BYTES > 0 && OTHER_WORKSPACE_BYTES > 0 ? 0 : 1; }
END
# shellcheck disable=SC2086
gcc -O1 both.c small.c other.c $weights $(ls other*.S 2>/dev/null || true) -lm -o both && ./both || fail "two models in one program"
echo "two models link together"

# The same on other machines, under an emulator: each network's own self-check, with the code made for that target.
cross() {  # TARGET CC QEMU SYSROOT NETWORK
  command -v "$2" >/dev/null && command -v "$3" >/dev/null || { echo "$1: $2 or $3 is not installed"; return 0; }
  flags=$(sed -n 's/^ \* compile  *cc -O2 *\(.*\) -c .*/\1/p' "$5.c" | head -n 1)
  # shellcheck disable=SC2086
  "$2" -O2 $flags "$5.c" "$5_test.c" $(ls "$5"*.S 2>/dev/null || true) -lm -o "$5.$1" || fail "$5 for $1"
  "$3" -L "$4" "./$5.$1" >log || { cat log; fail "$5 on $1"; }
  echo "$5 on $1: $(tail -n 1 log)"
}
"$gen" --variant 49S --size 128 -o deep.onnx >/dev/null
for net in small deep; do
  "$spinec" compile $net.onnx -o $net.c --prefix $net --emit-test --target armv8-a -q
  cross armv8-a aarch64-linux-gnu-gcc qemu-aarch64 /usr/aarch64-linux-gnu $net
  "$spinec" compile $net.onnx -o $net.c --prefix $net --emit-test --target armv7-a+neon -q
  cross armv7-a+neon arm-linux-gnueabihf-gcc qemu-arm /usr/arm-linux-gnueabihf $net
done
