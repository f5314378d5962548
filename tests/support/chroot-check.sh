#!/bin/bash
# chroot-check.sh SUITE: do the two commands work on a bare Debian, as a stranger would type them?
#
#   make run   up to the demo's own curl lines and Ctrl-C
#   make test
#
# Each in a chroot of its own that has make and git and nothing else, and a clone of the commit that
# is checked out.
# Needs root and mmdebstrap. The mirror is the one this machine's apt uses, or MIRROR=URL.
# The base system is kept in build/chroot/SUITE.tar. KEEP=1 leaves the chroot for a look. CHECKS=test:
# only that one; E2E=tls: of the end-to-end tests only that file.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/support/mirror.sh

suite=$1
base=${BUILD:-build}/chroot/$suite.tar
start_limit=300 test_limit=1500 # seconds; packages and a build from nothing are part of it

# ---- outside ----

# enter CHECK: in namespaces of its own: when the check ends, so do its mounts and processes.
enter() {
    unshare --mount --pid --fork --kill-child bash -euc '
        mount -t proc proc "$0/proc"
        mount --rbind /dev "$0/dev"
        exec chroot "$0" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 E2E="${E2E:-}" \
            bash /root/aiwm-gateway/tests/support/chroot-check.sh --inside "$1"' "$root" "$1"
}

# A bare system with a clone.
unpack() {
    tar -C "$root" -xf "$base" --exclude='./dev/*'
    cat /etc/resolv.conf >"$root/etc/resolv.conf"
    git clone -q --no-hardlinks . "$root/root/aiwm-gateway"
}

remove() {
    rm -rf --one-file-system "$root"
}

outside() {
    local check status=0
    [ "$(id -u)" = 0 ] || { echo "chroot-check: needs root" >&2; exit 1; }
    make_base "$suite" "$base" --include=make,git
    for check in ${CHECKS:-run test}; do
        root=$(mktemp -d /var/tmp/aiwm-gateway-chroot.XXXXXX)
        trap remove EXIT
        unpack
        echo "== $suite, bare, $(git log -1 --format='%h %s')"
        enter "$check" || status=1
        [ -z "${KEEP:-}" ] || { echo "the chroot stays in $root"; trap - EXIT; continue; }
        remove
    done
    trap - EXIT
    exit $status
}

# ---- inside ----

failed=0

say() {
    printf '  %-60s %s\n' "$1" "$2"
}

# expect WHAT TEXT FILE
expect() {
    if grep -q -- "$2" "$3"; then
        say "$1" fine
    else
        say "$1" "FAILED: no \"$2\" in"
        sed 's/^/    /' "$3"
        failed=1
    fi
}

# timed SECONDS COMMAND...: runs it, says how long it took
timed() {
    local began=$SECONDS limit=$1 status=0
    shift
    timeout --kill-after=10 "$limit" "$@" || status=$?
    say "$*: exit code $status after" "$((SECONDS - began)) s"
    [ $status -eq 0 ] || failed=1
}

wait_for_demo() {
    local until=$((SECONDS + start_limit))
    until grep -q 'Ctrl-C ends it' run.log; do
        if [ $SECONDS -ge $until ] || ! kill -0 "$demo" 2>/dev/null; then
            cat run.log
            return 1
        fi
        sleep 0.2
    done
}

# The lines the demo prints for its reader, pasted.
paste_lines() {
    sed -n '/Try, in another terminal/,/Ctrl-C ends it/p' run.log | sed '1d;$d' >paste.sh
    bash paste.sh >paste.log 2>&1
}

check_run() {
    local began=$SECONDS
    set -m # a process group of its own, as in a terminal: Ctrl-C reaches make and gateway alike
    : >run.log
    make run >>run.log 2>&1 &
    demo=$!
    set +m
    if ! wait_for_demo; then
        say "make run" FAILED
        failed=1
        return
    fi
    say "make run: serving after" "$((SECONDS - began)) s"
    paste_lines || true
    expect "connect and heartbeat" '{"success":true}' paste.log
    expect "the same connect from cache" 'aiwm-gateway; hit' paste.log
    kill -INT -- -$demo
    wait $demo || true
    expect "what the controller was spared" 'The controller was spared 1 bcrypts' run.log
}

check_test() {
    timed $test_limit make test
}

if [ "$suite" = --inside ]; then
    cd /root/aiwm-gateway
    "check_$2"
    exit $failed
fi
outside
