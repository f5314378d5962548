// What one client may ask for, and that nobody else pays for one who asks for more: connects per
// agent, wrong secrets per address and per agent, calls per agent.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { HIT, MISS, assertConnects, connect, path, using } from './support/connecting.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { agentId, agentSecret } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Wire, call, request } from './support/wire.mjs';

const SUITE = { timeout: 40000, concurrency: 4 };
const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);

/** The same gateway, reached from another address. */
const from = (gateway, address) => ({ ...gateway, target: { ...gateway.target, localAddress: address } });
const wrong = (n, k = 0) => ({ secret: `wrong-${n}-${k}` });
const bcrypts = async (stub) => (await stub.counts()).bcrypts;

function assertRefused(answer, code) {
    assert.equal(answer.status, 429, answer.text);
    assert.equal(answer.json.code, code);
    const seconds = Number(answer.header('retry-after'));
    assert.ok(seconds >= 1 && seconds <= 60, `Retry-After: ${answer.header('retry-after')}`);
    return seconds;
}

async function assertFails(gateway, n, k) {
    const answer = await connect(gateway, n, wrong(n, k));
    assert.equal(answer.status, 401, answer.text);
}

describe('connects per agent', SUITE, () => {
    const noCache = { headers: { 'Cache-Control': 'no-cache' } };

    test('beyond the limit a known secret is answered from cache', () =>
        using({}, async (gateway, stub) => {
            for (let i = 0; i < 5; i++) await assertConnects(gateway, 1, /^fwd=/, noCache);
            for (let i = 0; i < 5; i++) await assertConnects(gateway, 1, HIT, noCache);
            assert.equal((await stub.counts()).connects, 5);
            await assertConnects(gateway, 2, MISS);
            assert.equal(await gateway.metric('limited_total', 'by="connects_per_agent"'), 5);
        }));

    test('without a cache they are refused until the next is due', () =>
        using({ config: { connect_cache: { enabled: false }, limits: { connects_per_agent: 60 } } },
            async (gateway, stub) => {
                for (let i = 0; i < 60; i++) assert.equal((await connect(gateway, 1)).status, 201);
                let answer = await connect(gateway, 1);
                while (answer.status === 201) answer = await connect(gateway, 1); // a slow machine
                const seconds = assertRefused(answer, 'GATEWAY_RATE_LIMITED');
                assert.equal(seconds, 1);
                await sleep(seconds * 1000);
                assert.equal((await connect(gateway, 1)).status, 201);
                assert.ok(await bcrypts(stub) >= 61);
            }));

    test('what the controller did not judge does not count', () =>
        using({ config: { connect_cache: { enabled: false } } }, async (gateway, stub) => {
            await stub.set({ fail_next: 3, fail_status: 500 });
            for (let i = 0; i < 3; i++) assert.equal((await connect(gateway, 1)).status, 500);
            for (let i = 0; i < 5; i++) assert.equal((await connect(gateway, 1)).status, 201);
            assertRefused(await connect(gateway, 1), 'GATEWAY_RATE_LIMITED');
        }));
});

describe('an agent whose secret is guessed', SUITE, () => {
    test('is locked for secrets we do not know, and open for its own', () =>
        using({}, async (gateway, stub) => {
            await assertConnects(gateway, 1, MISS);
            for (let k = 0; k < 5; k++) await assertFails(gateway, 1, k);
            for (let k = 5; k < 50; k++)
                assertRefused(await connect(gateway, 1, wrong(1, k)), 'GATEWAY_AGENT_LOCKED');
            await assertConnects(gateway, 1, HIT);
            await assertConnects(gateway, 2, MISS);
            assert.equal(await bcrypts(stub), 7);
        }));

    test('stays locked for as long as somebody guesses', { skip: sanitized && 'no preloading here' }, () =>
        using({
            config: { limits: { connect_failures_per_ip: 0 }, tls: { enabled: false } }, env: timelapse(20),
        }, async (gateway) => {
            let k = 0, asked = 0;
            // In such haste the gateway may find this client too slow.
            const guess = () => connect(gateway, 1, wrong(1, k++)).catch(() => ({ status: 0 }));
            await eventually('the lock', async () => (await guess()).status === 429);
            // A guess in ten seconds is asked for, and each of them adds a minute.
            await eventually('nine to be asked for', async () => {
                const answers = await Promise.all([guess(), guess(), guess()]);
                const passed = answers.filter(({ status }) => status === 401).length;
                assert.ok(passed < 3, `open again after ${asked}`);
                asked += passed;
                return asked >= 9;
            }, 20000);
        }));

    test('that we do not know yet gets a place among those who guess', () =>
        using({ config: { limits: { lockout_gap: '1s', connect_failures_per_ip: 0 } } }, async (gateway) => {
            for (let k = 0; k < 5; k++) await assertFails(gateway, 1, k);
            let over = false;
            let k = 5;
            const attack = (async () => {
                while (!over) await connect(gateway, 1, wrong(1, k++));
            })();
            try {
                const elsewhere = from(gateway, '127.0.0.2');
                const refused = await connect(elsewhere, 1);
                const seconds = assertRefused(refused, 'GATEWAY_AGENT_LOCKED');
                assert.ok(seconds <= 2, `${seconds} s`);
                await sleep(seconds * 1000);
                await assertConnects(elsewhere, 1, MISS);
                await assertConnects(elsewhere, 1, HIT);
            } finally {
                over = true;
                await attack;
            }
        }));

    test('an id that does not exist is locked alike', () =>
        using({}, async (gateway) => {
            const ghost = agentId(900000);
            for (let k = 0; k < 5; k++)
                assert.equal((await connect(gateway, ghost, wrong(0, k))).status, 404);
            assertRefused(await connect(gateway, ghost, wrong(0, 5)), 'GATEWAY_AGENT_LOCKED');
        }));

    test('is not locked by one who repeats himself', () =>
        using({}, async (gateway, stub) => {
            for (let i = 0; i < 60; i++) await assertFails(gateway, 1, 0);
            await assertConnects(gateway, 1, MISS);
            assert.equal(await bcrypts(stub), 2);
        }));

    test('many good first connects at once lock nobody', () =>
        using({ stubOptions: { connectCostMs: 1 } }, async (gateway) => {
            const all = Array.from({ length: 150 }, (_, n) => connect(gateway, n));
            for (const answer of await Promise.all(all)) assert.notEqual(answer.status, 429);
        }));
});

describe('wrong secrets from one address', SUITE, () => {
    const fail = async (gateway, count, first = 100) => {
        for (let n = first; n < first + count; n++) await assertFails(gateway, n);
    };

    test('are refused beyond twenty, and two for each agent known there; those we know and other addresses are not', () =>
        using({}, async (gateway, stub) => {
            const twenty = (first, one) => Promise.all(Array.from({ length: 20 }, (_, k) => one(first + k)));
            await assertConnects(gateway, 1, MISS);
            // At once: some seconds later one more would be let through.
            await twenty(100, (n) => assertFails(gateway, n));
            for (const n of [120, 121]) await assertFails(gateway, n); // for the agent that is known here
            for (const answer of await twenty(200, (n) => connect(gateway, n, wrong(n))))
                assertRefused(answer, 'GATEWAY_TOO_MANY_FAILURES');
            await assertConnects(gateway, 1, HIT);
            assertRefused(await connect(gateway, 2), 'GATEWAY_TOO_MANY_FAILURES');
            await assertConnects(from(gateway, '127.0.0.2'), 2, MISS);
            await assertConnects(gateway, 2, HIT);
            assert.equal(await bcrypts(stub), 24);
        }));

    test('repeats of a remembered refusal do not count', () =>
        using({}, async (gateway) => {
            for (let i = 0; i < 5; i++) await fail(gateway, 15);
            await assertConnects(gateway, 1, MISS);
        }));

    for (const [what, send] of [
        ['', (gateway, n) => connect(gateway, n, wrong(n))],
        [' of forms', (gateway, n) => call(gateway.target, 'POST', path(n), {
            headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: `secret=wrong-${n}`,
        })],
    ])
        test(`a burst${what} is judged again when its turn comes`, () =>
            using({ stubOptions: { connectCostMs: 5 }, config: { queue: { connect: 4, adaptive: false } } },
                async (gateway, stub) => {
                    const burst = Array.from({ length: 100 }, (_, n) => send(gateway, n));
                    const answers = await Promise.all(burst);
                    const failed = answers.filter(({ status }) => status === 401).length;
                    assert.ok(failed >= 20 && failed < 25, `${failed} were judged`);
                    const limited = answers.filter(({ status }) => status === 429);
                    assert.equal(failed + limited.length, 100);
                    assertRefused(limited.at(-1), 'GATEWAY_TOO_MANY_FAILURES');
                    assert.equal(await bcrypts(stub), failed);
                }));

    test('behind a trusted proxy each client has its own', () =>
        using({ config: { listen: { trusted_proxies: '127.0.0.1' } } }, async (gateway) => {
            const as = (client, n, secret) =>
                connect(gateway, n, { secret, headers: { 'X-Forwarded-For': client } });
            for (let n = 100; n < 120; n++)
                assert.equal((await as('203.0.113.7', n, 'wrong')).status, 401);
            assertRefused(await as('203.0.113.7', 120, 'wrong'), 'GATEWAY_TOO_MANY_FAILURES');
            assert.equal((await as('203.0.113.8', 1, agentSecret(1))).status, 201);
            for (let n = 200; n < 220; n++)
                assert.equal((await as(`2001:db8::${n}`, n, 'wrong')).status, 401);
            assertRefused(await as('2001:db8::1', 220, 'wrong'), 'GATEWAY_TOO_MANY_FAILURES');
            assert.equal((await as('2001:db8:0:1::1', 2, agentSecret(2))).status, 201);
        }));
});

describe('bodies we do not read', SUITE, () => {
    const form = (secret) => ({
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: `secret=${secret}`,
    });
    const send = (gateway, n, secret) => call(gateway.target, 'POST', path(n), form(secret));

    test('do not escape the lock', () =>
        using({}, async (gateway, stub) => {
            await assertConnects(gateway, 1, MISS);
            for (let k = 0; k < 5; k++) assert.equal((await send(gateway, 1, `wrong-${k}`)).status, 401);
            for (let k = 5; k < 20; k++) assert.equal((await send(gateway, 1, `wrong-${k}`)).status, 429);
            assertRefused(await connect(gateway, 1, wrong(1)), 'GATEWAY_AGENT_LOCKED');
            await assertConnects(gateway, 1, HIT);
            assert.equal(await bcrypts(stub), 6);
        }));

    test('nor the limit of their address', () =>
        using({}, async (gateway) => {
            for (let n = 100; n < 120; n++) assert.equal((await send(gateway, n, 'wrong')).status, 401);
            assertRefused(await send(gateway, 120, 'wrong'), 'GATEWAY_TOO_MANY_FAILURES');
        }));

    test('count, too, when their client does not wait for the answer', () =>
        using({}, async (gateway, stub) => {
            await stub.set({ connect_delay_ms: 200 });
            for (let k = 0; k < 5; k++) {
                const wire = await Wire.open(gateway.target);
                wire.send(request('POST', path(1), form(`wrong-${k}`)));
                await eventually('it is asked', async () => (await stub.counts()).connects === k + 1);
                wire.close();
            }
            await eventually('all were answered', async () => (await bcrypts(stub)) === 5);
            await stub.set({ connect_delay_ms: 0 });
            const locked = async () => (await connect(gateway, 1, wrong(1))).status === 429;
            await eventually('the lock', locked);
        }));
});

describe('calls per agent', SUITE, () => {
    const get = (gateway, token) => call(gateway.target, 'GET', '/agents', { token });

    async function flood(gateway, token, count) {
        const wire = await Wire.open(gateway.target);
        const answers = [];
        try {
            for (let i = 0; i < count; i++) {
                wire.send(request('GET', '/__stub/status?code=200', { headers: { Authorization: `Bearer ${token}` } }));
                answers.push(await wire.answer());
            }
        } finally {
            wire.close();
        }
        return answers;
    }

    test('beyond the burst are refused until the next is due, on the same connection', () =>
        using({ config: { limits: { api_rate: 1, api_burst: 10 } } }, async (gateway, stub) => {
            const token = agentToken(agentId(1));
            const answers = await flood(gateway, token, 30);
            const refused = answers.filter(({ status }) => status === 429);
            assert.ok(refused.length >= 15 && refused.length <= 20, `${refused.length} refused`);
            assert.equal(answers.slice(0, 10).filter(({ status }) => status === 429).length, 0);
            for (const answer of refused) assert.equal(assertRefused(answer, 'GATEWAY_RATE_LIMITED'), 1);
            const passed = 30 - refused.length; // and the gateway's own look at /health
            assert.ok([passed, passed + 1].includes((await stub.counts()).others));
            await sleep(1000);
            assert.equal((await flood(gateway, token, 1))[0].status, 200);
        }));

    test('are not another agent\'s, a user\'s or a heartbeat', () =>
        using({ config: { limits: { api_rate: 1, api_burst: 1 } } }, async (gateway) => {
            const token = agentToken(agentId(1));
            await flood(gateway, token, 3);
            assert.equal((await get(gateway, token)).status, 429);
            assert.notEqual((await get(gateway, agentToken(agentId(2)))).status, 429);
            for (let i = 0; i < 5; i++) assert.notEqual((await get(gateway, adminToken())).status, 429);
            const beat = await call(gateway.target, 'POST', path(1, 'heartbeat'), { token, body: { status: 'online' } });
            assert.equal(beat.status, 201);
        }));

    test('tell what is left where they are asked to', () =>
        using({ config: { limits: { api_rate: 1, api_burst: 3, rate_limit_fields: true } } }, async (gateway) => {
            const token = agentToken(agentId(1));
            const answers = await flood(gateway, token, 10);
            const field = (name) => answers.map((answer) => answer.header(name));
            assert.deepEqual([...new Set(field('ratelimit-policy'))], ['"calls";q=3;w=3']);
            for (const left of field('ratelimit')) assert.match(left, /^"calls";r=[0-2];t=[1-3]$/);
            assert.equal(field('ratelimit')[0], '"calls";r=2;t=1');
            const refused = answers.find(({ status }) => status === 429);
            assert.match(refused.header('ratelimit'), /r=0;/);
            assert.equal((await get(gateway, adminToken())).header('ratelimit'), undefined, 'has no limit');
        }));

    test('say nothing of it by default', () =>
        using({}, async (gateway) => {
            const [answer] = await flood(gateway, agentToken(agentId(1)), 1);
            assert.equal(answer.header('ratelimit'), undefined);
            assert.equal(answer.header('ratelimit-policy'), undefined);
        }));

    test('without a limit all pass', () =>
        using({ config: { limits: { api_rate: 0 } } }, async (gateway) => {
            const answers = await flood(gateway, agentToken(agentId(1)), 200);
            assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
        }));
});
