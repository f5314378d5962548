// What gateways that share a Redis learn from each other: connects, purges, revocations.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { HIT, MISS, OLD, STALE, admin, assertConnects, cacheStatus, connect, path, timed }
    from './support/connecting.mjs';
import { hears, shared, withFleet } from './support/fleet.mjs';
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
            assert.ok(ms > 3300 && ms < 4500, `${ms} ms`);
            assert.equal(await shared(b, 'locked'), 1);
            assert.equal((await slow).status, 201);
            assert.equal(await connects(fleet), 2);
        }));

    test('a fill that brought nothing is somebody else\'s at once', () =>
        withTwo({}, async (fleet, a, b) => {
            assert.equal((await connect(a, 1, { secret: 'wrong' })).status, 401);
            const { answer, ms } = await timed(connect(b, 1, { secret: 'wrong' }));
            assert.equal(answer.status, 401);
            assert.ok(ms < 900, `${ms} ms`);
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
});
