// What nobody but agent and controller may know is planted everywhere it passes by, and then looked
// for: in what Redis wrote down, in every command it was given, in logs, metrics and error answers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { admin, connect, path } from './support/connecting.mjs';
import { Gateway } from './support/gateway.mjs';
import { agentToken } from './support/jwt.mjs';
import { Planted } from './support/planted.mjs';
import { Redis } from './support/redis.mjs';
import { JWT_SECRET, Stub, agentId, agentSecret } from './support/stub.mjs';
import { fileWith } from './support/troubles.mjs';
import { call } from './support/wire.mjs';

const REDIS_PASSWORD = 'planted-redis-password-9f2c';
const CACHE_KEY = 'planted-cache-key-0123456789abcdef0123456789abcdef';
const SETTING = 'planted-setting-77aa';
const METRIC = 'planted-metric-31cd';
const REASON = 'planted-reason-55ee';
const WRONG = 'planted-wrong-secret-1b1b';

const beat = (gateway, n, token, more) => call(gateway.target, 'POST', path(n, 'heartbeat'), {
    token, body: { status: 'online', metrics: { note: METRIC, ...more } },
});

/** Everything an agent and an admin do, through that gateway. Answers that are errors are kept. */
async function live(gateway, n, planted, errors) {
    const keep = (answer) => {
        if (answer.status >= 400) errors.push(`${answer.head} ${answer.text}`);
        return answer;
    };
    planted.add('an agent\'s secret', agentSecret(n));
    await call(gateway.target, 'PUT', path(n, ''), { ...admin(), body: { settings: { claude_model: SETTING } } });
    const { json } = keep(await connect(gateway, n));
    assert.equal(json.settings.claude_model, SETTING, 'it passes by');
    planted.addToken('a token', json.accessToken);
    keep(await connect(gateway, n));
    keep(await connect(gateway, n, { secret: WRONG }));
    for (const status of [1, 2, 3]) keep(await beat(gateway, n, json.accessToken, { status }));
    keep(await beat(gateway, n, json.accessToken, { padding: 'x'.repeat(9000) }));
    keep(await beat(gateway, n, `${json.accessToken}x`));
    const foreign = agentToken(agentId(n + 500));
    planted.addToken('a token', foreign);
    keep(await beat(gateway, n, foreign));
    keep(await call(gateway.target, 'POST', path(n, 'disconnect'), { token: json.accessToken, body: { reason: REASON } }));
    const renewed = await call(gateway.target, 'POST', path(n, 'credentials/regenerate'), admin());
    for (const value of Object.values(renewed.json ?? {}))
        if (typeof value === 'string' && value.length > 20 && value !== agentId(n) && !value.includes('://'))
            planted.add('a new secret', value);
    keep(await connect(gateway, n));
    await call(gateway.target, 'DELETE', path(n, ''), admin());
    keep(await connect(gateway, n));
    keep(await beat(gateway, n, json.accessToken));
}

test('nothing that was planted is found', { timeout: 60000 }, async () => {
    const planted = new Planted();
    planted.add('the password of Redis', REDIS_PASSWORD);
    planted.add('the key of the cache', CACHE_KEY);
    planted.add('the secret of tokens', JWT_SECRET);
    planted.add('a setting', SETTING);
    planted.add('a metric', METRIC);
    planted.add('a reason', REASON);
    planted.add('a wrong secret', WRONG);
    const stub = await Stub.start({ transcripts: false });
    const redis = await Redis.start({ appendonly: true, password: REDIS_PASSWORD, conf: {
        'aof-use-rdb-preamble': 'no', rdbcompression: 'no', // nothing may hide
    } });
    const gateways = [];
    const errors = [];
    try {
        const monitor = await redis.monitor();
        for (let i = 0; i < 2; i++)
            gateways.push(await Gateway.start(stub, { config: {
                workers: 2, redis: { url: redis.url, password_file: fileWith(redis, REDIS_PASSWORD) },
                connect_cache: { key_file: fileWith(redis, CACHE_KEY) },
                heartbeat: { forward_interval: '1h', max_hold: '1h', expiry: '1h', max_rate: 100 },
            } }));
        for (const gateway of gateways)
            await eventually('redis is up', async () => (await gateway.metric('redis_up')) === 1);
        await live(gateways[0], 1, planted, errors);
        await live(gateways[1], 2, planted, errors);
        // What is held stays held; what is cached stays cached.
        const { json } = await connect(gateways[0], 3);
        planted.addToken('a token', json.accessToken);
        assert.throws(() => planted.assertNotIn('an answer', JSON.stringify(json)), /a token/, 'it would be found');
        for (const gateway of gateways) await connect(gateway, 3);
        for (let i = 0; i < 3; i++) await beat(gateways[i % 2], 3, json.accessToken);
        await sleep(200);
        assert.ok(monitor.lines.length > 20, 'Redis was spoken to');
        assert.ok((await redis.call('DBSIZE')) > 0, 'and holds something');
        const dump = await redis.dump();
        for (const key of await redis.call('KEYS', '*'))
            assert.ok(dump.includes(key), 'the dump can be read');
        // Again while Redis and the controller are gone: errors are written then.
        await redis.call('CONFIG', 'SET', 'requirepass', 'another');
        await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
        await stub.set({ outage: 'refuse' });
        for (const n of [3, 4]) errors.push((await connect(gateways[0], n)).text);
        errors.push((await beat(gateways[1], 3, json.accessToken)).text);
        await sleep(200);
        planted.add('an agent\'s secret', agentSecret(3));
        errors.splice(0, errors.length, ...errors.filter((text) => !text.includes('"accessToken"')));
        planted.assertNotIn('a dump', dump.toString('latin1'));
        planted.assertNotIn('the commands', monitor.lines.join('\n'));
        planted.assertNotIn('error answers', errors.join('\n'));
        for (const gateway of gateways) {
            planted.assertNotIn('the log', gateway.child.lines.join('\n') + gateway.child.stderr);
            for (const page of ['/metrics', '/readyz', '/livez'])
                planted.assertNotIn(page, (await gateway.health(page)).body);
        }
        monitor.close();
        await stub.set({ outage: 'off' });
        for (const gateway of gateways) await gateway.stop();
    } finally {
        for (const gateway of gateways) await gateway.discard();
        await redis.discard();
        await stub.stop();
    }
});
