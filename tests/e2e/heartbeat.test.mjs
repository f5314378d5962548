// Heartbeats: acknowledged here, forwarded when they are due, in order, and none is lost.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, slack, sleep } from './support/child.mjs';
import { Controller, errorBody, gate } from './support/controller.mjs';
import { startGateway } from './support/gateway.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { Stub, agentId, agentSecret, specialId } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Wire, call, request } from './support/wire.mjs';

// Each test has processes of its own; most of them wait.
const SUITE = { timeout: 30000, concurrency: 4 };
const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);

/** Times that a test can wait for. */
const quick = {
    forward_interval: '1s', max_hold: '700ms', expiry: '5s', min_forward_gap: '300ms', max_rate: 100,
};

async function using(options, body) {
    const stub = options.stub ?? await Stub.start({ transcripts: false });
    let gateway;
    try {
        gateway = await startGateway(stub, {
            env: options.env,
            config: {
                workers: 1, breaker: { open: '200ms', max_open: '400ms' },
                ...options.config, heartbeat: { ...quick, ...options.heartbeat },
            },
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

const ofAgent = (n, action = 'heartbeat') => `/agents/${agentId(n)}/${action}`;

/** A heartbeat of agent n; `mark` tells it from others. */
function beat(gateway, n, status = 'online', mark = 0, { id = agentId(n), token = agentToken(id), ...more } = {}) {
    return call(gateway.target, 'POST', `/agents/${id}/heartbeat`, {
        token, body: { status, metrics: { mark } }, ...more,
    });
}

async function acknowledged(promise) {
    const answer = await promise;
    assert.equal(answer.status, 201, answer.text);
    assert.equal(answer.text, '{"success":true}');
    return answer;
}

const disconnect = (gateway, n, more) => call(gateway.target, 'POST', ofAgent(n, 'disconnect'), {
    token: agentToken(agentId(n)), body: { reason: 'test' }, ...more,
});

/** What became of the heartbeats, as the gateway counts them. */
async function counts(gateway) {
    const of = (name) => gateway.metric(`heartbeats_${name}`);
    return {
        received: await of('received_total'),
        delivered: await of('delivered_total'),
        superseded: await of('superseded_total'),
        expired: await of('expired_total'),
        held: await of('held'),
    };
}

async function assertNoneLost(gateway) {
    const c = await counts(gateway);
    assert.equal(c.received, c.delivered + c.superseded + c.expired + c.held, JSON.stringify(c));
}

/** The agent's heartbeats that reached the stub: status and mark. */
async function arrived(stub, n) {
    const entries = await stub.requests();
    return entries.filter((e) => e.target === ofAgent(n)).map((e) => {
        const { status, metrics } = JSON.parse(e.body);
        return `${status} ${metrics?.mark}`;
    });
}

const settled = (gateway) => eventually('nothing to be held', async () => (await counts(gateway)).held === 0);

for (const workers of [1, 4]) {
    const config = { workers };

    describe(`heartbeats (${workers} workers)`, SUITE, () => {
        test('the first passes at once, then the newest of many', () =>
            using({ config, heartbeat: { forward_interval: '4s', max_hold: '1500ms' } }, async (gateway, stub) => {
                await acknowledged(beat(gateway, 1, 'online', 1));
                assert.deepEqual(await arrived(stub, 1), ['online 1']);
                for (let mark = 2; mark <= 9; mark++) await acknowledged(beat(gateway, 1, 'online', mark));
                assert.deepEqual(await arrived(stub, 1), ['online 1']);
                await settled(gateway);
                assert.deepEqual(await arrived(stub, 1), ['online 1', 'online 9']);
                assert.deepEqual(await counts(gateway),
                    { received: 9, delivered: 2, superseded: 7, expired: 0, held: 0 });
            }));

        test('a changed status passes at once, but not within the gap', () =>
            using({ config, heartbeat: { forward_interval: '1h', max_hold: '1h', expiry: '1h', min_forward_gap: '1s' } },
                async (gateway, stub) => {
                    await acknowledged(beat(gateway, 1, 'online', 1));
                    await sleep(1050);
                    await acknowledged(beat(gateway, 1, 'busy', 2));
                    await eventually('the change', async () => (await arrived(stub, 1)).length === 2, 500);
                    await acknowledged(beat(gateway, 1, 'idle', 3));
                    await acknowledged(beat(gateway, 1, 'online', 4));
                    assert.equal((await arrived(stub, 1)).length, 2);
                    await eventually('the next', async () => (await arrived(stub, 1)).length === 3);
                    assert.deepEqual(await arrived(stub, 1), ['online 1', 'busy 2', 'online 4']);
                    await acknowledged(beat(gateway, 1, 'busy', 5));
                    await acknowledged(beat(gateway, 1, 'online', 6));
                    await sleep(1200);
                    assert.equal((await arrived(stub, 1)).length, 3, 'the change was taken back');
                }));

        test('the controller gets the body as it came, and the agent\'s own token', () =>
            using({ config }, async (gateway, stub) => {
                const token = agentToken(agentId(1));
                const body = '{ "status":"online",\n "metrics": {"cpu": 0.1, "x": 1e2}, "extra": [] }';
                const before = await stub.requests();
                await acknowledged(call(gateway.target, 'POST', ofAgent(1), { token, body }));
                const [entry] = (await stub.requests()).slice(before.length).filter((e) => e.target === ofAgent(1));
                assert.equal(entry.body, body);
                assert.equal(entry.status, 201);
            }));

        test('many agents at once are all told, each its newest', () =>
            using({ config }, async (gateway, stub) => {
                await stub.set({ delay_ms: 20 });
                const agents = Array.from({ length: 60 }, (_, n) => n);
                for (let mark = 1; mark <= 3; mark++)
                    await Promise.all(agents.map((n) => acknowledged(beat(gateway, n, 'online', mark))));
                await settled(gateway);
                for (const n of agents) assert.equal((await arrived(stub, n)).at(-1), 'online 3', `agent ${n}`);
            }));

        test('an outage: acknowledged, and the newest delivered afterwards', () =>
            using({ config }, async (gateway, stub) => {
                await acknowledged(beat(gateway, 1, 'online', 1));
                for (const outage of ['refuse', 'hang']) {
                    await stub.set({ outage });
                    for (let n = 1; n <= 5; n++)
                        for (let mark = 2; mark <= 4; mark++) await acknowledged(beat(gateway, n, 'busy', mark));
                    await sleep(400);
                    await stub.set({ outage: 'off' });
                    await settled(gateway);
                    for (let n = 1; n <= 5; n++) assert.equal((await arrived(stub, n)).at(-1), 'busy 4', outage);
                }
                assert.equal((await counts(gateway)).expired, 0);
            }));

        test('TERM: whatever is held arrives before the end', () =>
            using({ config, heartbeat: { forward_interval: '1h', max_hold: '1h', expiry: '1h' } },
                async (gateway, stub) => {
                    const agents = Array.from({ length: 40 }, (_, n) => n);
                    for (let mark = 1; mark <= 2; mark++)
                        await Promise.all(agents.map((n) => acknowledged(beat(gateway, n, 'online', mark))));
                    await stub.set({ delay_ms: 30, fail_next: 7, fail_status: 500 });
                    await gateway.stop();
                    for (const n of agents)
                        assert.equal((await arrived(stub, n)).at(-1), 'online 2', `agent ${n}`);
                }));

        test('TERM while beats still come: each acknowledged one arrives', () =>
            using({ config, heartbeat: { forward_interval: '1h', max_hold: '1h', expiry: '1h' } },
                async (gateway, stub) => {
                    const last = new Map();
                    let going = true;
                    const send = async (n) => {
                        for (let mark = 1; going; mark++) {
                            const answer = await beat(gateway, n, 'online', mark).catch(() => undefined);
                            if (answer?.status === 201) last.set(n, mark);
                            else if (!answer) return;
                        }
                    };
                    const senders = Array.from({ length: 12 }, (_, n) => send(n));
                    await sleep(300);
                    const stopped = gateway.stop();
                    await stopped;
                    going = false;
                    await Promise.all(senders);
                    for (const [n, mark] of last) {
                        const seen = (await arrived(stub, n)).at(-1);
                        assert.ok(Number(seen.split(' ')[1]) >= mark, `agent ${n}: ${seen}, acknowledged ${mark}`);
                    }
                }));

        test('a disconnect waits for the beat under way, drops what is held, and is not overtaken', async () => {
            const held = gate();
            const order = [];
            const stub = await Controller.start(async ({ path, body }) => {
                order.push(`${path.split('/').at(-1)} ${JSON.parse(body).metrics?.mark ?? ''}`.trim());
                if (order.length === 1) await held.opened;
                if (path.endsWith('disconnect')) await sleep(100);
                return { status: 201 };
            });
            await using({ stub, config }, async (gateway) => {
                const first = beat(gateway, 1, 'online', 1);
                await eventually('the first under way', () => order.length === 1);
                await acknowledged(beat(gateway, 1, 'busy', 2));
                const leaving = disconnect(gateway, 1);
                await sleep(150);
                const after = acknowledged(beat(gateway, 1, 'idle', 3));
                await sleep(150);
                assert.deepEqual(order, ['heartbeat 1'], 'it waits');
                held.open();
                await acknowledged(leaving);
                await acknowledged(first);
                await after;
                await settled(gateway);
                // What came before the disconnect was replaced by what came after it.
                assert.deepEqual(order, ['heartbeat 1', 'disconnect', 'heartbeat 3']);
            });
        });

        test('disconnects at once take turns, also when their clients leave', async () => {
            let open = 0, most = 0;
            const stub = await Controller.start(async () => {
                most = Math.max(most, ++open);
                await sleep(50);
                open--;
                return { status: 201 };
            });
            await using({ stub, config }, async (gateway) => {
                const first = beat(gateway, 1);
                await eventually('the first under way', () => open === 1);
                const wires = await Promise.all(Array.from({ length: 3 }, () => Wire.open(gateway.target)));
                for (const wire of wires)
                    wire.send(request('POST', ofAgent(1, 'disconnect'), {
                        headers: { Authorization: `Bearer ${agentToken(agentId(1))}` },
                    }));
                const others = Array.from({ length: 3 }, () => disconnect(gateway, 1));
                await sleep(20);
                wires[0].abort();
                wires[2].abort();
                await acknowledged(first);
                for (const other of others) await acknowledged(other);
                assert.equal((await wires[1].answer()).status, 201);
                await eventually('all of them', () => stub.seen(ofAgent(1, 'disconnect')).length === 6);
                assert.equal(most, 1, 'one at a time');
                await acknowledged(beat(gateway, 1));
            });
        });
    });
}

describe('what the controller says', SUITE, () => {
    test('a deleted agent hears its 404 on its first beat, and then from here', () =>
        using({}, async (gateway, stub) => {
            const id = specialId(1);
            const first = await beat(gateway, 0, 'online', 1, { id });
            assert.equal(first.status, 404);
            assert.equal(first.json.message, `Agent with ID ${id} not found`);
            await sleep(5);
            const second = await beat(gateway, 0, 'busy', 2, { id });
            assert.equal(second.status, 404);
            assert.equal(second.json.message, first.json.message);
            assert.equal(second.json.path, `/agents/${id}/heartbeat`);
            assert.notEqual(second.json.timestamp, first.json.timestamp);
            assert.notEqual(second.json.correlationId, first.json.correlationId);
            assert.equal(second.json.correlationId, second.header('x-correlation-id'));
            const given = await beat(gateway, 0, 'busy', 2, { id, headers: { 'x-correlation-id': 'mine' } });
            assert.equal(given.json.correlationId, 'mine');
            assert.equal((await stub.counts()).heartbeats, 1);
            assert.deepEqual(await counts(gateway),
                { received: 1, delivered: 1, superseded: 0, expired: 0, held: 0 });
        }));

    test('one deleted around the gateway hears it with the beat after the one that is forwarded', () =>
        using({ heartbeat: { min_forward_gap: '0s' } }, async (gateway, stub) => {
            const straight = { host: '127.0.0.1', port: stub.port, tls: false };
            await acknowledged(beat(gateway, 1));
            await call(straight, 'DELETE', `/agents/${agentId(1)}`, { token: adminToken() });
            await acknowledged(beat(gateway, 1, 'busy'));
            await settled(gateway);
            assert.equal((await beat(gateway, 1)).status, 404);
        }));

    test('one deleted through the gateway hears it at once, whatever it presents its token for', () =>
        using({}, async (gateway) => {
            const token = agentToken(agentId(1), { iat: Math.floor(Date.now() / 1000) - 1 });
            await acknowledged(beat(gateway, 1, 'online', 1, { token }));
            assert.equal((await call(gateway.target, 'DELETE', `/agents/${agentId(1)}`, { token: adminToken() })).status, 200);
            const refused = await beat(gateway, 1, 'online', 1, { token });
            assert.equal(refused.status, 404);
            assert.equal(refused.json.message, `Agent with ID ${agentId(1)} not found`);
            assert.equal((await call(gateway.target, 'GET', `/agents/${agentId(2)}`, { token })).status, 404);
        }));

    test('one suspended through the gateway is refused, and let in again when it is active', () =>
        using({}, async (gateway) => {
            const token = agentToken(agentId(1), { iat: Math.floor(Date.now() / 1000) - 1 });
            const put = (status) => call(gateway.target, 'PUT', `/agents/${agentId(1)}`, { token: adminToken(), body: { status } });
            await acknowledged(beat(gateway, 1, 'online', 1, { token }));
            assert.equal((await put('suspended')).status, 200);
            const refused = await beat(gateway, 1, 'online', 1, { token });
            assert.equal(refused.status, 401);
            assert.equal(refused.json.message, 'Agent is suspended');
            await acknowledged(beat(gateway, 2));
            assert.equal((await put('active')).status, 200);
            await acknowledged(beat(gateway, 1, 'online', 1, { token }));
        }));

    test('a verdict forgets the cached connect; a connect the controller answers lifts it', async () => {
        const token = agentToken(agentId(1));
        let gone = true;
        const stub = await Controller.start(({ path }) => {
            if (path.endsWith('connect')) return { status: 201, body: JSON.stringify({ accessToken: token }) };
            return gone ? { status: 404, body: errorBody(404, `Agent with ID ${agentId(1)} not found`) } : { status: 201 };
        });
        const connect = (gateway) => call(gateway.target, 'POST', ofAgent(1, 'connect'), { body: { secret: agentSecret(1) } });
        await using({ stub }, async (gateway) => {
            await connect(gateway);
            assert.match((await connect(gateway)).header('cache-status'), /hit/);
            assert.equal((await beat(gateway, 1)).status, 404);
            assert.equal((await beat(gateway, 1)).status, 404);
            gone = false;
            assert.equal((await beat(gateway, 1)).status, 404, 'it is repeated until a connect');
            assert.equal(stub.seen(ofAgent(1)).length, 1);
            assert.match((await connect(gateway)).header('cache-status'), /miss/);
            await acknowledged(beat(gateway, 1));
            assert.equal(stub.seen(ofAgent(1)).length, 2, 'it counts as first');
        });
    });

    test('a 401 is said to that token only', async () => {
        const [bad, good] = ['bad', 'good'].map((jti) => agentToken(agentId(1), { jti }));
        const stub = await Controller.start(({ headers }) => (headers.authorization.endsWith(bad)
            ? { status: 401, body: errorBody(401, 'Unauthorized') } : { status: 201 }));
        await using({ stub }, async (gateway) => {
            for (let i = 0; i < 3; i++) assert.equal((await beat(gateway, 1, 'online', i, { token: bad })).status, 401);
            await acknowledged(beat(gateway, 1, 'online', 3, { token: good }));
            assert.equal((await beat(gateway, 1, 'online', 4, { token: bad })).status, 401);
            assert.equal(stub.seen(ofAgent(1)).length, 2);
        });
    });

    test('after ten minutes it is asked again', { skip: sanitized && 'no preloading here', timeout: 60000 }, async () => {
        let given = { status: 404, body: errorBody(404, `Agent with ID ${agentId(1)} not found`) };
        const stub = await Controller.start(() => given);
        const config = { drain: { timeout: '1h' }, tls: { enabled: false } };
        await using({ stub, env: timelapse(40), config }, async (gateway) => {
            /** In such haste the gateway may find this client too slow. */
            const status = async () => {
                const answer = await beat(gateway, 1).catch(() => undefined);
                return answer?.status ?? status();
            };
            await eventually('its no', async () => await status() === 404);
            given = { status: 201 };
            assert.equal(await status(), 404, 'repeated from here');
            await eventually('ten minutes', async () => await status() === 201, 40000);
        });
    });

    test('what somebody in between says is no verdict: the beat is kept and tried again', async () => {
        const given = [
            { status: 404, body: errorBody(404, `Cannot POST ${ofAgent(1)}`) },
            { status: 401, body: '<html>', headers: { 'Content-Type': 'text/html' } },
            { status: 500, body: errorBody(500, 'Internal server error') },
            'reset',
            { status: 201 },
        ];
        const stub = await Controller.start(() => given.shift() ?? { status: 201 });
        await using({ stub, heartbeat: { expiry: '30s' } }, async (gateway) => {
            await acknowledged(beat(gateway, 1, 'online', 1));
            assert.equal((await counts(gateway)).held, 1);
            for (let i = 0; i < 4; i++) {
                await eventually('the next try', () => stub.seen(ofAgent(1)).length > i, 10000);
                const { delivered } = await counts(gateway);
                if (given.length > 0) assert.equal(delivered, 0);
            }
            await eventually('success', async () => (await counts(gateway)).delivered === 1, 10000);
            for (const { body } of stub.seen(ofAgent(1))) assert.equal(JSON.parse(body).metrics.mark, 1);
        });
    });

    test('a first beat waits a second at most', () =>
        using({}, async (gateway, stub) => {
            await stub.set({ outage: 'hang' });
            const start = Date.now();
            await acknowledged(beat(gateway, 1, 'online', 1));
            const took = Date.now() - start;
            assert.ok(took >= 950 && took < 1500 + slack(), `${took} ms`);
            await stub.set({ outage: 'off' });
            await settled(gateway);
            assert.deepEqual(await arrived(stub, 1), ['online 1', 'online 1']);
        }));

    test('a client that leaves while its first beat waits has still been heard', () =>
        using({}, async (gateway, stub) => {
            await stub.set({ delay_ms: 200 });
            const wire = await Wire.open(gateway.target);
            wire.send(request('POST', ofAgent(1), {
                headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${agentToken(agentId(1))}` },
                body: { status: 'online' },
            }));
            await eventually('the call', async () => (await stub.counts()).heartbeats === 1);
            wire.abort();
            await settled(gateway);
            assert.equal((await counts(gateway)).delivered, 1);
        }));
});

describe('what is not forwarded', SUITE, () => {
    test('a beat that is too old is counted and dropped', () =>
        using({ heartbeat: { max_hold: '100ms', expiry: '300ms' } }, async (gateway, stub) => {
            await stub.set({ outage: 'refuse' });
            await acknowledged(beat(gateway, 1));
            await eventually('its end', async () => (await counts(gateway)).expired === 1);
            await stub.set({ outage: 'off' });
            await sleep(300);
            assert.deepEqual(await arrived(stub, 1), []);
            assert.deepEqual(await counts(gateway),
                { received: 1, delivered: 0, superseded: 0, expired: 1, held: 0 });
        }));

    test('more than so many a second get 429', () =>
        using({ heartbeat: { max_rate: 5 } }, async (gateway) => {
            const wire = await Wire.open(gateway.target);
            const one = request('POST', ofAgent(1), {
                headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${agentToken(agentId(1))}` },
                body: { status: 'online' },
            });
            const statuses = {};
            for (let i = 0; i < 12; i++) {
                wire.send(one);
                const answer = await wire.answer();
                statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
                if (answer.status !== 429) continue;
                assert.equal(answer.json.code, 'GATEWAY_RATE_LIMITED');
                assert.equal(answer.header('retry-after'), '1');
            }
            assert.ok(statuses[201] >= 5 && statuses[201] <= 6, JSON.stringify(statuses));
            await acknowledged(beat(gateway, 2));
            await sleep(250);
            wire.send(one);
            assert.equal((await wire.answer()).status, 201);
            assert.equal((await counts(gateway)).received, statuses[201] + 2);
            wire.close();
        }));

    test('another agent\'s and a user\'s token: refused, or only reported', async () => {
        const tokens = [agentToken(agentId(2)), adminToken()];
        await using({}, async (gateway, stub) => {
            for (const token of tokens) {
                const answer = await beat(gateway, 1, 'online', 1, { token });
                assert.equal(answer.status, 403);
                assert.equal(answer.json.code, 'GATEWAY_AGENT_MISMATCH');
            }
            assert.equal((await stub.counts()).heartbeats, 0);
            assert.equal(await gateway.metric('tokens_foreign_total'), 2);
        });
        await using({ config: { jwt: { binding: 'report' } } }, async (gateway, stub) => {
            for (const token of tokens) await acknowledged(beat(gateway, 1, 'online', 1, { token }));
            assert.ok((await stub.counts()).heartbeats >= 1);
            assert.equal(await gateway.metric('tokens_foreign_total'), 2);
        });
    });

    test('what the end of the process leaves behind is said, with exit code 1', () =>
        using({ config: { drain: { timeout: '600ms' } } }, async (gateway, stub) => {
            await stub.set({ outage: 'refuse' });
            await acknowledged(beat(gateway, 1));
            await acknowledged(beat(gateway, 2));
            await gateway.stop({ code: 1 });
            assert.equal(gateway.log.find((e) => e.message === 'ended').heartbeats_lost, 2);
        }));
});

describe('the end', SUITE, () => {
    for (const workers of [1, 4])
        test(`cuts whatever still waits, and leaves nothing lying about (${workers} workers)`, () =>
            using({ config: { workers, drain: { timeout: '400ms' } } }, async (gateway, stub) => {
                await stub.set({ outage: 'hang' });
                const answers = [];
                const ask = (promise) => answers.push(promise.then((a) => a.status, () => 'cut'));
                for (let i = 0; i < 5; i++) {
                    ask(beat(gateway, 1, 'online', i));
                    ask(disconnect(gateway, 1));
                    ask(disconnect(gateway, 2));
                    ask(call(gateway.target, 'POST', ofAgent(3, 'connect'), { body: { secret: agentSecret(3) } }));
                    ask(call(gateway.target, 'GET', '/health'));
                    ask(call(gateway.target, 'DELETE', `/agents/${agentId(4)}`, { token: adminToken() }));
                }
                await sleep(300);
                await gateway.stop({ code: 1 });
                const statuses = await Promise.all(answers);
                for (const status of statuses) assert.ok([201, 502, 'cut'].includes(status), String(status));
            }));
});

describe('order', SUITE, () => {
    const padding = 'x'.repeat(9000);
    const large = (gateway, n, status, mark) => call(gateway.target, 'POST', ofAgent(n), {
        token: agentToken(agentId(n)), body: { status, metrics: { mark, padding } },
    });
    const slow = { forward_interval: '1h', max_hold: '1h', expiry: '1h' };

    /** A controller that notes marks in order; `fail` says which of them to refuse. */
    async function noting(fail = () => undefined) {
        const order = [];
        const stub = await Controller.start(async ({ path, body }) => {
            const what = path.endsWith('disconnect') ? 'disconnect' : String(JSON.parse(body).metrics?.mark);
            order.push(what);
            return await fail(what, order) ?? { status: 201 };
        });
        return { stub, order };
    }

    test('a beat too large to hold supersedes the older one that is held', async () => {
        const { stub, order } = await noting();
        await using({ stub, heartbeat: slow }, async (gateway) => {
            await acknowledged(beat(gateway, 1, 'online', 1));
            await acknowledged(beat(gateway, 1, 'online', 2));
            await acknowledged(large(gateway, 1, 'busy', 3));
            assert.deepEqual(order, ['1', '3']);
            assert.deepEqual(await counts(gateway),
                { received: 3, delivered: 2, superseded: 1, expired: 0, held: 0 });
            await acknowledged(beat(gateway, 1, 'busy', 4));
            assert.equal((await counts(gateway)).held, 1, 'its status is known');
        });
    });

    test('when it fails its agent hears so, and the held one still arrives', async () => {
        const { stub, order } = await noting((what) => (what === '3' ? 'reset' : undefined));
        await using({ stub, heartbeat: { ...slow, max_hold: '400ms' } }, async (gateway) => {
            await acknowledged(beat(gateway, 1, 'online', 1));
            await acknowledged(beat(gateway, 1, 'online', 2));
            const failed = await large(gateway, 1, 'busy', 3);
            assert.equal(failed.status, 502);
            await settled(gateway);
            assert.equal(order.at(-1), '2');
            assert.deepEqual(await counts(gateway),
                { received: 2, delivered: 2, superseded: 0, expired: 0, held: 0 });
        });
    });

    test('it waits for the one under way, and what comes after it goes after it', async () => {
        const held = gate();
        const { stub, order } = await noting((what) => (what === '1' ? held.opened : undefined));
        await using({ stub }, async (gateway) => {
            const first = beat(gateway, 1, 'online', 1);
            await eventually('the first under way', () => order.length === 1);
            const second = large(gateway, 1, 'busy', 2);
            await sleep(100);
            const third = acknowledged(beat(gateway, 1, 'idle', 3));
            await sleep(100);
            assert.deepEqual(order, ['1']);
            held.open();
            for (const answer of [first, second]) await acknowledged(answer);
            await third;
            await settled(gateway);
            assert.deepEqual(order, ['1', '2', '3']);
        });
    });

    test('form bodies and tokens about to expire are passed through, and count', async () => {
        const stub = await Controller.start(() => ({ status: 201 }));
        await using({ stub, heartbeat: slow }, async (gateway) => {
            const soon = agentToken(agentId(1), { exp: Math.floor(Date.now() / 1000) + 60 });
            await acknowledged(beat(gateway, 1, 'online', 1));
            for (let i = 0; i < 2; i++) await acknowledged(beat(gateway, 1, 'online', 2, { token: soon }));
            await acknowledged(call(gateway.target, 'POST', ofAgent(1), {
                token: agentToken(agentId(1)), body: 'status=online',
                headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
            }));
            assert.equal(stub.seen(ofAgent(1)).length, 4);
            assert.equal(stub.seen(ofAgent(1)).at(-1).headers['content-type'], 'application/x-www-form-urlencoded');
            assert.deepEqual(await counts(gateway),
                { received: 4, delivered: 4, superseded: 0, expired: 0, held: 0 });
        });
    });

    test('what is passed through is limited and hears verdicts, too', async () => {
        const { stub } = await noting(() => ({ status: 404, body: errorBody(404, 'Agent with ID x not found') }));
        await using({ stub, heartbeat: { max_rate: 3 } }, async (gateway) => {
            assert.equal((await large(gateway, 1, 'online', 1)).status, 404);
            assert.equal((await large(gateway, 1, 'online', 2)).status, 404);
            assert.equal((await beat(gateway, 1, 'online', 3)).status, 404);
            assert.equal(stub.seen(ofAgent(1)).length, 1, 'the others were answered here');
        });
        const { stub: kind } = await noting();
        await using({ stub: kind, heartbeat: { max_rate: 3 } }, async (gateway) => {
            const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => large(gateway, 1, 'online', i)));
            assert.ok(answers.filter((a) => a.status === 429).length >= 2);
        });
    });

    test('a disconnect that fails leaves the held beat to be delivered', async () => {
        const { stub, order } = await noting((what) => (what === 'disconnect' ? 'reset' : undefined));
        await using({ stub, heartbeat: { ...slow, max_hold: '400ms' } }, async (gateway) => {
            await acknowledged(beat(gateway, 1, 'online', 1));
            await acknowledged(beat(gateway, 1, 'online', 2));
            assert.equal((await disconnect(gateway, 1)).status, 502);
            await settled(gateway);
            assert.deepEqual(order, ['1', 'disconnect', '2']);
        });
    });

    test('after a disconnect the next beat passes at once', async () => {
        const { stub, order } = await noting();
        await using({ stub, heartbeat: slow }, async (gateway) => {
            await acknowledged(beat(gateway, 1, 'online', 1));
            await acknowledged(beat(gateway, 1, 'online', 2));
            await acknowledged(disconnect(gateway, 1));
            await acknowledged(beat(gateway, 1, 'online', 3));
            assert.deepEqual(order, ['1', 'disconnect', '3']);
        });
    });

    test('only so many wait for their turn: the agent\'s beats wait behind them', async () => {
        const held = gate();
        const { stub, order } = await noting((what) => (what === '1' ? held.opened : undefined));
        await using({ stub }, async (gateway) => {
            const first = beat(gateway, 1, 'online', 1);
            await eventually('the first under way', () => order.length === 1);
            const waiting = Array.from({ length: 12 }, () => disconnect(gateway, 1));
            await eventually('refusals', async () => (await gateway.metric('answers_total', 'route="disconnect",class="5xx"')) >= 4);
            assert.equal((await large(gateway, 1, 'online', 2)).status, 503);
            held.open();
            await acknowledged(first);
            const answers = (await Promise.all(waiting)).map((a) => a.status).sort();
            assert.deepEqual(answers, [...Array(8).fill(201), ...Array(4).fill(503)]);
        });
    });

    test('a user may disconnect an agent, another agent may not', async () => {
        const { stub, order } = await noting();
        await using({ stub }, async (gateway) => {
            await acknowledged(disconnect(gateway, 1, { token: adminToken() }));
            assert.equal((await disconnect(gateway, 1, { token: agentToken(agentId(2)) })).status, 403);
            assert.equal((await disconnect(gateway, 1, { token: undefined })).status, 401);
            const malformed = await call(gateway.target, 'POST', '/agents/xyz/disconnect', { token: agentToken(agentId(1)) });
            assert.equal(malformed.json.code, 'GATEWAY_BAD_AGENT_ID');
            assert.deepEqual(order, ['disconnect']);
        });
    });

    test('random beats, large and small, with failures: never an older one after a newer one', async () => {
        let seed = 7;
        const random = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
        const last = {};
        const wrong = [];
        const stub = await Controller.start(async ({ path, body }) => {
            const mark = JSON.parse(body).metrics.mark;
            await sleep(random(20));
            if (random(5) === 0) return random(2) ? 'reset' : { status: 500, body: '{}' };
            if (mark < (last[path] ?? 0)) wrong.push(`${path}: ${mark} after ${last[path]}`);
            last[path] = Math.max(mark, last[path] ?? 0);
            return { status: 201 };
        });
        const statuses = ['online', 'busy', 'idle'];
        await using({ stub, config: { workers: 4 }, heartbeat: { ...quick, min_forward_gap: '10ms' } },
            async (gateway) => {
                const end = Date.now() + 3000;
                const one = async (n) => {
                    let acknowledgedMark = 0;
                    for (let mark = 1; Date.now() < end; mark++) {
                        const send = random(4) === 0 ? large : beat;
                        const answer = await send(gateway, n, statuses[random(3)], mark);
                        if (answer.status === 201) acknowledgedMark = mark;
                    }
                    return acknowledgedMark;
                };
                const marks = await Promise.all(Array.from({ length: 8 }, (_, n) => one(n)));
                await eventually('nothing to be held', async () => (await counts(gateway)).held === 0, 15000);
                assert.deepEqual(wrong, []);
                marks.forEach((mark, n) => assert.ok(last[ofAgent(n)] >= mark, `agent ${n}: ${last[ofAgent(n)]} of ${mark}`));
            });
    });
});
