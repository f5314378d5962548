#!/bin/bash
# check.sh: deploy/k8s judged without a cluster; needs build/aiwm-gateway, kubectl (or a kustomize in
# it that knows components, so 1.21 or newer), node with npm, and npm's packages (package-lock.json).
# What cannot be had: one line "SKIP k8s-check: reason", exit code 0, or 1 with FAIL_ON_SKIP=yes.
# The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

export BUILD=${BUILD:-build}
NPM_LIMIT=180 CHECK_LIMIT=180 # seconds

skip() {
    echo "SKIP k8s-check: $1"
    echo "0 passed, 0 failed"
    [ -z "${FAIL_ON_SKIP:-}" ]
    exit
}

# install COMMAND PACKAGE: only where there is no such command, whoever brought it.
need() {
    command -v "$1" >/dev/null || tests/support/deps.sh "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null || skip "there is no $1, and no package $2 to install"
}

need node nodejs
need npm npm
need kubectl kubernetes-client
need openssl openssl
# An overlay that does not render is a failure, unless this kubectl knows no components at all.
kubectl kustomize --help 2>&1 | grep -q enable-helm || skip "this kubectl is too old for components"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
(cd tests/k8s && timeout $NPM_LIMIT npm ci --no-audit --no-fund) >"$log" 2>&1 || {
    tail -n 5 "$log"
    skip "npm cannot get its packages"
}
timeout $CHECK_LIMIT node tests/k8s/check.mjs
