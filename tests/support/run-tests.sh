#!/bin/bash
# run-tests.sh SUITE...: runs suites of what was built in $BUILD and adds them up.
#   unit    $BUILD/unit (Criterion)
#   replay  every fuzz target over its corpus
#   e2e     tests/e2e/*.test.mjs against $BUILD/aiwm-gateway, each file with a time limit;
#           aiwm-node is skipped, with the reason, where npm's packages cannot be had
#   contrib the drop-in for AIWM: its types against the real NestJS and mongoose, and its own tests;
#           skipped, with the reason, where node is older than theirs or npm's packages cannot be had
# With FAIL_ON_SKIP what is skipped has failed.
# One line a suite, its whole output in $BUILD/test/<suite>.log; what failed is shown.
# The last line is "N passed, N failed"; the exit code says the same.
#
# Sanitizers write their reports to files, and each file is a failure: Criterion lets a test pass
# whose process leaks, and a gateway that complains on the way out may have passed every test.
set -uo pipefail
cd "$(dirname "$0")/../.."

export BUILD=${BUILD:-build}
logs=$BUILD/test
reports=$PWD/$logs/sanitizer
UNIT_LIMIT=120 REPLAY_LIMIT=60 NPM_LIMIT=120 E2E_LIMIT=${E2E_LIMIT:-150} # seconds; e2e: a file
passed=0 failed=0

rm -rf "$logs"
mkdir -p "$reports"
export ASAN_OPTIONS="log_path=$reports/asan:detect_leaks=1:detect_stack_use_after_return=1"
export UBSAN_OPTIONS="log_path=$reports/ubsan:print_stacktrace=1"
export LSAN_OPTIONS="print_suppressions=0"
export TSAN_OPTIONS="log_path=$reports/tsan:suppressions=$PWD/tests/support/tsan.supp"

# limited SECONDS COMMAND...
limited() {
    timeout --kill-after=5 "$@"
}

# number_after TEXT FILE: the number behind the last TEXT in FILE, 0 if there is none
number_after() {
    grep -oE "$1 *[0-9]+" "$2" | tail -n 1 | grep -oE '[0-9]+$' || echo 0
}

show() {
    sed 's/^/    /' | tail -n 120
}

# add SUITE PASSED FAILED: counts, prints the suite's line
add() {
    printf '  %-28s %4d passed, %d failed\n' "$1" "$2" "$3"
    passed=$((passed + $2))
    failed=$((failed + $3))
}

# close_suite SUITE STATUS PASSED FAILED LOG: a suite that ended badly without naming a failed
# test (crash, time limit, nothing run) has failed, too.
close_suite() {
    local name=$1 status=$2 fine=$3 bad=$4 log=$5
    if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$fine" -eq 0 ]; }; then
        bad=1
        [ "$status" -eq 124 ] && echo "run-tests: over the time limit" >>"$log"
    fi
    add "$name" "$fine" "$bad"
    [ "$bad" -eq 0 ] || show <"$log"
}

run_unit() {
    local log=$logs/unit.log status=0 fine bad
    limited $UNIT_LIMIT "$BUILD/unit" >"$log" 2>&1 || status=$?
    fine=$(number_after 'Passing:' "$log")
    bad=$(($(number_after 'Failing:' "$log") + $(number_after 'Crashing:' "$log")))
    close_suite unit $status "$fine" $bad "$log"
}

# A corpus counts as one test: what matters is that all of it came through.
run_replay() {
    local log=$logs/replay.log source name status fine=0 bad=0
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        status=0
        limited $REPLAY_LIMIT "$BUILD/replay_${name#fuzz_}" "tests/fuzz/corpus/${name#fuzz_}" \
            >>"$log" 2>&1 || status=$?
        if [ $status -eq 0 ]; then fine=$((fine + 1)); else bad=$((bad + 1)); fi
    done
    close_suite "replay of corpora" 0 $fine $bad "$log"
}

# From "failing tests" on if the reporter wrote it, else everything.
failing_part() {
    if grep -q 'failing tests:' "$1"; then sed -n '/failing tests:/,$p' "$1"; else cat "$1"; fi
}

run_e2e_file() {
    local name log status=0 fine bad
    name=$(basename "$1" .test.mjs)
    log=$logs/e2e-$name.log
    limited "$E2E_LIMIT" node --test --test-reporter=spec --test-reporter-destination=stdout \
        --test-reporter=tap --test-reporter-destination="$logs/e2e-$name.tap" "$1" \
        >"$log" 2>&1 || status=$?
    fine=$(number_after '^# pass' "$logs/e2e-$name.tap")
    bad=$(($(number_after '^# fail' "$logs/e2e-$name.tap") +
        $(number_after '^# cancelled' "$logs/e2e-$name.tap")))
    failing_part "$log" >"$log.failing"
    close_suite "e2e $name" $status "$fine" $bad "$log.failing"
    local left_out
    left_out=$(number_after '^# skipped' "$logs/e2e-$name.tap")
    [ "$left_out" -eq 0 ] || skip "e2e $name" "$left_out tests, the log says why"
}

skip() {
    printf '  %-28s skipped: %s\n' "$1" "$2"
    [ -z "${FAIL_ON_SKIP:-}" ] || failed=$((failed + 1))
}

# install_packages SUITE DIR LOG: what DIR/package-lock.json names; else the suite is skipped.
install_packages() {
    [ -z "${FAIL_ON_SKIP:-}" ] || command -v npm >/dev/null || tests/support/deps.sh npm
    command -v npm >/dev/null || { skip "$1" "there is no npm"; return 1; }
    (cd "$2" && limited $NPM_LIMIT npm ci --no-audit --no-fund) >"$3" 2>&1 ||
        { skip "$1" "npm cannot get its packages, see $3"; return 1; }
}

# One after the other: some of them measure time.
run_e2e() {
    local file
    for file in tests/e2e/${E2E:-*}.test.mjs; do
        case $file in
        */aiwm-node.test.mjs)
            install_packages "e2e aiwm-node" tests/aiwm-node "$logs/npm-aiwm-node.log" || continue
            ;;
        esac
        run_e2e_file "$file"
    done
}

run_contrib() {
    local dir=contrib/aiwm-bulk-heartbeats log=$PWD/$logs/contrib.log status=0 major
    major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
    if [ "$major" -lt 20 ]; then
        skip contrib "NestJS 11 needs node 20 or newer, this is ${major}"
        return
    fi
    install_packages contrib $dir "$logs/contrib.log" || return
    (cd $dir && limited $NPM_LIMIT npm test) >>"$log" 2>&1 || status=$?
    close_suite contrib $status "$(number_after '(#|ℹ) pass' "$log")" \
        "$(number_after '(#|ℹ) fail' "$log")" "$log"
}

# Reports of sanitizers, each a failure of its own.
count_reports() {
    local report count=0
    for report in "$reports"/*; do
        [ -e "$report" ] || continue
        count=$((count + 1))
        [ $count -gt 5 ] || { echo "    $report"; show <"$report"; }
    done
    [ $count -eq 0 ] || add "sanitizer reports" 0 $count
}

for suite in "$@"; do
    "run_$suite"
done
count_reports
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
