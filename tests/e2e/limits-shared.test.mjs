// Limits that gateways with a common Redis count together.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { connect } from './support/connecting.mjs';
import { withFleet } from './support/fleet.mjs';
import { agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { Wire, request } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 4 }; // most of the time they wait to know each other
const KEY = 'aiwm-gateway:1:limits:';
const wrong = (k) => ({ secret: `wrong-${k}` });

/** `count` gateways that know each other. */
const withGateways = (count, options, body) => withFleet(options, async (fleet) => {
    for (let i = 0; i < count; i++) await fleet.gateway(options.each);
    for (const gateway of fleet.gateways) await knows(gateway, count);
    await body(fleet, ...fleet.gateways);
});
const knows = (gateway, count) => eventually('all are known', async () =>
    (await gateway.metric('replicas')) === count && (await gateway.metric('limits_shared')) === 1, 15000);

/** Once the gateway has heard that a limit is used up: its arrival time in Redis says so. */
async function hears(fleet, gateway, limit) {
    await eventually('it is told', async () => {
        const [, score] = await fleet.redis.call('ZRANGE', KEY + limit, -1, -1, 'WITHSCORES');
        const [seconds] = await fleet.redis.call('TIME');
        return Number(score) / 1e6 - Number(seconds) > 50;
    });
    for (let i = 0; i < 2; i++) { // the first word may have been under way already
        const before = await gateway.metric('limits_heard_total');
        await eventually('what others took', async () => (await gateway.metric('limits_heard_total')) > before);
    }
}

/** Calls of agent n, one after the other, until told; how many passed. */
async function flood(gateway, n, until) {
    const wire = await Wire.open(gateway.target);
    const headers = { Authorization: `Bearer ${agentToken(agentId(n))}` };
    const answers = { passed: 0, refused: 0 };
    try {
        while (!until(answers)) {
            wire.send(request('GET', '/__stub/status?code=200', { headers }));
            const { status } = await wire.answer();
            assert.ok(status === 200 || status === 429, `${status}`);
            answers[status === 200 ? 'passed' : 'refused']++;
        }
    } finally {
        wire.close();
    }
    return answers;
}

const refused = ({ refused: count }) => count > 0;

describe('limits of a fleet', SUITE, () => {
    test('an agent that floods all gateways gets what one would give it', (t) =>
        withGateways(3, { config: { limits: { api_rate: 20, api_burst: 40 } } }, async (fleet, ...gateways) => {
            const start = performance.now();
            const over = () => performance.now() - start > 8000;
            const all = await Promise.all(gateways.map((gateway) => flood(gateway, 1, over)));
            const seconds = (performance.now() - start) / 1000;
            const passed = all.reduce((sum, answers) => sum + answers.passed, 0);
            t.diagnostic(`${passed} calls in ${seconds.toFixed(1)} s`);
            // Each may give a burst before it hears of the others. Alone they would give thrice 20 a second.
            assert.ok(passed <= 3 * 40 + 1.1 * 20 * seconds, `${passed} in ${seconds} s`);
            assert.ok(passed >= 40, `${passed}`);
            for (const answers of all) assert.ok(answers.refused > 0);
        }));

    test('what was taken of one the others do not give again', () =>
        withGateways(2, { config: { connect_cache: { enabled: false } } }, async (fleet, a, b) => {
            for (let i = 0; i < 5; i++) assert.equal((await connect(a, 1)).status, 201);
            await hears(fleet, b, 'connects');
            assert.equal((await connect(b, 1)).json.code, 'GATEWAY_RATE_LIMITED');
            assert.equal((await connect(b, 2)).status, 201);
            assert.equal((await fleet.stub.counts()).connects, 6);
        }));

    test('an agent whose secret is guessed is locked on all', () =>
        withGateways(2, {}, async (fleet, a, b) => {
            for (let k = 0; k < 5; k++) assert.equal((await connect(a, 1, wrong(k))).status, 401);
            await hears(fleet, b, 'tries');
            assert.equal((await connect(b, 1, wrong(5))).json.code, 'GATEWAY_AGENT_LOCKED');
            assert.equal((await connect(b, 2)).status, 201);
        }));

    test('an address that guesses is refused on all', () =>
        withGateways(2, { config: { limits: { connect_failures_per_ip: 5 } } }, async (fleet, a, b) => {
            for (let n = 100; n < 105; n++) assert.equal((await connect(a, n, wrong(n))).status, 401);
            await hears(fleet, b, 'failures');
            assert.equal((await connect(b, 200)).json.code, 'GATEWAY_TOO_MANY_FAILURES');
        }));

    test('they outlive a gateway', () =>
        withGateways(2, { config: { connect_cache: { enabled: false } } }, async (fleet, a) => {
            for (let i = 0; i < 5; i++) assert.equal((await connect(a, 1)).status, 201);
            await hears(fleet, fleet.gateways[1], 'connects');
            const c = await fleet.gateway();
            await hears(fleet, c, 'connects');
            assert.equal((await connect(c, 1)).json.code, 'GATEWAY_RATE_LIMITED');
        }));

    test('what a clock that was set back since had counted shuts nobody out', () =>
        withGateways(2, { config: { connect_cache: { enabled: false } } }, async (fleet, a, b) => {
            for (let i = 0; i < 5; i++) assert.equal((await connect(a, 1)).status, 201);
            await hears(fleet, b, 'connects');
            await fleet.redis.call('EVAL', `for _, k in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
                redis.call('ZINCRBY', KEYS[1], 3600000000, k) end`, 1, `${KEY}connects`);
            await eventually('it is forgotten', async () => {
                const scores = (await fleet.redis.call('ZRANGE', `${KEY}connects`, 0, -1, 'WITHSCORES')).filter((_, i) => i % 2);
                const [seconds] = await fleet.redis.call('TIME');
                return scores.every((score) => Number(score) / 1e6 - Number(seconds) < 600);
            });
            const retryAfter = Number((await connect(b, 1)).header('retry-after') ?? 0);
            assert.ok(retryAfter <= 180, `${retryAfter} s`);
        }));

    test('Redis hears keyed hashes, and forgets them', () =>
        withGateways(2, {}, async (fleet, a, b) => {
            for (let k = 0; k < 5; k++) await connect(a, 1, wrong(k));
            await hears(fleet, b, 'tries');
            assert.deepEqual((await fleet.redis.call('KEYS', `${KEY}*`)).sort(),
                ['connects', 'failures', 'tries'].map((name) => KEY + name));
            for (const name of ['connects', 'failures', 'tries']) {
                const ttl = await fleet.redis.call('PTTL', KEY + name);
                assert.ok(ttl > 60000 && ttl <= 181000, `${name}: ${ttl} ms`);
            }
            assert.equal(await fleet.redis.call('ZCARD', `${KEY}tries`), 1);
            const [member] = await fleet.redis.call('ZRANGE', `${KEY}tries`, 0, 0);
            assert.ok(!member.includes(agentId(1)) && !member.includes('127.0.0.1'));
        }));
});

describe('limits without Redis', SUITE, () => {
    const config = { limits: { api_rate: 1, api_burst: 40 } };
    const takes = async (gateway, n) => {
        const start = performance.now();
        const { passed } = await flood(gateway, n, refused);
        return { passed, seconds: (performance.now() - start) / 1000 };
    };

    test('each gives its part of what the fleet last was, and all of it together afterwards', () =>
        withGateways(2, { config }, async (fleet, a, b) => {
            await fleet.redis.kill();
            for (const gateway of [a, b]) {
                await eventually('alone', async () => (await gateway.metric('limits_shared')) === 0);
                await gateway.logged('what clients take cannot be told to the other gateways: each allows its part');
                const { passed, seconds } = await takes(gateway, 1);
                assert.ok(passed >= 20 && passed <= 20 + seconds / 2 + 1, `${passed} in ${seconds} s`);
            }
            await fleet.redis.restart();
            await eventually('together again', async () => (await a.metric('limits_shared')) === 1, 15000);
            const { passed } = await takes(a, 2);
            assert.ok(passed >= 40, `${passed}`);
        }));

    test('switched off each counts for itself, and nothing is told', () =>
        withFleet({ config: { limits: { ...config.limits, shared: false } } }, async (fleet) => {
            for (let i = 0; i < 2; i++) {
                const { passed } = await takes(await fleet.gateway(), 1);
                assert.ok(passed >= 40, `${passed}`);
            }
            assert.deepEqual(await fleet.redis.call('KEYS', `${KEY}*`), []);
        }));
});
