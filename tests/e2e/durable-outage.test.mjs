// Heartbeats while Redis is away, slow, or comes back.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Beating as Fleet, KEYS, of, patient } from './support/beating.mjs';
import { eventually, slack, sleep } from './support/child.mjs';
import { Controller, gate } from './support/controller.mjs';
import { hears } from './support/fleet.mjs';
import { agentId } from './support/stub.mjs';
import { Toxic } from './support/toxic.mjs';
import { agentToken } from './support/jwt.mjs';
import { call } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 3 };

const away = (gateway) => eventually('Redis to be missed', async () =>
    await gateway.metric('redis_connections') === 0, 10000);

describe('heartbeats without their Redis', SUITE, () => {
    test('are held in memory, as their acknowledgement says, and passed on from there', () =>
        Fleet.using({ replicas: 1 }, async (fleet) => {
            const [a] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.redis.kill();
            await away(a);
            await fleet.fleeting(a, 1, 'online', 2);
            await fleet.arrives(1, ['online 1', 'online 2']);
            await fleet.fleeting(a, 2, 'online', 1);
            await fleet.arrives(2, ['online 1']);
        }));

    test('go to Redis when it comes back, and are delivered from there', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.redis.kill();
            await Promise.all([away(a), away(b)]);
            await fleet.fleeting(a, 1, 'online', 2);
            assert.equal((await fleet.counts(a)).held, 1);
            await fleet.redis.restart();
            await eventually('it to move', async () => await fleet.heldShared() === 1, 15000);
            await eventually('memory to be empty', async () => (await fleet.counts(a)).held === 0);
            await a.child.kill();
            await fleet.redis.call('ZADD', `${KEYS}beats:due`, '1', agentId(1));
            await fleet.arrives(1, ['online 1', 'online 2'], 10000);
        }));

    test('a question that Redis hears after its asker has gone keeps no agent from the others', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            const agents = [1, 2, 3, 4, 5, 6];
            for (const n of agents) await fleet.durable(a, n, 'online', 1);
            await eventually('all to be delivered', async () => await fleet.heldShared() === 0);
            fleet.redis.pause();
            // Each is due at once: should Redis store it, it would give it to its asker to send.
            await Promise.all(agents.map((n) => fleet.fleeting(a, n, 'busy', 2)));
            await away(a);
            fleet.redis.resume();
            await Promise.all([a, b].map((gateway) => hears(gateway, 15000)));
            const start = Date.now();
            const answers = await Promise.all(agents.map((n) => call(b.target, 'POST',
                `/agents/${agentId(n)}/disconnect`, { token: agentToken(agentId(n)), body: { reason: 'x' } })));
            assert.deepEqual(answers.map(({ status }) => status), agents.map(() => 201));
            assert.ok(Date.now() - start < 9000 + slack(), 'nobody waited for a lease to end');
        }));

    test('no older one goes after a newer one that was delivered meanwhile', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.durable(a, 1, 'online', 2); // held in Redis
            await fleet.redis.kill();
            await Promise.all([away(a), away(b)]);
            await fleet.fleeting(b, 1, 'busy', 3); // changed: delivered from memory
            await fleet.arrives(1, ['online 1', 'busy 3']);
            await fleet.redis.restart();
            await eventually('the older one to be dropped', async () => await fleet.heldShared() === 0, 15000);
            await Promise.all([a, b].map((gateway) => hears(gateway, 15000)));
            await fleet.durable(a, 1, 'idle', 4);
            await fleet.arrives(1, ['online 1', 'busy 3', 'idle 4']);
            await fleet.assertNoneLost();
        }));

    test('a replica that starts waits for those who were cut off and are not back yet', () =>
        Fleet.using({ replicas: 0, heartbeat: patient }, async (fleet) => {
            const toxic = await Toxic.start(fleet.redis.port);
            try {
                const cut = await fleet.add({ config: { redis: { url: `redis://127.0.0.1:${toxic.port}` } } });
                await fleet.durable(cut, 1, 'online', 1);
                await fleet.arrives(1, ['online 1']);
                await fleet.durable(cut, 1, 'online', 2);
                await fleet.redis.call('ZADD', `${KEYS}beats:due`, String(Date.now() + 1000), agentId(1));
                await toxic.refuse();
                await away(cut);
                await fleet.fleeting(cut, 1, 'busy', 3);
                await fleet.arrives(1, ['online 1', 'busy 3']);
                const fresh = await fleet.add(); // finds the second due, or soon
                await sleep(500);
                await toxic.pass();
                await hears(cut, 15000);
                await eventually('the older one to be dropped', async () => await fleet.heldShared() === 0, 15000);
                await fleet.durable(fresh, 1, 'idle', 4);
                await fleet.arrives(1, ['online 1', 'busy 3', 'idle 4']);
            } finally {
                await toxic.stop();
            }
        }));

    test('of two that were held in memory the newer wins', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            for (const gateway of [a, b]) await fleet.durable(gateway, 1, 'online', 1);
            await eventually('the first', async () => (await fleet.arrived(1)).length === 1);
            await fleet.redis.kill();
            await Promise.all([away(a), away(b)]);
            await fleet.fleeting(b, 1, 'online', 2);
            await sleep(500); // replicas know Redis' clock to half a round trip, which may be long here
            await fleet.fleeting(a, 1, 'online', 3);
            await fleet.redis.restart();
            await eventually('both to move', async () =>
                (await fleet.counts(a)).held + (await fleet.counts(b)).held === 0, 15000);
            assert.equal(await fleet.heldShared(), 1);
            await fleet.redis.call('ZADD', `${KEYS}beats:due`, '1', agentId(1));
            await fleet.arrives(1, ['online 1', 'online 3'], 10000);
            await fleet.assertNoneLost();
        }));

    // As when a gateway is too busy to read what Redis answered long ago. What is claimed by a clock
    // that is half a second behind counts as asked too late.
    test('a clock that was learnt wrongly is learnt again, and what is due is passed on', async () => {
        let toxic;
        const options = { replicas: 0, workers: 1, heartbeat: patient, redisConfig: { connect_timeout: '20s', command_timeout: '20s' },
            redisUrl: () => `redis://127.0.0.1:${toxic.port}` };
        await Fleet.using(options, async (fleet) => {
            toxic = await Toxic.start(fleet.redis.port);
            try {
                const gateway = await fleet.add();
                await toxic.pass({ delayMs: 500 });
                toxic.cut();
                const before = toxic.connections;
                await eventually('it comes again', () => toxic.connections >= before + 3);
                await sleep(600); // its greeting has been read, the answer is under way
                gateway.child.signal('SIGSTOP');
                await sleep(4000);
                gateway.child.signal('SIGCONT');
                await toxic.pass();
                await hears(gateway, 15000);
                await fleet.durable(gateway, 1, 'online', 1);
                await fleet.arrives(1, ['online 1'], 15000);
            } finally {
                await toxic.stop();
            }
        });
    });

    test('replicas agree on the time, though one was greeted by a Redis that had stopped', async () => {
        const patience = { connect_timeout: '20s', command_timeout: '20s' };
        await Fleet.using({ replicas: 0, workers: 1, heartbeat: patient }, async (fleet) => {
            const toxic = await Toxic.start(fleet.redis.port);
            try {
                const far = `redis://127.0.0.1:${toxic.port}`;
                const a = await fleet.add({ config: { redis: { url: far, ...patience } } });
                const b = await fleet.add({ config: { redis: { url: fleet.redis.url, ...patience } } });
                fleet.redis.pause();
                const before = toxic.connections;
                toxic.cut();
                await eventually('a asks again', () => toxic.connections >= before + 3);
                await sleep(2000);
                fleet.redis.resume();
                await hears(a, 15000);
                await fleet.durable(a, 1, 'online', 1);
                await fleet.durable(b, 1, 'busy', 2);
                await fleet.arrives(1, ['busy 2'], 15000); // nobody claims yet: the newer one supersedes
            } finally {
                await toxic.stop();
            }
        });
    });

    test('a call that began without Redis keeps its agent until it has ended', async () => {
        const { open, opened } = gate();
        const order = [];
        const controller = await Controller.start(async ({ body }) => {
            const { mark } = JSON.parse(body).metrics;
            order.push(mark);
            if (mark === 2) await opened;
            return { status: 201 };
        });
        await Fleet.using({ stub: controller, heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await eventually('the first', () => order.length === 1);
            await eventually('Redis to know', async () => await fleet.heldShared() === 0); // its lease has ended
            await fleet.redis.kill();
            await Promise.all([away(a), away(b)]);
            await fleet.fleeting(a, 1, 'busy', 2);
            await eventually('the second', () => order.length === 2);
            await fleet.redis.restart();
            await eventually('Redis', async () =>
                await fleet.redis.call('ZCARD', `${KEYS}beats:turns`) === 1, 15000);
            await Promise.all([a, b].map((gateway) => hears(gateway, 15000)));
            await fleet.durable(b, 1, 'idle', 3);
            await sleep(4500); // longer than nobody claims after an outage
            assert.deepEqual(order, [1, 2]);
            open();
            await eventually('the third', () => order.length === 3, 10000);
            assert.deepEqual(order, [1, 2, 3]);
        });
    });

    for (const [fate, status] of [['was delivered', 201], ['failed', 503]])
        test(`a beat that ${fate} when Redis could not be told keeps nobody waiting afterwards`, async () => {
            const { open, opened } = gate();
            const order = [];
            const controller = await Controller.start(async ({ path, body }) => {
                const { status: word, metrics } = JSON.parse(body);
                const what = path.endsWith('disconnect') ? 'disconnect' : `${word} ${metrics.mark}`;
                if (order.at(-1) !== what) order.push(what); // one that failed may come again
                if (metrics?.mark !== 2) return { status: 201 };
                await opened;
                return { status };
            });
            await Fleet.using({ stub: controller, heartbeat: patient }, async (fleet) => {
                const [a, b] = fleet.gateways;
                await fleet.durable(a, 1, 'online', 1);
                await eventually('the first', async () => order.length === 1 && await fleet.heldShared() === 0);
                await fleet.durable(a, 1, 'busy', 2); // claimed, and under way
                await eventually('the second', () => order.length === 2);
                await fleet.redis.kill();
                await Promise.all([away(a), away(b)]);
                open();
                if (status === 201)
                    await eventually('its end', async () => (await fleet.counts(a)).delivered === 2);
                await fleet.redis.restart();
                await Promise.all([a, b].map((gateway) => hears(gateway, 15000)));
                await eventually('the agent to be given back', async () =>
                    await fleet.redis.call('ZCARD', `${KEYS}beats:sending`) === 0, 10000);
                assert.equal((await fleet.disconnect(b, 1)).status, 201);
                await fleet.durable(b, 1, 'idle', 3);
                await eventually('the third', () => order.length === 4, 10000);
                assert.deepEqual(order, ['online 1', 'busy 2', 'disconnect', 'idle 3']);
                await fleet.assertNoneLost();
            });
        });

    test('a disconnect that was answered when Redis could not be told keeps nobody waiting afterwards', async () => {
        const { open, opened } = gate();
        const order = [];
        const controller = await Controller.start(async ({ path }) => {
            const isDisconnect = path.endsWith('disconnect');
            order.push(isDisconnect ? 'disconnect' : 'beat');
            if (isDisconnect) await opened;
            return { status: 201 };
        });
        await Fleet.using({ stub: controller, heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            const leaving = fleet.disconnect(a, 1);
            await eventually('the disconnect', () => order.length === 1);
            await fleet.redis.kill();
            await Promise.all([away(a), away(b)]);
            open();
            assert.equal((await leaving).status, 201);
            await fleet.redis.restart();
            await Promise.all([a, b].map((gateway) => hears(gateway, 15000)));
            await eventually('the agent to be given back', async () =>
                await fleet.redis.call('ZCARD', `${KEYS}beats:turns`) === 0, 10000);
            await fleet.durable(b, 1, 'online', 1);
            await eventually('the beat', () => order.length === 2, 10000);
        });
    });

    test('a disconnect during the outage is told: what Redis held before it does not go after it', () =>
        Fleet.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.durable(a, 1, 'online', 2);
            await fleet.redis.kill();
            await Promise.all([away(a), away(b)]);
            assert.equal((await fleet.disconnect(b, 1)).status, 201);
            await fleet.redis.restart();
            await eventually('the older one to be dropped', async () => await fleet.heldShared() === 0, 15000);
            await sleep(3500);
            assert.deepEqual(await fleet.arrived(1), ['online 1', 'disconnect']);
        }));

    test('TERM while Redis is away passes on all that memory holds', () =>
        Fleet.using({ replicas: 1, heartbeat: patient }, async (fleet) => {
            const [a] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.redis.kill();
            await away(a);
            await fleet.fleeting(a, 1, 'online', 2);
            await a.stop();
            assert.deepEqual(await fleet.arrived(1), ['online 1', 'online 2']);
        }));
});

describe('heartbeats before a slow Redis', SUITE, () => {
    test('do not wait longer than their budget: memory has them, until Redis has', () =>
        Fleet.using({ replicas: 1, heartbeat: { ...patient, ack_budget: '50ms' }, redisConfig: { command_timeout: '30s' } }, async (fleet) => {
            const [a] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            fleet.redis.pause();
            await fleet.fleeting(a, 1, 'online', 2); // waits for the budget
            await fleet.fleeting(a, 1, 'online', 3); // does not wait
            await fleet.fleeting(a, 2, 'online', 1);
            fleet.redis.resume();
            await eventually('memory to be empty', async () => (await fleet.counts(a)).held === 0, 15000);
            await fleet.beat(a, 1, 'busy', 4);
            await fleet.arrives(1, ['online 1', 'busy 4']);
            await fleet.arrives(2, ['online 1']);
        }));

    test('are all acknowledged while it is stopped, and none is lost', () =>
        Fleet.using({ workers: 2, heartbeat: { ack_budget: '50ms' } }, async (fleet) => {
            const agents = Array.from({ length: 20 }, (_, n) => n);
            let mark = 0;
            const round = async () => {
                mark++;
                await Promise.all(agents.map(async (n) => {
                    const answer = await call(fleet.gateways[n % 2].target, 'POST', of(n), {
                        token: agentToken(agentId(n)), body: { status: 'online', metrics: { mark } },
                    });
                    assert.equal(answer.status, 201, answer.text);
                }));
            };
            await round();
            fleet.redis.pause();
            for (let i = 0; i < 15; i++) {
                await round();
                await sleep(150);
            }
            fleet.redis.resume();
            await round();
            await eventually('all to be delivered', async () => {
                const held = (await Promise.all(fleet.gateways.map((g) => fleet.counts(g)))).map((c) => c.held);
                return await fleet.heldShared() === 0 && held.every((h) => h === 0);
            }, 20000);
            for (const n of agents) assert.equal((await fleet.arrived(n)).at(-1), `online ${mark}`, `agent ${n}`);
        }));
});
