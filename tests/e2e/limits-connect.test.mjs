// Connects that let nobody in: they count against their address, however they are answered; what one
// address has under way makes no other wait; and where many agents are known there may be more.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { HIT, assertConnects, connect, path, using } from './support/connecting.mjs';
import { Controller, errorBody, gate } from './support/controller.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { agentId, agentSecret } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 4 };

/** The same gateway, reached from another address. */
const from = (gateway, address) => ({ ...gateway, target: { ...gateway.target, localAddress: address } });
const range = (count, first = 0) => Array.from({ length: count }, (_, i) => first + i);
const many = (count, first, one) => Promise.all(range(count, first).map(one));
const withStatus = (answers, status) => answers.filter((answer) => answer.status === status).length;
const wrong = (gateway, n, k = 0) => connect(gateway, n, { secret: `wrong-${n}-${k}` });

/** A connect that the gateway does not read, and that has no secret. */
const unread = (gateway, n) => call(gateway.target, 'POST', path(n), {
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'secrets=none',
});
const beat = (gateway, n, token = agentToken(agentId(n))) =>
    call(gateway.target, 'POST', path(n, 'heartbeat'), { token, body: { status: 'online' } });

function assertLimited(answer, code) {
    assert.equal(answer.status, 429, answer.text);
    assert.equal(answer.json.code, code);
    assert.ok(Number(answer.header('retry-after')) >= 1);
}

/** Every agent's secret is right, everything else is answered as `fail` says. */
function lettingIn(fail) {
    return async (request) => {
        const [, , id, action] = request.path.split('/');
        if (action !== 'connect') return { status: action === 'heartbeat' ? 201 : 200, body: '{"ok":true}' };
        const n = parseInt(id.slice(2), 16);
        if (request.body === JSON.stringify({ secret: agentSecret(n) }))
            return { status: 201, body: JSON.stringify({ accessToken: agentToken(id) }) };
        return fail(request);
    };
}
const refusing = (status, message = 'Refused') => ({ status, body: errorBody(status, message) });

/** The limit, and at most so many beyond it: they were at the controller already (queue.connect), or
 * time has passed. */
function assertJudged(answers, status, limit) {
    const judged = withStatus(answers, status);
    assert.ok(judged >= limit && judged <= limit + 10, `${judged} were judged, of ${limit}`);
    assert.equal(judged + withStatus(answers, 429), answers.length);
}

describe('connects under way from one address', SUITE, () => {
    const ATTACKER = '127.0.0.2', AGENTS = 30, EACH = 5;

    /** 30 agents connect for the first time while a controller keeps what another address has sent
     * for them waiting, and then answers it with a 400. */
    const storm = (attacked, check) => {
        const held = gate();
        return (async () => {
            const stub = await Controller.start(lettingIn(async () => {
                await held.opened;
                return refusing(400, 'Validation failed');
            }));
            await using({ stub }, async (gateway) => {
                const attacker = from(gateway, ATTACKER);
                await assertConnects(attacker, 500, /^fwd=miss/);
                const attack = attacked ? range(AGENTS * EACH).map((i) => unread(attacker, i % AGENTS)) : [];
                const asked = () => gateway.metric('requests_total', 'route="connect"');
                await eventually('all of it is here', async () => (await asked()) === 1 + attack.length);
                const agents = many(AGENTS, 0, (n) => connect(gateway, n));
                await eventually('so are the agents', async () => (await asked()) >= 1 + attack.length + AGENTS);
                await check(gateway, attacker, stub);
                held.open();
                const answers = await agents;
                assert.deepEqual([...new Set(answers.map(({ status }) => status))], [201]);
                if (attacked) assertJudged(await Promise.all(attack), 400, 22);
            });
        })();
    };
    const bystanders = async (gateway, attacker, stub) => {
        const get = await call(gateway.target, 'GET', '/agents', { token: adminToken({ orgId: '0'.repeat(24) }) });
        assert.equal(get.status, 200, 'another organization\'s call');
        await assertConnects(attacker, 500, HIT); // known, from the attacker's own address
        assert.equal((await beat(gateway, 400)).status, 201);
        await eventually('the heartbeat', () => stub.seen(path(400, 'heartbeat')).length === 1);
    };

    test('lock nobody elsewhere', () => storm(true, bystanders));
    test('(the same without them)', () => storm(false, bystanders));

    test('are refused once twenty of them have failed, others are let in', async () => {
        const stub = await Controller.start(lettingIn(() => refusing(400)));
        await using({ stub }, async (gateway) => {
            const attacker = from(gateway, ATTACKER);
            assertJudged(await many(60, 0, (n) => unread(attacker, n)), 400, 20);
            const asked = () => stub.requests.filter((request) => request.path.endsWith('/connect')).length;
            const before = asked();
            for (let round = 0; round < 5; round++)
                for (const answer of await many(60, 60 * round, (n) => unread(attacker, n)))
                    assert.ok(answer.status === 429 || round > 0, answer.text);
            assert.ok(asked() - before < 20, `${asked() - before} were asked for`);
            const answers = await many(AGENTS, 0, (n) => connect(gateway, n));
            assert.equal(withStatus(answers, 201), AGENTS);
        });
    });

    test('guess no more of an agent\'s secret than those that are at the controller, from however many', async () => {
        const held = gate();
        const stub = await Controller.start(lettingIn(async () => {
            await held.opened;
            return refusing(401, 'Invalid credentials');
        }));
        await using({ stub, config: { limits: { connect_failures_per_ip: 0 } } }, async (gateway) => {
            const guesses = range(100).map((k) => wrong(from(gateway, `127.0.0.${2 + k % 50}`), 1, k));
            await eventually('all are here', async () =>
                (await gateway.metric('requests_total', 'route="connect"')) === 100);
            held.open();
            const answers = await Promise.all(guesses);
            assert.ok(withStatus(answers, 401) <= 5 + 8, `${withStatus(answers, 401)} were judged`);
            for (const answer of answers.filter(({ status }) => status !== 401))
                assertLimited(answer, 'GATEWAY_AGENT_LOCKED');
        });
    });

    test('have a share of each agent, and no more', async () => {
        const held = gate();
        const stub = await Controller.start(lettingIn(async () => {
            await held.opened;
            return refusing(400);
        }));
        await using({ stub }, async (gateway) => {
            const attacker = from(gateway, ATTACKER);
            const guesses = range(8).map((k) => wrong(attacker, 1, k));
            await eventually('five are under way', () => stub.seen(path(1)).length === 5);
            assertLimited(await wrong(attacker, 1, 9), 'GATEWAY_AGENT_LOCKED');
            await assertConnects(gateway, 1, /^fwd=miss/);
            held.open();
            assert.equal(withStatus(await Promise.all(guesses), 429), 3);
        });
    });
});

describe('what counts against an address', SUITE, () => {
    for (const status of [400, 401, 402, 403, 404, 409, 410, 413, 415, 422])
        test(`a ${status}, of the controller or of a proxy in between`, async () => {
            const body = status % 2 ? errorBody(status, 'Refused') : '<html>no</html>';
            const stub = await Controller.start(lettingIn(() => ({ status, body })));
            await using({ stub }, async (gateway) => {
                for (const answer of await many(20, 100, (n) => wrong(gateway, n))) assert.equal(answer.status, status);
                assertLimited(await wrong(gateway, 200), 'GATEWAY_TOO_MANY_FAILURES');
                assertLimited(await unread(gateway, 201), 'GATEWAY_TOO_MANY_FAILURES');
                assert.equal((await connect(from(gateway, '127.0.0.2'), 1)).status, 201);
            });
        });

    for (const [what, answer] of [
        ['500', refusing(500)], ['503', refusing(503)], ['429', refusing(429)], ['connection that breaks', 'reset'],
    ])
        test(`no ${what}`, async () => {
            const stub = await Controller.start(lettingIn(() => answer));
            const breaker = { failures: 1000, failure_percent: 100 };
            await using({ stub, config: { breaker } }, async (gateway) => {
                for (let round = 0; round < 3; round++)
                    for (const { status } of await many(20, 100, (n) => wrong(gateway, n, round)))
                        assert.ok(status >= 500 || status === 429 && answer.status === 429, `${status}`);
                await assertConnects(gateway, 1, /^fwd=miss/);
            });
        });

    test('no timeout', async () => {
        const stub = await Controller.start(lettingIn(() => new Promise(() => {})));
        const config = {
            upstream: { response_timeout: '200ms' }, queue: { connect: 64 }, breaker: { failures: 1000, failure_percent: 100 },
        };
        await using({ stub, config }, async (gateway) => {
            for (const { status } of await many(40, 100, (n) => wrong(gateway, n))) assert.ok(status >= 500, `${status}`);
            await assertConnects(gateway, 1, /^fwd=miss/);
        });
    });

    for (const [what, send] of [
        ['malformed body', (gateway) => call(gateway.target, 'POST', path(1), { body: '{"secret":' })],
        ['body without a secret', (gateway) => call(gateway.target, 'POST', path(1), { body: { secret: 5 } })],
        ['malformed id', (gateway) => call(gateway.target, 'POST', path('xyz'), { body: { secret: 'x' } })],
        ['malformed id and a form', (gateway) => unread(gateway, 'xyz')],
        ['malformed Authorization', (gateway) => call(gateway.target, 'POST', path(1), {
            headers: { 'Content-Type': 'text/plain', Authorization: 'Bearer  a b' }, body: 'x',
        })],
    ])
        test(`a ${what}, which the gateway refuses itself`, () =>
            using({ config: { limits: { connects_per_agent: 0, connect_failures_per_agent: 0 } } }, async (gateway, stub) => {
                await assertConnects(from(gateway, '127.0.0.3'), 1, /^fwd=miss/);
                for (const { status } of await many(20, 0, () => send(gateway)))
                    assert.ok(status === 400 || status === 401, `${status}`);
                assertLimited(await send(gateway), 'GATEWAY_TOO_MANY_FAILURES');
                assertLimited(await connect(gateway, 2), 'GATEWAY_TOO_MANY_FAILURES');
                await assertConnects(gateway, 1, HIT);
                assert.equal((await connect(from(gateway, '127.0.0.2'), 2)).status, 201);
                assert.equal((await stub.counts()).connects, 2);
            }));

    test('what was asked for once, once, and each address that has waited for it', async () => {
        const held = gate();
        const stub = await Controller.start(lettingIn(async () => {
            await held.opened;
            return refusing(401, 'Invalid credentials');
        }));
        await using({ stub, config: { limits: { connect_failures_per_ip: 2 } } }, async (gateway) => {
            const [leader, follower] = ['127.0.0.2', '127.0.0.3'].map((address) => from(gateway, address));
            const first = wrong(leader, 1);
            await eventually('it is asked', () => stub.seen(path(1)).length === 1);
            const others = [wrong(leader, 1), wrong(leader, 1), wrong(follower, 1)];
            await eventually('all wait', async () =>
                (await gateway.metric('requests_total', 'route="connect"')) === 4);
            held.open();
            for (const { status } of await Promise.all([first, ...others])) assert.equal(status, 401);
            assert.equal(stub.seen(path(1)).length, 1);
            for (const gateway of [leader, follower]) {
                assert.equal((await wrong(gateway, 2, gateway.target.localAddress)).status, 401, 'its second');
                assertLimited(await wrong(gateway, 3), 'GATEWAY_TOO_MANY_FAILURES');
            }
        });
    });
});

describe('an address where agents are known', SUITE, () => {
    const NAT = '127.0.0.2', KNOWN = 20, LIMIT = 20 + 2 * KNOWN;
    const learn = {
        'by their connects': (nat) => many(KNOWN, 0, async (n) => assert.equal((await connect(nat, n)).status, 201)),
        'by their heartbeats': (nat) => many(KNOWN, 0, async (n) => assert.equal((await beat(nat, n)).status, 201)),
    };
    for (const [how, come] of Object.entries(learn))
        test(`may have two more failures for each of them, known ${how}`, () =>
            using({}, async (gateway) => {
                const nat = from(gateway, NAT);
                await come(nat);
                assertJudged(await many(LIMIT + 30, 100, (n) => wrong(nat, n)), 401, LIMIT);
                assertLimited(await connect(nat, 50), 'GATEWAY_TOO_MANY_FAILURES');
                assertJudged(await many(50, 200, (n) => wrong(gateway, n)), 401, 20);
            }));

    test('those known from the cache count where they are now', () =>
        using({}, async (gateway) => {
            await learn['by their connects'](gateway);
            const nat = from(gateway, NAT);
            for (const answer of await many(KNOWN, 0, (n) => connect(nat, n)))
                assert.match(answer.header('cache-status'), /hit/);
            assertJudged(await many(LIMIT + 30, 100, (n) => wrong(nat, n)), 401, LIMIT);
        }));

    test('an agent\'s token makes one known, whichever ids it is shown for', () =>
        using({ config: { jwt: { binding: 'report' } } }, async (gateway) => {
            const nat = from(gateway, NAT), token = agentToken(agentId(1));
            for (const { status } of await many(50, 0, (n) => beat(nat, n, token))) assert.equal(status, 201);
            assertJudged(await many(50, 100, (n) => wrong(nat, n)), 401, 22);
        }));

    test('in an outage of the controller\'s database nobody is locked out', async () => {
        let outage = false;
        const letIn = lettingIn(() => refusing(401, 'Invalid credentials'));
        const stub = await Controller.start((request) =>
            outage && request.path.endsWith('/connect') ? refusing(403, 'Cannot tell') : letIn(request));
        await using({ stub, config: { connect_cache: { enabled: false } } }, async (gateway) => {
            const nat = from(gateway, NAT);
            await learn['by their connects'](nat);
            outage = true;
            for (let round = 0; round < 2; round++)
                for (const answer of await many(KNOWN, 0, (n) => connect(nat, n))) assert.equal(answer.status, 403, answer.text);
            outage = false;
            for (const answer of await many(KNOWN + 1, 0, (n) => connect(nat, n))) assert.equal(answer.status, 201, answer.text);
        });
    });
});
