#!/bin/sh
# Runs ONNX backend test folders and compares with ratchet.txt, the cases that have passed before: all of them must pass, none may fail.
#
#   check.sh SPINEC BACKEND DATA [SHARED]     UPDATE=1 adds the cases that pass now to ratchet.txt
#
# SHARED: a folder with onnx-*-backend-tests.tar.xz, newer cases, run as well when it is there (not in the ratchet; none may fail).
set -eu
spinec=$1 backend=$2 data=$3 shared=${4:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

status=0
"$spinec" conformance "$data/node" "$data/simple" "$data/pytorch-converted" "$data/pytorch-operator" --backend "$backend" --report "$work/report" \
  -q >"$work/log" || status=1
grep '^FAILED' "$work/log" || true
tail -n 1 "$work/log"
sed -n 's/^passed //p' "$work/report" | sort >"$work/passed"
if [ -n "${UPDATE:-}" ]; then
  sort -u "$work/passed" "$here/ratchet.txt" >"$work/ratchet" 2>/dev/null || cp "$work/passed" "$work/ratchet"
  cp "$work/ratchet" "$here/ratchet.txt"
fi
sort "$here/ratchet.txt" >"$work/ratchet"
lost=$(comm -23 "$work/ratchet" "$work/passed")
new=$(comm -13 "$work/ratchet" "$work/passed" | wc -l)
if [ -n "$lost" ]; then
  echo "passed before, not now:"
  echo "$lost"
  status=1
fi
[ "$new" -eq 0 ] || echo "$new cases pass that ratchet.txt does not list: UPDATE=1 adds them"

archive=$(ls "$shared"/onnx-*-backend-tests.tar.xz 2>/dev/null | tail -n 1)
if [ -n "$archive" ] && [ "$backend" != c ]; then
  tar xJf "$archive" -C "$work"
  "$spinec" conformance "$work"/data/node --backend "$backend" -q >"$work/log" || status=1
  grep '^FAILED' "$work/log" || true
  echo "newer: $(tail -n 1 "$work/log")"
fi
exit $status
