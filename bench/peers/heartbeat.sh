#!/usr/bin/env bash
# CPU per acknowledged TLS heartbeat: the gateway beside HAProxy, in turn, in one run.
# The proxy is pinned to the first processor, the load to the second; the figure is the kernel's
# own accounting of the proxy (user + system) divided by the requests answered.
#   bench/peers/heartbeat.sh [ROUNDS] [SECONDS]
set -euo pipefail
rounds=${1:-5} seconds=${2:-5} agents=${AGENTS:-1000}
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../../build}
secret=aiwm-local-test-secret-0123456789abcdef
for tool in haproxy wrk node openssl taskset; do
    command -v "$tool" > /dev/null || { echo "heartbeat.sh: $tool is missing: apt-get install haproxy wrk nodejs openssl util-linux" >&2; exit 1; }
done
[ -x "$build/aiwm-gateway" ] || { echo "heartbeat.sh: no $build/aiwm-gateway: make" >&2; exit 1; }
dir=$(mktemp -d)
pids=()
cleanup() { for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$dir"; }
trap cleanup EXIT
free_port() { node -e 's=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})'; }

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
cat "$dir/cert.pem" "$dir/key.pem" > "$dir/both.pem"
node - "$secret" "$agents" > "$dir/tokens" <<'JS'
const { createHmac } = require('crypto');
const [secret, agents] = process.argv.slice(2);
const b64 = (o) => Buffer.from(JSON.stringify(o)).toString('base64url');
const now = Math.floor(Date.now() / 1000);
for (let i = 0; i < Number(agents); i++) {
  const id = '6a' + i.toString(16).padStart(22, '0');
  const head = b64({ alg: 'HS256', typ: 'JWT' }) + '.' + b64({ sub: id, username: 'agent:' + id,
    status: 'active', roles: ['organization.viewer'], orgId: '691eb9e6517f917943ae1f9d', groupId: '',
    agentId: id, userId: '', type: 'agent', iat: now, exp: now + 86400 });
  console.log(id + ' ' + head + '.' + createHmac('sha256', secret).update(head).digest('base64url'));
}
JS

hap_port=$(free_port); gw_port=$(free_port); health_port=$(free_port); stub_port=$(free_port)
sed -e "s#@PORT@#$hap_port#; s#@PEM@#$dir/both.pem#; s#@SECRET@#$secret#" "$here/haproxy.cfg.in" > "$dir/haproxy.cfg"
taskset -c 1 "$build/aiwm-stub" --port "$stub_port" --agents "$agents" > /dev/null & pids+=($!)
taskset -c 0 haproxy -db -f "$dir/haproxy.cfg" 2> "$dir/haproxy.log" & hap=$!; pids+=($hap)
AIWM_GATEWAY_WORKERS=1 AIWM_GATEWAY_LISTEN_ADDRESS=127.0.0.1 AIWM_GATEWAY_LISTEN_PORT=$gw_port \
AIWM_GATEWAY_HEALTH_ADDRESS=127.0.0.1 AIWM_GATEWAY_HEALTH_PORT=$health_port \
AIWM_GATEWAY_UPSTREAM_URL=http://127.0.0.1:$stub_port AIWM_GATEWAY_JWT_SECRET=$secret \
AIWM_GATEWAY_TLS_CERTIFICATE_FILE=$dir/cert.pem AIWM_GATEWAY_TLS_PRIVATE_KEY_FILE=$dir/key.pem \
AIWM_GATEWAY_HEARTBEAT_MAX_RATE=1000 \
    taskset -c 0 "$build/aiwm-gateway" > "$dir/gateway.log" & gw=$!; pids+=($gw)
sleep 1

# Microseconds of CPU a process has used: the scheduler's own nanoseconds, all threads.
cpu_us() { cat /proc/"$1"/task/*/schedstat | awk '{ s += $1 } END { printf "%d\n", s / 1000 }'; }
measure() { # pid port -> "us_per_request requests not_2xx"
    local before after out
    before=$(cpu_us "$1")
    out=$(TOKENS=$dir/tokens taskset -c 1 wrk -t1 -c64 -d"${seconds}s" -s "$here/heartbeat.lua" "https://127.0.0.1:$2")
    after=$(cpu_us "$1")
    awk -v us=$((after - before)) '/requests in/ { n = $1 } /Non-2xx/ { bad = $NF } END { printf "%.2f %d %d\n", us / n, n, bad + 0 }' <<< "$out"
}
measure "$hap" "$hap_port" > /dev/null; measure "$gw" "$gw_port" > /dev/null
for _ in $(seq "$rounds"); do
    echo "haproxy $(measure "$hap" "$hap_port")"
    echo "gateway $(measure "$gw" "$gw_port")"
done | tee "$dir/rounds"
awk '{ v[$1] = v[$1] " " $2 } END { for (w in v) { n = split(v[w], a, " "); for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (a[j] + 0 < a[i] + 0) { t = a[i]; a[i] = a[j]; a[j] = t }
    m[w] = a[int((n + 1) / 2)]; printf "%s: median %.2f us of CPU per heartbeat (min %.2f, max %.2f)\n", w, m[w], a[1], a[n] }
    printf "gateway / haproxy: %.2f\n", m["gateway"] / m["haproxy"] }' "$dir/rounds"
