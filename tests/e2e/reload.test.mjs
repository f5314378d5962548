// Reload: a new generation of configuration under load, or the old one with all complaints.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { after, before, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { HIT, MISS, assertConnects } from './support/connecting.mjs';
import { startGateway, testCertificate } from './support/gateway.mjs';
import { agentToken, sign, agentClaims } from './support/jwt.mjs';
import { JWT_SECRET, Stub, agentId } from './support/stub.mjs';
import { call } from './support/wire.mjs';
import { timelapse } from './support/timelapse.mjs';

let stub;
before(async () => { stub = await Stub.start(); });
after(() => stub?.stop());

const beat = (gateway, n, token = agentToken(agentId(n)), target = gateway.target) =>
    call(target, 'POST', `/agents/${agentId(n)}/heartbeat`, { token, body: { status: 'online' } });

async function using(options, body) {
    const gateway = await startGateway(stub, options);
    try {
        await body(gateway);
    } finally {
        await gateway.stop();
    }
}

const reload = async (gateway, change) => {
    const before = gateway.log.filter((line) => line.message === 'reloaded').length;
    if (change) gateway.writeConfig(change);
    gateway.child.signal('SIGHUP');
    await eventually('a reload', () =>
        gateway.log.filter((line) => line.message === 'reloaded').length > before);
};

/** A certificate of its own: { certificate, key } as text. */
function newCertificate(dir, name) {
    const certificate = path.join(dir, `${name}.crt`), key = path.join(dir, `${name}.key`);
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
        '-nodes', '-keyout', key, '-out', certificate, '-days', '2', '-subj', `/CN=${name}`,
        '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'], { stdio: 'pipe' });
    return { certificate: fs.readFileSync(certificate), key: fs.readFileSync(key) };
}

const shownName = (port) => new Promise((resolve, reject) => {
    const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().subject.CN);
        socket.destroy();
    }).on('error', reject);
});

/** Keep-alive clients, back to back, until stopped: { done, failed }. */
function load(port, clients) {
    const agent = new https.Agent({ keepAlive: true, maxSockets: clients, rejectUnauthorized: false });
    const state = { done: 0, failed: [], running: true };
    const one = (n) => new Promise((resolve) => {
        const token = tokens[n];
        const request = https.request({ agent, host: '127.0.0.1', port, method: 'POST',
            path: `/agents/${agentId(n)}/heartbeat`,
            headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' } },
        (response) => {
            response.resume().on('end', () => {
                if (response.statusCode === 201 || response.statusCode === 429) state.done++;
                else state.failed.push(response.statusCode);
                resolve();
            });
        });
        request.on('error', (error) => { state.failed.push(error.message); resolve(); });
        request.end('{"status":"online"}');
    });
    const tokens = Array.from({ length: clients }, (_, n) => agentToken(agentId(n)));
    const runners = tokens.map(async (_, n) => { while (state.running) await one(n); });
    state.stop = async () => { state.running = false; await Promise.all(runners); agent.destroy(); };
    return state;
}

test('reloads with three certificates under load lose no request of 20,000', async () => {
    await using({ config: { heartbeat: { max_rate: 1000 } } }, async (gateway) => {
        const dir = gateway.dir;
        const files = { certificate_file: path.join(dir, 'c.crt'), private_key_file: path.join(dir, 'c.key') };
        const put = ({ certificate, key }) => {
            fs.writeFileSync(files.certificate_file, certificate);
            fs.writeFileSync(files.private_key_file, key);
        };
        const state = load(gateway.port, 20);
        const config = { ...gateway.config, tls: files };
        for (const name of ['first.test', 'second.test', 'third.test']) {
            put(newCertificate(dir, name));
            await reload(gateway, config);
            assert.equal(await shownName(gateway.port), name);
            const mark = state.done;
            await eventually('more requests', () => state.done > mark + 5000, 60000);
        }
        await eventually('20,000 requests', () => state.done >= 20000, 60000);
        await state.stop();
        assert.deepEqual(state.failed, []);
        assert.equal(await gateway.metric('config_reloads_total', 'result="ok"'), 3);
    });
});

test('a broken configuration changes nothing, and every complaint is logged', async () => {
    await using({}, async (gateway) => {
        fs.writeFileSync(gateway.configFile, 'listen: {port: x}\nzebra: 1\n');
        gateway.child.signal('SIGHUP');
        await eventually('the refusal', () => gateway.log.filter((line) =>
            line.message.startsWith('reload refused')).length >= 2);
        const details = gateway.log.filter((line) => line.message.startsWith('reload refused'))
            .map((line) => line.detail).join('\n');
        assert.match(details, /listen\.port/);
        assert.match(details, /zebra/);
        assert.equal((await beat(gateway, 1)).status, 201);
        assert.equal(await gateway.metric('config_reloads_total', 'result="refused"'), 1);
    });
});

test('a key that needs a restart keeps its running value, and the log names it', async () => {
    await using({}, async (gateway) => {
        await reload(gateway, { ...gateway.config, listen: { address: '127.0.0.1', port: 1 },
            forward: { max_body: '2KiB' } });
        assert(gateway.log.some((line) => /listen\.port: has changed; restart/.test(line.detail ?? '')));
        const answer = await call(gateway.target, 'POST', '/other', { body: { text: 'x'.repeat(3000) } });
        assert.equal(answer.status, 413, 'what can be reloaded is in force');
    });
});

test('a rotated JWT secret is in force at once, the one before while it is configured', async () => {
    await using({}, async (gateway) => {
        const renewed = 'renewed-secret-of-at-least-32-bytes!';
        const file = path.join(gateway.dir, 'renewed'), old = path.join(gateway.dir, 'old');
        fs.writeFileSync(file, renewed);
        fs.writeFileSync(old, JWT_SECRET);
        const by = (secret) => sign(agentClaims(agentId(2)), { secret });
        assert.equal((await beat(gateway, 2)).status, 201); /* the controller has seen this agent */
        assert.equal((await beat(gateway, 2, by(renewed))).status, 401);
        await reload(gateway, { ...gateway.config,
            jwt: { secret_file: file, previous_secret_file: old } });
        assert.equal((await beat(gateway, 2, by(renewed))).status, 201);
        assert.equal((await beat(gateway, 2, by(JWT_SECRET))).status, 201);
        await reload(gateway, { ...gateway.config, jwt: { secret_file: file } });
        assert.equal((await beat(gateway, 2, by(JWT_SECRET))).status, 401);
    });
});

test('a cache that is switched off answers nobody any more, nor with what it held before', async () => {
    await using({ config: { limits: { connects_per_agent: 0 } } }, async (gateway) => {
        const on = gateway.config, off = { ...on, connect_cache: { enabled: false } };
        await assertConnects(gateway, 3, MISS);
        await assertConnects(gateway, 3, HIT);
        await reload(gateway, off);
        await assertConnects(gateway, 3, /^fwd=miss$/);
        await reload(gateway, on);
        await assertConnects(gateway, 3, MISS);
        await assertConnects(gateway, 3, HIT);
    });
});

test('a cached token of a JWT secret that is not taken any more is given to nobody', async () => {
    const key = path.join(os.tmpdir(), `aiwm-gateway-key-${process.pid}`);
    fs.writeFileSync(key, 'k'.repeat(64), { mode: 0o600 });
    try {
        await using({ config: { connect_cache: { key_file: key } } }, async (gateway) => {
            const renewed = path.join(gateway.dir, 'renewed'), old = path.join(gateway.dir, 'old');
            fs.writeFileSync(renewed, 'renewed-secret-of-at-least-32-bytes!');
            fs.writeFileSync(old, JWT_SECRET);
            const by = (jwt) => ({ ...gateway.config, jwt });
            await assertConnects(gateway, 4, MISS);
            await reload(gateway, by({ secret_file: renewed, previous_secret_file: old }));
            await assertConnects(gateway, 4, HIT);
            await reload(gateway, by({ secret_file: renewed }));
            await assertConnects(gateway, 4, MISS); /* the stub signs as before */
            await reload(gateway, by({ secret_file: old }));
            await assertConnects(gateway, 4, HIT);
        });
    } finally {
        fs.rmSync(key);
    }
});

test('another controller: new calls go there, one under way to the old one ends well', async () => {
    const other = await Stub.start();
    try {
        await using({}, async (gateway) => {
            await stub.set({ delay_ms: 600 });
            const slow = call(gateway.target, 'GET', '/slow');
            await sleep(100);
            await reload(gateway, { ...gateway.config, upstream: { url: other.url } });
            await call(gateway.target, 'GET', '/somewhere');
            assert.equal((await other.counts()).others, 1);
            assert.equal((await slow).status, 404);
        });
    } finally {
        await stub.reset();
        await other.stop();
    }
});

test('another controller is not left alone because the one before failed', async () => {
    const other = await Stub.start();
    try {
        await using({ config: { breaker: { failures: 1, open: '10m', max_open: '10m' } } }, async (gateway) => {
            await stub.set({ outage: 'refuse' });
            const get = () => call(gateway.target, 'GET', '/somewhere');
            await eventually('it to be left alone', async () =>
                (await get()).json.code === 'GATEWAY_CONTROLLER_DOWN');
            assert.equal((await beat(gateway, 5)).status, 201);
            await reload(gateway, gateway.config);
            assert.equal((await get()).json.code, 'GATEWAY_CONTROLLER_DOWN', 'it is the same one');
            await reload(gateway, { ...gateway.config, upstream: { url: other.url } });
            assert.equal((await get()).status, 404, 'it was asked');
            await eventually('what was held', async () => (await other.counts()).heartbeats === 1);
        });
    } finally {
        await stub.reset();
        await other.stop();
    }
});

const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);

test('renewed files are noticed without a signal; half a renewal is refused and said once',
    { skip: sanitized && 'the faster clock does not go with sanitizers' }, async () => {
    const { certificateFile, privateKeyFile } = testCertificate();
    const files = { certificate_file: '', private_key_file: '' };
    await using({ env: timelapse(20) }, async (gateway) => {
        files.certificate_file = path.join(gateway.dir, 'k.crt');
        files.private_key_file = path.join(gateway.dir, 'k.key');
        fs.copyFileSync(certificateFile, files.certificate_file);
        fs.copyFileSync(privateKeyFile, files.private_key_file);
        await reload(gateway, { ...gateway.config, tls: files });
        const { certificate, key } = newCertificate(gateway.dir, 'renewed.test');
        fs.writeFileSync(files.certificate_file, certificate);
        const refusals = () => gateway.log.filter((line) => line.message.startsWith('reload refused'));
        await eventually('a refusal', () => refusals().length > 0);
        await sleep(1500); /* two more polls */
        assert.equal(refusals().length, 1);
        assert.match(refusals()[0].detail, /private key does not match/);
        assert.equal(await shownName(gateway.port), 'localhost');
        fs.writeFileSync(files.private_key_file, key);
        await eventually('the renewed certificate', async () =>
            await shownName(gateway.port) === 'renewed.test');
    });
});

/** One connection: was the session resumed, and the session to resume next time. */
const resume = (port, session) => new Promise((resolve, reject) => {
    let ticket;
    const socket = tls.connect({ host: '127.0.0.1', port, session, rejectUnauthorized: false });
    socket.on('session', (s) => { ticket = s; });
    socket.on('error', reject);
    socket.on('secureConnect', () => socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n'));
    socket.once('data', () => {
        const resumed = socket.isSessionReused();
        setTimeout(() => { socket.destroy(); resolve({ resumed, ticket }); }, 20);
    });
});

test('a session outlives a renewed certificate', async () => {
    await using({}, async (gateway) => {
        const first = await resume(gateway.port);
        assert.equal(first.resumed, false);
        await reload(gateway);
        assert.equal((await resume(gateway.port, first.ticket)).resumed, true);
    });
});

test('replicas with the same ticket keys resume each other\'s sessions, also by an older key', async () => {
    const key = () => execFileSync('openssl', ['rand', '-hex', '80']).toString();
    const one = key(), two = key();
    const file = path.join(testCertificate().certificateFile, '..', 'tickets');
    const file2 = `${file}-2`;
    fs.writeFileSync(file, one);
    fs.writeFileSync(file2, two + one);
    const a = await startGateway(stub, { config: { tls: { ticket_keys_file: file } } });
    const b = await startGateway(stub, { config: { tls: { ticket_keys_file: file2 } } });
    const c = await startGateway(stub);
    try {
        const { ticket } = await resume(a.port);
        assert.equal((await resume(b.port, ticket)).resumed, true);
        assert.equal((await resume(c.port, ticket)).resumed, false);
        const newer = await resume(b.port, ticket);
        assert.equal((await resume(a.port, newer.ticket)).resumed, false, 'a does not know the newer key');
    } finally {
        await Promise.all([a.stop(), b.stop(), c.stop()]);
    }
});

test('TERM under load: clients with keep-alive lose no request of 20,000', async () => {
    const from = await startGateway(stub, { config: { heartbeat: { max_rate: 1000 } } });
    const to = await startGateway(stub, { config: { heartbeat: { max_rate: 1000 } } });
    /* As behind a load balancer: new connections go to the gateway that is ready. */
    let port = from.port;
    const agent = new https.Agent({ keepAlive: true, maxSockets: 20, rejectUnauthorized: false });
    agent.createConnection = (options, done) => tls.connect({ ...options, port }, done);
    const failed = [];
    let done = 0, running = true;
    const runner = async (n) => {
        const token = agentToken(agentId(n));
        while (running) {
            await new Promise((resolve) => {
                const request = https.request({ agent, host: '127.0.0.1', port: 1, method: 'POST',
                    path: `/agents/${agentId(n)}/heartbeat`,
                    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' } },
                (response) => response.resume().on('end', () => {
                    if ([201, 429].includes(response.statusCode)) done++;
                    else failed.push(response.statusCode);
                    resolve();
                }));
                request.on('error', (error) => { failed.push(error.message); resolve(); });
                request.end('{"status":"online"}');
            });
        }
    };
    const runners = Array.from({ length: 20 }, (_, n) => runner(n));
    try {
        await eventually('10,000 requests', () => done >= 10000, 60000);
        port = to.port;
        from.child.signal('SIGTERM');
        await eventually('20,000 requests', () => done >= 20000, 60000);
        running = false;
        await Promise.all(runners);
        assert.deepEqual(failed, []);
        assert.equal((await from.child.exited).code, 0);
    } finally {
        running = false;
        await Promise.all(runners);
        agent.destroy();
        await Promise.all([from.stop(), to.stop()]);
    }
});
