#!/bin/bash
# check-all.sh TARGET...: makes one after the other, goes on after a failure, and adds up. What is
# skipped for want of a tool has failed. The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
LIMIT=1800 # seconds a target

for target in "$@"; do
    echo "== make $target"
    FAIL_ON_SKIP=yes timeout --kill-after=10 $LIMIT make --no-print-directory "$target" </dev/null 2>&1 |
        tee "$log"
    status=${PIPESTATUS[0]}
    read -r fine _ bad _ <<<"$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)"
    fine=${fine:-0} bad=${bad:-0}
    # Ended badly without naming a failure, skipped something, or did nothing.
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$fine" -eq 0 ] ||
        grep -qE '^ *SKIP |  skipped: ' "$log"; }; then
        bad=1
        echo "== make $target: FAILED"
    fi
    passed=$((passed + fine)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
