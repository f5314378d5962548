// What the controller is spared: how much it is asked at once, who waits and who is refused until
// when, and how it is left alone while it fails.
import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { FAILED, HIT, MISS, assertConnects, connect, path, using } from './support/connecting.mjs';
import { Controller, errorBody } from './support/controller.mjs';
import { agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { Wire, call, exchange, request } from './support/wire.mjs';

// Each test has processes of its own; most of them wait.
const SUITE = { timeout: 30000, concurrency: 4 };

const numbers = (count, from = 1) => Array.from({ length: count }, (_, i) => from + i);

/** A controller that answers when it is told to. */
class Patient {
    waiting = []; // { request, answer }, in order of arrival
    most = 0;
    resets = () => false; // which requests get no answer at all

    static async start() {
        const patient = new Patient();
        patient.controller = await Controller.start((seen) => new Promise((resolve) => {
            if (patient.resets(seen)) {
                resolve('reset');
                return;
            }
            const entry = {
                request: seen,
                answer: (given = { status: 201 }) => {
                    patient.waiting.splice(patient.waiting.indexOf(entry), 1);
                    resolve(given);
                },
            };
            patient.waiting.push(entry);
            patient.most = Math.max(patient.most, patient.waiting.length);
        }));
        patient.url = patient.controller.url;
        return patient;
    }

    async asked(count) {
        await eventually(`${count} calls`, () => this.waiting.length === count);
    }

    seen(target) {
        return this.controller.seen(target).length;
    }

    stop() {
        return this.controller.stop();
    }
}

async function withPatient(config, body) {
    const patient = await Patient.start();
    await using({ stub: patient, config }, body);
}

const waiting = (gateway, kind) => gateway.metric('controller_waiting', `class="${kind}"`);

const beat = (gateway, n, status = 'online') => call(gateway.target, 'POST', path(n, 'heartbeat'), {
    token: agentToken(agentId(n)), body: { status },
});

function assertRefused(answer, code) {
    assert.equal(answer.status, 503, answer.text);
    assert.equal(answer.json.code, code);
    const after = Number(answer.header('retry-after'));
    assert.ok(Number.isInteger(after) && after >= 1 && after <= 300, `Retry-After: ${after}`);
    return after;
}

describe('places', SUITE, () => {
    for (const workers of [1, 4]) {
        test(`so many connects at once and no more, the others wait their turn (${workers} workers)`, () =>
            withPatient({ workers, queue: { connect: 3 } }, async (gateway, patient) => {
                const answers = numbers(12).map((n) => connect(gateway, n));
                await patient.asked(3);
                await eventually('the others to wait', async () => await waiting(gateway, 'connect') === 9);
                for (let left = 12; left > 0; left--) {
                    await patient.asked(Math.min(3, left));
                    patient.waiting[0].answer();
                }
                for (const answer of await Promise.all(answers)) assert.equal(answer.status, 201);
                assert.equal(patient.most, 3);
                assert.equal(await gateway.metric('controller_calls_total', 'class="connect"'), 12);
            }));
    }

    test('connects that fill all their places keep no heartbeat and no other call waiting', () =>
        withPatient({ queue: { connect: 1 } }, async (gateway, patient) => {
            const connects = [connect(gateway, 1), connect(gateway, 2)];
            await patient.asked(1);
            const first = beat(gateway, 3);
            const other = call(gateway.target, 'GET', '/x');
            await patient.asked(3);
            assert.deepEqual(patient.waiting.map((w) => w.request.path).sort(),
                [path(1), path(3, 'heartbeat'), '/x'].sort());
            for (const w of [...patient.waiting]) w.answer();
            assert.equal((await first).status, 201);
            assert.equal((await other).status, 201);
            await patient.asked(1);
            patient.waiting[0].answer();
            await Promise.all(connects);
        }));

    test('held heartbeats have their places over all workers, and each goes when one is free', () =>
        withPatient({ workers: 4, queue: { heartbeat: 2 } }, async (gateway, patient) => {
            for (const n of numbers(10)) assert.equal((await beat(gateway, n)).status, 201);
            for (let left = 10; left > 0; left--) {
                await patient.asked(Math.min(2, left));
                patient.waiting[0].answer();
            }
            assert.equal(patient.most, 2);
        }));

    test('a client that leaves while it waits takes its bcrypt along', () =>
        withPatient({ queue: { connect: 1 } }, async (gateway, patient) => {
            const first = connect(gateway, 1);
            await patient.asked(1);
            const leaver = await Wire.open(gateway.target);
            leaver.send(request('POST', path(2), {
                headers: { 'Content-Type': 'application/json' }, body: { secret: 's' },
            }));
            await eventually('it to wait', async () => await waiting(gateway, 'connect') === 1);
            leaver.close();
            await eventually('it to be forgotten', async () => await waiting(gateway, 'connect') === 0);
            patient.waiting[0].answer();
            assert.equal((await first).status, 201);
            const next = connect(gateway, 3);
            await patient.asked(1);
            patient.waiting[0].answer();
            await next;
            assert.equal(patient.seen(path(2)), 0);
            assert.equal(await gateway.metric('controller_waiting_left_total'), 1);
        }));

    test('one that was joined goes on without its client; when all have left nothing is asked', () =>
        withPatient({ queue: { connect: 1 } }, async (gateway, patient) => {
            const first = connect(gateway, 1);
            await patient.asked(1);
            const ask = async (n) => {
                const wire = await Wire.open(gateway.target);
                wire.send(request('POST', path(n), {
                    headers: { 'Content-Type': 'application/json' }, body: { secret: `s${n}` },
                }));
                return wire;
            };
            const leaders = [await ask(2), await ask(3)];
            await eventually('both to wait', async () => await waiting(gateway, 'connect') === 2);
            const followers = [await ask(2), await ask(3)];
            await eventually('them to follow', async () => await gateway.metric('connections') === 5);
            await sleep(50); // so that their requests are read: no count tells
            for (const wire of [...leaders, followers[1]]) wire.close();
            await eventually('them to be gone', async () => await gateway.metric('connections') === 2);
            patient.waiting[0].answer();
            await first;
            await patient.asked(1);
            assert.equal(patient.waiting[0].request.path, path(2));
            patient.waiting[0].answer();
            assert.equal((await followers[0].answer()).status, 201);
            followers[0].close();
            assert.equal((await call(gateway.target, 'GET', '/health')).status, 200);
            assert.equal(patient.seen(path(3)), 0);
        }));

    test('what cannot be answered in time is refused at once, and may come back at its time', () =>
        withPatient({ queue: { connect: 1, wait: '100ms' } }, async (gateway, patient) => {
            const first = connect(gateway, 1);
            await patient.asked(1);
            const after = assertRefused(await connect(gateway, 2), 'GATEWAY_CONTROLLER_BUSY');
            assert.ok(after <= 2, `${after} s`);
            patient.waiting[0].answer();
            await first;
            await sleep(after * 1000);
            const second = connect(gateway, 2);
            await patient.asked(1);
            patient.waiting[0].answer();
            assert.equal((await second).status, 201);
            assert.equal(await gateway.metric('controller_refused_total', 'class="connect",reason="busy"'), 1);
        }));

    test('patience ends for one that was let into the queue and not served', () =>
        withPatient({ queue: { api: 1, wait: '400ms' } }, async (gateway, patient) => {
            const first = call(gateway.target, 'GET', '/1');
            await patient.asked(1);
            assertRefused(await call(gateway.target, 'GET', '/2'), 'GATEWAY_CONTROLLER_BUSY');
            patient.waiting[0].answer();
            await first;
            assert.equal(patient.seen('/2'), 0);
        }));

    test('an agent whose organization is known by its heartbeat has its turn before a storm of others', () =>
        withPatient({ queue: { connect: 1 } }, async (gateway, patient) => {
            const beaten = beat(gateway, 9);
            await patient.asked(1);
            patient.waiting[0].answer({ status: 201, body: '{"success":true}' });
            assert.equal((await beaten).status, 201);
            const storm = [];
            for (const n of numbers(5)) {
                storm.push(connect(gateway, n));
                if (n === 1) await patient.asked(1);
                else await eventually(`${n - 1} to wait`, async () => await waiting(gateway, 'connect') === n - 1);
            }
            const known = connect(gateway, 9);
            await eventually('it to wait', async () => await waiting(gateway, 'connect') === 5);
            const order = [];
            for (let i = 0; i < 6; i++) {
                await patient.asked(1);
                order.push(patient.waiting[0].request.path);
                patient.waiting[0].answer();
            }
            await Promise.all([...storm, known]);
            assert.deepEqual(order, [1, 2, 9, 3, 4, 5].map((n) => path(n)));
        }));

    test('a connect with a form has a place of a connect, too', () =>
        withPatient({ queue: { connect: 1 } }, async (gateway, patient) => {
            const first = connect(gateway, 1);
            await patient.asked(1);
            const form = exchange(gateway.target, 'POST', path(2), {
                headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'secret=s',
            });
            await eventually('it to wait', async () => await waiting(gateway, 'connect') === 1);
            patient.waiting[0].answer();
            await first;
            await patient.asked(1);
            patient.waiting[0].answer();
            assert.equal((await form).status, 201);
        }));

    test('a known agent never waits for a place: it is answered from the cache', () =>
        using({ config: { queue: { connect: 1 }, connect_cache: { fresh_for: '0s', stale_after: '0s' } } },
            async (gateway, stub) => {
                await assertConnects(gateway, 1, MISS);
                await stub.set({ connect_delay_ms: 2500 });
                const slow = connect(gateway, 2);
                await eventually('the place to be taken', async () => (await stub.counts()).connects === 2);
                const answer = await connect(gateway, 1);
                assert.match(answer.header('cache-status'), /hit; ttl=-?\d+$/);
                assert.equal((await stub.counts()).connects, 2);
                await slow;
            }));

    test('streams have places of their own, known by the request or by the answer', () =>
        using({ config: { queue: { api: 1, streams: 2, wait: '200ms' } } }, async (gateway) => {
            const open = async (target, headers = {}) => {
                const wire = await Wire.open(gateway.target);
                wire.send(request('GET', target, { headers }));
                return wire;
            };
            const inside = (kind) => gateway.metric('controller_calls', `class="${kind}"`);
            const events = '/__stub/sse?n=40&gap_ms=100';
            const known = await open(events, { Accept: 'text/event-stream' });
            await eventually('a stream', async () => await inside('stream') === 1);
            const seen = await open(events);
            await eventually('two streams', async () => await inside('stream') === 2);
            assert.equal(await inside('api'), 0);
            assert.equal((await call(gateway.target, 'GET', '/__stub/echo')).status, 200);
            const third = await exchange(gateway.target, 'GET', events, { headers: { Accept: 'text/event-stream' } });
            assertRefused(third, 'GATEWAY_CONTROLLER_BUSY');
            known.close();
            seen.close();
            await eventually('none', async () => await inside('stream') === 0);
        }));

    test('who takes his answer slowly is one of the streams, and keeps nobody waiting', async () => {
        const body = Buffer.alloc(32 << 20, 'x');
        const controller = await Controller.start((asked) => ({ body: asked.path === '/large' ? body : '{}' }));
        const config = { queue: { api: 1, streams: 1, wait: '200ms' }, tls: { enabled: false } };
        await using({ stub: controller, config }, async (gateway) => {
            const inside = (kind) => gateway.metric('controller_calls', `class="${kind}"`);
            const slow = net.connect(gateway.port, '127.0.0.1').pause();
            slow.write(request('GET', '/large'));
            await eventually('a stream', async () => await inside('stream') === 1);
            assert.equal(await inside('api'), 0);
            assert.equal((await call(gateway.target, 'GET', '/other')).status, 200);
            let taken = 0;
            slow.on('data', (bytes) => (taken += bytes.length)).resume();
            await eventually('all of it', () => taken > body.length, 10000);
            await eventually('its end', async () => await inside('stream') === 0);
            slow.destroy();
        });
    });

    test('TERM while calls wait: they are served, and the end is 0', () =>
        withPatient({ queue: { connect: 1 } }, async (gateway, patient) => {
            const answers = numbers(3).map((n) => connect(gateway, n));
            await patient.asked(1);
            await eventually('two to wait', async () => await waiting(gateway, 'connect') === 2);
            gateway.child.signal('SIGTERM');
            for (let left = 3; left > 0; left--) {
                await patient.asked(1);
                patient.waiting[0].answer();
            }
            for (const answer of await Promise.all(answers)) assert.equal(answer.status, 201);
        }));

    test('TERM when drain.timeout ends before those who wait: they are cut, and the end is 0', () =>
        withPatient({ queue: { connect: 1 }, drain: { timeout: '300ms' } }, async (gateway, patient) => {
            const answers = numbers(3).map((n) => connect(gateway, n).catch(() => 'cut'));
            await patient.asked(1);
            await eventually('two to wait', async () => await waiting(gateway, 'connect') === 2);
            gateway.child.signal('SIGTERM');
            assert.deepEqual(await Promise.all(answers), ['cut', 'cut', 'cut']);
            assert.equal((await gateway.child.exited).code, 0);
        }));

    test('what waits is bounded in memory: the rest is told to come again', () =>
        withPatient({ queue: { api: 1, wait: '60s' }, limits: { request_memory: '1GiB' } }, async (gateway, patient) => {
            const body = 'x'.repeat(1 << 20);
            let refused = 0;
            const calls = numbers(72).map(async (n) => {
                const { status } = await call(gateway.target, 'POST', `/${n}`, { body }).catch((error) => error);
                if (status === 503) refused++;
                return status;
            });
            await eventually('all to be known', async () => refused + await waiting(gateway, 'api') === 71, 20000);
            assert.ok(refused >= 71 - 64, `${refused} refused: 64 MiB may wait`);
            const done = Promise.all(calls);
            for (let left = 72 - refused; left > 0; left--) {
                await patient.asked(1);
                patient.waiting[0].answer();
            }
            for (const status of await done) assert.ok([201, 503].includes(status), `${status}`);
            assert.equal(await waiting(gateway, 'api'), 0);
        }));

    test('a reload brings other places', () =>
        withPatient({ queue: { api: 1 } }, async (gateway, patient) => {
            const calls = [call(gateway.target, 'GET', '/1')];
            await patient.asked(1);
            gateway.writeConfig({ ...gateway.config, queue: { api: 2 } });
            gateway.child.signal('SIGHUP');
            await eventually('the reload', async () =>
                await gateway.metric('controller_limit', 'class="api"') === 2);
            calls.push(call(gateway.target, 'GET', '/2'));
            await patient.asked(2);
            for (const w of [...patient.waiting]) w.answer();
            await Promise.all(calls);
        }));
});

describe('a controller that fails', SUITE, () => {
    const quick = { breaker: { open: '500ms', max_open: '1s' } };
    const down = { fail_next: 1000000, fail_status: 0 }; // closes without an answer

    const found = (gateway) => eventually('it to be found', async () =>
        await gateway.metric('controller_left_alone') === 0);

    const byProbe = (gateway) => eventually('the probe to see it', async () =>
        await gateway.metric('controller_left_alone') === 1, 20000);

    /** Opens the breaker: connects without an answer, of agents that no test knows. The probe confirms it. */
    const fail = async (gateway) => {
        for (let i = 0; i < 5; i++) // the probe may have seen it first
            assert.ok([502, 503].includes((await connect(gateway, 900 + i)).status));
        await byProbe(gateway);
    };
    for (const [name, trouble, breaker, opens] of [
        ['answers its probe with 502', { fail_next: 1000000, fail_status: 502 }, { failures: 2 }, byProbe],
        ['answers its probe with 504', { fail_next: 1000000, fail_status: 504 }, { failures: 2 }, byProbe],
        ['closes connects without an answer', down, {}, fail],
        ['refuses connections', { outage: 'refuse' }, {}, fail],
    ]) {
        test(`the breaker opens when the controller ${name}`, () =>
            using({ config: { breaker: { open: '60s', ...breaker } } }, async (gateway, stub) => {
                await assertConnects(gateway, 1, MISS);
                await stub.set(trouble);
                await opens(gateway);
                await gateway.logged('the controller fails');
                const before = (await stub.counts()).requests;
                const after = assertRefused(await call(gateway.target, 'GET', '/x'), 'GATEWAY_CONTROLLER_DOWN');
                assert.ok(after > 50 && after <= 60, `${after} s`);
                await assertConnects(gateway, 1, HIT);
                assert.ok(assertRefused(await connect(gateway, 2), 'GATEWAY_CONTROLLER_DOWN') > 50);
                assert.equal((await beat(gateway, 1)).status, 201);
                assert.match((await gateway.health('/readyz')).body, /"controller":"down"/);
                assert.equal(await gateway.metric('controller_left_alone'), 1);
                assert.equal((await stub.counts()).requests, before, 'nobody asked it');
                await stub.set({ outage: 'off', fail_next: 0 }); // TERM delivers what is held
            }));
    }

    test('answers to single requests, whatever their status, leave the breaker closed', () =>
        using({}, async (gateway) => {
            // Told by the target and not by a count: the gateway's own looks at /health would be counted, too.
            const says = async (status) =>
                assert.equal((await call(gateway.target, 'GET', `/__stub/status?code=${status}`)).status, status);
            for (const status of [500, 501, 400, 401, 404, 429])
                for (let i = 0; i < 6; i++) await says(status);
            for (const status of [502, 503, 504])
                for (let i = 0; i < 6; i++) await says(status);
            assert.equal(await gateway.metric('controller_left_alone'), 0);
        }));

    test('it is found when it is back, and what was held arrives', () =>
        using({ config: quick }, async (gateway, stub) => {
            await stub.set(down);
            await fail(gateway);
            for (const n of numbers(5)) assert.equal((await beat(gateway, n, 'busy')).status, 201);
            assert.equal(await gateway.metric('controller_left_alone'), 1);
            await stub.set({ fail_next: 0 });
            await found(gateway);
            assert.equal((await call(gateway.target, 'GET', '/x')).status, 404);
            await eventually('the beats', async () => (await stub.counts()).heartbeats_ok === 5);
        }));

    test('held heartbeats do not try it one by one', () =>
        using({ config: { breaker: { open: '300ms', max_open: '300ms' } } }, async (gateway, stub) => {
            await stub.set(down);
            await fail(gateway);
            for (const n of numbers(100)) assert.equal((await beat(gateway, n)).status, 201);
            const before = await stub.counts();
            await sleep(2000);
            const after = await stub.counts();
            const asked = after.requests - before.requests;
            assert.ok(asked >= 2 && asked <= 8, `${asked} probes in 2 s, one each 300 ms`);
            assert.equal(after.heartbeats, before.heartbeats);
            await stub.set({ fail_next: 0 });
            await eventually('the beats', async () => (await stub.counts()).heartbeats_ok === 100);
        }));

    test('what waits when it fails is refused, with a time after that', () =>
        withPatient({ queue: { connect: 1 }, breaker: { open: '60s' } }, async (gateway, patient) => {
            const first = connect(gateway, 1);
            await patient.asked(1);
            const second = connect(gateway, 2);
            await eventually('it to wait', async () => await waiting(gateway, 'connect') === 1);
            patient.resets = (seen) => seen.path.endsWith('/heartbeat');
            for (const n of numbers(5, 10)) assert.equal((await beat(gateway, n)).status, 201);
            assert.ok(assertRefused(await second, 'GATEWAY_CONTROLLER_DOWN') > 50);
            patient.waiting[0].answer();
            assert.equal((await first).status, 201);
            patient.controller.answers(() => ({ status: 201 })); // TERM delivers what is held
        }));

    test('connects have half their places after an outage', () =>
        using({ config: quick }, async (gateway, stub) => {
            await stub.set(down);
            await fail(gateway);
            const limit = await gateway.metric('controller_limit', 'class="connect"');
            assert.ok(limit >= 7, `${limit} of 8: failures have lowered it by a tenth`);
            await stub.set({ fail_next: 0 });
            await found(gateway);
            assert.equal(await gateway.metric('controller_limit', 'class="connect"'), Math.ceil(limit / 2));
        }));

    test('a stale entry serves while it fails, and is not asked for again and again', () =>
        using({
            config: { breaker: { open: '60s' }, connect_cache: { fresh_for: '0s', stale_after: '0s' } },
        }, async (gateway, stub) => {
            await assertConnects(gateway, 1, MISS);
            await stub.set(down);
            for (let i = 0; i < 5; i++) await assertConnects(gateway, 1, FAILED);
            const before = (await stub.counts()).requests;
            for (let i = 0; i < 5; i++) await assertConnects(gateway, 1, /^hit; ttl=-?\d+$/);
            assert.equal((await stub.counts()).requests, before);
        }));

    test('TERM tries to deliver what is held, however long it was to be left alone', () =>
        using({ config: { breaker: { open: '60s' } } }, async (gateway, stub) => {
            await stub.set(down);
            await fail(gateway);
            for (const n of numbers(5)) assert.equal((await beat(gateway, n)).status, 201);
            await stub.set({ fail_next: 0 });
            await gateway.stop();
            assert.equal((await stub.counts()).heartbeats_ok, 5);
        }));
});
