// The tests' own tools around Redis do what tests rely on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Redis, Sentinels, redisCertificates } from './support/redis.mjs';
import { Resp } from './support/resp.mjs';
import { Toxic } from './support/toxic.mjs';

/** The body with a server that is gone afterwards. */
async function withRedis(options, body) {
    const redis = await Redis.start(options);
    try {
        await body(redis);
    } finally {
        await redis.discard();
    }
}

test('a server keeps what its AOF has when it is killed and started again', () =>
    withRedis({ appendonly: true }, async (redis) => {
        await redis.call('SET', 'k', 'v');
        await redis.kill();
        await redis.restart();
        assert.equal(await redis.call('GET', 'k'), 'v');
    }));

test('a user may do what the ACL says', () =>
    withRedis({ acl: ['user some on >pass ~mine:* +get +set'] }, async (redis) => {
        const user = await Resp.open({ port: redis.port, host: '127.0.0.1', username: 'some', password: 'pass' });
        assert.equal(await user.call('SET', 'mine:1', 'x'), 'OK');
        await assert.rejects(user.call('SET', 'other', 'x'), /^Error: NOPERM|NOPERM/);
        user.close();
        assert.equal(await redis.call('GET', 'mine:1'), 'x');
    }));

test('a TLS server, a Cluster, a password, a bound of memory', async () => {
    assert.ok(redisCertificates().client.key);
    await withRedis({ tls: { clients: true } }, async (redis) =>
        assert.equal(await redis.call('PING'), 'PONG'));
    await withRedis({ cluster: true }, async (redis) =>
        assert.equal(await redis.info('cluster_enabled'), '1'));
    await withRedis({ password: 'p', maxmemory: '2mb', policy: 'noeviction' }, async (redis) => {
        assert.equal(await redis.info('maxmemory_policy'), 'noeviction');
        const stranger = await Resp.open({ port: redis.port, host: '127.0.0.1' });
        await assert.rejects(stranger.call('PING'), /NOAUTH/);
        stranger.close();
    });
});

test('a relay passes, holds back, cuts and refuses', () =>
    withRedis({}, async (redis) => {
        const toxic = await Toxic.start(redis.port);
        const through = () => Resp.open({ host: '127.0.0.1', port: toxic.port });
        const client = await through();
        assert.equal(await client.call('PING'), 'PONG');
        toxic.blackhole();
        let answered = false;
        const asked = client.call('PING').then(() => (answered = true), () => {});
        await redis.call('PING');
        assert.equal(answered, false);
        toxic.pass();
        await asked;
        assert.equal(answered, false);
        await toxic.refuse();
        await assert.rejects(through(), /ECONNREFUSED/);
        await toxic.pass();
        const again = await through();
        assert.equal(await again.call('PING'), 'PONG');
        again.close();
        await toxic.stop();
    }));

test('sentinels make the replica master when the master dies', async () => {
    const group = await Sentinels.start();
    try {
        const [old, replica] = group.servers;
        await old.kill();
        assert.equal(await group.switchedFrom(old), replica);
    } finally {
        await group.discard();
    }
});
