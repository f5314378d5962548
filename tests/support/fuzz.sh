#!/bin/bash
# fuzz.sh SECONDS TARGET...: libFuzzer on each, from the committed corpus; what it finds new goes to
# $BUILD/corpus, what breaks to $BUILD/crashes. The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

seconds=$1
shift
passed=0 failed=0
mkdir -p "$BUILD/crashes"

for target in "$@"; do
    mkdir -p "$BUILD/corpus/$target"
    log=$BUILD/$target.log
    if timeout --kill-after=10 $((seconds + 60)) "$BUILD/fuzz_$target" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=2048 -max_len=32768 -print_final_stats=1 \
        -artifact_prefix="$BUILD/crashes/$target-" \
        "$BUILD/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "  fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, fine"
    else
        failed=$((failed + 1))
        echo "  fuzz $target: FAILED"
        tail -n 60 "$log"
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
