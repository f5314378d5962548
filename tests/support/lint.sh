#!/bin/bash
# lint.sh CHECK...: runs make lint-CHECK for each, shows what complains, and counts.
# The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

logs=${BUILD:-build}/lint
passed=0 failed=0
mkdir -p "$logs"

for check in "$@"; do
    # shellcheck disable=SC2086 # MAKE carries options
    if timeout --kill-after=5 400 ${MAKE:-make} --keep-going "lint-$check" >"$logs/$check.log" 2>&1; then
        passed=$((passed + 1))
        echo "  lint $check: fine"
    else
        failed=$((failed + 1))
        echo "  lint $check: FAILED"
        grep -v '^make' "$logs/$check.log" | tail -n 200
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
