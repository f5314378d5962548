#!/bin/bash
# fault.sh ARGUMENTS...: tests/fault/rounds.mjs against what was built in $BUILD; what a sanitizer
# reports is a failure of its own.
set -uo pipefail
cd "$(dirname "$0")/../.."

export BUILD=${BUILD:-build}
reports=$PWD/$BUILD/test/fault
rm -rf "$reports"
mkdir -p "$reports"
export ASAN_OPTIONS="log_path=$reports/asan:detect_leaks=1:detect_stack_use_after_return=1"
export UBSAN_OPTIONS="log_path=$reports/ubsan:print_stacktrace=1"
export TSAN_OPTIONS="log_path=$reports/tsan:suppressions=$PWD/tests/support/tsan.supp"

status=0
node tests/fault/rounds.mjs "$@" || status=1
for report in "$reports"/*; do
    [ -e "$report" ] || continue
    echo "$report:"
    head -n 60 "$report"
    status=1
done
exit $status
