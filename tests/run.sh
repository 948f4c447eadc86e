#!/bin/sh
# Builds spinec and runs every test: optimised, then under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   sh tests/run.sh [preset ...]      default: release debug
#
# Ends non-zero when anything failed, after having tried every preset.
set -u
cd "$(dirname "$0")/.." || exit 1

sh .ci/setup full || exit 1

jobs=$(nproc 2>/dev/null || echo 2)
[ $# -gt 0 ] || set -- release debug
status=0
summary=
for preset in "$@"; do
  echo "== $preset: configure and build"
  if ! { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs"; }; then
    summary="$summary
$preset: does not build"
    status=1
    continue
  fi
  echo "== $preset: test"
  log=build/$preset/ctest.log
  result=build/$preset/ctest.status
  { ctest --preset "$preset" -j "$jobs" --no-tests=error; echo $? >"$result"; } 2>&1 | tee "$log"
  [ "$(cat "$result")" = 0 ] || status=1
  summary="$summary
$preset: $(grep 'tests passed' "$log" || echo 'no tests were run')
$(sed -n '/tests FAILED/,/^Errors/p' "$log" | grep -E '^[[:space:]]+[0-9]+ - ' || true)"
done

echo "== summary$summary"
exit $status
