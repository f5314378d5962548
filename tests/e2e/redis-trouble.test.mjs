// Troubles of Redis in the midst of work: while heartbeats are stored and connects are shared, it
// stops, refuses, forgets. Agents notice nothing, operators all.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { Redis } from './support/redis.mjs';
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
