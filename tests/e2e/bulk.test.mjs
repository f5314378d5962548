// Heartbeats in bulk: one request for many where the controller offers it, one by one elsewhere.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { adminToken, agentToken, serviceToken } from './support/jwt.mjs';
import { Controller } from './support/controller.mjs';
import { Stub, agentId } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const SUITE = { timeout: 30000, concurrency: 4 };
const AGENTS = 100;

const quick = {
    forward_interval: '1s', max_hold: '700ms', expiry: '900ms', min_forward_gap: '100ms', max_rate: 100,
    bulk_linger: '100ms',
};

async function using(options, body) {
    const stub = options.stub ?? await Stub.start({ transcripts: false, bulk: true, ...options.stubOptions });
    let gateway;
    try {
        gateway = await startGateway(stub, {
            config: { workers: options.workers ?? 1, heartbeat: { ...quick, ...options.heartbeat } },
            env: options.token === '' ? {}
                : { AIWM_GATEWAY_UPSTREAM_SERVICE_TOKEN: options.token ?? serviceToken() },
        });
        await body(gateway, stub);
        if (gateway.child.ended) return;
        await assertNoneLost(gateway);
        await gateway.stop();
    } finally {
        if (gateway && !gateway.child.ended) await gateway.child.kill();
        await stub.stop();
    }
}

const said = (gateway) => gateway.child.lines.filter((l) => l.startsWith('{')).map((l) => JSON.parse(l));

const inBulk = (gateway) => eventually('bulk', async () =>
    said(gateway).some((line) => line.message === 'heartbeats go in bulk'));

function beat(gateway, n, status = 'online', mark = 0) {
    return call(gateway.target, 'POST', `/agents/${agentId(n)}/heartbeat`, {
        token: agentToken(agentId(n), { iat: Math.floor(Date.now() / 1000) - 5 }),
        body: { status, metrics: { mark }, agentId: agentId(999) },
    });
}

async function allBeat(gateway, mark, status) {
    for (let n = 0; n < AGENTS; n++) assert.equal((await beat(gateway, n, status, mark)).status, 201);
}

async function counts(gateway) {
    const of = (name) => gateway.metric(`heartbeats_${name}`);
    return {
        received: await of('received_total'), delivered: await of('delivered_total'),
        superseded: await of('superseded_total'), expired: await of('expired_total'),
        held: await of('held'),
    };
}

async function assertNoneLost(gateway) {
    const c = await counts(gateway);
    assert.equal(c.received, c.delivered + c.superseded + c.expired + c.held, JSON.stringify(c));
}

const settled = (gateway) => eventually('nothing to be held', async () => (await counts(gateway)).held === 0, 8000);

describe('heartbeats in bulk', SUITE, () => {
    for (const workers of [1, 4]) {
        test(`many travel in a few requests (${workers} workers)`, () =>
            // No beat is late, or whoever receives it would send it at once.
            using({ workers, heartbeat: { expiry: '20s' } }, async (gateway, stub) => {
                await inBulk(gateway);
                await allBeat(gateway, 1);
                await settled(gateway);
                const first = await stub.counts();
                assert.equal(first.heartbeats, AGENTS, 'first beats go by themselves: their verdict is awaited');
                await allBeat(gateway, 2);
                await settled(gateway);
                const then = await stub.counts();
                assert.equal(then.heartbeats, AGENTS);
                assert.equal(then.bulk_beats_ok, AGENTS);
                // A second of phases, 100 ms of linger: ten, however many workers, and some for stragglers.
                assert.ok(then.bulk_requests <= 25, `${then.bulk_requests} requests`);
                const items = (await stub.requests()).filter((e) => e.route === 'bulk');
                assert.equal(new Set(items.map((e) => e.agent_id ?? e.agent)).size, AGENTS, 'each for itself');
            }));
    }

    test('an outage expires nothing: each beat carries its own time', () =>
        using({}, async (gateway, stub) => {
            await inBulk(gateway);
            await allBeat(gateway, 1);
            await settled(gateway);
            await stub.set({ outage: 'refuse' });
            await allBeat(gateway, 2);
            await sleep(1500);
            await stub.set({ outage: 'off' });
            await settled(gateway);
            const c = await counts(gateway);
            assert.equal(c.expired, 0);
            assert.equal(c.delivered, 2 * AGENTS);
        }));

    test('an item that fails is sent again, the others are not', () =>
        using({}, async (gateway, stub) => {
            await inBulk(gateway);
            await allBeat(gateway, 1);
            await settled(gateway);
            await stub.set({ bulk_fail_items: 3 });
            await allBeat(gateway, 2);
            await settled(gateway);
            const c = await stub.counts();
            assert.equal(c.bulk_beats, AGENTS + 3);
            assert.equal(c.bulk_beats_ok, AGENTS);
        }));

    test('a verdict on an item is heard by that agent alone', () =>
        using({}, async (gateway, stub) => {
            await inBulk(gateway);
            await allBeat(gateway, 1);
            await settled(gateway);
            await call({ host: '127.0.0.1', port: stub.port, tls: false }, 'DELETE', `/agents/${agentId(7)}`, { token: adminToken() });
            await allBeat(gateway, 2);
            await settled(gateway);
            const gone = await beat(gateway, 7);
            assert.equal(gone.status, 404);
            assert.equal(gone.json.message, `Agent with ID ${agentId(7)} not found`);
            assert.equal((await beat(gateway, 8)).status, 201);
        }));

    test('what is held is flushed in bulk at the end', () =>
        using({ heartbeat: { forward_interval: '1h', max_hold: '1h', expiry: '1h', bulk_linger: '10s' } },
            async (gateway, stub) => {
                await inBulk(gateway);
                await allBeat(gateway, 1);
                await settled(gateway);
                await allBeat(gateway, 2);
                await gateway.stop();
                assert.equal((await stub.counts()).bulk_beats_ok, AGENTS);
            }));
});

describe('a reload', SUITE, () => {
    const wait = (gateway, text) => eventually(text, () => said(gateway).some((line) => line.message === text));
    const reload = (gateway, change) => {
        gateway.writeConfig({ ...gateway.config, ...change(gateway.config) });
        gateway.child.signal('SIGHUP');
    };
    const bulk = (word) => ({ heartbeat }) => ({ heartbeat: { ...heartbeat, bulk: word } });

    test('switches bulk on and off', () =>
        using({ heartbeat: { bulk: 'off' } }, async (gateway, stub) => {
            reload(gateway, bulk('auto'));
            await inBulk(gateway);
            await allBeat(gateway, 1);
            await eventually('first beats', async () => (await stub.counts()).heartbeats_ok === AGENTS);
            await allBeat(gateway, 2);
            await eventually('the second in bulk', async () => (await stub.counts()).bulk_beats_ok === AGENTS);
            reload(gateway, bulk('off'));
            await wait(gateway, 'heartbeats go one by one: bulk was switched off');
            await allBeat(gateway, 3);
            await eventually('the third alone', async () => (await stub.counts()).heartbeats_ok === 2 * AGENTS);
            assert.equal((await stub.counts()).bulk_beats_ok, AGENTS);
        }));

    test('with the first service token switches bulk on', () =>
        using({ token: '' }, async (gateway) => {
            const file = path.join(gateway.dir, 'service-token');
            fs.writeFileSync(file, serviceToken(), { mode: 0o600 });
            reload(gateway, ({ upstream }) => ({ upstream: { ...upstream, service_token_file: file } }));
            await inBulk(gateway);
        }));
});

describe('not in bulk', SUITE, () => {
    test('a controller without the route gets them one by one', () =>
        using({ stubOptions: { bulk: false } }, async (gateway, stub) => {
            await eventually('the answer', async () => said(gateway).some((l) => /one by one/.test(l.message)));
            await allBeat(gateway, 1);
            await allBeat(gateway, 2);
            await settled(gateway);
            assert.equal((await stub.counts()).heartbeats, 2 * AGENTS);
        }));

    test('a page for people at that path is no bulk route', async () => {
        const stub = await Controller.start(({ path }) => (path === '/agents/heartbeats'
            ? { status: 200, body: '<html>welcome</html>', headers: { 'Content-Type': 'text/html' } }
            : { status: 201, body: '{"success":true}' }));
        await using({ stub }, async (gateway) => {
            await eventually('the answer', async () => said(gateway).some((l) => /one by one/.test(l.message)));
            await allBeat(gateway, 1);
            await allBeat(gateway, 2);
            await settled(gateway);
            assert.equal((await counts(gateway)).delivered, 2 * AGENTS);
        });
    });

    test('a route that goes mad is given up, and no beat with it', async () => {
        let probes = 0;
        const stub = await Controller.start(({ path }) => {
            if (path !== '/agents/heartbeats') return { status: 201, body: '{"success":true}' };
            return { status: 200, body: probes++ === 0 ? '{"results":[]}' : '{"results":[{"agentId":"x","status":200}]}' };
        });
        await using({ stub, heartbeat: { expiry: '30s' } }, async (gateway) => {
            await inBulk(gateway);
            await allBeat(gateway, 1);
            await allBeat(gateway, 2);
            await settled(gateway);
            const c = await counts(gateway);
            assert.equal(c.delivered + c.superseded, 2 * AGENTS);
            assert.equal(c.expired, 0);
        });
    });

    test('a beat that fits neither way waits without burning a core', async () => {
        let release;
        const held = new Promise((done) => { release = done; });
        const stub = await Controller.start(async ({ path, body }) => {
            if (path === '/agents/heartbeats') {
                const { heartbeats } = JSON.parse(body);
                return { status: 200, body: JSON.stringify({ results: heartbeats.map((h) => ({ agentId: h.agentId, status: 200 })) }) };
            }
            if (path.includes(agentId(0)) === false) await held;
            return { status: 201, body: '{"success":true}' };
        });
        await using({ stub, heartbeat: { expiry: '30s' } }, async (gateway) => {
            await inBulk(gateway);
            // An escaped name: the item cannot be spelled for bulk.
            const odd = (mark) => call(gateway.target, 'POST', `/agents/${agentId(0)}/heartbeat`, {
                token: agentToken(agentId(0)), headers: { 'Content-Type': 'application/json' },
                body: `{"status":"online","\\u0061":${mark}}`,
            });
            assert.equal((await odd(1)).status, 201);
            // First beats of others take all senders there are.
            await Promise.all(Array.from({ length: 40 }, (_, n) => beat(gateway, n + 1)));
            assert.equal((await odd(2)).status, 201);
            await sleep(1000);
            const before = gateway.cpuMs();
            await sleep(500);
            const used = gateway.cpuMs() - before;
            assert.ok(used < 100, `${used} ms of CPU in 500`);
            release();
            await settled(gateway);
        });
    });

    test('a bad service token is said once, loudly, and costs no beat', () =>
        using({ token: agentToken(agentId(1)) }, async (gateway, stub) => {
            await eventually('the complaint', async () =>
                said(gateway).some((l) => l.level === 'error' && /service_token/.test(l.message)));
            await allBeat(gateway, 1);
            await allBeat(gateway, 2);
            await settled(gateway);
            assert.equal((await stub.counts()).heartbeats, 2 * AGENTS);
            assert.equal(said(gateway).filter((l) => l.level === 'error').length, 1);
            const all = JSON.stringify(gateway.child.lines);
            assert.ok(!all.includes('eyJ'), 'no token in the log');
        }));
});
