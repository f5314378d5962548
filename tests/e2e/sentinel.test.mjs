// Redis behind sentinels: whoever they call master is used, the old one is not written to again, and
// without any of them agents are served from memory.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually, slack, sleep } from './support/child.mjs';
import { Sentinels } from './support/redis.mjs';
import { changes, isCounted, isDown, isUp, unnoticed, withRedis } from './support/troubles.mjs';

const FOLLOW_MS = 3000; // from the moment the sentinels agree

let group;
before(async () => {
    group = await Sentinels.start({ appendonly: true });
}, { timeout: 30000 });
after(() => group?.discard());

/** The tests take turns with one group, and leave it as whole as they found it. */
const watched = (body, config) => withRedis({
    redis: group, config, settings: () => ({ url: group.url }),
}, body);

/** How many clients of ours that server has. */
const clients = async (server) => (await server.call('CLIENT', 'LIST')).split('\n')
    .filter((line) => line.includes(`laddr=127.0.0.1:${server.port}`) && /flags=N/.test(line) &&
        !/cmd=(ping|info|publish|subscribe|psync|replconf)/.test(line)).length;

async function follows(gateway, master) {
    const start = Date.now();
    await eventually('the new master is used', async () =>
        (await gateway.metric('redis_up')) === 1 && (await clients(master)) > 0, 10000);
    return Date.now() - start;
}

const whole = () => eventually('the group is whole', () => group.isComplete(), 30000);
const current = () => group.masterOf(group.sentinels.find(({ child }) => !child.ended));

test('the master is found, also when one sentinel is down', { timeout: 60000 }, async () => {
    await group.sentinels[0].kill();
    try {
        await watched(async (gateway) => {
            await isUp(gateway);
            assert.ok(await clients(await current()) > 0);
            assert.deepEqual(changes(gateway), []);
        });
    } finally {
        await group.sentinels[0].spawn();
        await whole();
    }
});

test('a killed master: its successor is followed, and it gets no write when it is back', { timeout: 90000 }, () =>
    watched(async (gateway) => {
        await isUp(gateway);
        const old = await current();
        const told = await unnoticed(gateway, async () => {
            await old.kill();
            const successor = await group.switchedFrom(old);
            const ms = await follows(gateway, successor);
            assert.ok(ms <= FOLLOW_MS + slack(), `${ms} ms`);
            // Back as a master, as it was, until a sentinel tells it what it is now.
            await old.restart();
            const watch = await old.monitor();
            /* It cuts its clients, this one too, when it becomes a replica. */
            const ask = (field) => old.info(field).catch(() => undefined);
            await eventually('it is a replica', async () => (await ask('role')) === 'slave', 30000);
            await sleep(500);
            const ours = watch.lines.filter((line) => /^\d+\.\d+ \[0 127\.0\.0\.1:\d+\] "(EVAL|EVALSHA|SET|HSET|XADD|DEL)/i.test(line));
            const master = (await ask('master_port')) ?? (await ask('master_port'));
            assert.equal(Number(master), successor.port);
            watch.close();
            // What its own master tells it to do comes over the replication link, from that port.
            assert.deepEqual(ours.filter((line) => !line.includes(`:${successor.port}]`)), []);
        }, { slowestMs: 3000 });
        assert.ok(told.requests > 0);
        await whole();
    }));

test('a failover by hand is followed', { timeout: 90000 }, () =>
    watched(async (gateway) => {
        await isUp(gateway);
        const old = await current();
        await unnoticed(gateway, async () => {
            await group.sentinels[0].call('SENTINEL', 'FAILOVER', group.name);
            const successor = await group.switchedFrom(old);
            const ms = await follows(gateway, successor);
            assert.ok(ms <= FOLLOW_MS + slack(), `${ms} ms`);
        }, { slowestMs: 3000 });
        await whole();
    }, { workers: 3 }));

test('all sentinels down: what is connected stays, what is not serves from memory', { timeout: 90000 }, async () => {
    await watched(async (gateway) => {
        await isUp(gateway);
        const master = await current();
        for (const sentinel of group.sentinels) await sentinel.kill();
        await unnoticed(gateway, async () => {
            await sleep(300);
            assert.equal(await gateway.metric('redis_up'), 1);
            await master.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
            await isDown(gateway);
            await isCounted(gateway, 'unreachable');
            for (const sentinel of group.sentinels) await sentinel.spawn();
            await isUp(gateway, 15000);
        });
        await eventually('it is said', () => changes(gateway).at(-1) === 'well');
        assert.equal(changes(gateway).length, 2, changes(gateway).join());
    });
    await whole();
});

test('a name that no sentinel knows', { timeout: 30000 }, () => withRedis({
    redis: group, settings: () => ({ url: group.url.replace(/fleet$/, 'another') }),
}, async (gateway) => {
    await isCounted(gateway, 'no_master');
    await unnoticed(gateway, () => sleep(200));
    assert.deepEqual(changes(gateway), ['no_master']);
}));
