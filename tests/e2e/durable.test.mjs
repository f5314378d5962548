// Heartbeats in Redis: acknowledged ones survive their gateway, and replicas agree on each agent.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Beating as Fleet, KEYS, of, patient, quick } from './support/beating.mjs';
import { eventually, sleep } from './support/child.mjs';
import { Controller, errorBody, gate } from './support/controller.mjs';
import { agentToken, serviceToken } from './support/jwt.mjs';
import { agentId, agentSecret, specialId } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const SUITE = { timeout: 40000, concurrency: 3 };

/** Long enough that what must not happen would have happened. */
const WHILE = 1200;

describe('a heartbeat in Redis', SUITE, () => {
    test('is there when it is acknowledged, and passed on when it is due', () =>
        Fleet.using({ replicas: 1, heartbeat: patient }, async (fleet) => {
            const [a] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.durable(a, 1, 'online', 2);
            assert.equal(await fleet.heldShared(), 1);
            assert.equal((await fleet.counts(a)).held, 0, 'not in memory');
            await fleet.redis.call('ZADD', `${KEYS}beats:due`, '1', agentId(1));
            await fleet.arrives(1, ['online 1', 'online 2']);
            assert.deepEqual(await fleet.assertNoneLost(),
                { received: 2, delivered: 2, superseded: 0, expired: 0, held: 0, heldShared: 0 });
        }));

    test('passes at once when it is a first one or a changed one, through any replica', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.durable(b, 1, 'online', 2);
            await fleet.durable(b, 1, 'busy', 3);
            await fleet.arrives(1, ['online 1', 'busy 3']);
            await fleet.durable(a, 1, 'busy', 4);
            await fleet.durable(a, 1, 'idle', 5);
            await fleet.arrives(1, ['online 1', 'busy 3', 'idle 5']);
            const sum = await fleet.assertNoneLost();
            assert.equal(sum.superseded, 2);
        }));

    test('goes with its own body and token', () =>
        Fleet.using({ replicas: 1 }, async (fleet) => {
            const [a] = fleet.gateways;
            const token = agentToken(agentId(1));
            const body = '{ "status":"online",\n "metrics": {"cpu": 0.1, "x": 1e2}, "extra": [] }';
            for (let i = 0; i < 2; i++) await call(a.target, 'POST', of(1), { token, body });
            await eventually('both', async () => (await fleet.stub.counts()).heartbeats_ok === 2);
            for (const entry of (await fleet.stub.requests()).filter((e) => e.target === of(1)))
                assert.equal(entry.body, body);
        }));

    test('cannot be read there: neither token nor body, in no dump and no command', () =>
        Fleet.using({ replicas: 1, heartbeat: patient }, async (fleet) => {
            const [a] = fleet.gateways;
            const monitor = await fleet.redis.monitor();
            const token = agentToken(agentId(1));
            const body = { status: 'online', metrics: { planted: 'PLANTED-IN-A-BODY' } };
            for (let i = 0; i < 2; i++) await call(a.target, 'POST', of(1), { token, body });
            assert.equal(await fleet.heldShared(), 1);
            const dump = (await fleet.redis.dump()).toString('latin1');
            const seen = monitor.lines.join('\n');
            monitor.close();
            assert.match(dump, /beats:due/);
            assert.match(seen, /EVALSHA/);
            for (const secret of ['PLANTED-IN-A-BODY', token, token.split('.')[1], token.split('.')[2]])
                for (const text of [dump, seen]) assert.ok(!text.includes(secret), 'it can be read');
        }));

    test('a fleet of workers and replicas: each agent\'s newest, in order, and none lost', () =>
        Fleet.using({ workers: 3 }, async (fleet) => {
            const agents = Array.from({ length: 40 }, (_, n) => n);
            for (let mark = 1; mark <= 6; mark++)
                await Promise.all(agents.map((n) =>
                    fleet.durable(fleet.gateways[(n + mark) % 2], n, mark % 3 ? 'online' : 'busy', mark)));
            await eventually('all to be delivered', async () => await fleet.heldShared() === 0, 10000);
            for (const n of agents) {
                const marks = (await fleet.arrived(n)).map((text) => Number(text.split(' ')[1]));
                assert.deepEqual(marks, [...marks].sort((x, y) => x - y), `agent ${n}`);
                assert.equal(marks.at(-1), 6);
            }
            const sum = await fleet.assertNoneLost();
            assert.equal(sum.received, 240);
            await eventually('the gauge to say so', async () =>
                await fleet.gateways[0].metric('heartbeats_held_shared') === 0);
        }));

    test('a burst of first beats: each agent is told, one sender each', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            await fleet.stub.set({ delay_ms: 30 });
            const agents = Array.from({ length: 200 }, (_, n) => n);
            await Promise.all(agents.map((n) => fleet.durable(fleet.gateways[n % 2], n, 'online', 1)));
            await eventually('all to be delivered', async () => await fleet.heldShared() === 0, 10000);
            const counts = await fleet.stub.counts();
            assert.equal(counts.heartbeats, 200);
            await fleet.assertNoneLost();
        }));

    test('a fresh replica knows what the fleet has passed on: nothing is a first beat again', () =>
        Fleet.using({ replicas: 1, heartbeat: patient }, async (fleet) => {
            const agents = Array.from({ length: 30 }, (_, n) => n);
            for (const n of agents) await fleet.durable(fleet.gateways[0], n, 'online', 1);
            await eventually('the first ones', async () => (await fleet.stub.counts()).heartbeats_ok === 30);
            const fresh = await fleet.add();
            for (const n of agents) await fleet.durable(fresh, n, 'online', 2);
            await sleep(WHILE);
            assert.equal((await fleet.stub.counts()).heartbeats, 30);
            assert.equal(await fleet.heldShared(), 30);
        }));

    test('one that is over its time is counted, not passed on', () =>
        Fleet.using({ replicas: 1, heartbeat: { expiry: '900ms', max_hold: '500ms' } }, async (fleet) => {
            const [a] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.stub.set({ outage: 'refuse' });
            await fleet.durable(a, 1, 'online', 2);
            await eventually('it to expire', async () => (await fleet.counts(a)).expired === 1, 15000);
            assert.equal(await fleet.heldShared(), 0);
            await fleet.assertNoneLost();
        }));

    test('after a failure it is tried again, or the newer one instead of it', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.durable(a, 2, 'online', 1);
            await fleet.arrives(2, ['online 1']);
            await fleet.stub.set({ heartbeat_status: 503 });
            await fleet.durable(a, 1, 'busy', 2);
            await fleet.durable(a, 2, 'busy', 2);
            await eventually('failures', async () => (await fleet.stub.counts()).heartbeats >= 4);
            await fleet.durable(b, 1, 'idle', 3);
            await fleet.stub.set({ heartbeat_status: 0 });
            await eventually('all to be delivered', async () => await fleet.heldShared() === 0, 15000);
            assert.equal((await fleet.arrived(1)).at(-1), 'idle 3');
            assert.equal((await fleet.arrived(2)).at(-1), 'busy 2');
            await fleet.assertNoneLost();
        }));

    test('many travel in bulk, each with the time of its receipt', () =>
        Fleet.using({
            bulk: true, heartbeat: { bulk_linger: '100ms' },
            env: { AIWM_GATEWAY_UPSTREAM_SERVICE_TOKEN: serviceToken() },
        }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await Promise.all([a, b].map((g) => g.logged('heartbeats go in bulk')));
            const agents = Array.from({ length: 60 }, (_, n) => n);
            for (const n of agents) await fleet.durable(a, n, 'online', 1);
            const before = Date.now();
            for (const n of agents) await fleet.durable(fleet.gateways[n % 2], n, 'online', 2);
            const after = Date.now();
            await eventually('all to be delivered', async () => await fleet.heldShared() === 0, 10000);
            const counts = await fleet.stub.counts();
            assert.equal(counts.heartbeats, 60, 'first beats go by themselves');
            assert.equal(counts.bulk_beats_ok, 60);
            for (const item of (await fleet.stub.requests()).filter((e) => e.route === 'bulk')) {
                const { at } = JSON.parse(item.body);
                assert.ok(Date.parse(at) >= before - 5 && Date.parse(at) <= after + 5, at);
            }
            await fleet.assertNoneLost();
        }));
});

describe('a gateway that is gone', { ...SUITE, timeout: 90000 }, () => {
    test('killed: another replica delivers what was acknowledged', () =>
        Fleet.using({ heartbeat: { forward_interval: '3s', max_hold: '2s' } }, async (fleet) => {
            const [a] = fleet.gateways;
            const agents = Array.from({ length: 30 }, (_, n) => n);
            for (const n of agents) await fleet.durable(a, n, 'online', 1);
            await eventually('the first ones', async () => (await fleet.stub.counts()).heartbeats_ok === 30);
            for (const n of agents) await fleet.durable(a, n, 'online', 2);
            await a.child.kill();
            for (const n of agents) await fleet.arrives(n, ['online 1', 'online 2']);
        }));

    // What was claimed and not sent yet when it died is its successor's half a minute later.
    test('killed alone: its successor delivers what was acknowledged', { timeout: 60000 }, () =>
        Fleet.using({ replicas: 1, heartbeat: { expiry: '1h' } }, async (fleet) => {
            const [a] = fleet.gateways;
            const agents = Array.from({ length: 30 }, (_, n) => n);
            for (const n of agents) await fleet.durable(a, n, 'online', 1);
            await eventually('the first ones', async () => (await fleet.stub.counts()).heartbeats_ok === 30);
            for (const n of agents) await fleet.durable(a, n, 'busy', 2);
            await a.child.kill();
            await fleet.add();
            for (const n of agents)
                await eventually(`busy 2 of agent ${n}`, async () => (await fleet.arrived(n)).at(-1) === 'busy 2', 45000);
        }));

    test('killed in the middle of a call: when its lease has ended another takes over', async () => {
        const { open, opened } = gate();
        let hanging = 0;
        const controller = await Controller.start(async () => {
            if (hanging++ === 0) await opened;
            return { status: 201 };
        });
        try {
            // Half a minute of lease, by Redis' clock, which no faster clock of the gateways' hurries.
            await Fleet.using({ stub: controller, heartbeat: patient }, async (fleet) => {
                const [a] = fleet.gateways;
                const beat = fleet.beat(a, 1, 'online', 1).catch(() => undefined);
                await eventually('the call', () => controller.seen(of(1)).length === 1);
                await a.child.kill();
                await beat;
                await sleep(WHILE);
                assert.equal(controller.seen(of(1)).length, 1, 'not before the lease has ended');
                await eventually('another to take over', () => controller.seen(of(1)).length === 2, 45000);
            });
        } finally {
            open();
        }
    });

    test('stopped for longer than its claims: what it has is not sent after what others sent meanwhile', () =>
        Fleet.using({
            replicas: 0, bulk: true, heartbeat: patient,
            env: { AIWM_GATEWAY_UPSTREAM_SERVICE_TOKEN: serviceToken() },
        }, async (fleet) => {
            const a = await fleet.add({ heartbeat: { bulk_linger: '10s' } });
            const b = await fleet.add({ heartbeat: { bulk: 'off' } });
            await a.logged('heartbeats go in bulk');
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await eventually('it to be free', async () => await fleet.heldShared() === 0);
            await fleet.durable(a, 1, 'busy', 2); // in a batch, claimed
            await eventually('the claim', async () => await fleet.redis.call('ZCARD', `${KEYS}beats:sending`) === 1);
            a.child.signal('SIGSTOP');
            const stopped = Date.now();
            await fleet.redis.call('ZADD', `${KEYS}beats:sending`, '1', agentId(1)); // its lease has ended
            await fleet.arrives(1, ['online 1', 'busy 2']);
            await fleet.durable(b, 1, 'idle', 3);
            await fleet.arrives(1, ['online 1', 'busy 2', 'idle 3']);
            await sleep(21000 - (Date.now() - stopped));
            a.child.signal('SIGCONT');
            await fleet.durable(b, 1, 'online', 4);
            await sleep(WHILE);
            assert.equal((await fleet.stub.counts()).bulk_beats_ok, 0);
            await fleet.arrives(1, ['online 1', 'busy 2', 'idle 3', 'online 4']);
        }));

    test('ended by TERM: what is due is delivered, the rest stays in Redis, and that is fine', () =>
        Fleet.using({ replicas: 1, heartbeat: patient }, async (fleet) => {
            const [a] = fleet.gateways;
            for (const n of [1, 2]) await fleet.durable(a, n, 'online', 1);
            for (const n of [1, 2]) await fleet.arrives(n, ['online 1']);
            await fleet.durable(a, 1, 'online', 2);
            await fleet.durable(a, 2, 'busy', 2);
            await a.stop();
            assert.deepEqual(await fleet.arrived(1), ['online 1']);
            assert.deepEqual(await fleet.arrived(2), ['online 1', 'busy 2']);
            assert.equal(await fleet.heldShared(), 1);
            const [ended] = a.log.filter((line) => line.message === 'ended');
            assert.equal(ended.heartbeats_lost, 0);
            assert.equal(ended.heartbeats_left_in_redis, 1);
        }));

    test('a replica with another key opens nothing, says so, and leaves the beats to others', () =>
        Fleet.using({ replicas: 1, heartbeat: quick }, async (fleet) => {
            const [a] = fleet.gateways;
            const stranger = await fleet.add({ env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: 'k'.repeat(64) } });
            for (let mark = 1; mark <= 4; mark++) {
                for (let n = 0; n < 10; n++) await fleet.durable(a, n, mark % 2 ? 'online' : 'busy', mark);
                await sleep(300);
            }
            await eventually('all to be delivered', async () => await fleet.heldShared() === 0, 15000);
            for (let n = 0; n < 10; n++) assert.equal((await fleet.arrived(n)).at(-1), 'busy 4');
            const complaints = stranger.log.filter((l) => /does not open/.test(l.message));
            assert.ok(complaints.length <= 2, 'once a worker');
            await fleet.assertNoneLost();
        }));

    test('the key before the last change still opens them', () =>
        Fleet.using({ replicas: 1, heartbeat: patient, env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: 'a'.repeat(64) } },
            async (fleet) => {
                const [a] = fleet.gateways;
                await fleet.durable(a, 1, 'online', 1);
                await fleet.arrives(1, ['online 1']);
                await fleet.durable(a, 1, 'online', 2);
                await a.child.kill();
                const config = { forward_interval: '1s', max_hold: '700ms' };
                const next = await fleet.add({
                    heartbeat: config,
                    env: {
                        AIWM_GATEWAY_CONNECT_CACHE_KEY: 'b'.repeat(64),
                        AIWM_GATEWAY_CONNECT_CACHE_PREVIOUS_KEY: 'a'.repeat(64),
                    },
                });
                // Its due time stands in Redis, an hour away: a changed status cannot bring this one
                // forward, so the clock is turned for it.
                await fleet.redis.call('ZADD', `${KEYS}beats:due`, '1', agentId(1));
                await fleet.arrives(1, ['online 1', 'online 2'], 10000);
                assert.equal(next.log.filter((l) => /does not open/.test(l.message)).length, 0);
            }));
});

/** Who asked is answered before Redis has heard of it, by a moment. */
const told = (fleet) => eventually('Redis to know', async () =>
    await fleet.redis.call('ZCARD', `${KEYS}beats:sending`) === 0);

describe('the controller\'s no', SUITE, () => {
    test('said through one replica is repeated by all, until a connect is answered through any', async () => {
        let gone = false;
        const message = `Agent with ID ${agentId(1)} not found`;
        const controller = await Controller.start(({ path }) => {
            if (path.endsWith('connect')) return { status: 201, body: '{"expiresIn":1}' };
            return gone ? { status: 404, body: errorBody(404, message) } : { status: 201 };
        });
        await Fleet.using({ stub: controller, heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            gone = true;
            await fleet.beat(a, 1, 'busy', 2);
            await eventually('the no', async () => (await fleet.beat(a, 1, 'busy', 3)).status === 404);
            await told(fleet);
            const before = controller.seen(of(1)).length;
            const answer = await fleet.beat(b, 1, 'idle', 4);
            assert.equal(answer.status, 404);
            assert.equal(answer.json.message, message);
            assert.equal(controller.seen(of(1)).length, before);
            gone = false;
            const connect = await call(b.target, 'POST', of(1, 'connect'), { body: { secret: agentSecret(1) } });
            assert.equal(connect.status, 201);
            await eventually('it to be lifted', async () => (await fleet.beat(a, 1, 'idle', 5)).status === 201);
            await eventually('the beat', () => /"mark":5/.test(controller.seen(of(1)).at(-1).body));
        });
    });

    test('to a first beat is heard at once, and nothing is held', () =>
        Fleet.using({}, async (fleet) => {
            const [a, b] = fleet.gateways;
            for (const gateway of [a, b, a]) {
                const answer = await fleet.beat(gateway, 0, 'online', 1, { id: specialId(1) });
                assert.equal(answer.status, 404, answer.text);
                await told(fleet);
            }
            assert.equal(await fleet.heldShared(), 0);
            assert.equal((await fleet.stub.counts()).heartbeats, 1);
        }));

    test('a 401 is about the token it was said to', async () => {
        const old = agentToken(agentId(1), { iat: Math.floor(Date.now() / 1000) - 100 });
        const fresh = agentToken(agentId(1));
        const controller = await Controller.start(({ headers }) =>
            (headers.authorization.endsWith(old)
                ? { status: 401, body: errorBody(401, 'Unauthorized') } : { status: 201 }));
        await Fleet.using({ stub: controller, heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            assert.equal((await fleet.beat(a, 1, 'online', 1, { token: old })).status, 401);
            await told(fleet);
            assert.equal((await fleet.beat(b, 1, 'online', 2, { token: old })).status, 401);
            assert.equal(controller.seen(of(1)).length, 1);
            assert.equal((await fleet.beat(b, 1, 'online', 3, { token: fresh })).status, 201);
            assert.equal(controller.seen(of(1)).length, 2);
        });
    });

});

describe('calls that keep their place, over replicas', SUITE, () => {
    test('a disconnect through another replica drops what was held; the next beat is a first', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.durable(a, 1, 'online', 2);
            assert.equal((await fleet.disconnect(b, 1)).status, 201);
            await eventually('the drop', async () => await fleet.heldShared() === 0);
            await fleet.durable(a, 1, 'online', 3);
            await fleet.arrives(1, ['online 1', 'disconnect', 'online 3']);
            const sum = await fleet.assertNoneLost();
            assert.equal(sum.superseded, 1);
        }));

    test('nobody sends while it is asked, and it waits for the beat under way', async () => {
        const beatGate = gate(), disconnectGate = gate();
        const order = [];
        const controller = await Controller.start(async ({ path, body }) => {
            const what = path.endsWith('disconnect') ? 'disconnect' : JSON.parse(body).metrics.mark;
            order.push(what);
            if (what === 2) await beatGate.opened;
            if (what === 'disconnect') await disconnectGate.opened;
            return { status: 201 };
        });
        await Fleet.using({ stub: controller, heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.durable(a, 1, 'busy', 2);
            await eventually('the beat', () => order.length === 2);
            const leaving = fleet.disconnect(b, 1);
            await sleep(400);
            assert.deepEqual(order, [1, 2], 'it waits');
            beatGate.open();
            await eventually('the disconnect', () => order.length === 3);
            await fleet.durable(a, 1, 'idle', 3);
            await sleep(WHILE);
            assert.deepEqual(order, [1, 2, 'disconnect'], 'nobody sends');
            disconnectGate.open();
            assert.equal((await leaving).status, 201);
            await eventually('the beat after it', () => order.length === 4);
            assert.deepEqual(order, [1, 2, 'disconnect', 3]);
            await fleet.assertNoneLost();
        });
    });

    test('a disconnect that fails leaves the held beat where it was', () =>
        Fleet.using({ heartbeat: { max_hold: '1500ms', forward_interval: '2s' } }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.durable(a, 1, 'online', 2);
            await fleet.stub.set({ fail_next: 1, fail_status: 503 });
            assert.equal((await fleet.disconnect(b, 1)).status, 503);
            await eventually('the beat', async () => (await fleet.arrived(1)).at(-1) === 'online 2');
        }));

    test('a beat too large to be held goes in its turn, and older ones not after it', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.durable(a, 1, 'online', 2);
            const body = { status: 'busy', metrics: { mark: 3, large: 'x'.repeat(9000) } };
            const answer = await call(b.target, 'POST', of(1), { token: agentToken(agentId(1)), body });
            assert.equal(answer.status, 201);
            await fleet.arrives(1, ['online 1', 'busy 3']);
            await eventually('the drop', async () => await fleet.heldShared() === 0);
            await fleet.durable(a, 1, 'busy', 4);
            await sleep(WHILE);
            await fleet.arrives(1, ['online 1', 'busy 3']);
            await fleet.assertNoneLost();
        }));
});

