// The process: how it starts, refuses to start, ends, and lives with little.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { build, eventually, root, slack, sleep, within } from './support/child.mjs';
import { startGateway, testCertificate } from './support/gateway.mjs';
import { agentToken } from './support/jwt.mjs';
import { JWT_SECRET, Stub, agentId } from './support/stub.mjs';
import { Upstream, answerBytes } from './support/upstream.mjs';
import { Closed, Wire, exchange, request } from './support/wire.mjs';

const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);
const gatewayPath = path.join(build, 'aiwm-gateway');
const get = (target, headers) => request('GET', target, { headers });

let stub;
let dir;
before(async () => {
    stub = await Stub.start();
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-gateway-process-'));
});
beforeEach(() => stub.reset());
after(async () => {
    fs.rmSync(dir, { recursive: true, force: true });
    await stub?.stop();
});

// ---- as a bare process, for what the harness would not let through ----

let files = 0;
function write(text) {
    const file = path.join(dir, `file-${files++}`);
    fs.writeFileSync(file, text);
    return file;
}

function configText(changes = {}) {
    const { certificateFile, privateKeyFile } = testCertificate();
    return JSON.stringify({
        listen: { address: '127.0.0.1', port: 0 },
        tls: { certificate_file: certificateFile, private_key_file: privateKeyFile },
        health: { address: '127.0.0.1', port: 0 },
        admin: { address: '127.0.0.1', port: 0 },
        upstream: { url: stub.url },
        jwt: { secret_file: write(JWT_SECRET) },
        drain: { delay: '0s' },
        ...changes,
    });
}

/** Runs to its end: { code, stdout, stderr }. */
function run(args, { env = {}, ms = 10000 } = {}) {
    return new Promise((resolve, reject) => {
        const child = spawn(gatewayPath, args, { cwd: root, env: { ...process.env, ...env } });
        const out = { stdout: '', stderr: '' };
        child.stdout.on('data', (text) => (out.stdout += text));
        child.stderr.on('data', (text) => (out.stderr += text));
        const timer = setTimeout(() => {
            child.kill('SIGKILL');
            reject(new Error(`${args} does not end\n${out.stdout}${out.stderr}`));
        }, ms);
        child.on('close', (code, signal) => {
            clearTimeout(timer);
            resolve({ code, signal, ...out });
        });
    });
}

const runWith = (text, options) => run(['--config', write(text)], options);

function freePort() {
    return new Promise((resolve) => {
        const server = net.createServer().listen(0, '127.0.0.1', () => {
            const { port } = server.address();
            server.close(() => resolve(port));
        });
    });
}

// ---- exit codes ----

test('a wrong option is 64, help and version are 0', async () => {
    const wrong = await run(['--no-such-option']);
    assert.equal(wrong.code, 64);
    assert.match(wrong.stderr, /no-such-option/);
    for (const fine of ['--help', '--version']) {
        const { code, stdout } = await run([fine]);
        assert.equal(code, 0);
        assert.match(stdout, /aiwm-gateway/);
    }
});

test('a configuration that cannot be used is 78, and says why', async () => {
    const other = execFileSync('openssl', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']);
    const { certificateFile, privateKeyFile } = testCertificate();
    const BROKEN = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    const tls = (more) => configText({ tls: { certificate_file: certificateFile, ...more } });
    const rows = [
        ['malformed YAML', 'listen: [unclosed', /:\d+:\d+/],
        ['not a mapping', '- a\n- b\n', /./],
        ['an unknown key', configText({ no_such_key: 1 }), /no_such_key/],
        ['a duplicate key', 'listen: {port: 1}\nlisten: {port: 2}\n', /listen/],
        ['a port out of range', configText({ listen: { address: '127.0.0.1', port: 70000 } }), /70000|port/],
        ['a missing certificate', tls({ certificate_file: '/no/such/file', private_key_file: write('x') }), /\/no\/such\/file/],
        ['a key that is none', tls({ private_key_file: write('hello') }), /private key/],
        ['a key that does not match', tls({ private_key_file: write(other) }), /does not match/],
        ['a certificate that is none', tls({ certificate_file: write('hello'), private_key_file: write(other) }), /certificate/],
        ['a chain with something broken in it', tls({
            certificate_file: write(fs.readFileSync(certificateFile) + BROKEN), private_key_file: privateKeyFile }), /certificate/],
        ['no controller', configText({ upstream: {} }), /upstream\.url/],
        ['a controller by ftp', configText({ upstream: { url: 'ftp://a' } }), /ftp|http/],
        ['no secret', configText({ jwt: {} }), /jwt\.secret/],
        ['a CA file with something broken in it', configText({ upstream: {
            url: 'https://a', ca_file: write(fs.readFileSync(certificateFile) + BROKEN) } }), /upstream\.ca/],
        ['a CA that is none', configText({ upstream: { url: 'https://a', ca_file: write('hello') } }), /upstream\.ca|authorit/],
    ];
    await Promise.all(rows.map(async ([name, text, why]) => {
        const { code, stderr } = await runWith(text);
        assert.equal(code, 78, `${name}: ${stderr}`);
        assert.match(stderr, why, name);
    }));
    const missing = await run(['--config', '/no/such/config.yaml']);
    assert.equal(missing.code, 78);
    assert.match(missing.stderr, /\/no\/such\/config\.yaml/);
});

test('a port in use is 1, and says which', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    const { port } = await new Promise((resolve) => taken.on('listening', () => resolve(taken.address())));
    for (const key of ['listen', 'health']) {
        const { code, stderr } = await runWith(configText({ [key]: { address: '127.0.0.1', port } }));
        assert.equal(code, 1, key);
        assert.match(stderr, new RegExp(`${key}\\.port.*127\\.0\\.0\\.1 port ${port}: Address already in use`));
    }
    taken.close();
    const first = await startGateway(stub, { config: { workers: 2 } });
    const second = await runWith(configText({ listen: { address: '127.0.0.1', port: first.port } }));
    assert.equal(second.code, 1, 'a second gateway does not share the port of the first');
    await first.stop();
});

test('an address that is not ours is 1', async () => {
    const { code, stderr } = await runWith(configText({ listen: { address: '192.0.2.1', port: 0 } }));
    assert.equal(code, 1);
    assert.match(stderr, /192\.0\.2\.1/);
});

// ---- the controller is not there ----

test('without a controller it starts, says so on /readyz, and heals', async () => {
    const port = await freePort();
    const gateway = await startGateway({ url: `http://127.0.0.1:${port}` }, {});
    try {
        await gateway.logged('the controller fails');
        const down = await gateway.health('/readyz');
        assert.equal(down.status, 200);
        assert.match(down.body, /down/);
        assert.equal((await exchange(gateway.target, 'GET', '/x')).status, 502);
        const late = await Stub.start({ port });
        assert.equal((await exchange(gateway.target, 'GET', '/health')).status, 200);
        await gateway.logged('the controller answers');
        assert.match((await gateway.health('/readyz')).body, /up/);
        await late.stop();
    } finally {
        await gateway.stop();
    }
});

// ---- the end ----

const theStubHas = (...paths) => eventually(paths.join(), async () => {
    const targets = (await stub.requests()).map((r) => r.target.split('?')[0]);
    return paths.every((wanted) => targets.includes(wanted));
});

test('TERM lets requests in flight end, closes what is idle, and exits 0', async () => {
    const gateway = await startGateway(stub, { config: { workers: 2 } });
    const idle = await Wire.open(gateway.target);
    idle.send(get('/__stub/echo'));
    await idle.answer();
    const slow = await Wire.open(gateway.target);
    slow.send(get('/__stub/slow?ms=500'));
    const events = await Wire.open(gateway.target);
    events.send(get('/__stub/sse?n=6&gap_ms=100'));
    const half = await Wire.open(gateway.target);
    half.send('GET /__stub/echo HTTP/1.1\r\nHost: a\r\n');
    await theStubHas('/__stub/slow', '/__stub/sse');
    gateway.child.signal('SIGTERM');
    await eventually('nobody is taken any more', () =>
        Wire.open(gateway.target).then((wire) => { wire.close(); return false; }, () => true));
    half.send('\r\n');
    assert.equal((await half.answer()).header('connection'), 'close');
    const answer = await slow.answer();
    assert.deepEqual([answer.status, answer.header('connection')], [200, 'close']);
    /* Idle ones are given a second to ask once more. */
    assert.equal(await idle.closed({ ms: 2000 }), 'ended');
    assert.match((await events.answer()).text, /event 5\n\n$/);
    const end = await within(2000, 'the end', gateway.child.exited);
    assert.equal(end.code, 0);
    for (const wire of [idle, slow, events, half]) wire.close();
    await gateway.stop();
});

test('a handshake that ends after TERM does not hold it up', async () => {
    const gateway = await startGateway(stub, {});
    const socket = net.connect(gateway.port, '127.0.0.1');
    await new Promise((resolve) => socket.on('connect', resolve));
    await eventually('it is taken', async () => (await gateway.metric('connections')) === 1);
    gateway.child.signal('SIGTERM');
    await sleep(50);
    const wire = await Wire.open({ ...gateway.target, socket });
    const start = Date.now();
    await within(3000, 'the end', gateway.child.exited);
    assert.ok(Date.now() - start < 3000 + slack());
    wire.close();
    await gateway.stop();
});

test('a second TERM ends it now', async () => {
    const gateway = await startGateway(stub, { config: { drain: { timeout: '60s' } } });
    const wire = await Wire.open(gateway.target);
    wire.send(get('/__stub/slow?ms=30000'));
    await theStubHas('/__stub/slow');
    gateway.child.signal('SIGTERM');
    await gateway.logged('draining');
    await sleep(100);
    assert.equal(gateway.child.ended, undefined, 'it waits for the request');
    gateway.child.signal('SIGTERM');
    await within(1500, 'the end', gateway.child.exited);
    await assert.rejects(wire.answer(), Closed);
    await gateway.stop();
});

test('QUIT, which other proxies end well with, drains as TERM does', async () => {
    const gateway = await startGateway(stub, {});
    const wire = await Wire.open(gateway.target);
    wire.send(get('/__stub/slow?ms=300'));
    await theStubHas('/__stub/slow');
    gateway.child.signal('SIGQUIT');
    assert.equal((await wire.answer()).status, 200);
    assert.equal((await within(2000, 'the end', gateway.child.exited)).code, 0);
    wire.close();
    await gateway.stop();
});

test('drain.timeout ends it, too', async () => {
    const gateway = await startGateway(stub, { config: { drain: { timeout: '300ms' } } });
    const wire = await Wire.open(gateway.target);
    wire.send(get('/__stub/slow?ms=30000'));
    await theStubHas('/__stub/slow');
    gateway.child.signal('SIGTERM');
    const start = Date.now();
    await within(3000, 'the end', gateway.child.exited);
    assert.ok(Date.now() - start >= 250);
    wire.close();
    await gateway.stop();
});

test('TERM while clients come and go ends with 0 and cuts no answer', async () => {
    const gateway = await startGateway(stub, { config: { workers: 2 } });
    let answers = 0;
    let cut = 0;
    let over = false;
    const client = async () => {
        while (!over) {
            let wire;
            try {
                wire = await Wire.open(gateway.target);
            } catch {
                return; // nobody is there any more
            }
            try {
                for (let i = 0; i < 3; i++) {
                    wire.send(get('/__stub/echo'));
                    const answer = await wire.answer();
                    answers++;
                    if (answer.header('connection') === 'close') break;
                }
            } catch (error) {
                // A closed idle connection is the client's to notice; half an answer is not.
                if (!(error instanceof Closed) || error.received.length) cut++;
            }
            wire.close();
        }
    };
    const clients = Array.from({ length: 8 }, client);
    await sleep(300);
    gateway.child.signal('SIGTERM');
    const end = await within(3000, 'the end', gateway.child.exited);
    over = true;
    await Promise.all(clients);
    assert.deepEqual([end.code, cut], [0, 0]);
    assert.ok(answers > 20);
    await gateway.stop();
});

// ---- standard output ----

/** Serves and ends although nobody takes what it prints. */
async function survives(name, stdio, start = (args) => spawn(gatewayPath, args, { cwd: root, stdio }), look = () => {}) {
    const port = await freePort();
    const text = configText({ listen: { address: '127.0.0.1', port }, log: { level: 'debug' } });
    const child = start(['--config', write(text)]);
    const exited = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })));
    const target = { host: '127.0.0.1', port, tls: true, ca: testCertificate().ca };
    try {
        await eventually(`${name}: it serves`, () => exchange(target, 'GET', '/__stub/echo').catch(() => false));
        look(child.pid);
        for (let i = 0; i < 20; i++) {
            const start = performance.now();
            // Each change between up and down is a line.
            await stub.set({ fail_next: i % 2, fail_status: 503 });
            await exchange(target, 'GET', '/agents');
            assert.ok(performance.now() - start < 500 + slack(), `${name}: it stalls`);
        }
        child.kill('SIGTERM');
        const end = await within(4000, `${name}: the end`, exited);
        assert.deepEqual(end, { code: 0, signal: null }, name);
    } finally {
        child.kill('SIGKILL');
    }
}

test('a full, closed or broken standard output does not matter', async () => {
    const full = fs.openSync('/dev/full', 'w');
    await survives('/dev/full', ['ignore', full, 'ignore']);
    fs.closeSync(full);

    const closed = (args) => spawn('sh', ['-c', 'exec "$0" "$@" >&- 2>&-', gatewayPath, ...args],
        { cwd: root, stdio: 'ignore' });
    await survives('closed', null, closed, (pid) => {
        for (const fd of [0, 1, 2]) // no socket may take the place of what was closed
            assert.equal(fs.readlinkSync(`/proc/${pid}/fd/${fd}`), '/dev/null');
    });

    // A pipe that is full already and that nobody reads.
    const fifo = path.join(dir, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const filler = fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
    try {
        for (;;) fs.writeSync(filler, Buffer.alloc(4096, '.'));
    } catch (error) {
        assert.equal(error.code, 'EAGAIN');
    }
    const pipe = fs.openSync(fifo, 'w');
    await survives('a full pipe', ['ignore', pipe, pipe]);
    fs.closeSync(pipe);
    fs.closeSync(filler);

    // A pipe whose reader is gone.
    const broken = (args) => {
        const child = spawn(gatewayPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
        child.stdout.destroy();
        child.stderr.destroy();
        return child;
    };
    await survives('a broken pipe', null, broken);
});

// ---- with little ----

function cpuTicks(pid) {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return Number(fields[11]) + Number(fields[12]);
}

test('over listen.max_connections a client is closed before the handshake, and counted', async () => {
    const gateway = await startGateway(stub, { config: { listen: { max_connections: 3 }, workers: 2 } });
    const wires = [];
    for (let i = 0; i < 3; i++) {
        const wire = await Wire.open(gateway.target);
        wires.push(wire);
        wire.send(get('/__stub/echo', { Authorization: `Bearer ${agentToken(agentId(i))}` }));
        assert.equal((await wire.answer()).status, 200, 'somebody we know');
    }
    for (let i = 0; i < 5; i++) {
        const socket = net.connect(gateway.port, '127.0.0.1');
        let bytes = 0;
        socket.on('data', (some) => (bytes += some.length));
        socket.on('error', () => {});
        await within(1000, 'the close', new Promise((resolve) => socket.on('close', resolve)));
        assert.equal(bytes, 0, 'not a byte is spent on it');
    }
    await eventually('they are counted', async () =>
        (await gateway.metric('connections_refused_total', 'reason="limit"')) === 5);
    await eventually('three stay', async () => (await gateway.metric('connections')) === 3);
    for (const wire of wires) {
        wire.send(get('/__stub/echo'));
        assert.equal((await wire.answer()).status, 200, 'those inside are served');
        wire.close();
    }
    await eventually('room again', async () => (await gateway.metric('connections')) === 0);
    assert.equal((await exchange(gateway.target, 'GET', '/__stub/echo')).status, 200);
    await gateway.stop();
});

test('without descriptors it neither spins nor storms the log, and heals', async () => {
    const gateway = await startGateway(stub, { config: { workers: 2, tls: { enabled: false } } });
    await exchange(gateway.target, 'GET', '/__stub/echo');
    const used = fs.readdirSync(`/proc/${gateway.child.pid}/fd`).length;
    execFileSync('prlimit', ['--pid', String(gateway.child.pid), `--nofile=${used + 20}:${used + 20}`]);
    const sockets = [];
    const open = (port) => {
        const socket = net.connect(port, '127.0.0.1');
        socket.on('error', () => {});
        sockets.push(socket);
    };
    for (let i = 0; i < 60; i++) open(gateway.port);
    await gateway.logged('no descriptors left, connections are refused; raise the limit of open files');
    for (let i = 0; i < 5; i++) open(gateway.healthPort); // the operators' port starves, too
    await sleep(200);
    const [before, lines] = [cpuTicks(gateway.child.pid), gateway.log.length];
    await sleep(1500);
    const busy = cpuTicks(gateway.child.pid) - before;
    assert.ok(busy < (sanitized ? 40 : 15), `${busy * 10} ms of CPU in 1.5 s`);
    const more = gateway.log.slice(lines).map((entry) => entry.message);
    assert.ok(more.length <= 3, more.join('\n'));
    for (const socket of sockets) socket.destroy();
    await eventually('it serves again', async () =>
        (await exchange(gateway.target, 'GET', '/__stub/echo').catch(() => ({}))).status === 200);
    assert.ok((await gateway.metric('connections_refused_total', 'reason="descriptors"')) > 0);
    assert.equal((await gateway.health('/livez')).status, 200);
    await gateway.stop();
});

test('a controller that cannot be reached for lack of descriptors is a 503, and no failure of the controller', async () => {
    const waiting = [];
    const upstream = await Upstream.start((socket) => waiting.push(socket));
    const gateway = await startGateway(upstream, { config: {
        workers: 1, tls: { enabled: false }, breaker: { failures: 1 },
    } });
    await gateway.logged('the controller answers');
    const wires = [];
    for (let i = 0; i < 8; i++) wires.push(await Wire.open(gateway.target));
    await eventually('all are inside', async () => (await gateway.metric('connections')) === 8);
    const used = fs.readdirSync(`/proc/${gateway.child.pid}/fd`).length;
    execFileSync('prlimit', ['--pid', String(gateway.child.pid), `--nofile=${used + 1}:${used + 1}`]);
    for (const wire of wires) wire.send(get('/x'));
    const refused = await Promise.any(wires.map((wire) => wire.answer()));
    assert.deepEqual([refused.status, refused.json.code], [503, 'GATEWAY_OVERLOADED']);
    for (const socket of waiting) socket.write(answerBytes('fine'));
    for (const wire of wires) wire.close();
    await eventually('it goes on', async () => {
        const answer = exchange(gateway.target, 'GET', '/x', { ms: 300 }).catch(() => ({}));
        await sleep(50);
        for (const socket of waiting) if (!socket.destroyed) socket.write(answerBytes('fine'));
        return (await answer).status === 200;
    });
    assert.ok(!gateway.log.some((line) => line.message === 'the controller fails'));
    await gateway.stop();
    await upstream.stop();
});
