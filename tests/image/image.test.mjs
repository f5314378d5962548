// The image in a pod, as check.sh has started it: run in the pod's network, where the gateway is at
// 8443 and 9902, the stand-in for AIWM at 3000 (its control at 3001) and Redis at 6379.
// The tests are one life of the pod, in this order.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { eventually, root } from '../e2e/support/child.mjs';
import { agentId, agentSecret } from '../e2e/support/stub.mjs';
import { Wire, call, request } from '../e2e/support/wire.mjs';

const { AIWM_GATEWAY_POD: pod, AIWM_GATEWAY_NAMES: names } = process.env;
const MEGABYTE = 1e6;
const FLEET = 1000;

const podman = (...args) => execFileSync('podman', args, { encoding: 'utf8', timeout: 30000, maxBuffer: 1 << 28 });
const inspect = (format, what = `${pod}-gateway`) => podman('inspect', '-f', format, what).trim();
const manifest = fs.readFileSync(path.join(root, process.env.BUILD ?? 'build', 'image/pod.yaml'), 'utf8');
const ca = /tls\.crt: \|\n((?: {4}.*\n)+)/.exec(manifest)[1].replaceAll(/^ +/gm, '');
const target = { host: '127.0.0.1', port: 8443, tls: true, ca };
const at = (n, action) => `/agents/${agentId(n)}/${action}`;

function get(port, url) {
    return new Promise((resolve, reject) => {
        http.get({ host: '127.0.0.1', port, path: url, agent: false }, (response) => {
            let body = '';
            response.setEncoding('utf8').on('data', (piece) => (body += piece));
            response.on('end', () => resolve({ status: response.statusCode, body }));
        }).on('error', reject);
    });
}

async function metric(name) {
    const { body } = await get(9902, '/metrics');
    return body.split('\n').filter((line) => line.startsWith(`aiwm_gateway_${name} `) ||
        line.startsWith(`aiwm_gateway_${name}{`)).reduce((sum, line) => sum + Number(line.split(' ').pop()), 0);
}

/** What the kernel says of the gateway's process and its memory, in bytes. */
const pid = () => inspect('{{.State.Pid}}');
const status = (field) => new RegExp(`^${field}:\\s+(.*)$`, 'm').exec(fs.readFileSync(`/proc/${pid()}/status`, 'utf8'))[1];
function memory(v1, v2) {
    const groups = fs.readFileSync(`/proc/${pid()}/cgroup`, 'utf8').split('\n').map((line) => line.split(':'));
    const old = groups.find(([, controllers]) => controllers === 'memory');
    return Number(fs.readFileSync(old ? `/sys/fs/cgroup/memory${old[2]}/${v1}`
        : `/sys/fs/cgroup${groups.find(([id]) => id === '0')[2]}/${v2}`, 'utf8'));
}

test('the image is small and holds the gateway, its libraries and authorities, and nothing else', () => {
    const size = Number(inspect('{{.Size}}', `${names}/gateway`));
    console.log(`measured: image ${(size / MEGABYTE).toFixed(1)} MB`);
    assert.ok(size < 12 * MEGABYTE, `${size} bytes`);
    const files = execFileSync('bash', ['-c', `podman export "$1" | tar -t`, '-', `${pod}-gateway`],
        { encoding: 'utf8', timeout: 30000 }).split('\n').filter((file) => file && !file.endsWith('/'));
    const known = [/^aiwm-gateway$/, /^(usr\/)?lib(64)?\/.*\.so(\.[0-9a-z.]+)?$/,
        /^etc\/ssl\/certs\/ca-certificates\.crt$/];
    // What an engine puts there so that it can mount over it.
    const mounted = /^(etc\/(hosts|hostname|resolv\.conf|mtab|passwd|group)|run\/.*|dev\/.*|proc.*|sys.*|etc\/aiwm-gateway.*)$/;
    assert.deepEqual(files.filter((file) => !known.some((k) => k.test(file)) && !mounted.test(file)), []);
    assert.ok(files.includes('etc/ssl/certs/ca-certificates.crt'));
});

test('the image is not root\'s and has a health check', () => {
    assert.equal(inspect('{{.Config.User}}', `${names}/gateway`), '65532:65532');
    assert.match(inspect('{{json .HealthCheck}}', `${names}/gateway`), /--health-check/);
});

test('it becomes ready, and answers what the kubelet asks', async () => {
    await eventually('ready', async () => (await get(9902, '/readyz').catch(() => ({}))).status === 200, 20000);
    for (const page of ['/startupz', '/livez', '/readyz'])
        assert.equal((await get(9902, page)).status, 200, page);
    assert.equal(podman('exec', `${pod}-gateway`, '/aiwm-gateway', '--health-check'), '');
});

test('it runs as Pod Security "restricted" wants it, on a read-only root', () => {
    assert.match(status('Uid'), /^65532\t65532\t65532\t65532$/);
    assert.equal(status('NoNewPrivs'), '1');
    assert.equal(status('Seccomp'), '2');
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.match(status(set), /^0+$/, set);
    const mounts = fs.readFileSync(`/proc/${pid()}/mountinfo`, 'utf8').split('\n').map((line) => line.split(' '));
    assert.match(mounts.find((fields) => fields[4] === '/')[5], /^ro\b/);
    for (const where of ['config', 'tls', 'jwt', 'redis'])
        assert.match(mounts.find((fields) => fields[4] === `/etc/aiwm-gateway/${where}`)?.[5] ?? 'none', /^ro\b/, where);
});

test('HTTPS answers: connect, again from cache, heartbeat, disconnect', async () => {
    const first = await call(target, 'POST', at(0, 'connect'), { body: { secret: agentSecret(0) } });
    assert.equal(first.status, 201, first.text);
    const again = await call(target, 'POST', at(0, 'connect'), { body: { secret: agentSecret(0) } });
    assert.match(again.header('cache-status'), /hit/);
    const beat = await call(target, 'POST', at(0, 'heartbeat'),
        { token: first.json.accessToken, body: { status: 'online' } });
    assert.equal(beat.status, 201, beat.text);
    const goodbye = await call(target, 'POST', at(0, 'disconnect'), { token: first.json.accessToken, body: {} });
    assert.equal(goodbye.status, 201, goodbye.text);
});

test('an operator can look inside with what the image has', () => {
    const state = JSON.parse(podman('exec', `${pod}-gateway`, '/aiwm-gateway', 'ctl', 'state'));
    assert.equal(state.controller.state, 'up');
    assert.ok(state.agents.cached_connects >= 1);
});

test('Redis, with its ACL, lets the gateway do what it must', async () => {
    await eventually('Redis', async () => (await metric('redis_up')) > 0, 10000);
    assert.equal(await metric('redis_durable'), 1);
    // While Redis started it was unreachable; but nothing was forbidden, and nothing failed.
    const { body } = await get(9902, '/metrics');
    const errors = body.split('\n').filter((line) => /^aiwm_gateway_redis_errors_total\{/.test(line) &&
        !/reason="(unreachable|closed|loading)"/.test(line) && !line.endsWith(' 0'));
    assert.deepEqual(errors, []);
    const refused = execFileSync('podman', ['exec', `${pod}-redis`, 'redis-cli', 'get', 'x'], { encoding: 'utf8', timeout: 30000 });
    assert.match(refused, /NOPERM/);
    assert.equal(podman('exec', `${pod}-redis`, 'redis-cli', 'ping').trim(), 'PONG');
});

const fleet = [];

test('64 MiB are enough for 1,000 agents that hold their TLS connections', async () => {
    const before = memory('memory.usage_in_bytes', 'memory.current');
    for (let n = 1; n <= FLEET; n++) {
        const wire = await Wire.open(target);
        wire.send(request('POST', at(n, 'connect'), { headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(n) } }));
        const connected = await wire.answer();
        assert.equal(connected.status, 201, connected.text);
        fleet.push({ wire, n, token: connected.json.accessToken });
    }
    await beatAll();
    const after = memory('memory.usage_in_bytes', 'memory.current');
    const most = memory('memory.max_usage_in_bytes', 'memory.peak');
    assert.equal(memory('memory.limit_in_bytes', 'memory.max'), 64 << 20);
    assert.equal(await metric('connections'), FLEET + 0);
    assert.equal(inspect('{{.State.OOMKilled}}'), 'false');
    console.log(`measured: ${FLEET} agents: ${kib(before)} KiB idle, ${kib(after)} KiB with them, ` +
        `${kib(most)} KiB at most, ${((after - before) / FLEET / 1024).toFixed(1)} KiB an agent`);
    assert.ok(most < 64 << 20);
});

const kib = (bytes) => Math.round(bytes / 1024);

async function beatAll() {
    for (const { wire, n, token } of fleet) {
        wire.send(request('POST', at(n, 'heartbeat'), {
            headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
            body: { status: 'online', metrics: { cpu: 45, memory: 60 } },
        }));
        const beat = await wire.answer();
        assert.equal(beat.status, 201, beat.text);
    }
}

test('TERM drains: what is under way is answered, what is held is handed over, and it ends with 0', async () => {
    const { wire, n, token } = fleet[0];
    await fetch('http://127.0.0.1:3001/set', { method: 'POST', body: JSON.stringify({ delay_ms: 1500 }) });
    wire.send(request('POST', at(n, 'disconnect'), {
        headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` }, body: {},
    }));
    await eventually('the request', async () => (await metric('requests_in_flight')) > 0);
    podman('kill', '-s', 'TERM', `${pod}-gateway`);
    assert.equal((await wire.answer()).status, 201);
    await eventually('the end', () => inspect('{{.State.Running}}') === 'false', 40000);
    assert.equal(inspect('{{.State.ExitCode}}'), '0');
    const log = podman('logs', `${pod}-gateway`).split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
    assert.equal(log.find((line) => line.message === 'ended').heartbeats_lost, 0);
});
