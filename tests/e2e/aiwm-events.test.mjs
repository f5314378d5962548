// The controller's own stream of events: what bypassed the gateway is forgotten here, and whatever
// else stands in that stream harms nobody. Entries and jobs are written as BullMQ writes them.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { eventually } from './support/child.mjs';
import { HIT, MISS, admin, assertConnects, connect, path } from './support/connecting.mjs';
import { Gateway } from './support/gateway.mjs';
import { Redis, redisCertificates } from './support/redis.mjs';
import { Stub, agentId } from './support/stub.mjs';
import { fileWith } from './support/troubles.mjs';
import { call } from './support/wire.mjs';

const STREAM = 'bull:agents.queue:events';
// As docs/redis.md gives it.
const [, RIGHTS] = /^ACL SETUSER aiwm-events reset on >PASSWORD (.*)$/m.exec(
    fs.readFileSync(new URL('../../docs/redis.md', import.meta.url), 'utf8'));
const ACL = `user events on >x ${RIGHTS}`;

/** A gateway without a Redis of its own that follows the controller's. */
async function following({ options, settings = () => ({}), config, replicas = 1 }, body) {
    const redis = await Redis.start(options);
    const stub = await Stub.start({ transcripts: false });
    const gateways = [];
    try {
        for (let i = 0; i < replicas; i++)
            gateways.push(await Gateway.start(stub, { config: {
                workers: 1, aiwm_events: { redis_url: redis.url, ...settings(redis) }, ...config?.(redis),
            } }));
        for (const gateway of gateways) await isFollowing(gateway);
        await body(gateways[0], redis, stub, gateways[1]);
        for (const gateway of gateways) await gateway.stop();
    } finally {
        for (const gateway of gateways) await gateway.discard();
        await redis.discard();
        await stub.stop();
    }
}

const isFollowing = (gateway) =>
    eventually('the stream is followed', async () => (await gateway.metric('aiwm_events_up')) === 1);

let jobs = 0;

/** A job as the controller adds it. */
async function addJob(redis, name, data, { id = String(++jobs), text = JSON.stringify(data) } = {}) {
    await redis.call('HSET', `bull:agents.queue:${id}`, 'name', name, 'data', text, 'opts', '{"attempts":3}',
        'timestamp', Date.now(), 'delay', 0, 'priority', 0);
    await redis.call('XADD', STREAM, '*', 'event', 'added', 'jobId', id, 'name', name);
    await redis.call('XADD', STREAM, 'MAXLEN', '~', 10000, '*', 'event', 'waiting', 'jobId', id);
    await redis.call('XADD', STREAM, '*', 'event', 'active', 'jobId', id, 'prev', 'waiting');
    await redis.call('XADD', STREAM, '*', 'event', 'completed', 'jobId', id, 'returnvalue', 'null', 'prev', 'active');
}

const documentOf = (n, more) => ({
    _id: agentId(n), name: `agent-${n}`, status: 'active', settings: { claude_model: 'm' }, tags: [], ...more,
});

const told = (gateway, result) => gateway.metric('aiwm_events_total', `result="${result}"`);

/** Waits until so many events were counted. */
const counted = (gateway, result, count) => eventually(`${count} ${result}`,
    async () => (await told(gateway, result)) >= count);

/** The write that the gateway does not see. */
const direct = (stub) => ({ host: '127.0.0.1', port: stub.port, tls: false });

test('an agent that was updated past the gateway gets the new at its next connect', () =>
    following({}, async (gateway, redis, stub) => {
        await assertConnects(gateway, 1, MISS);
        await assertConnects(gateway, 1, HIT);
        await call(direct(stub), 'PUT', path(1, ''), { ...admin(), body: { settings: { claude_model: 'new' } } });
        await addJob(redis, 'agent.updated', documentOf(1));
        await counted(gateway, 'forgotten', 1);
        const { json } = await assertConnects(gateway, 1, MISS);
        assert.equal(json.settings.claude_model, 'new');
        await assertConnects(gateway, 1, HIT);
    }));

test('an agent that was deleted past the gateway is not let in from the cache', () =>
    following({}, async (gateway, redis, stub) => {
        await assertConnects(gateway, 1, MISS);
        await call(direct(stub), 'DELETE', path(1, ''), admin());
        await addJob(redis, 'agent.deleted', documentOf(1));
        await counted(gateway, 'forgotten', 1);
        assert.equal((await connect(gateway, 1)).status, 404);
    }));

test('a remembered refusal is forgotten, too', () => following({}, async (gateway, redis, stub) => {
    await call(direct(stub), 'PUT', path(1, ''), { ...admin(), body: { status: 'suspended' } });
    assert.equal((await connect(gateway, 1)).status, 401);
    await call(direct(stub), 'PUT', path(1, ''), { ...admin(), body: { status: 'inactive' } });
    await addJob(redis, 'agent.updated', documentOf(1));
    await counted(gateway, 'forgotten', 1);
    await assertConnects(gateway, 1, MISS);
}));

test('a replica that has no such agent tells the other through their own Redis', async () => {
    const own = await Redis.start({ appendonly: true });
    try {
        await following({ replicas: 2, config: () => ({ redis: { url: own.url } }) },
            async (a, redis, stub, b) => {
                await assertConnects(a, 1, MISS);
                await eventually('it is shared', async () => (await own.call('KEYS', '*grant*')).length > 0);
                await addJob(redis, 'agent.updated', documentOf(1));
                await eventually('it is gone', async () => (await own.call('KEYS', '*grant*')).length === 0);
                await assertConnects(b, 1, MISS);
            });
    } finally {
        await own.discard();
    }
});

test('what is written while the gateway cannot hear is read when it can', () =>
    following({ options: { appendonly: true } }, async (gateway, redis) => {
        await addJob(redis, 'agent.updated', documentOf(2)); // so that it has a place in the stream
        await counted(gateway, 'forgotten', 1);
        await assertConnects(gateway, 1, MISS);
        await redis.kill();
        await assertConnects(gateway, 1, HIT);
        await eventually('it is noticed', () => gateway.log.some(({ message, name }) =>
            message === 'redis is in trouble' && name === 'aiwm_events'));
        await redis.restart();
        await addJob(redis, 'agent.updated', documentOf(1));
        await counted(gateway, 'forgotten', 2);
        await assertConnects(gateway, 1, MISS);
    }));

test('a stream that was trimmed past us makes everything stale, nothing forgotten', () =>
    following({ options: { appendonly: true } }, async (gateway, redis) => {
        await addJob(redis, 'agent.updated', documentOf(2));
        await counted(gateway, 'forgotten', 1);
        await assertConnects(gateway, 1, MISS);
        await redis.call('DEL', STREAM);
        await gateway.logged('events of the controller may have been missed: all that is cached is stale');
        await assertConnects(gateway, 1, /^fwd=stale; stored$/);
    }));

test('foreign and hostile entries harm nobody', () => following({}, async (gateway, redis) => {
    await assertConnects(gateway, 1, MISS);
    const add = (...fields) => redis.call('XADD', STREAM, '*', ...fields);
    await add('event', 'added', 'jobId', 'nothing-there', 'name', 'agent.updated');
    await add('event', 'added', 'jobId', '../../etc\r\nFLUSHALL\r\n', 'name', 'agent.updated');
    await add('event', 'added', 'jobId', 'x'.repeat(1 << 20), 'name', 'agent.deleted');
    await add('event', 'added', 'jobId', `events`, 'name', 'agent.deleted'); // the stream itself: WRONGTYPE
    await add('some', 'thing');
    await add(...Array.from({ length: 2000 }, (_, i) => String(i)));
    const hostile = ['', 'null', '[]', '{"_id":17}', '{"_id":"zz"}', `{"_id":"${agentId(1)}"`, '['.repeat(100000),
        `{"_id":"${agentId(1)}","_id":"${agentId(1)}"}`, `{"x":"${'y'.repeat(1 << 20)}","_id":"${agentId(1)}"}`,
        '\u0000\u0001\ufffd'];
    for (const text of hostile) await addJob(redis, 'agent.updated', undefined, { text });
    await addJob(redis, 'agent.created', documentOf(1));
    await addJob(redis, 'user.deleted', documentOf(1));
    await addJob(redis, 'agent.updated', documentOf(77)); // whom we do not know
    await counted(gateway, 'forgotten', 1);
    assert.equal(await told(gateway, 'unreadable'), hostile.length);
    assert.equal(await told(gateway, 'forgotten'), 1);
    const answer = await connect(gateway, 1);
    assert.equal(answer.status, 201);
}));

test('a flood is read to its end', () => following({}, async (gateway, redis) => {
    for (let n = 0; n < 3000; n++) {
        void redis.call('HSET', `bull:agents.queue:f${n}`, 'name', 'agent.updated', 'data', JSON.stringify(documentOf(n % 50)));
        void redis.call('XADD', STREAM, '*', 'event', 'added', 'jobId', `f${n}`, 'name', 'agent.updated');
    }
    await redis.call('PING');
    await eventually('all are counted', async () =>
        (await told(gateway, 'forgotten')) + (await told(gateway, 'gone')) === 3000, 10000);
}));

test('entries that are too large together are read a few at a time', () => following({}, async (gateway, redis) => {
    await addJob(redis, 'agent.updated', documentOf(2)); // so that it has a place in the stream
    await counted(gateway, 'forgotten', 1);
    await assertConnects(gateway, 1, MISS);
    // All at once, 60 MB: none of them is read before the last one is there.
    await redis.call('EVAL', `for _ = 1, 200 do
        redis.call('XADD', KEYS[1], '*', 'event', 'completed', 'returnvalue', string.rep('x', 300000)) end`, 1, STREAM);
    await addJob(redis, 'agent.updated', documentOf(1));
    await eventually('it is forgotten', async () => await told(gateway, 'forgotten') === 2, 20000);
    await assertConnects(gateway, 1, MISS);
}));

test('a user who may only read the queue is enough, over TLS, too', () => following({
    options: { tls: true, acl: [ACL] },
    settings: (r) => ({ username: 'events', password_file: fileWith(r, 'x'), ca_file: redisCertificates().ca }),
}, async (gateway, redis) => {
    await assertConnects(gateway, 1, MISS);
    await addJob(redis, 'agent.updated', documentOf(1));
    await counted(gateway, 'forgotten', 1);
    await assertConnects(gateway, 1, MISS);
    assert.deepEqual(await redis.call('ACL', 'LOG'), []);
}));

test('another key and another queue are not looked at', () => following({
    settings: () => ({ stream: 'other:q:events' }),
}, async (gateway, redis) => {
    await assertConnects(gateway, 1, MISS);
    await addJob(redis, 'agent.updated', documentOf(1));
    await redis.call('HSET', 'other:q:1', 'name', 'agent.updated', 'data', JSON.stringify(documentOf(2)));
    await redis.call('XADD', 'other:q:events', '*', 'event', 'added', 'jobId', '1', 'name', 'agent.updated');
    await counted(gateway, 'forgotten', 1);
    await assertConnects(gateway, 1, HIT);
}));
