// An outage ends for the agents soon after it has ended at the controller, and no connect waits for
// longer than the documented client does, whatever the controller does.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep, within } from './support/child.mjs';
import { MISS, assertConnects, connect, path, using } from './support/connecting.mjs';
import { Controller } from './support/controller.mjs';
import { agentToken } from './support/jwt.mjs';
import { Stub, agentId, agentSecret } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Upstream } from './support/upstream.mjs';
import { call, exchange } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 4 };
const preloads = !/asan|tsan/.test(process.env.BUILD ?? '') && !process.env.GATEWAY_WRAPPER;
const numbers = (count, from = 1) => Array.from({ length: count }, (_, i) => from + i);

const beat = (gateway, n, status = 'online') => call(gateway.target, 'POST', path(n, 'heartbeat'), {
    token: agentToken(agentId(n)), body: { status },
});
const leftAlone = (gateway) => gateway.metric('controller_left_alone');
const down = (gateway) => eventually('the breaker to open', async () => await leftAlone(gateway) === 1, 20000);

/** Opens the breaker: five connects of agents that nobody knows fail. */
async function fail(gateway) {
    for (const n of numbers(5, 900)) await connect(gateway, n);
    await down(gateway);
}

describe('recovery', SUITE, () => {
    for (const [what, stop, start] of [
        ['was killed', (stub) => stub.kill(), (stub) => stub.restart()],
        ['refused connections', (stub) => stub.set({ outage: 'refuse' }), (stub) => stub.set({ outage: 'off' })],
        ['closed every connection', (stub) => stub.set({ fail_next: 1000000, fail_status: 0 }), (stub) => stub.set({ fail_next: 0 })],
    ])
        test(`a controller that ${what} is served again within two seconds`, async () => {
            const stub = await Stub.start({ transcripts: false });
            await using({ stub }, async (gateway) => {
                await assertConnects(gateway, 1, MISS);
                await stop(stub);
                await fail(gateway);
                await sleep(6000); // an interval that doubled would be long by now
                assert.equal((await beat(gateway, 1, 'busy')).status, 201, 'held');
                assert.equal((await call(gateway.target, 'GET', '/__stub/echo')).status, 503);
                await start(stub);
                const back = Promise.all([
                    eventually('a GET', async () => (await call(gateway.target, 'GET', '/__stub/echo')).status === 200),
                    eventually('a first connect', async () => (await connect(gateway, 2)).status === 201),
                ]);
                await within(2000, 'to be served', back);
                await eventually('the held beat', async () => (await stub.counts()).heartbeats_ok >= 1);
            });
        });

    test('a controller that was stopped is served again within two seconds', async () => {
        const stub = await Stub.start({ transcripts: false });
        const config = { upstream: { response_timeout: '500ms', connect_timeout: '500ms' }, breaker: { failures: 2 } };
        await using({ stub, config }, async (gateway) => {
            await assertConnects(gateway, 1, MISS);
            stub.child.signal('SIGSTOP');
            try {
                await Promise.all(numbers(5, 900).map((n) => connect(gateway, n)));
                await down(gateway);
                await sleep(3000);
            } finally {
                stub.child.signal('SIGCONT');
            }
            await within(2000, 'to be served', eventually('a first connect', async () => (await connect(gateway, 2)).status === 201));
        });
    });

    test('while it is down it is probed about every 500 ms', async () => {
        const looks = [];
        const controller = await Upstream.start((socket) => socket.destroy(), {
            health: (socket) => {
                looks.push(performance.now());
                socket.destroy();
            },
        });
        await using({ stub: controller }, async (gateway) => {
            await fail(gateway);
            looks.length = 0;
            await eventually('ten looks', () => looks.length >= 10, 6500);
            const gaps = looks.slice(1).map((at, i) => at - looks[i]);
            for (const gap of gaps) assert.ok(gap > 480, `${gap} ms between two looks`);
            assert.ok(new Set(gaps.map((gap) => Math.round(gap / 5))).size > 1, `no jitter: ${gaps}`);
        });
    });

    test('calls that hang from before an outage keep nobody waiting after it', async () => {
        let hangs = true, healthy = true;
        const controller = await Controller.start((seen) => {
            if (seen.path.endsWith('/heartbeat')) return healthy ? { status: 201 } : 'reset';
            return hangs ? new Promise(() => {}) : { status: 201, body: '{}' };
        });
        const config = { queue: { connect: 2, api: 2, wait: '200ms' }, breaker: { failures: 1, open: '1s', max_open: '1s' } };
        await using({ stub: controller, config }, async (gateway) => {
            let over = 0;
            const hung = [1, 2].flatMap((n) => [connect(gateway, n), call(gateway.target, 'GET', '/hang')])
                .map((call) => call.then(() => over++));
            await eventually('all permits to be taken', () =>
                controller.requests.filter((seen) => seen.path !== '/health').length === 4);
            assert.equal((await connect(gateway, 3)).status, 503);
            healthy = false;
            await beat(gateway, 4);
            await down(gateway);
            hangs = false;
            healthy = true;
            await eventually('the breaker to close', async () => await leftAlone(gateway) === 0);
            assert.equal((await connect(gateway, 3)).status, 201);
            assert.equal((await call(gateway.target, 'GET', '/other')).status, 201);
            assert.equal(over, 0, 'they still hang');
            controller.server.closeAllConnections();
            await Promise.all(hung);
            await eventually('the account to be even', async () =>
                await gateway.metric('controller_calls', 'class="connect"') === 0 &&
                await gateway.metric('controller_calls', 'class="api"') === 0);
        });
    });
});

describe('a first connect is answered within nine seconds', { ...SUITE, skip: !preloads && 'no preloading' }, () => {
    const env = preloads ? timelapse(10) : {};

    /** Nine seconds of the gateway's, which are 0.9 of ours. */
    const inTime = async (what, asked) => {
        const answer = await within(900, what, asked);
        assert.ok([503, 504].includes(answer.status), `${answer.status}`);
        assert.ok(Number(answer.header('retry-after')) >= 1);
    };
    const form = (gateway, n) => exchange(gateway.target, 'POST', path(n), {
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: `secret=${agentSecret(n)}`,
    });

    test('and its call ends soon after, so that its place is free again', async () => {
        const controller = await Upstream.start(() => {});
        const config = { breaker: { failures: 1000, failure_percent: 100 } };
        await using({ stub: controller, config, env }, async (gateway) => {
            const inside = () => gateway.metric('controller_calls', 'class="connect"');
            await Promise.all([inTime('a form', form(gateway, 1)), inTime('another', connect(gateway, 2))]);
            await eventually('no call', async () => await inside() === 0, 500); // five seconds of the gateway's
        });
    });

    for (const [what, answer] of [
        ['never answers', () => {}],
        ['sends a byte now and then', (socket) => {
            const timer = setInterval(() => socket.write('H'), 20);
            socket.on('close', () => clearInterval(timer));
        }],
        ['begins an answer and is silent', (socket) =>
            socket.write('HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{')],
        ['announces an answer again and again', (socket) => {
            const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 100);
            socket.on('close', () => clearInterval(timer));
        }],
    ])
        test(`though the controller ${what}`, async () => {
            const controller = await Upstream.start(answer);
            const config = { breaker: { failures: 1000, failure_percent: 100 }, queue: { connect: 2 } };
            await using({ stub: controller, config, env }, async (gateway) => {
                await Promise.all([
                    inTime('the one that is asked', connect(gateway, 1)),
                    inTime('one who follows it', sleep(20).then(() => connect(gateway, 1))),
                    inTime('another', connect(gateway, 2)),
                    ...numbers(4, 3).map((n) => inTime('one who waits for a permit', connect(gateway, n))),
                    ...(what.startsWith('begins') ? [] : [inTime('a form', form(gateway, 9))]),
                ]);
            });
        });
});
