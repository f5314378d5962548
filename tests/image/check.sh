#!/bin/bash
# check.sh: builds the image of deploy/Dockerfile and runs it: the pod of
# deploy/k8s/examples/sidecar-container as kustomize renders it, with a stand-in for AIWM in the
# controller's place and Redis as deploy/k8s/components/redis starts it.
#
# Needs root, podman, buildah, runc, mmdebstrap, kubectl and node with npm; installs what it can. What
# cannot be had is one line "SKIP image-check: reason", exit code 0, or 1 with FAIL_ON_SKIP=yes. The
# last line is "N passed, N failed". Base systems are kept in build/image, images in podman's storage
# (localhost/aiwm-gateway-check/...); pods and everything else are removed.
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/support/mirror.sh

export BUILD=${BUILD:-build}
work=$BUILD/image
names=localhost/aiwm-gateway-check
BUILD_LIMIT=600 POD_LIMIT=60 TEST_LIMIT=300 # seconds
pod=aiwm-gateway-check

skip() {
    echo "SKIP image-check: $1"
    echo "0 passed, 0 failed"
    [ -z "${FAIL_ON_SKIP:-}" ]
    exit
}

fail() {
    echo "  $1: FAILED"
    [ ! -e "$work/$2.log" ] || tail -n 40 "$work/$2.log" | sed 's/^/    /'
    echo "0 passed, 1 failed"
    exit 1
}

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null || tests/support/deps.sh "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null || skip "there is no $1, and no package $2 to install"
}

# podman hands out more open files and processes than a machine without CAP_SYS_RESOURCE may set, and
# its hard limit of processes is kernel.pid_max; crun does not work on a machine with both versions of
# cgroups; without systemd nobody but podman makes cgroups.
write_containers_conf() {
    local files processes most
    files=$(ulimit -Hn)
    [ "$files" != unlimited ] && [ "$files" -le 1048576 ] || files=1048576
    processes=$(ulimit -Hu)
    most=$(cat /proc/sys/kernel/pid_max)
    [ "$processes" != unlimited ] && [ "$processes" -le "$most" ] || processes=$most
    cat <<END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
END
}

# import NAME TAR
import() {
    podman image exists "$names/$1" && [ ! "$2" -nt "$work/$1.imported" ] && return 0
    podman import -q -c ENV=PATH=/usr/sbin:/usr/bin:/sbin:/bin "$2" "$names/$1" >/dev/null && touch "$work/$1.imported"
}

make_systems() {
    make_base bookworm "$work/base.tar" --include=ca-certificates &&
        make_base bookworm "$work/redis.tar" --include=redis-server,redis-tools \
            --customize-hook='rm -rf "$1/etc/redis" && install -d -o 999 -g 999 "$1/data" "$1/run/redis"' &&
        import base "$work/base.tar" && import redis "$work/redis.tar"
}

build_image() { # NAME OPTION...
    local name=$1
    shift
    buildah bud --isolation chroot --network host --format docker --layers \
        --build-arg DEBIAN=$names/base -f deploy/Dockerfile -t "$names/$name" "$@" .
}

# watch_over PID SECONDS: ends it then. Told to end, it leaves nobody behind who would keep a pipe open.
watch_over() {
    sleep "$2" &
    trap "kill $!; exit" TERM
    wait $! && kill "$1"
}

# limited SECONDS LOG COMMAND...: a function, too, in a group of its own
limited() {
    local limit=$1 log=$work/$2.log
    shift 2
    (
        "$@" >"$log" 2>&1 &
        child=$!
        watch_over $child "$limit" >/dev/null 2>&1 &
        watch=$!
        wait $child
        status=$?
        kill $watch 2>/dev/null
        exit $status
    )
}

# podman keeps a volume for each ConfigMap and emptyDir, with the modes of the first image it met.
remove_pod() {
    timeout $POD_LIMIT podman pod rm -f -t 1 $pod
    timeout $POD_LIMIT podman volume rm -f $(node tests/image/volumes.mjs <"$work/pod.yaml")
} >/dev/null 2>&1

[ "$(id -u)" = 0 ] || skip "only root may make systems and pods"
for tool in podman buildah runc mmdebstrap; do need $tool $tool; done
need node nodejs
need npm npm
need kubectl kubernetes-client
need nsenter util-linux
kubectl kustomize --help 2>&1 | grep -q enable-helm || skip "this kubectl is too old for components"
mkdir -p "$work"
write_containers_conf >"$work/containers.conf"
export CONTAINERS_CONF=$PWD/$work/containers.conf

limited $BUILD_LIMIT systems make_systems || skip "no Debian to be had, see $work/systems.log"
limited $BUILD_LIMIT build build_image gateway || fail "deploy/Dockerfile" build
limited $BUILD_LIMIT stub build_image stub --target build || fail "deploy/Dockerfile, its first stage" stub
(cd tests/k8s && timeout 180 npm ci --no-audit --no-fund) >"$work/npm.log" 2>&1 ||
    skip "npm cannot get its packages"

node tests/image/pod.mjs $names $pod >"$work/pod.yaml" 2>"$work/pod.log" || fail "the pod's manifest" pod
trap remove_pod EXIT
remove_pod
timeout $POD_LIMIT podman play kube --network none "$work/pod.yaml" >"$work/play.log" 2>&1 ||
    fail "podman play kube" play
inside=$(podman inspect -f '{{.State.Pid}}' "$(podman pod inspect -f '{{.InfraContainerID}}' $pod)")

# In the pod's network: its own ports, and nobody else's.
AIWM_GATEWAY_POD=$pod AIWM_GATEWAY_NAMES=$names \
    timeout --kill-after=5 $TEST_LIMIT nsenter --net --target "$inside" \
    node --test --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=tap --test-reporter-destination="$work/test.tap" tests/image/image.test.mjs \
    >"$work/test.log" 2>&1
status=$?
count() { grep -oE "^# $1 [0-9]+" "$work/test.tap" | grep -oE '[0-9]+$' || echo 0; }
bad=$(($(count fail) + $(count cancelled)))
[ $status -eq 0 ] || [ $bad -gt 0 ] || bad=1
[ $bad -eq 0 ] || sed 's/^/    /' "$work/test.log" | tail -n 120
grep -h '^measured:' "$work/test.log" | sed 's/^/  /'
echo "$(count pass) passed, $bad failed"
[ $bad -eq 0 ]
