// Troubles of Redis in the midst of work: while heartbeats are stored and connects are shared, it
// stops, refuses, forgets. Agents notice nothing, operators all.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { Beating, KEYS, patient } from './support/beating.mjs';
import { Redis } from './support/redis.mjs';
import { agentId } from './support/stub.mjs';
import { changes, comesAndGoes, fileWith, isCounted, isDown, isUp, unnoticed, withRedis, withToxic } from './support/troubles.mjs';

const SUITE = { timeout: 60000, concurrency: 3 };

describe('a Redis that goes and comes', SUITE, () => {
    test('a network that swallows everything', () => withToxic({}, (gateway, toxic) =>
        comesAndGoes(gateway, ['timeout'], { hurt: () => toxic.blackhole(), heal: () => toxic.pass() })));


    test('killed while it is slow', () => withToxic({}, async (gateway, toxic, redis) => {
        await isUp(gateway);
        await toxic.pass({ delayMs: 300 });
        const told = await unnoticed(gateway, async () => {
            await sleep(600);
            await redis.kill();
            await isDown(gateway);
            await toxic.pass();
            await redis.restart();
            await isUp(gateway);
        });
        assert.ok(told.inMemory > 0, 'over its budget a heartbeat is kept in memory');
    }));


    test('made a replica, and master again', () =>
        withRedis({ options: { appendonly: true } }, (gateway, redis) =>
            comesAndGoes(gateway, ['readonly'], {
                hurt: () => redis.call('REPLICAOF', '127.0.0.1', 1),
                heal: () => redis.call('REPLICAOF', 'NO', 'ONE'),
            })));

    test('stopped for 10 s', () =>
        withRedis({ options: { appendonly: true } }, (gateway, redis) =>
            comesAndGoes(gateway, ['timeout'], {
                ms: 15000,
                hurt: async () => {
                    redis.pause();
                    await sleep(10000);
                },
                heal: () => redis.resume(),
            })));

    test('busy with something else for 9 s', () =>
        withRedis({ options: { appendonly: true } }, (gateway, redis) => {
            let asleep;
            return comesAndGoes(gateway, ['timeout'], {
                hurt: () => {
                    asleep = redis.call('DEBUG', 'SLEEP', 9);
                },
                heal: () => asleep,
            });
        }));

    test('a user who is taken a right, and given it again', () =>
        withRedis({
            options: { appendonly: true, acl: ['user gate on >x ~* +@all'] },
            settings: (r) => ({ username: 'gate', password_file: fileWith(r, 'x') }),
        }, (gateway, redis) => comesAndGoes(gateway, ['noperm'], {
            hurt: () => redis.call('ACL', 'SETUSER', 'gate', '-@all'),
            heal: () => redis.call('ACL', 'SETUSER', 'gate', '+@all'),
        })));
});

describe('a Redis that is there, and yet', SUITE, () => {
    test('forgets the scripts', () => withRedis({ options: { appendonly: true } }, async (gateway, redis) => {
        await isUp(gateway);
        const told = await unnoticed(gateway, async () => {
            await redis.call('SCRIPT', 'FLUSH');
            await isCounted(gateway, 'noscript');
            await sleep(300);
        });
        assert.equal(told.inMemory, 0, 'nothing had to be kept elsewhere');
        assert.equal(await gateway.metric('redis_up'), 1);
    }));


    // Every write is refused, also that of a beat which is due.
    test('has too few replicas to write: beats go by memory, and to Redis again afterwards', () =>
        Beating.using({ heartbeat: { ...patient, max_hold: '500ms', forward_interval: '1s' } }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.durable(a, 1, 'online', 1);
            await fleet.arrives(1, ['online 1']);
            await fleet.redis.call('CONFIG', 'SET', 'min-replicas-to-write', '1');
            await eventually('both to notice', async () => {
                const answers = await Promise.all([a, b].map((gateway, n) => fleet.beat(gateway, 2 + n, 'online', 2)));
                return answers.every((answer) => answer.status === 201 && answer.header('x-aiwm-ack') === 'memory');
            });
            await fleet.fleeting(a, 1, 'online', 3);
            await eventually('it to arrive', async () => (await fleet.arrived(1)).at(-1) === 'online 3');
            await fleet.fleeting(b, 1, 'busy', 4);
            await eventually('that, too', async () => (await fleet.arrived(1)).at(-1) === 'busy 4');
            assert.equal((await fleet.disconnect(a, 1)).status, 201);
            const before = await a.metric('redis_commands_total');
            await sleep(2000);
            assert.ok(await a.metric('redis_commands_total') - before < 200, 'it is not asked without end');
            await fleet.redis.call('CONFIG', 'SET', 'min-replicas-to-write', '0');
            await eventually('Redis keeps them again', async () => {
                const answer = await fleet.beat(a, 1, 'idle', 5);
                return answer.status === 201 && !answer.header('x-aiwm-ack');
            }, 15000);
            await eventually('the last', async () => (await fleet.arrived(1)).at(-1) === 'idle 5', 15000);
            await fleet.assertNoneLost();
        }));

    test('holds something else under our keys', () =>
        Beating.using({ heartbeat: patient }, async (fleet) => {
            const [a, b] = fleet.gateways;
            await fleet.redis.call('LPUSH', `${KEYS}beat:${agentId(1)}`, 'x');
            await fleet.redis.call('SET', `${KEYS}beat:${agentId(2)}`, 'no MessagePack \xc1');
            await fleet.redis.call('SET', `${KEYS}beat:${agentId(3)}`, '\x01');
            await fleet.redis.call('SET', `${KEYS}beats:settle`, String(Date.now() + 1e9)); // or who claims?
            for (const n of [1, 2, 3]) {
                await fleet.durable(a, n, 'online', 1);
                await fleet.durable(b, n, 'busy', 2);
                await fleet.arrives(n, ['online 1', 'busy 2']);
            }
            await fleet.redis.call('DEL', `${KEYS}beats:due`);
            await fleet.redis.call('SET', `${KEYS}beats:due`, 'x');
            await eventually('it is noticed', async () =>
                (await fleet.beat(a, 4, 'online', 1)).header('x-aiwm-ack') === 'memory');
            for (const n of [1, 2, 3])
                assert.equal((await fleet.beat(b, n, 'idle', 3)).status, 201);
            for (const n of [1, 2, 3])
                await eventually(`the last of ${n}`, async () => (await fleet.arrived(n)).at(-1) === 'idle 3');
            await fleet.redis.call('DEL', `${KEYS}beats:due`);
            await eventually('Redis keeps them again', async () =>
                !(await fleet.beat(a, 1, 'online', 4)).header('x-aiwm-ack'), 15000);
        }));

    // An agent's record is as if all of it had been written by a clock an hour ahead: what was held
    // then, or delivered.
    for (const [what, held] of [['held', true], ['delivered', false]])
        test(`has a clock that was set back after a beat was ${what}: the next ones are passed on all the same`, () =>
            Beating.using({ heartbeat: patient }, async (fleet) => {
                const [a, b] = fleet.gateways;
                await fleet.durable(a, 1, 'online', 1);
                await fleet.arrives(1, ['online 1']);
                await eventually('it to be settled', async () => await fleet.heldShared() === 0);
                if (held) await fleet.durable(a, 1, 'online', 2);
                const key = `${KEYS}beat:${agentId(1)}`;
                await fleet.redis.call('EVAL', `
                    local a, hour = cmsgpack.unpack(redis.call('GET', KEYS[1])), 3600000
                    for _, us in ipairs({'settled', 'stamp'}) do if a[us] then a[us] = a[us] + hour * 1000 end end
                    for _, ms in ipairs({'sent_ms', 'heard', 'since'}) do if a[ms] then a[ms] = a[ms] + hour end end
                    redis.call('SET', KEYS[1], cmsgpack.pack(a))
                    if a.stamp then redis.call('ZINCRBY', KEYS[2], hour, ARGV[1]) end`,
                2, key, `${KEYS}beats:due`, agentId(1));
                for (const [mark, status] of [[3, 'busy'], [4, 'idle']]) {
                    await fleet.durable(b, 1, status, mark);
                    await eventually(`${status} ${mark}`, async () => (await fleet.arrived(1)).at(-1) === `${status} ${mark}`);
                }
                assert.deepEqual(await fleet.arrived(1), ['online 1', 'busy 3', 'idle 4']);
                await fleet.assertNoneLost();
            }));

    test('has no memory left', () =>
        withRedis({ options: { appendonly: true } }, async (gateway, redis) => {
            await isUp(gateway);
            const told = await unnoticed(gateway, async () => {
                await redis.call('CONFIG', 'SET', 'maxmemory', '1');
                await isCounted(gateway, 'full');
                await sleep(200);
                await redis.call('CONFIG', 'SET', 'maxmemory', '0');
                await eventually('it is said', () => changes(gateway).at(-1) === 'well', 30000);
            });
            assert.ok(told.inMemory > 0);
            assert.deepEqual(changes(gateway), ['full', 'well']);
        }));
});
