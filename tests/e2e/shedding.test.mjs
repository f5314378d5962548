// The gateway at its own limits: strangers make room for agents, connects are given up first and
// heartbeats last, and what is refused is refused before it is read.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { connect, path, using } from './support/connecting.mjs';
import { agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { Wire, call, request } from './support/wire.mjs';

const SUITE = { timeout: 40000, concurrency: 3 };

const bearer = (n) => ({ Authorization: `Bearer ${agentToken(agentId(n))}` });
const beatOf = (n) => request('POST', path(n, 'heartbeat'), {
    headers: { ...bearer(n), 'Content-Type': 'application/json' }, body: { status: 'online' },
});

async function beat(wire, n) {
    wire.send(beatOf(n));
    return wire.answer();
}

function assertOverloaded(answer, seconds) {
    assert.equal(answer.status, 503, answer.text);
    assert.equal(answer.json.code, 'GATEWAY_OVERLOADED');
    assert.equal(Number(answer.header('retry-after')), seconds);
}

async function withWires(body) {
    const wires = [];
    const open = async (target) => {
        const wire = await Wire.open(target);
        wires.push(wire);
        return wire;
    };
    try {
        await body(open);
    } finally {
        for (const wire of wires) wire.close();
    }
}

describe('connections', SUITE, () => {
    const few = { config: { listen: { max_connections: 20 } } };

    test('of strangers make room for newcomers, those of agents stay', () =>
        using(few, (gateway) => withWires(async (open) => {
            const agents = [];
            for (let n = 0; n < 10; n++) {
                agents.push(await open(gateway.target));
                assert.equal((await beat(agents[n], n)).status, 201);
            }
            const strangers = [];
            for (let i = 0; i < 60; i++) strangers.push(await open(gateway.target));
            await eventually('as many as may be', async () => (await gateway.metric('connections')) === 20);
            assert.equal(await gateway.metric('connections_evicted_total'), 50);
            assert.equal(await gateway.metric('connections_refused_total', 'reason="limit"'), 0);
            await strangers[0].closed();
            assert.equal(strangers[59].how, undefined, 'the youngest are there');
            for (let n = 0; n < 10; n++) assert.equal((await beat(agents[n], n)).status, 201);
            const late = await open(gateway.target);
            assert.equal((await beat(late, 100)).status, 201);
            for (let i = 0; i < 20; i++) await open(gateway.target);
            assert.equal((await beat(late, 100)).status, 201);
        })));

    test('of those who only begin a request are strangers\', too', () =>
        using({ config: { ...few.config, tls: { enabled: false } } }, (gateway) => withWires(async (open) => {
            for (let i = 0; i < 20; i++) (await open(gateway.target)).send('POST /agents HTTP/1.1\r\nHost:');
            for (let n = 0; n < 5; n++) assert.equal((await connect(gateway, n)).status, 201);
        })));

    test('a stranger who is being served is not sent away', () =>
        using({ config: { listen: { max_connections: 4 } } }, (gateway, stub) => withWires(async (open) => {
            await stub.set({ delay_ms: 700 });
            const waiting = await open(gateway.target);
            waiting.send(request('GET', '/agents'));
            await eventually('it waits', async () => (await gateway.metric('requests_in_flight')) === 1);
            for (let i = 0; i < 10; i++) await open(gateway.target);
            const answer = await waiting.answer();
            assert.notEqual(answer.status, 503);
            await eventually('it is counted no more', async () => (await gateway.metric('requests_in_flight')) === 0);
        })));

    test('nearly all of them agents\': connects are refused, heartbeats not', () =>
        using({ config: { listen: { max_connections: 10 } } }, (gateway) => withWires(async (open) => {
            let wire;
            for (let n = 0; n < 9; n++) assert.equal((await beat(wire = await open(gateway.target), n)).status, 201);
            await gateway.logged('at the gateway\'s own limits');
            wire.send(request('POST', path(8), {
                headers: { 'Content-Type': 'application/json' }, body: { secret: 'x' },
            }));
            assertOverloaded(await wire.answer(), 10);
            assert.equal((await beat(wire, 8)).status, 201, 'on the same connection');
        })));
});

describe('requests that wait for an answer', SUITE, () => {
    test('are bounded; heartbeats are still taken', () =>
        using({ config: { limits: { max_in_flight: 3 } } }, (gateway, stub) => withWires(async (open) => {
            const agent = await open(gateway.target);
            assert.equal((await beat(agent, 1)).status, 201);
            await stub.set({ delay_ms: 1500 });
            const waiting = [];
            for (let i = 0; i < 3; i++) {
                const wire = await open(gateway.target);
                wire.send(request('GET', '/agents'));
                waiting.push(wire);
            }
            await eventually('they wait', async () => (await gateway.metric('requests_in_flight')) === 3);
            assertOverloaded(await call(gateway.target, 'GET', '/agents'), 3);
            assertOverloaded(await connect(gateway, 2), 10);
            assert.equal((await beat(agent, 1)).status, 201);
            for (const wire of waiting) assert.notEqual((await wire.answer()).status, 503);
            await stub.set({ delay_ms: 0 });
            const served = async () => (await call(gateway.target, 'GET', '/agents')).status !== 503;
            await eventually('room again', served);
        })));

    test('one whose client leaves waits no more', () =>
        using({ config: { limits: { max_in_flight: 1 } } }, (gateway, stub) => withWires(async (open) => {
            await stub.set({ delay_ms: 5000 });
            const wire = await open(gateway.target);
            wire.send(request('GET', '/agents'));
            await eventually('it waits', async () => (await gateway.metric('requests_in_flight')) === 1);
            wire.close();
            await eventually('it is gone', async () => (await gateway.metric('requests_in_flight')) === 0);
        })));

    test('what is pipelined behind them is bounded in memory', () =>
        using({ config: { limits: { request_memory: '1MiB' }, tls: { enabled: false } } },
            (gateway, stub) => withWires(async (open) => {
                await stub.set({ delay_ms: 1000 });
                const more = request('GET', '/agents', { headers: { 'X-Pad': 'x'.repeat(8000) } });
                const waiting = [];
                for (let i = 0; i < 60; i++) {
                    const wire = await open(gateway.target);
                    wire.send(request('GET', '/agents'));
                    waiting.push(wire);
                }
                await eventually('they wait', async () => (await gateway.metric('requests_in_flight')) === 60);
                for (const wire of waiting) wire.send(Buffer.concat([more, more, more, more, more]));
                const ends = await Promise.all(waiting.map(async (wire) => (await wire.answer()).header('connection')));
                const closed = ends.filter((how) => how === 'close').length;
                assert.ok(closed >= 20 && closed < 60, `${closed} were told that nothing follows`);
            })));
});

describe('without memory', SUITE, () => {
    const short = { config: { limits: { memory: '1MiB' } } };

    test('everything is refused, what can wait longest is told to', () =>
        using(short, (gateway) => withWires(async (open) => {
            await gateway.logged('at the gateway\'s own limits', { refused: 'everything' });
            const wire = await open(gateway.target);
            assertOverloaded(await beat(wire, 1), 1);
            assertOverloaded(await connect(gateway, 1), 10);
            assertOverloaded(await call(gateway.target, 'GET', '/agents'), 3);
            assert.equal(await gateway.metric('shed_total', 'what="heartbeats"'), 1);
            assert.equal(wire.how, undefined, 'the connection goes on: a new one would cost more');
        })));

    test('a body that is still to come is not read', () =>
        using(short, (gateway) => withWires(async (open) => {
            await gateway.logged('at the gateway\'s own limits');
            for (const framing of [['Content-Length', '1000000'], ['Transfer-Encoding', 'chunked']]) {
                const wire = await open(gateway.target);
                wire.send(request('POST', '/agents', { headers: [framing, ['Expect', '100-continue']] }));
                const answer = await wire.answer();
                assertOverloaded(answer, 3);
                assert.equal(answer.interim.length, 0);
                await wire.closed();
            }
        })));
});

/** While `body` runs the gateway's processor is taken away again and again, so that its loop is
 * late by some 0.5 to 0.6 s each time. */
async function whileLate(gateway, body) {
    let over = false;
    const pulses = (async () => {
        while (!over) {
            gateway.child.signal('SIGSTOP');
            await sleep(600);
            gateway.child.signal('SIGCONT');
            await sleep(20);
        }
    })();
    try {
        await body();
    } finally {
        over = true;
        await pulses;
    }
}

describe('a loop that lags', SUITE, () => {
    const lag = (limit) => ({ config: { limits: { max_loop_lag: limit } } });

    test('gives up connects and goes on with heartbeats, until it does not lag any more', () =>
        using(lag('400ms'), (gateway) => withWires(async (open) => {
            const wire = await open(gateway.target);
            assert.equal((await beat(wire, 1)).status, 201);
            await whileLate(gateway, async () => {
                await gateway.logged('at the gateway\'s own limits', { refused: 'connects' });
                assertOverloaded(await connect(gateway, 2), 10);
                assert.equal((await beat(wire, 1)).status, 201);
            });
            await gateway.logged('within the gateway\'s own limits again');
            assert.equal((await connect(gateway, 2)).status, 201);
            assert.equal(await gateway.metric('shed_total', 'what="heartbeats"'), 0);
        })));

    test('by far too much gives up everything', () =>
        using(lag('100ms'), (gateway) => withWires(async (open) => {
            const wire = await open(gateway.target);
            await whileLate(gateway, async () => {
                await gateway.logged('at the gateway\'s own limits', { refused: 'everything' });
                assertOverloaded(await call(gateway.target, 'GET', '/agents'), 3);
                assertOverloaded(await beat(wire, 1), 1);
            });
            await gateway.logged('within the gateway\'s own limits again');
            assert.equal((await beat(wire, 1)).status, 201);
        })));
});

test('a caller who asks for too much is told before his body is read', () =>
    using({ config: { limits: { api_rate: 1, api_burst: 1 } } }, (gateway) => withWires(async (open) => {
        assert.notEqual((await call(gateway.target, 'GET', '/agents', { headers: bearer(1) })).status, 429);
        const wire = await open(gateway.target);
        wire.send(request('POST', '/agents', {
            headers: { ...bearer(1), 'Content-Length': '1000000', Expect: '100-continue' },
        }));
        const answer = await wire.answer();
        assert.equal(answer.status, 429);
        assert.equal(answer.header('retry-after'), '1');
        assert.equal(answer.interim.length, 0);
    })));
