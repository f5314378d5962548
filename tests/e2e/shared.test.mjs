// What gateways that share a Redis learn from each other: connects, purges, revocations.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { HIT, MISS, OLD, STALE, admin, assertConnects, cacheStatus, connect, path, timed }
    from './support/connecting.mjs';
import { shared, withFleet } from './support/fleet.mjs';
import { agentToken } from './support/jwt.mjs';
import { agentId, agentSecret } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Wire, call, request } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 3 };
const sanitized = /asan|tsan/.test(process.env.BUILD ?? '');

const connects = async ({ stub }) => (await stub.counts()).connects;
const kept = (gateway, n) => eventually(`${n} connects to be kept`, async () =>
    (await gateway.metric('connect_shared_kept_total')) >= n);
const regenerate = (gateway, n) =>
    call(gateway.target, 'POST', path(n, 'credentials/regenerate'), { ...admin(), body: {} });
const put = (gateway, n, body) => call(gateway.target, 'PUT', path(n, ''), { ...admin(), body });

/** Two gateways. */
const withTwo = (options, body) => withFleet(options, async (fleet) =>
    body(fleet, await fleet.gateway(options.a), await fleet.gateway(options.b)));

describe('connects that are shared', SUITE, () => {
    test('learnt by one, a hit on the other, with nobody asked', () =>
        withTwo({}, async (fleet, a, b) => {
            const first = await assertConnects(a, 1, MISS);
            await kept(a, 1);
            const second = await assertConnects(b, 1, HIT);
            assert.equal(second.json.accessToken, first.json.accessToken);
            assert.equal(second.header('content-type'), first.header('content-type'));
            await assertConnects(b, 1, HIT);
            assert.equal(await connects(fleet), 1);
            assert.equal(await shared(b, 'hit'), 1, 'the second is known here');
            assert.equal(await shared(a, 'miss'), 1);
        }));

    test('another secret opens nothing, and harms nothing', () =>
        withTwo({}, async (fleet, a, b) => {
            await assertConnects(a, 1, MISS);
            await kept(a, 1);
            assert.equal((await connect(b, 1, { secret: 'wrong' })).status, 401);
            assert.equal(await shared(b, 'hit'), 0);
            await assertConnects(b, 1, HIT);
        }));

    test('a refresh is kept, too', () =>
        withTwo({ config: { connect_cache: { fresh_for: '1s' } } }, async (fleet, a, b) => {
            await assertConnects(a, 1, MISS);
            await sleep(1100);
            const fresh = await assertConnects(a, 1, STALE);
            await kept(a, 2);
            const hit = await assertConnects(b, 1, HIT);
            assert.equal(hit.json.accessToken, fresh.json.accessToken);
        }));

    test('what is found is judged by its age: warm asks, and in a storm does not', () =>
        withTwo({ config: { connect_cache: { fresh_for: '1s', refresh_rate: 1, refresh_burst: 1 } } },
            async (fleet, a, b) => {
                const old = await assertConnects(a, 1, MISS);
                await assertConnects(a, 2, MISS);
                await kept(a, 2);
                await sleep(1100);
                await assertConnects(b, 1, STALE);
                await assertConnects(b, 2, OLD);
                assert.equal(await connects(fleet), 3);
                await eventually('the refresh', async () => (await connects(fleet)) === 4);
                assert.ok(old);
            }));

    test('many at once on one gateway share a look, and its answer', () =>
        withTwo({}, async (fleet, a, b) => {
            await assertConnects(a, 1, MISS);
            await kept(a, 1);
            const answers = await Promise.all(Array.from({ length: 20 }, () => connect(b, 1)));
            for (const answer of answers) assert.match(cacheStatus(answer), HIT);
            assert.equal(await connects(fleet), 1);
            assert.ok(await shared(b, 'hit') < 20);
        }));

    test('the same agent at two gateways at once costs one bcrypt', () =>
        withTwo({}, async (fleet, a, b) => {
            await fleet.stub.set({ connect_delay_ms: 400 });
            for (let n = 1; n <= 3; n++) {
                const both = await Promise.all([connect(a, n), connect(b, n)]);
                for (const answer of both) assert.equal(answer.status, 201);
                assert.equal(both[0].json.accessToken, both[1].json.accessToken);
                assert.equal(await connects(fleet), n);
            }
        }));

    test('a fill that takes over a second is not waited for longer than that', () =>
        withTwo({}, async (fleet, a, b) => {
            await fleet.stub.set({ connect_delay_ms: 2500 });
            const slow = connect(a, 1);
            await sleep(100);
            const { answer, ms } = await timed(connect(b, 1));
            assert.equal(answer.status, 201);
            assert.ok(ms > 3300, `${ms} ms: a second, and its own call`);
            assert.equal(await shared(b, 'locked'), 1);
            assert.equal((await slow).status, 201);
            assert.equal(await connects(fleet), 2);
        }));

    test('a fill that brought nothing is somebody else\'s at once', () =>
        withTwo({}, async (fleet, a, b) => {
            assert.equal((await connect(a, 1, { secret: 'wrong' })).status, 401);
            assert.equal((await connect(b, 1, { secret: 'wrong' })).status, 401);
            assert.equal(await shared(b, 'locked'), 0, 'nobody was waited for');
            assert.equal(await connects(fleet), 2);
        }));

    test('who leaves while his connect is looked up is forgotten', () =>
        withTwo({}, async (fleet, a, b) => {
            await fleet.stub.set({ connect_delay_ms: 900 });
            const slow = connect(a, 1);
            await sleep(100);
            const wire = await Wire.open(b.target);
            wire.send(request('POST', path(1), {
                headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(1) },
            }));
            await sleep(200);
            wire.abort();
            assert.equal((await slow).status, 201);
            await sleep(1000);
            assert.equal(await connects(fleet), 1);
            assert.equal(await b.metric('clients_gone_total'), 1);
        }));

    /** Two ask the gateway for agent n, the second follows the first; both leave. How long it took. */
    async function askAndLeave(gateway, n) {
        const start = performance.now();
        const seen = () => gateway.metric('requests_total', 'route="connect"');
        const gone = () => gateway.metric('clients_gone_total');
        const before = await seen(), goneBefore = await gone();
        const wires = [];
        for (const nth of [1, 2]) {
            const wire = await Wire.open(gateway.target);
            wires.push(wire);
            wire.send(request('POST', path(n), {
                headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(n) },
            }));
            await eventually('it to be read', async () => (await seen()) === before + nth);
        }
        for (const nth of [1, 2]) {
            wires[nth - 1].abort();
            await eventually('it to be missed', async () => (await gone()) === goneBefore + nth);
        }
        return performance.now() - start;
    }

    test('when all have left while it was looked up, nothing is asked for nobody', () =>
        withTwo({}, async (fleet, a, b) => {
            await fleet.stub.set({ connect_delay_ms: 2500 }); // longer than another's fill is waited for
            for (let n = 1; n <= 5; n++) {
                const before = await connects(fleet);
                const slow = connect(a, n);
                await eventually('the call', async () => (await connects(fleet)) > before);
                const tookMs = await askAndLeave(b, n);
                assert.equal((await slow).status, 201);
                if (tookMs > 800) continue; // b may have asked before they left
                assert.equal(await connects(fleet), before + 1);
                return;
            }
            assert.fail('the machine is too slow for this');
        }));
});

/** How long until `question` is answered with yes; fails after 1 s (sanitizers are slow). */
const withinASecond = (what, question) => eventually(what, question, sanitized ? 5000 : 1000);
const isRefused = async (gateway, n, status, options) =>
    (await connect(gateway, n, options)).status === status;
const KNOWN_TO_BOTH = { limits: { connects_per_agent: 0 } };

/** Both gateways know these agents. */
async function bothKnow(a, b, agents) {
    for (const n of agents) await assertConnects(a, n, MISS);
    await kept(a, agents.length);
    for (const n of agents) await assertConnects(b, n, HIT);
}

describe('purges', SUITE, () => {
    test('regenerate through one: the old secret is refused by the other within a second', () =>
        withTwo({ config: KNOWN_TO_BOTH }, async (fleet, a, b) => {
            await bothKnow(a, b, [1, 2]);
            const { json } = await regenerate(a, 1);
            await withinASecond('the old secret to be refused', () => isRefused(b, 1, 401));
            await assertConnects(b, 1, MISS, { secret: json.secret });
            await assertConnects(b, 2, HIT);
        }));

    test('an instruction written through one: stale at the other, and for who did not know it', () => {
        const INSTRUCTION = '6b000000000000000000000a';
        const answer = (seen) => seen.path.endsWith('/connect') ? { status: 201, body: JSON.stringify({
            accessToken: agentToken(seen.path.split('/')[2]),
            instruction: { id: INSTRUCTION, systemPrompt: 'x', guidelines: [] }, settings: {},
        }) } : { status: 200 };
        const config = { ...KNOWN_TO_BOTH, connect_cache: { refresh_burst: 100, refresh_rate: 100 } };
        return withTwo({ config, controller: answer }, async (fleet, a, b) => {
            await bothKnow(a, b, [1, 2]);
            const written = await call(a.target, 'PUT', `/instructions/${INSTRUCTION}`,
                { ...admin(), body: { systemPrompt: 'y' } });
            assert.equal(written.status, 200);
            await withinASecond('b asks', async () => STALE.test(cacheStatus(await connect(b, 1))));
            await assertConnects(await fleet.gateway(), 2, STALE);
        });
    });

    test('a purge while another replica fills: what it brings is not kept', () =>
        withTwo({ config: KNOWN_TO_BOTH }, async (fleet, a, b) => {
            await fleet.stub.set({ connect_delay_ms: 700 });
            const filling = connect(b, 1);
            await sleep(200);
            await regenerate(a, 1);
            await filling;
            await sleep(200);
            assert.equal(await fleet.redis.call('EXISTS', `aiwm-gateway:1:grant:${agentId(1)}`), 0);
            await fleet.stub.set({ connect_delay_ms: 0 });
            assert.equal((await connect(b, 1)).status, 401);
            assert.equal((await connect(a, 1)).status, 401);
        }));

    test('the controller\'s own no evicts everywhere', () =>
        withTwo({ config: { ...KNOWN_TO_BOTH, connect_cache: { fresh_for: '0s', refresh_burst: 100 } } },
            async (fleet, a, b) => {
                await assertConnects(a, 1, MISS);
                await kept(a, 1);
                const straight = { host: '127.0.0.1', port: fleet.stub.port, tls: false };
                await call(straight, 'PUT', path(1, ''), { ...admin(), body: { status: 'suspended' } });
                assert.equal((await connect(a, 1)).status, 401);
                await withinASecond('it is gone from Redis', async () =>
                    (await fleet.redis.call('EXISTS', `aiwm-gateway:1:grant:${agentId(1)}`)) === 0);
                await withinASecond('b knows', async () => (await call(b.target, 'GET', path(1, ''),
                    { token: earlier(1) })).status === 401);
            }));

    test('made while Redis was away: told when it is back, before anything is looked up', () =>
        withTwo({ config: KNOWN_TO_BOTH, redis: { appendonly: true } }, async (fleet, a, b) => {
            await bothKnow(a, b, [1, 2]);
            await fleet.redis.kill();
            await eventually('a sees that', async () => (await a.metric('redis_up')) === 0);
            const { json } = await regenerate(a, 1);
            assert.equal((await connect(a, 1)).status, 401);
            await assertConnects(a, 1, MISS, { secret: json.secret });
            await fleet.redis.restart();
            await eventually('b is told', () => isRefused(b, 1, 401), 10000);
            assert.equal((await connect(a, 1)).status, 401);
            await assertConnects(b, 2, HIT);
        }));
});

const earlier = (n) => agentToken(agentId(n), { iat: Math.floor(Date.now() / 1000) - 60 });
const fetchAs = (gateway, n, token) => call(gateway.target, 'GET', path(n, ''), { token });

describe('revocations', SUITE, () => {
    for (const [what, write, status] of [
        ['suspended', (gateway) => put(gateway, 1, { status: 'suspended' }), 401],
        ['deleted', (gateway) => call(gateway.target, 'DELETE', path(1, ''), admin()), 404],
        ['regenerated', (gateway) => regenerate(gateway, 1), 401],
    ]) {
        test(`${what} through one: tokens from before are refused by the other, and by a fresh one`, () =>
            withTwo({ config: { ...KNOWN_TO_BOTH, policy: { revoke_on_regenerate: true } } },
                async (fleet, a, b) => {
                    const token = earlier(1);
                    assert.equal((await fetchAs(b, 1, token)).status, 200);
                    assert.ok((await write(a)).status < 300);
                    await withinASecond('refused', async () => (await fetchAs(b, 1, token)).status === status);
                    const fresh = await fleet.gateway();
                    await withinASecond('known', async () => (await fetchAs(fresh, 1, token)).status === status);
                    assert.equal((await fetchAs(fresh, 2, earlier(2))).status, 200);
                }));
    }

    test('active again through the other: let in everywhere', () =>
        withTwo({ config: KNOWN_TO_BOTH }, async (fleet, a, b) => {
            const token = earlier(1);
            await put(a, 1, { status: 'suspended' });
            await withinASecond('refused', async () => (await fetchAs(b, 1, token)).status === 401);
            await put(b, 1, { status: 'active' });
            await withinASecond('let in', async () => (await fetchAs(a, 1, token)).status === 200);
            const fresh = await fleet.gateway();
            assert.equal((await fetchAs(fresh, 1, token)).status, 200);
        }));

    test('known again to a Redis that lost everything', () =>
        withTwo({ config: KNOWN_TO_BOTH }, async (fleet, a) => {
            await put(a, 1, { status: 'suspended' });
            await withinASecond('kept', async () => (await fleet.redis.call('HLEN', 'aiwm-gateway:1:revoked')) === 1);
            await fleet.redis.call('FLUSHALL');
            await eventually('kept again', async () =>
                (await fleet.redis.call('HLEN', 'aiwm-gateway:1:revoked')) === 1, 10000);
        }));
});

describe('a channel that fails', SUITE, () => {
    const calm = { ...KNOWN_TO_BOTH, connect_cache: { refresh_burst: 100, refresh_rate: 100 } };
    const becomesStale = (gateway, n, ms) => eventually('the cache to be stale', async () =>
        STALE.test(cacheStatus(await connect(gateway, n))), ms);

    test('FLUSHALL: all that is cached is stale, and sharing goes on', () =>
        withTwo({ config: calm }, async (fleet, a, b) => {
            await bothKnow(a, b, [1]);
            await fleet.redis.call('FLUSHALL');
            await becomesStale(b, 1, 8000);
            await becomesStale(a, 1, 8000);
            await eventually('kept again', async () => {
                await connect(a, 2, { headers: { 'Cache-Control': 'no-cache' } });
                return (await fleet.redis.call('EXISTS', `aiwm-gateway:1:grant:${agentId(2)}`)) === 1;
            }, 10000);
            await regenerate(a, 1);
            await withinASecond('the old secret to be refused', () => isRefused(b, 1, 401));
        }));

    test('a stream that was trimmed past us: stale', () =>
        withTwo({ config: calm, b: { toxic: true } }, async (fleet, a, b) => {
            await bothKnow(a, b, [1]);
            await b.toxic.refuse();
            await regenerate(a, 2);
            await regenerate(a, 3);
            await eventually('told', async () => (await a.metric('purges_shared_total')) >= 2);
            await fleet.redis.call('XTRIM', 'aiwm-gateway:1:events', 'MAXLEN', 1);
            await b.toxic.pass();
            await becomesStale(b, 1, 8000);
            // Cut off twice on its way back it finds the same gap twice.
            assert.ok(await b.metric('purge_channel_gaps_total') >= 1);
        }));

    test('cut off for a moment: what was missed is read, and nothing else is stale', () =>
        withTwo({ config: calm, b: { toxic: true } }, async (fleet, a, b) => {
            await bothKnow(a, b, [1, 2]);
            await b.toxic.refuse();
            await regenerate(a, 1);
            await sleep(300);
            assert.equal((await connect(b, 1)).status, 201, 'not told yet');
            await b.toxic.pass();
            await eventually('told', () => isRefused(b, 1, 401), 8000);
            await assertConnects(b, 2, HIT);
            assert.equal(await b.metric('purge_channel_gaps_total'), 0);
        }));

    test('cut off for a minute: all is stale, until the others are heard again',
        { skip: sanitized && 'the preloaded clock must come before the sanitizer' }, () =>
            withTwo({ config: calm, b: { toxic: true, env: timelapse(10) } }, async (fleet, a, b) => {
                await bothKnow(a, b, [1]);
                await b.toxic.blackhole();
                await assertConnects(b, 1, HIT);
                await b.logged('nothing was heard from other gateways for a minute: all that is cached is stale');
                await assertConnects(b, 1, STALE);
                await b.toxic.pass();
                await b.logged('other gateways are heard again');
                await assertConnects(b, 1, HIT);
            }));

    test('nonsense in the stream harms nobody', () =>
        withTwo({ config: calm }, async (fleet, a, b) => {
            await bothKnow(a, b, [1]);
            for (const what of ['', 'x', 'agent', 'tags 99999', `agent ${'z'.repeat(24)} 1 deleted 0 0`])
                await fleet.redis.call('XADD', 'aiwm-gateway:1:events', '*', 'from', 'x', 'seq', 'x', 'what', what);
            await fleet.redis.call('XADD', 'aiwm-gateway:1:events', '*', 'odd', 'fields');
            await regenerate(a, 2);
            await assertConnects(b, 1, HIT);
            assert.equal(await b.metric('purge_channel_up'), 1);
        }));
});

describe('a Redis that fails', SUITE, () => {
    // Whoever waited for Redis, and not for the budget, would wait for longer than the bound.
    const hasty = { ...KNOWN_TO_BOTH, connect_cache: { redis_budget: '50ms' } };
    const redis = { command_timeout: '30s' };
    const BOUND_MS = 5000;

    for (const [what, hurt] of [
        ['killed', (redis) => redis.kill()],
        ['stopped', (redis) => redis.pause()],
    ]) {
        test(`${what} in a storm: nobody fails, nobody waits for it longer than he may`, () =>
            withTwo({ config: { ...hasty, redis } }, async (fleet, a, b) => {
                for (let n = 1; n <= 60; n++) await assertConnects(a, n, MISS);
                await kept(a, 60);
                const storm = async (from, to) => {
                    for (let n = from; n <= to; n++) {
                        const { answer, ms } = await timed(connect(b, n));
                        assert.equal(answer.status, 201, answer.text);
                        assert.ok(ms < BOUND_MS, `agent ${n}: ${ms} ms`);
                    }
                };
                const storms = [storm(1, 20), storm(21, 40), storm(41, 60)];
                await sleep(20);
                await hurt(fleet.redis);
                await Promise.all(storms);
                for (let n = 61; n <= 80; n++) {
                    const { answer, ms } = await timed(connect(b, n));
                    assert.equal(answer.status, 201);
                    assert.ok(ms < BOUND_MS, `agent ${n}: ${ms} ms`);
                }
                if (what === 'stopped') fleet.redis.resume();
            }));
    }
});

describe('keys and secrets', SUITE, () => {
    const K1 = 'a'.repeat(32);
    const K2 = 'b'.repeat(32);

    test('sealed under the key before: opened, and sealed under the new one by the next fill', () =>
        withFleet({ config: { ...KNOWN_TO_BOTH, connect_cache: { fresh_for: '1s' } } }, async (fleet) => {
            const old = await fleet.gateway({ env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: K1 } });
            const first = await assertConnects(old, 1, MISS);
            await kept(old, 1);
            const rotating = { AIWM_GATEWAY_CONNECT_CACHE_KEY: K2, AIWM_GATEWAY_CONNECT_CACHE_PREVIOUS_KEY: K1 };
            const next = await fleet.gateway({ env: rotating });
            const hit = await connect(next, 1);
            assert.equal(await shared(next, 'hit'), 1);
            assert.equal(hit.json.accessToken, first.json.accessToken);
            await sleep(1100);
            await assertConnects(next, 1, STALE);
            await kept(next, 1);
            const last = await fleet.gateway({ env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: K2 } });
            await connect(last, 1);
            assert.equal(await shared(last, 'hit'), 1);
        }));

    test('another key opens nothing', () =>
        withFleet({ config: KNOWN_TO_BOTH }, async (fleet) => {
            await assertConnects(await fleet.gateway({ env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: K1 } }), 1, MISS);
            const other = await fleet.gateway({ env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: K2 } });
            await assertConnects(other, 1, MISS);
            assert.equal(await shared(other, 'hit'), 0);
        }));

    test('a token of a JWT secret that is not taken here is not given to anybody', () =>
        withFleet({ config: KNOWN_TO_BOTH }, async (fleet) => {
            const first = await fleet.gateway({ env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: K1 } });
            await assertConnects(first, 1, MISS);
            await kept(first, 1);
            const rotated = await fleet.gateway({ env: { AIWM_GATEWAY_CONNECT_CACHE_KEY: K1,
                AIWM_GATEWAY_JWT_SECRET: 'renewed-secret-of-at-least-32-bytes!' } });
            await assertConnects(rotated, 1, MISS);
            assert.equal(await shared(rotated, 'hit'), 1, 'it was found, and opened');
        }));

    test('an entry that somebody changed in Redis is not given to anybody', () =>
        withTwo({ config: KNOWN_TO_BOTH }, async (fleet, a, b) => {
            for (const n of [1, 2]) await assertConnects(a, n, MISS);
            await kept(a, 2);
            const key = (n) => `aiwm-gateway:1:grant:${agentId(n)}`;
            await fleet.redis.call('HSET', key(1), 'grant', 'nonsense');
            await fleet.redis.call('HSET', key(2), 'tags', '1,,99999');
            for (const n of [1, 2]) await assertConnects(b, n, MISS);
            assert.equal(await shared(b, 'error'), 2);
        }));

    test('neither a dump nor MONITOR shows a secret, a token or a setting', () =>
        withTwo({ config: KNOWN_TO_BOTH, redis: { appendonly: true } }, async (fleet, a, b) => {
            const monitor = await fleet.redis.monitor();
            const { json } = await assertConnects(a, 1, MISS);
            await kept(a, 1);
            await assertConnects(b, 1, HIT);
            const regenerated = (await regenerate(a, 2)).json;
            await assertConnects(a, 2, MISS, { secret: regenerated.secret });
            await kept(a, 2);
            const seen = Buffer.concat([await fleet.redis.dump(), Buffer.from(monitor.lines.join('\n'))]);
            monitor.close();
            assert.ok(seen.includes(agentId(1)), 'it was looked at');
            const planted = [agentSecret(1), regenerated.secret, json.accessToken,
                json.accessToken.split('.')[2], json.instruction.systemPrompt,
                ...Object.keys(json.settings)];
            for (const text of planted.filter(Boolean)) assert.ok(!seen.includes(text), text);
        }));
});

describe('replicas', SUITE, () => {
    test('count each other, and one that ends no more', () =>
        withTwo({}, async (fleet, a, b) => {
            const count = (gateway, n) => eventually(`${n} replicas`, async () =>
                (await gateway.metric('replicas')) === n, 8000);
            await count(a, 2);
            await count(b, 2);
            // Somebody who was there before Redis' clock was set back by an hour.
            await fleet.redis.call('ZADD', 'aiwm-gateway:1:replicas', Date.now() + 3600000, '0123456789abcdef');
            await eventually('he is forgotten', async () =>
                (await fleet.redis.call('ZCARD', 'aiwm-gateway:1:replicas')) === 2, 8000);
            fleet.gateways.splice(fleet.gateways.indexOf(b), 1);
            await b.stop();
            await count(a, 1);
        }));

    test('one that was killed counts for fifteen seconds',
        { skip: sanitized && 'the preloaded clock must come before the sanitizer' }, () =>
            withFleet({}, async (fleet) => {
                const a = await fleet.gateway({ env: timelapse(10) });
                await fleet.redis.call('ZADD', 'aiwm-gateway:1:replicas', Date.now() - 14000, 'feedfeedfeedfeed');
                await eventually('two', async () => (await a.metric('replicas')) === 2, 3000);
                await eventually('one', async () => (await a.metric('replicas')) === 1, 4000);
            }));
});
