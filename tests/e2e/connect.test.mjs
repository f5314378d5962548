// Connects: answered from cache, in one flight for many, and never with what is no longer true.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { eventually, slack, sleep } from './support/child.mjs';
import { admin, connect, path, using } from './support/connecting.mjs';
import { Controller, errorBody, gate } from './support/controller.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { agentId, agentSecret, specialId } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Wire, call, request } from './support/wire.mjs';

// Each test has processes of its own; most of them wait.
const SUITE = { timeout: 30000, concurrency: 4 };
const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);

const status = (answer) => answer.header('cache-status');

async function bcrypts(stub) {
    return (await stub.counts()).bcrypts;
}

/** Connects and sees whether the cache answered. */
async function assertHit(gateway, n, options) {
    const answer = await connect(gateway, n, options);
    assert.equal(answer.status, 201);
    assert.match(status(answer), /^aiwm-gateway; hit; ttl=\d+$/);
    return answer;
}

async function assertMiss(gateway, n, options) {
    const answer = await connect(gateway, n, options);
    assert.equal(answer.status, 201, answer.text);
    assert.match(status(answer), /^aiwm-gateway; fwd=(miss|stale|request); stored$/);
    return answer;
}

describe('from cache', SUITE, () => {
    test('a known secret is answered with the same bytes, its age, and what is left of its life', () =>
        using({}, async (gateway, stub) => {
            const first = await assertMiss(gateway, 1);
            assert.equal(first.header('age'), undefined);
            assert.equal(first.header('cache-control'), 'no-store');
            await sleep(2100);
            const second = await assertHit(gateway, 1);
            const age = Number(second.header('age'));
            assert.ok(age >= 2 && age <= 4, `age ${age}`);
            const ttl = Number(/ttl=(\d+)/.exec(status(second))[1]);
            assert.ok(ttl >= 55 && ttl <= 58, `ttl ${ttl}`);
            assert.equal(second.header('cache-control'), 'no-store');
            assert.equal(second.header('content-type'), first.header('content-type'));
            assert.notEqual(second.header('x-correlation-id'), first.header('x-correlation-id'));
            assert.equal(second.header('etag'), undefined);
            const left = second.json.expiresIn;
            assert.ok(left <= 86400 - 2 && left >= 86400 - 5, `expiresIn ${left}`);
            assert.equal(second.text, first.text.replace('"expiresIn":86400', `"expiresIn":${left}`));
            assert.equal(await bcrypts(stub), 1);
        }));

    test('the shape the README documents is kept as well', async () => {
        const token = agentToken(agentId(1));
        const body = JSON.stringify({ token, instruction: 'x', n: 0.1, settings: { expiresIn: 5 } });
        const stub = await Controller.start(() => ({ status: 200, body }));
        await using({ stub }, async (gateway) => {
            const first = await connect(gateway, 1);
            const second = await connect(gateway, 1);
            assert.equal(first.status, 200);
            assert.equal(second.status, 200);
            assert.match(status(second), /hit/);
            assert.equal(second.text, body);
            assert.equal(stub.seen(path(1)).length, 1);
        });
    });

    test('an answer without a token, or with a short one, is passed on and not kept', async () => {
        const bodies = [
            '{"success":true}',
            JSON.stringify({ accessToken: agentToken(agentId(1), { exp: Math.floor(Date.now() / 1000) + 200 }) }),
            JSON.stringify({ accessToken: 'no token' }),
            'not json',
        ];
        let which = 0;
        const stub = await Controller.start(() => ({ status: 201, body: bodies[which] }));
        await using({ stub, config: { limits: { connects_per_agent: 0 } } }, async (gateway) => {
            for (which = 0; which < bodies.length; which++) {
                for (let i = 0; i < 2; i++) {
                    const answer = await connect(gateway, 1);
                    assert.equal(answer.text, bodies[which]);
                    assert.doesNotMatch(status(answer), /hit/, `body ${which}`);
                }
            }
            assert.equal(stub.seen(path(1)).length, 2 * bodies.length);
        });
    });

    test('an answer too large to be kept is passed on', async () => {
        const body = JSON.stringify({ accessToken: agentToken(agentId(1)), prompt: 'x'.repeat(400000) });
        const stub = await Controller.start(() => ({ status: 201, body }));
        await using({ stub }, async (gateway) => {
            for (let i = 0; i < 2; i++) {
                const answer = await connect(gateway, 1);
                assert.equal(answer.status, 201);
                assert.equal(answer.text, body);
                assert.equal(status(answer), 'aiwm-gateway; fwd=miss');
            }
        });
    });

    test('upper case, escapes and slashes are the same agent', () =>
        using({}, async (gateway, stub) => {
            const n = 0x2ab;
            const id = agentId(n);
            await assertMiss(gateway, n);
            for (const spelling of [
                `/agents/${id.toUpperCase()}/connect`,
                `/AGENTS/${id}/Connect/`,
                `/agents/%36${id.slice(1)}/connect?x=1`,
            ]) {
                const answer = await call(gateway.target, 'POST', spelling, { body: { secret: agentSecret(n) } });
                assert.equal(answer.status, 201, spelling);
                assert.match(status(answer), /; hit;/, spelling);
            }
            assert.equal(await bcrypts(stub), 1);
        }));

    test('form, gzip and unknown charsets pass by it', async () => {
        const stub = await Controller.start(() => (
            { status: 201, body: JSON.stringify({ accessToken: agentToken(agentId(1)) }) }));
        await using({ stub }, async (gateway) => {
            await assertMiss(gateway, 1);
            const secret = agentSecret(1);
            const json = JSON.stringify({ secret });
            const bodies = [
                ['application/x-www-form-urlencoded', {}, `secret=${secret}`],
                ['application/json', { 'Content-Encoding': 'gzip' }, gzipSync(json)],
                ['application/json; charset=iso-8859-1', {}, json],
            ];
            for (const [type, headers, body] of bodies) {
                const answer = await call(gateway.target, 'POST', path(1), {
                    headers: { 'Content-Type': type, ...headers }, body,
                });
                assert.equal(answer.status, 201, type);
                assert.equal(status(answer), 'aiwm-gateway; fwd=bypass');
            }
            assert.equal(stub.seen(path(1)).length, 4);
            await assertHit(gateway, 1);
        });
    });

    test('Cache-Control: no-cache asks the controller and renews what is kept', () =>
        using({}, async (gateway, stub) => {
            const old = await assertMiss(gateway, 1);
            await sleep(1100);
            const asked = await assertMiss(gateway, 1, { headers: { 'Cache-Control': 'max-age=0, no-cache' } });
            assert.notEqual(asked.json.accessToken, old.json.accessToken);
            assert.equal((await assertHit(gateway, 1)).json.accessToken, asked.json.accessToken);
            assert.equal(await bcrypts(stub), 2);
        }));

    test('switched off, every connect asks', () =>
        using({ config: { connect_cache: { enabled: false } } }, async (gateway, stub) => {
            for (let i = 0; i < 2; i++) assert.equal(status(await connect(gateway, 1)), 'aiwm-gateway; fwd=miss');
            assert.equal(await bcrypts(stub), 2);
        }));
});

describe('only for who may', SUITE, () => {
    test('a wrong secret opens nothing and takes nothing away', () =>
        using({}, async (gateway, stub) => {
            await assertMiss(gateway, 1);
            for (let i = 0; i < 3; i++) {
                const answer = await connect(gateway, 1, { secret: `wrong ${i}` });
                assert.equal(answer.status, 401);
                assert.equal(answer.json.message, 'Invalid credentials');
                assert.doesNotMatch(status(answer), /hit/);
            }
            await assertHit(gateway, 1);
            assert.equal(await bcrypts(stub), 4);
        }));

    test('another agent\'s secret opens nothing', () =>
        using({}, async (gateway) => {
            await assertMiss(gateway, 1);
            assert.equal((await connect(gateway, 1, { secret: agentSecret(2) })).status, 401);
            assert.equal((await connect(gateway, 2, { secret: agentSecret(1) })).status, 401);
            await assertHit(gateway, 1);
        }));

    test('a refusal that came around the gateway evicts: suspended, deleted, changed secret', () =>
        using({ config: { connect_cache: { fresh_for: '0s' } } }, async (gateway, stub) => {
            const straight = { host: '127.0.0.1', port: stub.port, tls: false };
            const cases = [
                [1, 401, () => call(straight, 'PUT', `/agents/${agentId(1)}`, { ...admin(), body: { status: 'suspended' } })],
                [2, 404, () => call(straight, 'DELETE', `/agents/${agentId(2)}`, admin())],
                [3, 401, () => call(straight, 'POST', path(3, 'credentials/regenerate'), { ...admin(), body: {} })],
            ];
            for (const [n, expected, change] of cases) {
                await assertMiss(gateway, n);
                assert.ok((await change()).status < 300);
                assert.equal((await connect(gateway, n)).status, expected);
                await stub.set({ outage: 'refuse' });
                assert.equal((await connect(gateway, n)).status, expected, 'the refusal is remembered, the answer is gone');
                await stub.set({ outage: 'off' });
            }
        }));

    test('a stranger who hears that the agent is gone evicts for everybody', () =>
        using({ config: { connect_cache: { fresh_for: '0s' } } }, async (gateway, stub) => {
            const straight = { host: '127.0.0.1', port: stub.port, tls: false };
            await assertMiss(gateway, 1);
            await call(straight, 'DELETE', `/agents/${agentId(1)}`, admin());
            assert.equal((await connect(gateway, 1, { secret: 'wrong' })).status, 404);
            await stub.set({ outage: 'refuse' });
            assert.equal((await connect(gateway, 1)).status, 502);
        }));

    for (const [status, message, evicts] of [
        [404, `Agent with ID ${agentId(1)} not found`, true],
        [401, 'Agent is suspended', true],
        [401, 'Agent has no secret configured', true],
        [401, 'Invalid credentials', false],
    ])
        test(`"${message}" to a stranger ${evicts ? 'evicts' : 'takes nothing away'}`, async () => {
            const body = JSON.stringify({ accessToken: agentToken(agentId(1)) });
            const stub = await Controller.start((seen) => (seen.body.includes('wrong')
                ? { status, body: errorBody(status, message) } : { status: 201, body }));
            await using({ stub }, async (gateway) => {
                await assertMiss(gateway, 1);
                assert.equal((await connect(gateway, 1, { secret: 'wrong' })).status, status);
                await (evicts ? assertMiss : assertHit)(gateway, 1);
            });
        });

    test('the special agents hear what the controller says', () =>
        using({}, async (gateway) => {
            for (const [k, expected] of [[0, 401], [1, 404], [2, 401], [3, 201], [4, 201], [5, 201]]) {
                for (let i = 0; i < 2; i++) {
                    const answer = await call(gateway.target, 'POST', `/agents/${specialId(k)}/connect`, {
                        body: { secret: agentSecret(k) },
                    });
                    assert.equal(answer.status, expected, `special agent ${k}`);
                }
            }
        }));
});

describe('writes that pass by', SUITE, () => {
    const writes = [
        ['regenerate', (n) => ['POST', path(n, 'credentials/regenerate'), {}]],
        ['PUT', (n) => ['PUT', `/agents/${agentId(n)}`, { settings: { a: 1 } }]],
        ['PUT in other spelling', (n) => ['PUT', `/Agents/${agentId(n)}/`, { settings: { a: 1 } }]],
        ['DELETE', (n) => ['DELETE', `/agents/${agentId(n)}`, undefined]],
    ];
    for (const workers of [1, 4]) {
        test(`with success or unknown outcome they forget, refused ones do not (${workers} workers)`, () =>
            using({ config: { workers } }, async (gateway, stub) => {
                let n = 10;
                for (const [name, write] of writes) {
                    n++;
                    await assertMiss(gateway, n);
                    const [method, target, body] = write(n);
                    const refused = await call(gateway.target, method, target, { body });
                    assert.equal(refused.status, 401, name);
                    await assertHit(gateway, n);
                    const done = await call(gateway.target, method, target, { ...admin(), body });
                    assert.ok(done.status < 300, `${name}: ${done.status}`);
                    assert.doesNotMatch(status(await connect(gateway, n)) ?? '', /hit/, name);
                }
                for (const outcome of [0, 500, 503]) {
                    for (const [name, write] of writes) {
                        n++;
                        await assertMiss(gateway, n);
                        const [method, target, body] = write(n);
                        await stub.set({ fail_next: 1, fail_status: outcome });
                        const lost = await call(gateway.target, method, target, { ...admin(), body });
                        assert.equal(lost.status, outcome || 502, name);
                        await assertMiss(gateway, n);
                    }
                }
            }));
    }

    test('a write that never left forgets nothing', () =>
        using({}, async (gateway, stub) => {
            await assertMiss(gateway, 1);
            await stub.set({ outage: 'refuse' });
            const answer = await call(gateway.target, 'DELETE', `/agents/${agentId(1)}`, admin());
            assert.equal(answer.status, 502);
            await assertHit(gateway, 1);
        }));

    test('an admin who leaves does not take the write along', async () => {
        const held = gate();
        const token = agentToken(agentId(1));
        const stub = await Controller.start(async ({ method }) => {
            if (method === 'DELETE') await held.opened;
            return { status: method === 'DELETE' ? 200 : 201, body: JSON.stringify({ accessToken: token }) };
        });
        await using({ stub }, async (gateway) => {
            await assertMiss(gateway, 1);
            const wire = await Wire.open(gateway.target);
            wire.send(request('DELETE', `/agents/${agentId(1)}`, { headers: { Authorization: `Bearer ${adminToken()}` } }));
            await eventually('the write to arrive', () => stub.seen(`/agents/${agentId(1)}`).length === 1);
            wire.abort();
            await eventually('the gateway to notice', async () => (await gateway.metric('clients_gone_total')) === 1);
            await assertHit(gateway, 1);
            held.open();
            await eventually('the entry to go', async () => (await gateway.metric('connect_cache_entries')) === 0);
        });
    });

    test('who connects after the write does not hear what was asked before it', async () => {
        const held = gate();
        let connects = 0;
        const tokens = [1, 2].map((jti) => agentToken(agentId(1), { jti }));
        const stub = await Controller.start(async ({ path: target }) => {
            if (!target.endsWith('/connect')) return { status: 200 };
            const accessToken = tokens[connects++];
            if (connects === 1) await held.opened;
            return { status: 201, body: JSON.stringify({ accessToken }) };
        });
        await using({ stub }, async (gateway) => {
            const early = connect(gateway, 1);
            await eventually('the first to arrive', () => connects === 1);
            const write = await call(gateway.target, 'PUT', `/agents/${agentId(1)}`, { ...admin(), body: {} });
            assert.equal(write.status, 200);
            const late = await connect(gateway, 1);
            assert.equal(late.json.accessToken, tokens[1]);
            held.open();
            assert.equal((await early).json.accessToken, tokens[0]);
            assert.equal(status(await early), 'aiwm-gateway; fwd=miss', 'and it was not stored');
            assert.equal((await assertHit(gateway, 1)).json.accessToken, tokens[1]);
        });
    });
});

describe('single flight', SUITE, () => {
    for (const workers of [1, 4]) {
        test(`fifty at once cost one bcrypt (${workers} workers)`, () =>
            using({ config: { workers } }, async (gateway, stub) => {
                await stub.set({ connect_delay_ms: 300 });
                const answers = await Promise.all(Array.from({ length: 50 }, () => connect(gateway, 7)));
                const kinds = {};
                for (const answer of answers) {
                    assert.equal(answer.status, 201);
                    assert.equal(answer.json.accessToken, answers[0].json.accessToken);
                    const kind = status(answer).replace(/; ttl=.*/, '');
                    kinds[kind] = (kinds[kind] ?? 0) + 1;
                }
                assert.equal(await bcrypts(stub), 1, JSON.stringify(kinds));
                assert.equal(kinds['aiwm-gateway; fwd=miss; stored'], 1);
                assert.ok(kinds['aiwm-gateway; fwd=miss; collapsed'] > 0, JSON.stringify(kinds));
                const ids = new Set(answers.map((a) => a.header('x-correlation-id')));
                assert.equal(ids.size, 50);
                assert.equal(await gateway.metric('bcrypts_avoided_total'), 49);
            }));

        test(`the leader leaves and its followers are answered all the same (${workers} workers)`, () =>
            using({ config: { workers } }, async (gateway, stub) => {
                await stub.set({ connect_delay_ms: 600 });
                const leader = await Wire.open(gateway.target);
                leader.send(request('POST', path(7), {
                    headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(7) },
                }));
                await eventually('the flight to take off', async () => (await stub.counts()).connects === 1);
                const followers = Array.from({ length: 8 }, () => connect(gateway, 7));
                await sleep(150);
                leader.abort();
                const leaving = await Wire.open(gateway.target);
                leaving.send(request('POST', path(7), {
                    headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(7) },
                }));
                await sleep(50);
                leaving.abort();
                for (const answer of await Promise.all(followers)) {
                    assert.equal(answer.status, 201);
                    assert.equal(status(answer), 'aiwm-gateway; fwd=miss; collapsed');
                }
                assert.equal(await bcrypts(stub), 1);
                await assertHit(gateway, 7);
            }));
    }

    test('a leader that leaves alone has still filled the cache', () =>
        using({}, async (gateway, stub) => {
            await stub.set({ connect_delay_ms: 200 });
            const leader = await Wire.open(gateway.target);
            leader.send(request('POST', path(7), {
                headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(7) },
            }));
            await eventually('the call', async () => (await stub.counts()).connects === 1);
            leader.abort();
            await eventually('the entry', async () => (await gateway.metric('connect_cache_entries')) === 1);
            await assertHit(gateway, 7);
        }));

    test('followers share a refusal and a failure', () =>
        using({}, async (gateway, stub) => {
            await stub.set({ connect_delay_ms: 200 });
            const refused = await Promise.all(Array.from({ length: 5 }, () => connect(gateway, 7, { secret: 'wrong' })));
            for (const answer of refused) assert.equal(answer.status, 401);
            assert.equal(await bcrypts(stub), 1);
            // Twice: a reused connection that is closed without a word is tried again.
            await stub.set({ fail_next: 2, fail_status: 0, delay_ms: 200 });
            const failed = await Promise.all(Array.from({ length: 5 }, () => connect(gateway, 7)));
            for (const answer of failed) {
                assert.equal(answer.status, 502);
                assert.equal(answer.json.code, 'GATEWAY_UPSTREAM_CLOSED');
                assert.equal(answer.header('retry-after'), '1');
            }
            assert.equal(await bcrypts(stub), 1);
        }));

    test('who follows waits eight seconds, the leader nine', { skip: sanitized && 'no preloading here' }, () =>
        using({
            config: { upstream: { response_timeout: '10m' }, tls: { enabled: false } }, env: timelapse(20),
        }, async (gateway, stub) => {
            await stub.set({ connect_delay_ms: 1500 }); // 30 s
            const leader = connect(gateway, 7);
            await eventually('the call', async () => (await stub.counts()).connects === 1);
            const follower = await connect(gateway, 7);
            assert.equal(follower.status, 504);
            assert.equal(follower.json.code, 'GATEWAY_UPSTREAM_TIMEOUT');
            assert.equal((await leader).status, 504);
            assert.equal((await leader).json.code, 'GATEWAY_UPSTREAM_TIMEOUT');
        }));

    test('at most 64 follow, the others are told to come again', () =>
        using({}, async (gateway, stub) => {
            await stub.set({ connect_delay_ms: 700 });
            const answers = await Promise.all(Array.from({ length: 70 }, () => connect(gateway, 7)));
            const count = (code) => answers.filter((a) => a.status === code).length;
            assert.equal(count(201), 65);
            assert.equal(count(503), 5);
            assert.equal(await bcrypts(stub), 1);
        }));
});

describe('without the controller', SUITE, () => {
    const config = { connect_cache: { fresh_for: '100ms' } };

    test('an older answer serves while it is down, and a new one once it is up', () =>
        using({ config }, async (gateway, stub) => {
            const old = await assertMiss(gateway, 1);
            await sleep(150);
            for (const failure of [{ outage: 'refuse' }, { fail_next: 1, fail_status: 0 },
                { fail_next: 1, fail_status: 500 }, { fail_next: 1, fail_status: 429 }]) {
                await stub.set(failure);
                const answer = await connect(gateway, 1);
                assert.equal(answer.status, 201, JSON.stringify(failure));
                assert.match(status(answer), /^aiwm-gateway; hit; ttl=(-\d+|0)(; detail=controller-failed)?$/);
                assert.equal(answer.json.accessToken, old.json.accessToken);
                await stub.set({ outage: 'off', fail_next: 0 });
            }
            await sleep(1000);
            const fresh = await assertMiss(gateway, 1);
            assert.notEqual(fresh.json.accessToken, old.json.accessToken);
        }));

    test('a controller that hangs costs an older answer a second, and followers no more', () =>
        using({ config }, async (gateway, stub) => {
            await assertMiss(gateway, 1);
            await sleep(150);
            await stub.set({ outage: 'hang' });
            const start = Date.now();
            const answers = await Promise.all(Array.from({ length: 4 }, () => connect(gateway, 1)));
            const took = Date.now() - start;
            for (const answer of answers) assert.match(status(answer), /hit; ttl=-?\d+; detail=controller-slow/);
            assert.ok(took > 900 && took < 2000 + slack(), `${took} ms`);
            await stub.set({ outage: 'off' });
            await eventually('a new answer', async () => /stored/.test(status(await connect(gateway, 1))));
        }));

    test('a call that outlives its leader\'s patience still brings a new answer', () =>
        using({ config: { connect_cache: { fresh_for: '2s' } } }, async (gateway, stub) => {
            const old = await assertMiss(gateway, 1);
            await sleep(2050);
            await stub.set({ connect_delay_ms: 1300 });
            assert.match(status(await connect(gateway, 1)), /detail=controller-slow/);
            await sleep(500);
            const now = await assertHit(gateway, 1);
            assert.notEqual(now.json.accessToken, old.json.accessToken);
        }));

    test('an answer whose token is about to expire serves nobody', () =>
        using({
            stubOptions: { tokenTtlS: 5 },
            config: { connect_cache: { fresh_for: '1ms', dead_before_expiry: '3s' } },
        }, async (gateway, stub) => {
            await assertMiss(gateway, 1);
            await stub.set({ outage: 'refuse' });
            assert.match(status(await connect(gateway, 1)), /detail=controller-failed/);
            await sleep(2100);
            assert.equal((await connect(gateway, 1)).status, 502);
        }));

    test('a wrong secret hears 502, whatever is known of the agent', () =>
        using({ config }, async (gateway, stub) => {
            await assertMiss(gateway, 1);
            await stub.set({ outage: 'refuse' });
            assert.equal((await connect(gateway, 1, { secret: 'wrong' })).status, 502);
        }));

    test('a stranger hears 502 when it is gone and 504 when it hangs', () =>
        using({ config: { upstream: { response_timeout: '500ms' } } }, async (gateway, stub) => {
            await stub.set({ outage: 'hang' });
            const late = await connect(gateway, 1);
            assert.equal(late.status, 504);
            assert.equal(late.json.code, 'GATEWAY_UPSTREAM_TIMEOUT');
            await stub.set({ outage: 'refuse' });
            const gone = await connect(gateway, 1);
            assert.equal(gone.status, 502);
            assert.equal(gone.json.code, 'GATEWAY_UPSTREAM_UNREACHABLE');
            assert.equal(gone.json.path, path(1));
            assert.ok(gone.header('x-correlation-id'));
        }));

    test('a 401 of somebody in between evicts nothing', async () => {
        const body = JSON.stringify({ accessToken: agentToken(agentId(1)) });
        const given = [
            { status: 201, body },
            { status: 401, body: '<html>login</html>', headers: { 'Content-Type': 'text/html' } },
            { status: 404, body: errorBody(404, `Cannot POST ${path(1)}`) },
            { status: 503, body: errorBody(503, 'later') },
        ];
        const stub = await Controller.start(() => given.shift());
        await using({ stub, config: { connect_cache: { fresh_for: '0s' } } }, async (gateway) => {
            await assertMiss(gateway, 1);
            assert.equal((await connect(gateway, 1)).status, 401);
            assert.equal((await connect(gateway, 1)).status, 404);
            assert.match(status(await connect(gateway, 1)), /detail=controller-failed/);
        });
    });
});
