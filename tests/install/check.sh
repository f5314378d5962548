#!/bin/bash
# check.sh: make install into an empty directory, and what is there then. Needs make, groff and
# systemd-analyze; what cannot be had is one line "SKIP install-check: reason", exit code 0, or 1
# with FAIL_ON_SKIP=yes. The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

BUILD=${BUILD:-build}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
passed=0 failed=0 skipped=0
WORST_EXPOSURE=15 # tenths, of systemd-analyze security; 0 is best, 96 a unit without any protection

# check WHAT COMMAND...
check() {
    local what=$1
    shift
    if "$@" >"$root.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "  $what: FAILED"
        sed 's/^/    /' "$root.log" | tail -n 20
    fi
    rm -f "$root.log"
}

skip() {
    echo "SKIP install-check: $1"
    skipped=$((skipped + 1))
}

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null || tests/support/deps.sh "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null
}

installs() {
    make --no-print-directory -s install DEPS=no BUILD="$BUILD" DESTDIR="$root" PREFIX=/usr
}

# mode FILE: as 755, of an installed file
mode() {
    stat -c %a "$root$1"
}

has_mode() {
    [ "$(mode "$1")" = "$2" ] || { echo "$1 has $(mode "$1")"; return 1; }
}

keeps_what_is_configured() {
    echo "mine: true" >"$root/etc/aiwm-gateway/aiwm-gateway.yaml"
    installs && grep -q mine "$root/etc/aiwm-gateway/aiwm-gateway.yaml"
}

# every WORD of a list stands in a page, as a reader sees it
page_has() {
    local page=$1 text word
    text=$(groff -man -Tascii -P-cbou -rLL=1000n "$root/usr/share/man/$page" 2>/dev/null)
    shift
    [ $# -gt 0 ] || { echo "nothing to look for"; return 1; }
    for word in "$@"; do
        grep -qF -- "$word" <<<"$text" || { echo "$page does not have $word"; return 1; }
    done
}

warns_nothing() {
    local said
    said=$(groff -man -ww -z "$root/usr/share/man/$1" 2>&1)
    [ -z "$said" ] || { echo "$said"; return 1; }
}

# Below another root there is no kill, and none of systemd's own units.
unit_verifies() {
    local said
    said=$(systemd-analyze verify --man=no --root="$root" "$1" 2>&1 | grep -F aiwm-gateway |
        grep -vE 'Command /bin/kill is not executable|Unit [a-z-]+\.target not found')
    [ -z "$said" ] || { echo "$said"; return 1; }
}

exposure_is_low() {
    local tenths
    tenths=$(systemd-analyze security --offline=yes --no-pager "$1" 2>&1 |
        sed -n 's/.*Overall exposure level for .*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
    [ -n "$tenths" ] && [ "$((10#$tenths))" -le $WORST_EXPOSURE ] || { echo "exposure: $tenths tenths"; return 1; }
}

# A judge that sees nothing is no judge.
planted_mistake_is_seen() {
    sed -i.right 's/^ProtectSystem=/ProtectSytsem=/' "$root$unit"
    ! unit_verifies aiwm-gateway.service
    local status=$?
    mv "$root$unit.right" "$root$unit"
    return $status
}

everything_is_gone() {
    make --no-print-directory -s uninstall DEPS=no BUILD="$BUILD" DESTDIR="$root" PREFIX=/usr &&
        [ "$(find "$root" -type f | sed "s,^$root,,")" = /etc/aiwm-gateway/aiwm-gateway.yaml ] ||
        { find "$root" -type f; return 1; }
}

unit=/usr/lib/systemd/system/aiwm-gateway.service
check "make install" installs
check "the program runs" "$root/usr/bin/aiwm-gateway" --version
check "a program's mode" has_mode /usr/bin/aiwm-gateway 755
check "a unit's mode" has_mode $unit 644
check "the example's mode" has_mode /etc/aiwm-gateway/aiwm-gateway.yaml 644
check "no placeholder is left" bash -c "! grep -rn '@[A-Z]*@' '$root/usr/lib' '$root/etc'"
check "a second install keeps the configuration" keeps_what_is_configured

if need groff groff-base; then
    # shellcheck disable=SC2046 # lists of words
    check "aiwm-gateway(8) has every option, exit code and command of ctl" page_has man8/aiwm-gateway.8 \
        $("$BUILD/aiwm-gateway" --help | grep -oE -- '--[a-z-]+(=[a-z|]+)?' | sort -u) \
        $("$BUILD/aiwm-gateway" ctl --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p') \
        "78 wrong" "TERM, INT and QUIT" "EXIT STATUS" "EXAMPLES"
    # shellcheck disable=SC2046
    check "aiwm-gateway.yaml(5) has every key" page_has man5/aiwm-gateway.yaml.5 \
        $("$BUILD/aiwm-gateway" --help-config | grep -E '^[a-z]') \
        $("$BUILD/aiwm-gateway" --help-config | grep -oE 'AIWM_GATEWAY_[A-Z0-9_]+')
    check "aiwm-gateway(8) is sound" warns_nothing man8/aiwm-gateway.8
    check "aiwm-gateway.yaml(5) is sound" warns_nothing man5/aiwm-gateway.yaml.5
else
    skip "there is no groff"
fi
if need systemd-analyze systemd; then
    check "the unit is one" unit_verifies aiwm-gateway.service
    check "a planted mistake in the unit is seen" planted_mistake_is_seen
    check "the unit exposes little" exposure_is_low "$root$unit"
    check "the unit's own log line is right" grep -q "^ExecStart=/usr/bin/aiwm-gateway --config /etc/" "$root$unit"
else
    skip "there is no systemd-analyze"
fi
check "make uninstall leaves the configuration and nothing else" everything_is_gone

echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && { [ $skipped -eq 0 ] || [ -z "${FAIL_ON_SKIP:-}" ]; }
