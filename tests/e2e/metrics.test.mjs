// What /metrics says of requests, heartbeats and agents: the right thing, in few series.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { admin, connect, path as ofAgent, using } from './support/connecting.mjs';
import { agentToken } from './support/jwt.mjs';
import { Redis } from './support/redis.mjs';
import { agentId } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const SUITE = { timeout: 30000, concurrency: 2 };

const beat = (gateway, n) => call(gateway.target, 'POST', ofAgent(n, 'heartbeat'), {
    token: agentToken(agentId(n)), body: { status: 'online' },
});
const states = async (gateway) => {
    const of = (state) => gateway.metric('agents', `state="${state}"`);
    return { alive: await of('alive'), silent: await of('silent'), refused: await of('refused') };
};
const timed = (gateway, route) => gateway.metric('request_duration_seconds_count', `route="${route}"`);

describe('metrics', SUITE, () => {
    test('each request is timed, by its route', async () => {
        await using({}, async (gateway) => {
            await connect(gateway, 1);
            await connect(gateway, 1, { secret: 'wrong' });
            for (let i = 0; i < 3; i++) await beat(gateway, 1);
            await call(gateway.target, 'GET', '/nowhere');
            await call(gateway.target, 'POST', ofAgent(1, 'disconnect'), { token: agentToken(agentId(1)), body: {} });
            assert.deepEqual(await Promise.all(['connect', 'heartbeat', 'disconnect', 'forward'].map((r) => timed(gateway, r))),
                [2, 3, 1, 1]);
        });
    });

    test('a slow answer is in a slow bucket', async () => {
        await using({}, async (gateway, stub) => {
            await stub.set({ delay_ms: 300 });
            await call(gateway.target, 'GET', '/nowhere');
            const below = (le) => gateway.metric('request_duration_seconds_bucket', `route="forward",le="${le}"`);
            assert.equal(await below('0.25'), 0);
            assert.equal(await below('+Inf'), 1);
        });
    });

    for (const kept of ['in memory', 'in Redis'])
        test(`a heartbeat's way to the controller is timed from its receipt, held ${kept}`, async () => {
            const redis = kept === 'in Redis' ? await Redis.start({ appendonly: true }) : undefined;
            try {
                await using({ config: {
                    ...(redis && { redis: { url: redis.url } }),
                    heartbeat: { forward_interval: '2s', max_hold: '600ms', min_forward_gap: '300ms', max_rate: 100 },
                } }, async (gateway) => {
                    if (redis) await eventually('redis is up', async () => (await gateway.metric('redis_up')) === 1);
                    const lag = (suffix, labels) => gateway.metric(`heartbeat_forward_lag_seconds_${suffix}`, labels);
                    await beat(gateway, 1);
                    await eventually('the first is delivered', async () => (await lag('count')) === 1);
                    await beat(gateway, 1);
                    await eventually('the second is delivered', async () => (await lag('count')) === 2);
                    await eventually('both are settled', async () => (await gateway.metric('heartbeats_delivered_total')) === 2);
                    assert.ok((await lag('sum')) > 0.25, 'the second was held');
                });
            } finally {
                await redis?.discard();
            }
        });

    test('agents are counted by state', async () => {
        await using({}, async (gateway) => {
            assert.deepEqual(await states(gateway), { alive: 0, silent: 0, refused: 0 });
            await connect(gateway, 1);
            assert.deepEqual(await states(gateway), { alive: 0, silent: 1, refused: 0 });
            for (const n of [1, 2]) await beat(gateway, n);
            assert.deepEqual(await states(gateway), { alive: 2, silent: 0, refused: 0 });
            await call(gateway.target, 'DELETE', ofAgent(2, ''), admin());
            assert.deepEqual(await states(gateway), { alive: 1, silent: 0, refused: 1 });
        });
    });

    test('a loop says how late it is', async () => {
        await using({}, async (gateway) => {
            await eventually('a look', async () => (await gateway.metric('loop_lag_seconds_count')) > 2);
        });
    });

    test('answers are counted by route and status class, also those to nothing that has a route', async () => {
        await using({}, async (gateway) => {
            const answers = (route, status) => gateway.metric('answers_total', `route="${route}",class="${status}"`);
            await connect(gateway, 1);
            await beat(gateway, 1);
            await call(gateway.target, 'POST', ofAgent(1, 'heartbeat'), { body: { status: 'online' } }); // no token
            await call(gateway.target, 'GET', '/agents/../x', {});
            const wanted = { connect: '2xx', heartbeat: '2xx', none: '4xx' };
            for (const [route, status] of Object.entries(wanted))
                await eventually(`${route} ${status}`, async () => (await answers(route, status)) === 1);
            await eventually('a heartbeat refused', async () => (await answers('heartbeat', '4xx')) === 1);
            assert.equal(await answers('forward', '4xx'), 0);
        });
    });

    test('the process has the figures, and the names, that any process has', async () => {
        await using({}, async (gateway) => {
            const { body } = await gateway.health('/metrics');
            const figure = (name) => Number(new RegExp(`^${name} ([0-9.]+)$`, 'm').exec(body)?.[1]);
            assert.ok(figure('process_cpu_seconds_total') > 0);
            assert.ok(figure('process_resident_memory_bytes') > 1 << 20);
            const age = Date.now() / 1000 - figure('process_start_time_seconds');
            assert.ok(age > -2 && age < 600, `${age} s old`);
        });
    });

    test('there are at most 500 series, and none has an agent\'s id', async () => {
        const redis = await Redis.start({ appendonly: true });
        try {
            await using({ config: { redis: { url: redis.url } } }, async (gateway) => {
                for (let n = 1; n <= 20; n++) await connect(gateway, n);
                const { body } = await gateway.health('/metrics');
                const series = body.split('\n').filter((line) => line && !line.startsWith('#'));
                assert.ok(series.length > 100 && series.length <= 500, `${series.length} series`);
                assert.ok(!body.includes(agentId(1)));
            });
        } finally {
            await redis.discard();
        }
    });
});
