// The connection to Redis: every kind of address, every trouble; agents notice none of them, and
// operators all.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { Beating, patient } from './support/beating.mjs';
import { eventually, sleep } from './support/child.mjs';
import { admin, assertConnects, cacheStatus, connect, HIT, MISS, path } from './support/connecting.mjs';
import { startGateway } from './support/gateway.mjs';
import { serviceToken } from './support/jwt.mjs';
import { Redis, redisCertificates } from './support/redis.mjs';
import { Stub } from './support/stub.mjs';
import { call } from './support/wire.mjs';
import { changes, comesAndGoes, fileWith, isCounted, isUp, unnoticed, withRedis, withToxic } from './support/troubles.mjs';

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

describe('what is shown', SUITE, () => {
    test('without a Redis nothing says that it is down', async () => {
        const stub = await Stub.start({ transcripts: false });
        const gateway = await startGateway(stub);
        try {
            const { body } = await gateway.health('/metrics');
            assert.doesNotMatch(body, /redis_up|redis_connections|redis_durable|purge_channel_up|aiwm_events_up/);
            assert.match(body, /^aiwm_gateway_redis_commands_total 0$/m);
        } finally {
            await gateway.discard();
            await stub.stop();
        }
    });
});

describe('the admin port', SUITE, () => {
    test('spells the address of Redis as JSON wants it', async () => {
        const stub = await Stub.start({ transcripts: false });
        const url = 'unix:/nowhere/"quoted"\\and\\not';
        const gateway = await startGateway(stub, { config: { redis: { url } } });
        try {
            const answer = await call({ host: '127.0.0.1', port: gateway.adminPort, tls: false }, 'GET', '/state');
            assert.equal(JSON.parse(answer.text).redis.url, url);
        } finally {
            await gateway.discard();
            await stub.stop();
        }
    });
});

/** With bulk one worker asks for all what is due: the others' connections are idle. */
const idle = {
    config: { workers: 3 }, stub: { bulk: true }, env: { AIWM_GATEWAY_UPSTREAM_SERVICE_TOKEN: serviceToken() },
};

describe('a worker that has nothing to ask', SUITE, () => {
    test('notices all the same that nobody is there', () => withToxic(idle, async (gateway, toxic) => {
        await gateway.logged('heartbeats go in bulk');
        await eventually('all are here', async () => (await gateway.metric('redis_connections')) === 4);
        toxic.blackhole();
        await eventually('all know', async () => (await gateway.metric('redis_connections')) === 0, 10000);
    }));
});

// ---- the rights that docs/redis.md gives ----

const documented = /^ACL SETUSER (aiwm-gateway) .*$/m.exec(
    fs.readFileSync(new URL('../../docs/redis.md', import.meta.url), 'utf8'));
const rights = documented[0].split(' ').filter((word) => word.startsWith('+')).map((word) => word.slice(1));

const OPERATOR = 'an-admin-token-of-32-characters!';

/** What a gateway does that has to do with Redis, through two of them. */
async function everything(fleet, [a, b]) {
    await assertConnects(a, 1, MISS);
    await eventually('b has it from a', async () => HIT.test(cacheStatus(await connect(b, 1))));
    await fleet.durable(a, 1, 'online', 1);
    await fleet.arrives(1, ['online 1']);
    await fleet.redis.call('SCRIPT', 'FLUSH');
    await fleet.durable(b, 1, 'online', 2);
    await eventually('it goes in bulk', async () => (await fleet.heldShared()) === 0);
    assert.equal((await fleet.disconnect(a, 1)).status, 201);
    const write = async (body) =>
        assert.equal((await call(a.target, 'PUT', path(1, ''), { ...admin(), body })).status, 200);
    await write({ status: 'suspended' });
    await eventually('b refuses it', async () => (await fleet.beat(b, 1)).status === 401);
    await write({ status: 'active' });
    await eventually('b lets it in', async () => (await connect(b, 1)).status === 201);
    const operator = { host: '127.0.0.1', port: a.adminPort, tls: false };
    const purged = await call(operator, 'POST', '/purge?everything=yes', { token: OPERATOR });
    assert.equal(purged.status, 200, purged.text);
    await eventually('all is told', async () => (await a.metric('purges_shared_total')) >= 3);
}

describe('a user with the rights that are documented', SUITE, () => {
    test('may do everything a gateway does, and nothing else', () => Beating.using({
        replicas: 0, redis: { acl: [] }, bulk: true, heartbeat: { bulk_linger: '100ms' },
        env: { AIWM_GATEWAY_UPSTREAM_SERVICE_TOKEN: serviceToken(), AIWM_GATEWAY_ADMIN_TOKEN: OPERATOR },
    }, async (fleet) => {
        const { redis } = fleet;
        await redis.call(...documented[0].replace('PASSWORD', 'x').split(' '));
        const config = { redis: { url: redis.url, username: documented[1], password_file: fileWith(redis, 'x') } };
        await redis.call('CONFIG', 'RESETSTAT');
        const alone = { ...config, limits: { shared: false } }; // has nothing to say after a while
        const gateways = [await fleet.add({ config }), await fleet.add({ config: alone })];
        await Promise.all(gateways.map((gateway) => gateway.logged('heartbeats go in bulk')));
        await everything(fleet, gateways);
        const used = async () => [...(await redis.call('INFO', 'commandstats')).matchAll(/^cmdstat_([^:]+):/gm)]
            .map((match) => match[1]);
        const missing = async () => {
            const known = await used();
            return rights.filter((right) => !known.includes(right));
        };
        for (const gateway of gateways) await gateway.stop();
        assert.deepEqual(await redis.call('ACL', 'LOG'), []);
        for (const gateway of gateways)
            assert.ok(!changes(gateway).includes('noperm'), changes(gateway).join());
        assert.deepEqual(await missing(), [], 'a right that nobody needs');
    }));

    // As after an upgrade, when the ACL is that of the version before.
    test('of a version that did not share limits: all else is shared, and it is said what is missing', () => Beating.using({
        replicas: 0, redis: { acl: [] }, heartbeat: patient,
    }, async (fleet) => {
        const { redis } = fleet;
        const missing = ['zscore', 'zrevrangebyscore', 'zremrangebyrank'];
        await redis.call(...documented[0].replace('PASSWORD', 'x').split(' ')
            .filter((word) => !missing.includes(word.slice(1))));
        const config = { redis: { url: redis.url, username: documented[1], password_file: fileWith(redis, 'x') } };
        const [a, b] = [await fleet.add({ config }), await fleet.add({ config })];
        await assertConnects(a, 1, MISS);
        await eventually('b has it from a', async () => HIT.test(cacheStatus(await connect(b, 1))));
        await fleet.durable(a, 1, 'online', 1);
        await fleet.durable(b, 1, 'busy', 2);
        await fleet.arrives(1, ['online 1', 'busy 2']);
        const said = await a.logged('redis refuses our user a command: see that its ACL has these rights');
        const named = said.rights.split(' ').map((word) => word.slice(1));
        if (named.length === 1) assert.ok(missing.includes(named[0]), said.rights); // from Redis 7.2 on it says which
        else assert.deepEqual(missing.filter((right) => !named.includes(right)), [], said.rights);
        await isCounted(a, 'noperm');
        assert.equal(await a.metric('redis_up'), 1);
        assert.deepEqual(changes(a), ['noperm']);
        await redis.call('ACL', 'SETUSER', documented[1], ...missing.map((right) => `+${right}`));
        await eventually('limits are shared again', async () => (await a.metric('limits_shared')) === 1);
        await eventually('it is said', () => changes(a).at(-1) === 'well', 30000);
    }));

    test('but for any single one of them: no agent notices, and each beat arrives', { timeout: 120000 }, () => Beating.using({
        replicas: 0, redis: { acl: [] }, heartbeat: { ...patient, min_forward_gap: '0s' },
    }, async (fleet) => {
        const { redis } = fleet;
        await redis.call(...documented[0].replace('PASSWORD', 'x').split(' '));
        const config = { redis: { url: redis.url, username: documented[1], password_file: fileWith(redis, 'x') } };
        const gateways = [await fleet.add({ config }), await fleet.add({ config })];
        const agents = gateways.map((_, n) => n); // each has its gateway
        for (const [i, right] of rights.entries()) {
            const status = i % 2 ? 'busy' : 'online';
            await redis.call('ACL', 'SETUSER', documented[1], `-${right}`);
            for (const n of agents) {
                assert.equal((await fleet.beat(gateways[n], n, status, i)).status, 201, right);
                assert.equal((await connect(gateways[n], 10 + i)).status, 201, right);
            }
            for (const n of agents)
                await eventually(`the beat without ${right}`, async () =>
                    (await fleet.arrived(n)).at(-1) === `${status} ${i}`, 20000);
            await redis.call('ACL', 'SETUSER', documented[1], `+${right}`);
        }
        for (const gateway of gateways) await isCounted(gateway, 'noperm');
        await eventually('Redis keeps them again', async () => {
            const answers = await Promise.all(agents.map((n) => fleet.beat(gateways[n], n, 'idle', 99)));
            return answers.every((answer) => answer.status === 201 && !answer.header('x-aiwm-ack'));
        }, 15000);
    }));

    test('has all that any script calls', () => {
        const called = fs.readdirSync(new URL('../../src/serve/redis', import.meta.url))
            .flatMap((name) => [...fs.readFileSync(new URL(`../../src/serve/redis/${name}`, import.meta.url), 'utf8')
                .matchAll(/redis\.call\('(\w+)'/g)].map((match) => match[1].toLowerCase()));
        assert.ok(called.length > 50);
        assert.deepEqual([...new Set(called)].filter((name) => !rights.includes(name)), []);
    });
});
