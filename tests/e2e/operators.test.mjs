// The health and admin ports against clients that open connections and do not go on: a client that asks
// is answered, and so are agents.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { connect } from './support/connecting.mjs';
import { startGateway } from './support/gateway.mjs';
import { agentToken } from './support/jwt.mjs';
import { Redis } from './support/redis.mjs';
import { Stub, agentId } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { isDown, isUp } from './support/troubles.mjs';
import { Upstream, answerBytes } from './support/upstream.mjs';
import { Wire, call, exchange, request } from './support/wire.mjs';

const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);
const noPreload = { skip: sanitized && 'no preloading here' };
const TOKEN = 'an-admin-token-of-32-characters!';
const PER_ADDRESS = 8;
const PER_PORT = 64;

let stub;
before(async () => (stub = await Stub.start()));
after(() => stub?.stop());

async function using(options, body) {
    const gateway = await startGateway(stub, {
        ...options, env: { AIWM_GATEWAY_ADMIN_TOKEN: TOKEN, ...options.env },
    });
    const floods = [];
    gateway.flood = (...args) => floods[floods.push(new Flood(...args)) - 1];
    try {
        await body(gateway);
    } finally {
        for (const flood of floods) flood.end();
        await gateway.stop();
    }
}

const at = (port, from = '127.0.0.1') => ({ port, localAddress: from });
const GET = (target) => request('GET', target);
const ask = (port, target, from) => exchange(at(port, from), 'GET', target);

/** `count` connections that send `bytes` and then nothing. */
class Flood {
    sockets = [];
    closed = 0;

    constructor(port, count, { from = () => '127.0.0.1', bytes = '' } = {}) {
        Object.assign(this, { port, from, bytes });
        this.opened = Promise.all(Array.from({ length: count }, (_, i) => this.#open(i)));
    }

    #open(i) {
        return new Promise((resolve) => {
            const socket = net.connect({ port: this.port, host: '127.0.0.1', localAddress: this.from(i) });
            this.sockets[i] = socket;
            socket.on('connect', () => socket.write(this.bytes, resolve));
            socket.on('error', () => {});
            socket.on('data', () => {});
            socket.on('close', () => {
                this.closed++;
                resolve();
            });
        });
    }

    get open() {
        return this.sockets.filter((socket) => !socket.destroyed).length;
    }

    end() {
        for (const socket of this.sockets) socket.destroy();
    }
}

/** All that has to go on: probes, a scrape, an operator, and agents and users behind them. */
async function assertServes(gateway, n) {
    for (const from of ['127.0.0.1', '127.0.0.77']) {
        assert.equal((await ask(gateway.healthPort, '/readyz', from)).status, 200, from);
        assert.match((await ask(gateway.healthPort, '/metrics', from)).text, /aiwm_gateway_build_info/);
        assert.equal((await ask(gateway.adminPort, '/state', from)).status, 200);
    }
    const user = await call(gateway.target, 'GET', `/agents/${agentId(n)}`, { token: agentToken(agentId(n)) });
    assert.equal(user.status, 200);
    assert.equal((await connect(gateway, n)).status, 201, 'a first connect');
    assert.equal((await connect(gateway, n)).status, 201, 'a cached connect');
    const beats = (await stub.counts()).heartbeats;
    const beat = await call(gateway.target, 'POST', `/agents/${agentId(n)}/heartbeat`,
        { token: agentToken(agentId(n)), body: { status: 'online' } });
    assert.equal(beat.status, 201);
    await eventually('the controller has the heartbeat', async () => (await stub.counts()).heartbeats > beats);
}

const descriptors = (gateway) => fs.readdirSync(`/proc/${gateway.child.pid}/fd`).length;

describe('with 300 descriptors', () => {
    test('the log says what they are for', () => using({ nofile: 300, config: { workers: 2 } }, async (gateway) => {
        const line = await gateway.logged('fewer descriptors than listen.max_connections and the reserves ' +
            'need: raise the limit of open files');
        assert.equal(line.descriptors, 300);
        assert.equal(line.operators_each_port, PER_PORT);
        assert.ok(line.clients >= 50 && line.controller_each_worker >= 8, JSON.stringify(line));
    }));

    test('everything is served (nobody attacks)', () =>
        using({ nofile: 300, config: { workers: 4 } }, (gateway) => assertServes(gateway, 1)));

    test('500 silent connections to the health port take nothing from anybody', () =>
        using({ nofile: 300, config: { workers: 4 } }, async (gateway) => {
            const before = descriptors(gateway);
            const flood = gateway.flood(gateway.healthPort, 500);
            await flood.opened;
            await assertServes(gateway, 2);
            assert.ok(descriptors(gateway) < before + PER_ADDRESS + 40, 'most were closed again');
        }));

    test('nor do silent connections to all three ports, from many addresses', () =>
        using({ nofile: 300, config: { workers: 1, tls: { enabled: false } } }, async (gateway) => {
            const from = (i) => `127.0.1.${1 + (i % 100)}`;
            for (const port of [gateway.healthPort, gateway.adminPort, gateway.port])
                await gateway.flood(port, 300, { from }).opened;
            await assertServes(gateway, 3);
            assert.ok(descriptors(gateway) <= 300 - 10);
        }));

    test('calls beyond the controller\'s share are refused, and nothing else is', async () => {
        const waiting = [];
        const upstream = await Upstream.start((socket, asked) => {
            if (asked.target === '/slow') waiting.push(socket);
            else socket.write(answerBytes('fine'));
        });
        const gateway = await startGateway(upstream, { nofile: 300, config: { workers: 1, tls: { enabled: false } } });
        try {
            const { controller_each_worker: share } = gateway.log.find((line) => line.controller_each_worker);
            const wires = [];
            for (let i = 0; i < share + 20; i++) wires.push(await Wire.open(gateway.target));
            for (const wire of wires) wire.send(GET('/slow'));
            await eventually('the share is used', () => waiting.length === share);
            const refused = [];
            const all = wires.map((wire) => wire.answer().then((answer) => {
                if (answer.status !== 200) refused.push(answer.json.code);
                return answer.status;
            }));
            await eventually('the others are refused', () => refused.length === 20);
            assert.deepEqual([...new Set(refused)], ['GATEWAY_OVERLOADED']);
            assert.equal((await ask(gateway.healthPort, '/readyz')).status, 200);
            for (const socket of waiting) socket.write(answerBytes('fine'));
            assert.equal((await Promise.all(all)).filter((status) => status === 200).length, share);
            assert.equal((await exchange(gateway.target, 'GET', '/quick')).status, 200);
        } finally {
            await gateway.stop();
            await upstream.stop();
        }
    });

    test('Redis and the controller find descriptors when all ports are full', async () => {
        const redis = await Redis.start();
        try {
            await using({ nofile: 300, config: { workers: 1, redis: { url: redis.url } } }, async (gateway) => {
                await isUp(gateway);
                await redis.kill();
                await isDown(gateway);
                const from = (i) => `127.0.1.${1 + (i % 100)}`;
                for (const port of [gateway.healthPort, gateway.adminPort, gateway.port])
                    await gateway.flood(port, 300, { from }).opened;
                await redis.restart();
                await isUp(gateway);
                await assertServes(gateway, 4);
            });
        } finally {
            await redis.stop();
        }
    });
});

describe('who makes room', () => {
    const until = (flood, closed) => eventually(`${closed} are closed`, () => flood.closed >= closed);

    test('of one address eight stay, the newest', () => using({}, async (gateway) => {
        const flood = gateway.flood(gateway.healthPort, 3 * PER_ADDRESS);
        await flood.opened;
        await until(flood, 2 * PER_ADDRESS);
        await ask(gateway.healthPort, '/livez', '127.0.0.9');
        assert.equal(flood.open, PER_ADDRESS);
        const closed = gateway.metric('operator_connections_closed_total', 'reason="evicted"');
        assert.ok((await closed) >= 2 * PER_ADDRESS);
    }));

    test('of all addresses 64 stay, and the oldest goes', () => using({}, async (gateway) => {
        const first = gateway.flood(gateway.healthPort, 1, { from: () => '127.0.2.1' });
        await first.opened;
        const flood = gateway.flood(gateway.healthPort, PER_PORT - 1, { from: (i) => `127.0.3.${1 + i}` });
        await flood.opened;
        assert.equal(first.open, 1);
        const newcomer = await Wire.open(at(gateway.healthPort, '127.0.4.1'));
        await until(first, 1);
        newcomer.send(GET('/readyz'));
        assert.equal((await newcomer.answer()).status, 200);
        newcomer.close();
        assert.equal(flood.closed, 0);
    }));

    test('an unfinished request goes before an idle connection', () => using({}, async (gateway) => {
        const idle = await Wire.open(at(gateway.healthPort));
        idle.send(GET('/livez'));
        assert.equal((await idle.answer()).status, 200);
        const flood = gateway.flood(gateway.healthPort, PER_ADDRESS - 1, { bytes: 'GET /livez HTTP/1.1\r\n' });
        await flood.opened;
        assert.equal((await ask(gateway.healthPort, '/livez')).status, 200);
        await until(flood, 1);
        idle.send(GET('/readyz'));
        assert.equal((await idle.answer()).status, 200, 'it may ask again');
        idle.close();
    }));

    test('then the one that is idle longest', () => using({}, async (gateway) => {
        const idle = [];
        for (let i = 0; i <= PER_ADDRESS; i++) {
            idle.push(await Wire.open(at(gateway.healthPort)));
            idle[i].send(GET('/livez'));
            assert.equal((await idle[i].answer()).status, 200);
        }
        await idle[0].closed();
        for (const wire of idle.slice(1)) {
            assert.equal(wire.how, undefined);
            wire.close();
        }
    }));
});

describe('deadlines', noPreload, () => {
    const FACTOR = 40;
    const fast = (body) => using({ env: timelapse(FACTOR) }, body);

    /** Sends a byte of `bytes` now and then, until the peer closes. */
    async function drip(wire, bytes) {
        for (let i = 0; wire.how === undefined; i++) {
            wire.send(bytes[i % bytes.length]);
            await sleep(10);
        }
    }

    test('a head that drips in is not waited for', () => fast(async (gateway) => {
        const wire = await Wire.open(at(gateway.healthPort));
        wire.send('GET /livez HTTP/1.1\r\nHost: ');
        await drip(wire, 'aaaa');
        assert.equal(wire.received.length, 0);
    }));

    test('nor the head of a second request', () => fast(async (gateway) => {
        const wire = await Wire.open(at(gateway.healthPort));
        wire.send(GET('/livez'));
        assert.equal((await wire.answer()).status, 200);
        wire.send('GET /livez HTTP/1.1\r\nHost: ');
        await drip(wire, 'aaaa');
        assert.equal(wire.received.length, 0);
    }));

    test('nor half a head behind a whole one', () => fast(async (gateway) => {
        const wire = await Wire.open(at(gateway.healthPort));
        wire.send(Buffer.concat([GET('/livez'), Buffer.from('GET /livez HT')]));
        assert.equal((await wire.answer()).status, 200);
        await wire.closed();
    }));

    test('nor a body', () => fast(async (gateway) => {
        const wire = await Wire.open(at(gateway.adminPort));
        wire.send(request('POST', '/purge?everything=yes', {
            headers: { authorization: `Bearer ${TOKEN}`, 'content-length': '1000' } }));
        await drip(wire, 'b');
        assert.equal(wire.received.length, 0);
        assert.ok((await gateway.metric('operator_connections_closed_total', 'reason="timeout"')) > 0);
    }));

    test('an idle connection is kept for a minute, and closed after', () => fast(async (gateway) => {
        const wire = await Wire.open(at(gateway.healthPort));
        wire.send(GET('/livez'));
        assert.equal((await wire.answer()).status, 200);
        await sleep(60000 / FACTOR);
        wire.send(GET('/livez'));
        assert.equal((await wire.answer()).status, 200);
        await wire.closed({ ms: 10000 });
    }));

    test('who does not read his answers is closed, and holds no memory meanwhile', () => fast(async (gateway) => {
        const rss = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${gateway.child.pid}/status`, 'utf8'))[1]);
        const before = rss();
        const many = Buffer.concat([...Array.from({ length: 2000 }, () => GET('/metrics')), // 60 MB of answers
            Buffer.alloc(16 << 20, 'x')]);
        const sockets = [];
        for (let i = 0; i < PER_ADDRESS; i++) {
            const socket = net.connect({ port: gateway.healthPort, host: '127.0.0.1' });
            socket.on('error', () => {}).on('connect', () => {
                socket.pause();
                socket.write(many);
            });
            sockets.push(socket);
        }
        const ended = async () => (await gateway.metric('operator_connections_closed_total', 'reason="timeout"')) +
            (await gateway.metric('operator_connections_closed_total', 'reason="evicted"'));
        await eventually('all are closed', async () => {
            assert.ok(rss() - before < 16 * 1024, `${rss() - before} kB`);
            return (await ended().catch(() => 0)) >= PER_ADDRESS; // while none of them can be closed, we are
        });
        assert.equal((await ask(gateway.healthPort, '/readyz')).status, 200);
        for (const socket of sockets) socket.destroy();
    }));
});

describe('HEAD', () => {
    for (const [port, target] of [['healthPort', '/metrics'], ['healthPort', '/livez'],
        ['healthPort', '/nowhere'], ['adminPort', '/state']])
        test(`of ${target} has the head of GET, and no body`, () => using({}, async (gateway) => {
            const wire = await Wire.open(at(gateway[port]));
            // Whatever came behind the head would be taken for the next answer.
            wire.send(Buffer.concat([request('HEAD', target), GET(target)]));
            const head = await wire.answer({ head: true });
            const whole = await wire.answer();
            assert.equal(head.status, whole.status);
            assert.equal(head.header('content-type'), whole.header('content-type'));
            if (target !== '/metrics' && target !== '/state') // those change
                assert.equal(head.header('content-length'), String(whole.body.length));
            assert.ok(Number(head.header('content-length')) > 0);
            assert.equal(wire.received.length, 0);
            wire.close();
        }));
});
