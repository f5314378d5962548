// A new binary takes over the ports: no connection is refused or reset, no request fails.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { test } from 'node:test';
import { Child, build, eventually } from './support/child.mjs';
import { connect, path as ofAgent } from './support/connecting.mjs';
import { Gateway } from './support/gateway.mjs';
import { agentToken } from './support/jwt.mjs';
import { Redis } from './support/redis.mjs';
import { Stub, agentId } from './support/stub.mjs';
import { Upstream, answerBytes } from './support/upstream.mjs';
import { Wire, call, request } from './support/wire.mjs';

const alive = (pid) => {
    try {
        // A zombie that nobody reaps has ended as well.
        return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
    } catch {
        return false;
    }
};

/** A gateway and its successors: ended by their ids, whatever happens. */
async function using({ stub, config, env }, body) {
    const controller = stub ?? await Stub.start({ transcripts: false });
    const heirs = [];
    let gateway;
    try {
        gateway = await Gateway.start(controller, { config: { workers: 2, ...config }, env });
        /** Starts a successor and waits until the one before has ended; its id. */
        const succeed = async () => {
            const before = heirs.at(-1) ?? gateway.child.pid;
            process.kill(before, 'SIGUSR2');
            const of = () => gateway.log.filter((line) => line.message === 'a successor starts');
            const line = await eventually('a successor', () => of()[heirs.length]);
            heirs.push(line.pid);
            await eventually('the one before to end', () => !alive(before), 20000);
            return line.pid;
        };
        await body(gateway, succeed, controller);
        for (const pid of heirs.slice(-1)) {
            process.kill(pid, 'SIGTERM');
            await eventually('the last one to end', () => !alive(pid), 10000);
        }
        const ended = gateway.log.filter((line) => line.message === 'ended');
        assert.equal(ended.length, heirs.length + 1, 'each has ended in order');
        for (const line of ended) assert.equal(line.heartbeats_lost, 0);
        assert.doesNotMatch(gateway.child.stderr, /Sanitizer|runtime error/);
    } finally {
        for (const pid of heirs) if (alive(pid)) process.kill(pid, 'SIGKILL');
        await gateway?.discard();
        await controller.stop();
    }
}

/** Heartbeats, back to back: half of the clients keep their connection, half open one for each. */
function load(gateway, clients) {
    const state = { done: 0, failed: [], running: true };
    const agent = new https.Agent({ keepAlive: true, maxSockets: clients, rejectUnauthorized: false });
    const one = (n) => new Promise((resolve) => {
        const asked = https.request({ agent: n % 2 ? agent : false, rejectUnauthorized: false, host: '127.0.0.1', port: gateway.port,
            method: 'POST', path: ofAgent(n, 'heartbeat'),
            headers: { authorization: `Bearer ${agentToken(agentId(n))}`, 'content-type': 'application/json' } },
        (response) => response.resume().on('end', () => {
            if (response.statusCode === 201) state.done++;
            else state.failed.push(response.statusCode);
            resolve();
        }));
        asked.on('error', (error) => {
            state.failed.push(`${n % 2 ? 'kept' : 'new'} ${error.message}`);
            resolve();
        });
        asked.end('{"status":"online"}');
    });
    const runners = Array.from({ length: clients }, async (_, n) => { while (state.running) await one(n + 1); });
    state.stop = async () => {
        state.running = false;
        await Promise.all(runners);
        agent.destroy();
    };
    return state;
}

test('three successors under load lose no request of 20,000', { timeout: 180000 }, async () => {
    await using({ config: { heartbeat: { max_rate: 1000 } } }, async (gateway, succeed) => {
        const state = load(gateway, 16);
        for (let i = 1; i <= 3; i++) {
            await eventually('requests', () => state.done >= i * 5000, 60000);
            await succeed();
        }
        await eventually('20,000 requests', () => state.done >= 20000, 60000);
        await state.stop();
        assert.deepEqual(state.failed, []);
        assert.ok((await gateway.metric('requests_total', 'route="heartbeat"')) < state.done, 'it is another process that counts');
    });
});

test('a request in flight is answered by who has it, a new one by the successor', { timeout: 30000 }, async () => {
    const waiting = [];
    const controller = await Upstream.start((socket, asked) => {
        if (asked.target === '/slow') waiting.push(() => socket.write(answerBytes('slow')));
        else socket.write(answerBytes('quick'));
    });
    await using({ stub: controller, config: { drain: { timeout: '20s' } } }, async (gateway, succeed) => {
        const wire = await Wire.open(gateway.target);
        wire.send(request('GET', '/slow', {}));
        await eventually('it is asked', () => waiting.length === 1);
        const succeeded = succeed();
        await eventually('it drains', () => gateway.log.some((line) => line.message === 'draining'));
        assert.equal((await call(gateway.target, 'GET', '/quick')).text, 'quick');
        // Who asks is answered by the one that serves, once the other has left the port.
        await eventually('it is ready', async () => (await gateway.health('/readyz')).status === 200);
        for (let i = 0; i < 10; i++) assert.equal((await gateway.health('/readyz')).status, 200);
        waiting[0]();
        assert.equal((await wire.answer()).text, 'slow');
        wire.close();
        await succeeded;
    });
});

test('who has a successor waits for no load balancer', { timeout: 30000 }, async () => {
    await using({ config: { drain: { delay: '10m' } } }, async (gateway, succeed) => {
        const pid = await succeed();
        assert.equal((await gateway.health('/readyz')).status, 200);
        assert.equal((await connect(gateway, 1)).status, 201);
        gateway.writeConfig({ ...gateway.config, drain: { delay: '0s' } });
        process.kill(pid, 'SIGHUP');
        await gateway.logged('reloaded');
    });
});

test('more or fewer workers are no obstacle', { timeout: 60000 }, async () => {
    await using({}, async (gateway, succeed) => {
        for (const workers of [4, 1, 3]) {
            gateway.writeConfig({ ...gateway.config, workers });
            await succeed();
            for (let n = 1; n <= 20; n++) assert.equal((await connect(gateway, n)).status, 201);
        }
    });
});

test('one that cannot start changes nothing', { timeout: 30000 }, async () => {
    await using({}, async (gateway, succeed) => {
        fs.writeFileSync(gateway.configFile, 'zebra: 1\n');
        gateway.child.signal('SIGUSR2');
        const line = await gateway.logged('the successor has ended, this process goes on');
        assert.equal(line.exit_code, 78);
        assert.equal((await connect(gateway, 1)).status, 201);
        gateway.child.signal('SIGUSR1'); // from a stranger
        gateway.writeConfig(gateway.config);
        assert.equal((await connect(gateway, 2)).status, 201);
        assert.ok(!gateway.log.some((l) => l.message === 'draining'));
        // The log has it, and another try is possible.
        const failed = gateway.log.filter((l) => l.message === 'a successor starts').length;
        assert.equal(failed, 1);
        gateway.child.lines.splice(0, gateway.child.lines.length);
        await succeed();
        assert.equal((await connect(gateway, 3)).status, 201);
    });
});

test('what is cached and held in Redis, the successor has', { timeout: 30000 }, async () => {
    const redis = await Redis.start({ appendonly: true });
    try {
        await using({ config: { redis: { url: redis.url } } }, async (gateway, succeed) => {
            await eventually('redis is up', async () => (await gateway.metric('redis_up')) === 1);
            const { json } = await connect(gateway, 1);
            await succeed();
            await eventually('redis is up', async () => (await gateway.metric('redis_up')) === 1);
            assert.match((await connect(gateway, 1)).header('cache-status'), /hit/);
            assert.equal((await call(gateway.target, 'POST', ofAgent(1, 'heartbeat'), { token: json.accessToken, body: { status: 'online' } })).status, 201);
        });
    } finally {
        await redis.discard();
    }
});

/** Listens, and hands the socket to a gateway as systemd does; it never accepts itself, since it waits
 * for the gateway to end. `listenPid`: what the gateway is told, $$ is its own id. */
const activator = (listenPid) => `
    const server = require('net').createServer().listen(0, '127.0.0.1', () => {
        process.env.AIWM_GATEWAY_LISTEN_PORT = String(server.address().port);
        const { status } = require('child_process').spawnSync('sh',
            ['-c', 'echo pid $$; LISTEN_PID=${listenPid} exec ' + process.env.GATEWAY],
            { stdio: ['ignore', 'inherit', 'inherit', server._handle.fd] });
        process.exit(status);
    });`;

test('sockets of systemd are taken, those that are not for us are left', { timeout: 30000 }, async () => {
    const stub = await Stub.start({ transcripts: false });
    const env = {
        GATEWAY: path.join(build, 'aiwm-gateway'), AIWM_GATEWAY_UPSTREAM_URL: stub.url, AIWM_GATEWAY_TLS_ENABLED: 'false',
        AIWM_GATEWAY_JWT_SECRET: 'a-secret-of-the-test-0123456789abcdef', AIWM_GATEWAY_LISTEN_ADDRESS: '127.0.0.1',
        AIWM_GATEWAY_HEALTH_ADDRESS: '127.0.0.1', AIWM_GATEWAY_HEALTH_PORT: '0', AIWM_GATEWAY_ADMIN_PORT: '0',
        AIWM_GATEWAY_DRAIN_DELAY: '0s', AIWM_GATEWAY_WORKERS: '3', LISTEN_FDS: '1', LISTEN_FDNAMES: 'data',
    };
    const start = (listenPid) => new Child(process.execPath, ['-e', activator(listenPid)], { env });
    let child, pid;
    try {
        child = start('$$');
        pid = Number((await child.waitForLines('its id', (line) => line.startsWith('pid ')))[0].slice(4));
        const [line] = await child.waitForLines('its port', (l) => l.includes('"name":"data"'));
        const { port } = JSON.parse(line);
        for (let i = 0; i < 10; i++)
            assert.equal((await call({ host: '127.0.0.1', port, tls: false }, 'GET', '/nowhere')).status, 404);
        process.kill(pid, 'SIGTERM');
        assert.deepEqual(await child.exited, { code: 0, signal: null });
        child = start('1');
        assert.deepEqual(await child.exited, { code: 1, signal: null }, 'the port is in use: by somebody else');
    } finally {
        if (child && !child.ended) {
            if (pid && alive(pid)) process.kill(pid, 'SIGKILL');
            await child.kill();
        }
        await stub.stop();
    }
});
