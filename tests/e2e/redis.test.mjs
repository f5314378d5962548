// The connection to Redis: every kind of address, every trouble; agents notice none of them, and
// operators all.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { Redis, redisCertificates } from './support/redis.mjs';
import { Stub } from './support/stub.mjs';
import { changes, comesAndGoes, fileWith, isCounted, isDown, isUp, unnoticed, withRedis, withToxic } from './support/troubles.mjs';

const SUITE = { timeout: 60000, concurrency: 3 };
const tls = () => ({ ca_file: redisCertificates().ca });
const client = () => ({
    certificate_file: redisCertificates().client.cert, private_key_file: redisCertificates().client.key,
});

describe('where Redis is', SUITE, () => {
    const kinds = {
        'redis://': {},
        'redis:// with a database': { settings: (r) => ({ url: `${r.url}/3` }) },
        'a unix socket': { settings: (r) => ({ url: r.unixUrl }) },
        'a unix socket with a password': {
            options: { password: 'p4ss' },
            settings: (r) => ({ url: r.unixUrl, password_file: fileWith(r, 'p4ss') }),
        },
        'rediss:// with a name': { options: { tls: true }, settings: tls },
        'rediss:// with an address': {
            options: { tls: true }, settings: (r) => ({ ...tls(), url: `rediss://127.0.0.1:${r.port}` }),
        },
        'rediss:// that wants a certificate': {
            options: { tls: { clients: true } }, settings: () => ({ ...tls(), ...client() }),
        },
        'redis:// with a password': {
            options: { password: 'p4ss' }, settings: (r) => ({ password_file: fileWith(r, 'p4ss') }),
        },
    };
    for (const [name, setup] of Object.entries(kinds))
        test(`${name} is reached`, () => withRedis(setup, async (gateway) => {
            await isUp(gateway);
            await unnoticed(gateway, () => sleep(100));
            assert.deepEqual(changes(gateway), []);
        }));
});

describe('a Redis that does not want us, or that we do not trust', SUITE, () => {
    const refusals = {
        'another host\'s certificate': ['tls', { options: { tls: { server: 'elsewhere' } }, settings: tls }],
        'a certificate of an unknown authority': ['tls', {
            options: { tls: true }, settings: () => ({ ca_file: redisCertificates().strangerCa }),
        }],
        'a server that wants a certificate': ['tls', { options: { tls: { clients: true } }, settings: tls }],
        'a wrong password': ['auth', {
            options: { password: 'p4ss' }, settings: (r) => ({ password_file: fileWith(r, 'wrong') }),
        }],
        'an unknown user': ['auth', {
            options: { acl: [] }, settings: (r) => ({ username: 'nobody', password_file: fileWith(r, 'x') }),
        }],
        'a password we were not told': ['noauth', { options: { password: 'p4ss' } }],
        'a replica': ['readonly', { options: { conf: { replicaof: '127.0.0.1 1' } } }],
    };
    for (const [name, [reason, setup]] of Object.entries(refusals))
        test(`${name}: agents are served from memory, and it is said once`, () =>
            withRedis(setup, async (gateway) => {
                await isCounted(gateway, reason);
                await unnoticed(gateway, () => sleep(300));
                assert.equal(await gateway.metric('redis_up'), 0);
                assert.deepEqual(changes(gateway), [reason]);
            }));

    // What it makes of a TLS hello depends on the random bytes in it.
    test('plain text where we speak TLS: agents are served from memory, and it is said once', () =>
        withRedis({ settings: (r) => ({ ...tls(), url: `rediss://localhost:${r.port}` }) }, async (gateway) => {
            await unnoticed(gateway, () => eventually('it is said', () => changes(gateway).length > 0));
            assert.equal(await gateway.metric('redis_up'), 0);
            assert.match(changes(gateway).join(), /^(timeout|tls|closed|protocol)$/);
        }));

    test('a password that is told to Redis later lets us in without a restart', () =>
        withRedis({ options: { password: 'other' }, settings: (r) => ({ password_file: fileWith(r, 'p4ss') }) },
            async (gateway, redis) => {
                await isCounted(gateway, 'auth');
                await redis.call('CONFIG', 'SET', 'requirepass', 'p4ss');
                await isUp(gateway);
                await eventually('it is said', () => changes(gateway).length === 2);
                assert.deepEqual(changes(gateway), ['auth', 'well']);
            }));
});

describe('a Redis in Cluster mode', SUITE, () => {
    test('is refused at the start, with what to do instead', async () => {
        const stub = await Stub.start({ transcripts: false });
        const redis = await Redis.start({ cluster: true });
        try {
            const failed = await startGateway(stub, { config: { redis: { url: redis.url } } }).catch((e) => e);
            assert.match(failed.message, /"code":78/);
            assert.match(failed.message, /redis\.url: .*Cluster mode.*sentinels/);
        } finally {
            await redis.discard();
            await stub.stop();
        }
    });

    test('that came in the place of another is not used', async () => {
        const redis = await Redis.start();
        try {
            await withRedis({ redis }, async (gateway) => {
                await isUp(gateway);
                await redis.kill();
                await redis.restart({ cluster: true });
                await isCounted(gateway, 'cluster');
                await unnoticed(gateway, () => sleep(200));
                assert.equal(await gateway.metric('redis_up'), 0);
            });
        } finally {
            await redis.discard();
        }
    });
});

describe('a Redis that goes and comes', SUITE, () => {
    for (const workers of [1, 3])
        test(`killed and started again (${workers} workers)`, () =>
            withRedis({ options: { appendonly: true }, config: { workers } }, (gateway, redis) =>
                comesAndGoes(gateway, ['closed'], { hurt: () => redis.kill(), heal: () => redis.restart() })));

    test('not there at the start', async () => {
        const redis = await Redis.start();
        await redis.kill();
        try {
            await withRedis({ redis }, async (gateway) => {
                await isCounted(gateway, 'unreachable');
                await unnoticed(gateway, async () => {
                    await redis.restart();
                    await isUp(gateway);
                });
                await eventually('it is said', () => changes(gateway).length === 2);
                assert.deepEqual(changes(gateway), ['unreachable', 'well']);
            });
        } finally {
            await redis.discard();
        }
    });

    test('refused', () => withToxic({}, (gateway, toxic) =>
        comesAndGoes(gateway, ['closed', 'unreachable'], { hurt: () => toxic.refuse(), heal: () => toxic.pass() })));

    test('connections that are cut again and again', () => withToxic({}, async (gateway, toxic) => {
        await isUp(gateway);
        await unnoticed(gateway, async () => {
            for (let i = 0; i < 10; i++) {
                toxic.cut();
                await sleep(100);
            }
            await eventually('it is well', () => changes(gateway).at(-1) !== 'closed');
        });
        await eventually('all connections are well', () => changes(gateway).at(-1) === 'well');
        const said = changes(gateway);
        assert.ok(said.length % 2 === 0 && said.every((word, i) => word === (i % 2 ? 'well' : 'closed')),
            said.join());
    }));

    test('loading what it had', async () => {
        const redis = await Redis.start({ conf: { 'key-load-delay': '0' } });
        try {
            await redis.call('DEBUG', 'POPULATE', 20000, 'filler', 10);
            await redis.call('SAVE');
            await withRedis({ redis }, async (gateway) => {
                await isUp(gateway);
                await unnoticed(gateway, async () => {
                    await redis.kill();
                    await redis.restart({ ready: false, conf: {
                        'key-load-delay': 100, 'loading-process-events-interval-bytes': 1024,
                    } });
                    await isCounted(gateway, 'loading');
                    await isUp(gateway, 15000);
                });
            });
        } finally {
            await redis.discard();
        }
    });

});

describe('a Redis that is there, and yet', SUITE, () => {
    test('forgets everything', () => withRedis({ options: { appendonly: true } }, async (gateway, redis) => {
        await isUp(gateway);
        await unnoticed(gateway, async () => {
            for (let i = 0; i < 5; i++) {
                await redis.call('FLUSHALL');
                await sleep(100);
            }
        });
        assert.equal(await gateway.metric('redis_up'), 1);
        assert.deepEqual(changes(gateway), []);
    }));

    const unsafe = {
        'without an AOF': [{}, /set appendonly yes/],
        'that may evict': [{ appendonly: true, maxmemory: '100mb', policy: 'allkeys-lru' }, /noeviction/],
    };
    for (const [name, [options, advice]] of Object.entries(unsafe))
        test(`is not durable ${name}: it is said once, with what to do`, () =>
            withRedis({ options, config: { workers: 3 } }, async (gateway) => {
                await isUp(gateway);
                assert.equal(await gateway.metric('redis_durable'), 0);
                const said = gateway.log.filter(({ message }) => advice.test(message));
                assert.equal(said.length, 1);
                assert.equal(said[0].level, 'warn');
            }));

    test('is durable with an AOF, also with a bound and noeviction', () =>
        withRedis({ options: { appendonly: true, maxmemory: '100mb', policy: 'noeviction' } }, async (gateway) => {
            await isUp(gateway);
            assert.equal(await gateway.metric('redis_durable'), 1);
        }));
});
