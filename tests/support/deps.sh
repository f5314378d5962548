#!/bin/sh
# deps.sh PACKAGE...: installs the Debian packages that are missing, and says which.
# Nothing to install: says nothing. DEPS=no: leaves that to you. Needs root or sudo.
set -eu

missing() {
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=none
        [ "$state" = installed ] || printf '%s ' "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install() {
    # shellcheck disable=SC2086 # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $wanted
}

[ "${DEPS:-}" != no ] || exit 0
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "deps: this is not Debian; make sure these are there (names as in Debian): $*" >&2
    exit 0
fi
wanted=$(missing "$@")
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "deps: please install, as root: apt-get install --no-install-recommends $wanted" >&2
    exit 1
fi

echo "installing: $wanted"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A fresh machine has no package lists, an old one has outdated ones: then fetch them once.
if install >"$log" 2>&1 || { as_root apt-get update -qq && install; } >"$log" 2>&1; then
    exit 0
fi
cat "$log" >&2
exit 1
