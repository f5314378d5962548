#!/bin/bash
# check.sh: the alerts of deploy/prometheus against made-up series, /metrics of a real gateway against
# promtool, every name that alerts and dashboard speak of against that page, and a gateway that a real
# Prometheus scrapes. Needs prometheus and promtool (Debian: prometheus), node, curl, redis-server;
# else "SKIP prometheus-check: reason", exit code 0, or 1 with FAIL_ON_SKIP=yes. The last line is
# "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

BUILD=${BUILD:-build}
passed=0 failed=0
work=$(mktemp -d)
gateway=
trap '[ -z "$gateway" ] || kill $gateway 2>/dev/null; rm -rf "$work"' EXIT

skip() {
    echo "SKIP prometheus-check: $1"
    echo "0 passed, 0 failed"
    [ -z "${FAIL_ON_SKIP:-}" ]
    exit
}

# check WHAT COMMAND...
check() {
    local what=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "  $what: FAILED"
        sed 's/^/    /' "$work/log" | tail -n 20
    fi
}

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null || tests/support/deps.sh "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null || skip "there is no $1, and no package $2 to install"
}

# A gateway without a controller has all its metrics, Redis' own if one is configured; its log says
# on which port.
fetch_metrics() {
    local port=
    env -i AIWM_GATEWAY_UPSTREAM_URL=http://127.0.0.1:1 AIWM_GATEWAY_TLS_ENABLED=false \
        AIWM_GATEWAY_JWT_SECRET=a-secret-of-the-check-0123456789abcdef \
        AIWM_GATEWAY_LISTEN_ADDRESS=127.0.0.1 AIWM_GATEWAY_LISTEN_PORT=0 \
        AIWM_GATEWAY_HEALTH_ADDRESS=127.0.0.1 AIWM_GATEWAY_HEALTH_PORT=0 AIWM_GATEWAY_DRAIN_DELAY=0s \
        AIWM_GATEWAY_REDIS_URL=redis://127.0.0.1:1 AIWM_GATEWAY_ADMIN_PORT=0 "$BUILD/aiwm-gateway" >"$work/gateway.log" 2>&1 &
    gateway=$!
    for _ in $(seq 100); do
        port=$(sed -n 's/.*"name":"health".*"port":\([0-9]*\).*/\1/p' "$work/gateway.log")
        [ -z "$port" ] || break
        sleep 0.1
    done
    [ -n "$port" ] && curl -sS --max-time 5 "http://127.0.0.1:$port/metrics" -o "$work/metrics" ||
        { cat "$work/gateway.log"; return 1; }
}

# promtool does not judge by exit code alone: it also says what it dislikes.
metrics_are_sound() {
    local said
    said=$(promtool check metrics <"$work/metrics" 2>&1) && [ -z "$said" ] || { echo "$said"; return 1; }
}

# Every aiwm_gateway_... in a file is a family of the page.
names_exist() {
    local name bad=0 names
    names=$(grep -oE 'aiwm_gateway_[a-z_0-9]+' "$1" | sort -u)
    [ -n "$names" ] || { echo "$1 speaks of nothing"; return 1; }
    for name in $names; do
        grep -qE "^# TYPE $name(_bucket)? |^# TYPE ${name%_bucket} " "$work/metrics" ||
            { echo "$1: no metric $name"; bad=1; }
    done
    return $bad
}

# A planted mistake must be seen.
misspelt_name_is_seen() {
    sed 's/controller_up/controller_pu/' deploy/prometheus/rules.yaml >"$work/rules.yaml"
    ! names_exist "$work/rules.yaml"
}

every_alert_is_tested() {
    local alert bad=0
    for alert in $(sed -n 's/^ *- alert: //p' deploy/prometheus/rules.yaml); do
        [ "$(grep -c "$alert" tests/prometheus/rules-test.yaml)" -ge 2 ] || { echo "$alert"; bad=1; }
    done
    return $bad
}

need promtool prometheus
need prometheus prometheus
need curl curl
need redis-server redis-server
need node nodejs
check "the alerts are sound" promtool check rules deploy/prometheus/rules.yaml
check "each alert fires when it must, and only then" promtool test rules tests/prometheus/rules-test.yaml
check "every alert is tested, firing and silent" every_alert_is_tested
check "a gateway shows its metrics" fetch_metrics
check "the metrics are sound" metrics_are_sound
check "alerts speak of metrics that exist" names_exist deploy/prometheus/rules.yaml
check "the dashboard speaks of metrics that exist" names_exist deploy/prometheus/dashboard.json
check "the dashboard is JSON" node -e 'JSON.parse(fs.readFileSync("deploy/prometheus/dashboard.json"))'
check "a misspelt name is seen" misspelt_name_is_seen
check "a real Prometheus scrapes a real gateway" timeout -k 5 120 node tests/prometheus/scrape.mjs
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
