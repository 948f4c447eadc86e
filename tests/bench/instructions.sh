#!/bin/sh
# Counts the instructions of one inference on ARM, executed under QEMU: as compiled by default, and with direct convolutions only.
#
#   sh tests/bench/instructions.sh build/release MODEL.onnx [TARGET ...]        (default: armv8-a armv7-a+neon)
#
# Needs what `.ci/setup full` installs. The counts include the self-check's own work, which is small beside a network.
set -eu
build=$(cd "$1" && pwd) model=$(realpath "$2") here=$(cd "$(dirname "$0")" && pwd)
shift 2
[ $# -gt 0 ] || set -- armv8-a armv7-a+neon
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O2 -shared -fPIC -o "$work/count.so" "$here/count_plugin.c"

# count TARGET OPTIONS...: instructions of one run
count() {
  target=$1
  shift
  case $target in
  armv8*) triple=aarch64-linux-gnu emulator=qemu-aarch64 flags="-march=${target%%+*}" ;;
  armv7*) triple=arm-linux-gnueabihf emulator=qemu-arm flags="-march=armv7-a -mfpu=neon-vfpv4 -mfloat-abi=hard" ;;
  *) echo "instructions.sh: no emulator for $target" >&2; exit 2 ;;
  esac
  "$build/bin/spinec" compile "$model" --target "$target" --prefix net --emit-test "$@" -o "$work/net.c"
  (
    cd "$work"
    # shellcheck disable=SC2086
    $triple-gcc -O2 $flags net.c net_test.c net_weights.S -lm -o net_test
    $emulator -L /usr/$triple -plugin ./count.so ./net_test 2>&1 | sed -n 's/^instructions: //p'
  )
}

for target; do
  direct=$(count "$target" --winograd off)
  default=$(count "$target")
  echo "$target: $default instructions, $direct with direct convolutions only: $(echo "$default $direct" | awk '{printf "%.2f", $1 / $2}')"
done
