// Only the controller's answer proves a write. A claim (a request, or one whose outcome nobody knows)
// takes nothing from an agent that its sender could not write to.
import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import { describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { FAILED, HIT, MISS, STALE, assertConnects, connect, path, using } from './support/connecting.mjs';
import { Controller, errorBody } from './support/controller.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { Redis } from './support/redis.mjs';
import { agentId } from './support/stub.mjs';
import { Wire, call, exchange, request } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 4 };
const ORG_A = '6ff00000000000000000000a';
const ORG_B = '6ff00000000000000000000b';
const V = 1; // of organization B
const OTHER = 2; // of organization B, too
const id = agentId(V);
const INSTRUCTION = '6b000000000000000000000c';

const owner = (orgId) => adminToken({ orgId, roles: ['organization.owner'], sub: `6ff0000000000000000${orgId.slice(-5)}` });
const universe = () => adminToken({ orgId: ORG_A, roles: ['universe.owner'] });
const agentOf = (orgId) => agentToken(agentId(777), { orgId });
const tokenOf = (n, over = {}) => agentToken(agentId(n), { orgId: ORG_B, ...over });

const connectAnswer = (target) => {
    const who = /^\/agents\/(\w+)\//.exec(target)[1];
    return {
        status: 201, body: JSON.stringify({
            accessToken: agentToken(who, { orgId: ORG_B }), expiresIn: 86400, tokenType: 'Bearer', mcpServers: {},
            instruction: { id: INSTRUCTION, systemPrompt: 's', guidelines: [] }, settings: {},
        }),
    };
};

/** A controller whose writes are answered by `write(seen)`; everything else is as with AIWM. */
async function withWrites(write, config, body, env) {
    const beats = [];
    const state = { connect: connectAnswer, beat: () => ({ status: 201 }) };
    const controller = await Controller.start((seen) => {
        if (seen.path.endsWith('/connect')) return state.connect(seen.path);
        if (seen.path.endsWith('/heartbeat')) {
            beats.push(seen.path);
            return state.beat(seen);
        }
        return write(seen);
    });
    await using({ stub: controller, config, env }, (gateway) => body(gateway, { controller, beats, state }));
}

const beat = (gateway, n, over = {}, status = 'online') => call(gateway.target, 'POST', path(n, 'heartbeat'), {
    token: tokenOf(n, over), body: { status },
});

// ---- an outcome that nobody knows ----

const failing = { status: 500, body: errorBody(500, 'request entity too large') };
const large = { name: 'x'.repeat(110 * 1024) };
const writes = [
    ['PUT', `/agents/${id}`], ['DELETE', `/agents/${id}`], ['POST', `/agents/${id}/credentials/regenerate`],
    ['PUT', `/instructions/${INSTRUCTION}`], ['PUT', '/configurations/x'],
];

describe('a write whose outcome nobody knows', SUITE, () => {
    const fields = { headers: { 'X-Organization-Id': ORG_B } };

    const send = (gateway, method, target, token) => call(gateway.target, method, target, {
        token, ...fields, ...(method === 'PUT' && { body: target.startsWith('/agents') ? large : { name: 'x' } }),
    });

    for (const [who, token] of [
        ['an agent of another organization', () => agentOf(ORG_A)], ['an agent of the same one', () => agentOf(ORG_B)],
        ['the agent itself', () => tokenOf(V)], ['a user of another organization', () => owner(ORG_A)],
        ['nobody', () => undefined], ['a token of another secret', () => adminToken({}, { secret: 'x'.repeat(40) })],
    ])
        test(`by ${who} changes nothing of the agent's`, () => withWrites(() => failing, {}, async (gateway) => {
            await assertConnects(gateway, V, MISS);
            for (const [method, target] of writes) {
                const { status } = await send(gateway, method, target, token());
                assert.ok([500, 403].includes(status), `${method} ${target}: ${status}`);
            }
            await assertConnects(gateway, V, HIT);
        }));

    for (const [how, write, config] of [
        ['answered 500', () => failing, {}],
        ['never answered', () => new Promise(() => {}), { upstream: { response_timeout: '300ms' } }],
        ['closed without an answer', () => 'reset', {}],
    ])
        for (const [who, token] of [['a user of the organization', () => owner(ORG_B)], ['a universe role', universe]])
            test(`by ${who}, ${how}, makes the entry stale and keeps it`, () =>
                withWrites(write, config, async (gateway, { state }) => {
                    await assertConnects(gateway, V, MISS);
                    for (const [method, target] of writes) {
                        const { status } = await send(gateway, method, target, token());
                        assert.ok(status >= 500, `${method} ${target}: ${status}`);
                        await assertConnects(gateway, V, STALE);
                        await assertConnects(gateway, V, HIT);
                    }
                    await send(gateway, ...writes[1], token());
                    state.connect = () => failing; // still known: the old answer serves
                    await assertConnects(gateway, V, FAILED);
                }));

    test('by a user concerns his own organization only, whatever the write is about', () =>
        withWrites(() => failing, {}, async (gateway) => {
            await assertConnects(gateway, V, MISS);
            for (const [method, target] of writes) await send(gateway, method, target, owner(ORG_A));
            await assertConnects(gateway, V, HIT);
            assert.equal((await send(gateway, ...writes[3], owner(ORG_B))).status, 500);
            await assertConnects(gateway, V, STALE);
        }));

    test('never ends the exemption of a known secret from a lock-out', () =>
        withWrites(() => failing, { limits: { connect_failures_per_agent: 2, connect_failures_per_ip: 0 } },
            async (gateway, { state }) => {
                await assertConnects(gateway, V, MISS);
                state.connect = () => ({ status: 401, body: errorBody(401, 'Invalid credentials') });
                const guesses = [];
                for (const n of [1, 2, 3, 4]) guesses.push((await connect(gateway, V, { secret: `guess ${n}` })).status);
                assert.ok(guesses.includes(429), `${guesses}`);
                state.connect = connectAnswer;
                for (const token of [agentOf(ORG_A), owner(ORG_B), universe()])
                    await send(gateway, ...writes[0], token);
                await assertConnects(gateway, V, STALE);
            }));

    test('an organization that a user only names is not his: a 2xx for him makes nothing of it stale', () =>
        withWrites(() => ({ status: 200, body: '{}' }), {}, async (gateway) => {
            await assertConnects(gateway, V, MISS);
            assert.equal((await send(gateway, ...writes[4], owner(ORG_A))).status, 200);
            await assertConnects(gateway, V, HIT);
            assert.equal((await send(gateway, ...writes[4], universe())).status, 200);
            await assertConnects(gateway, V, STALE);
        }));

    test('is stale with other replicas, too', async () => {
        const redis = await Redis.start();
        const config = { redis: { url: redis.url } };
        try {
            await withWrites(() => failing, config, async (gateway, { controller }) => {
                await using({ stub: { url: controller.url, stop() {} }, config }, async (second) => {
                    await assertConnects(gateway, V, MISS);
                    await eventually('it to be shared', async () =>
                        (await connect(second, V)).header('cache-status').includes('hit'));
                    await send(gateway, ...writes[0], agentOf(ORG_B));
                    await assertConnects(second, V, HIT);
                    await send(gateway, ...writes[0], owner(ORG_B));
                    await eventually('the other one to ask', async () =>
                        STALE.test((await connect(second, V)).header('cache-status').replace(/^aiwm-gateway; /, '')));
                });
            });
        } finally {
            await redis.stop();
        }
    });

    test('is stale with the replica that knows the agent, though the one that was asked does not', async () => {
        const redis = await Redis.start();
        const config = { redis: { url: redis.url } };
        try {
            await withWrites(() => failing, config, async (gateway, { controller }) => {
                await using({ stub: { url: controller.url, stop() {} }, config }, async (second) => {
                    await assertConnects(gateway, OTHER, MISS);
                    await eventually('both to share', async () =>
                        (await connect(second, OTHER)).header('cache-status').includes('hit'));
                    await assertConnects(gateway, V, MISS);
                    await send(second, ...writes[0], agentOf(ORG_B));
                    await send(second, ...writes[0], owner(ORG_A));
                    await assertConnects(gateway, V, HIT);
                    await send(second, ...writes[0], owner(ORG_B));
                    await eventually('the first one to ask', async () =>
                        STALE.test((await connect(gateway, V)).header('cache-status').replace(/^aiwm-gateway; /, '')));
                });
            });
        } finally {
            await redis.stop();
        }
    });
});

// ---- what the controller's answer says ----

const document = (status, over = {}) => JSON.stringify({ owner: { orgId: ORG_B }, _id: id, status, ...over });

describe('the answer to a PUT says what has become of the agent', SUITE, () => {
    const put = (gateway, { body = '{"status":"suspended"}', type = 'application/json', headers = {} } = {}) =>
        exchange(gateway.target, 'PUT', `/agents/${id}`, {
            headers: { Authorization: `Bearer ${universe()}`, 'Content-Type': type, ...headers }, body,
        });

    for (const [what, sent] of [
        ['JSON', {}],
        ['a form', { body: 'status=suspended', type: 'application/x-www-form-urlencoded' }],
        ['gzip', { body: zlib.gzipSync('{"status":"suspended"}'), headers: { 'Content-Encoding': 'gzip' } }],
        ['UTF-16', { body: Buffer.from('\ufeff{"status":"suspended"}', 'utf16le'), type: 'application/json; charset=utf-16le' }],
        ['nothing of the kind', { body: '{"name":"x"}' }],
    ])
        for (const framing of ['a length', 'chunks', 'pieces'])
            test(`suspended by ${what}, answered in ${framing}`, () => withWrites(() => (framing === 'a length'
                ? { body: document('suspended') }
                : { body: document('suspended', { pad: 'x'.repeat(framing === 'pieces' ? 40000 : 1) }), headers: { 'Transfer-Encoding': 'chunked' } }),
            {}, async (gateway) => {
                assert.equal((await beat(gateway, V)).status, 201);
                assert.equal((await beat(gateway, OTHER)).status, 201);
                const answer = await put(gateway, sent);
                assert.equal(answer.status, 200);
                assert.equal(answer.json.status, 'suspended', 'the document is passed on');
                const refused = await beat(gateway, V);
                assert.deepEqual([refused.status, refused.json.message], [401, 'Agent is suspended']);
                assert.equal((await call(gateway.target, 'GET', '/things', { token: tokenOf(V) })).status, 401);
                assert.equal((await beat(gateway, OTHER)).status, 201, 'a bystander');
            }));

    for (const [what, sent] of [
        ['text that the controller ignores', { type: 'text/plain' }],
        ['JSON whose last status counts', { body: '{"status":"suspended","status":"active"}' }],
    ])
        test(`not suspended by ${what}`, () => withWrites(() => ({ body: document('active') }), {}, async (gateway, { beats }) => {
            await eventually('the first beat', async () => (await beat(gateway, V)).status === 201 && beats.length === 1);
            assert.equal((await put(gateway, sent)).status, 200);
            assert.equal((await beat(gateway, V)).status, 201);
            assert.equal(beats.length, 1, 'it was acknowledged here');
        }));

    test('a suspended agent that is active again is let in', () => {
        let status = 'suspended';
        return withWrites(() => ({ body: document(status) }), {}, async (gateway) => {
            await put(gateway);
            assert.equal((await beat(gateway, V)).status, 401);
            status = 'active';
            await put(gateway, { body: 'status=active', type: 'application/x-www-form-urlencoded' });
            assert.equal((await beat(gateway, V)).status, 201);
        });
    });

    const large = 'x'.repeat(70000);
    for (const [what, given] of [
        ['nothing', { status: 204, body: '', headers: { 'Content-Type': '' } }],
        ['no status', { body: '{"ok":true}' }],
        ['HTML', { body: '<p>done</p>' }],
        ['another agent\'s document', { body: document('active', { _id: agentId(OTHER) }) }],
        ['more than is read', { body: document('active', { large }) }],
        ['something coded', { body: zlib.gzipSync(document('active')), headers: { 'Content-Encoding': 'gzip' } }],
        ['a part of it', { body: document('active').slice(0, -5), headers: { 'Content-Length': document('active').length } }],
    ])
        test(`where it says ${what}, the agent's next heartbeat asks the controller`, () =>
            withWrites(() => given, {}, async (gateway, { beats, state }) => {
                await eventually('the first beat', async () => (await beat(gateway, V)).status === 201 && beats.length === 1);
                const answer = await put(gateway).catch(() => undefined);
                if (answer && given.body.length > 65536) assert.equal(answer.body.length, given.body.length);
                state.beat = () => ({ status: 404, body: errorBody(404, `Agent with ID ${id} not found`) });
                const refused = await beat(gateway, V);
                assert.deepEqual([refused.status, beats.length], [404, 2]);
                assert.equal((await beat(gateway, V)).status, 404);
                assert.equal((await beat(gateway, OTHER, {}, 'busy')).status, 404, 'first, and told by the controller, too');
            }));

    test('and when the controller takes that one, the next are acknowledged here', () =>
        withWrites(() => ({ status: 204, body: '' }), {}, async (gateway, { beats }) => {
            await eventually('the first beat', async () => (await beat(gateway, V)).status === 201 && beats.length === 1);
            await put(gateway);
            assert.equal((await beat(gateway, V)).status, 201);
            assert.equal(beats.length, 2);
            assert.equal((await beat(gateway, V)).status, 201);
            assert.equal(beats.length, 2);
        }));

    test('it is learned when its client has left', () => {
        let answered;
        const asked = new Promise((resolve) => (answered = resolve));
        let release;
        const released = new Promise((resolve) => (release = resolve));
        return withWrites(async () => {
            answered();
            await released;
            return { body: document('suspended') };
        }, {}, async (gateway) => {
            assert.equal((await beat(gateway, V)).status, 201);
            const wire = await Wire.open(gateway.target);
            wire.send(request('PUT', `/agents/${id}`, { headers: { Authorization: `Bearer ${universe()}` }, body: '{}' }));
            await asked;
            wire.close();
            await eventually('it to be gone', async () => await gateway.metric('connections') === 0);
            release();
            await eventually('the refusal', async () => (await beat(gateway, V)).status === 401);
        });
    });

    test('other replicas ask, too', async () => {
        const redis = await Redis.start();
        const config = { redis: { url: redis.url } };
        try {
            await withWrites(() => ({ status: 204, body: '' }), config, async (gateway, { controller, beats, state }) => {
                await using({ stub: { url: controller.url, stop() {} }, config }, async (second) => {
                    await eventually('the first beat', async () => (await beat(second, V)).status === 201 && beats.length === 1);
                    state.beat = () => ({ status: 404, body: errorBody(404, `Agent with ID ${id} not found`) });
                    await put(gateway);
                    await eventually('the other one to ask', async () => (await beat(second, V)).status === 404);
                });
            });
        } finally {
            await redis.stop();
        }
    });
});

// ---- deletion, and clocks ----

describe('an agent that is gone', SUITE, () => {
    const gone = () => ({ status: 404, body: errorBody(404, `Agent with ID ${id} not found`) });
    const none = () => ({ status: 200, body: '{}' });
    const fresh = { headers: { 'Cache-Control': 'no-cache' } };

    test('is known by the 404 to its connect: its heartbeats are 404', () =>
        withWrites(none, {}, async (gateway, { beats, state }) => {
            await assertConnects(gateway, V, MISS);
            await eventually('the first beat', async () => (await beat(gateway, V)).status === 201 && beats.length === 1);
            state.connect = gone; // deleted directly
            assert.equal((await beat(gateway, V)).status, 201, 'nobody knows yet');
            assert.equal((await connect(gateway, V, fresh)).status, 404);
            const refused = await beat(gateway, V);
            assert.deepEqual([refused.status, refused.json.message], [404, `Agent with ID ${id} not found`]);
            assert.equal((await call(gateway.target, 'GET', '/things', { token: tokenOf(V) })).status, 404);
            assert.equal((await beat(gateway, OTHER)).status, 201, 'a bystander');
        }));

    let secrets = 0; // a refusal is remembered, and answered from here
    for (const [what, send] of [
        ['whose secret is not known here', (gateway) => connect(gateway, V, { secret: `not known ${secrets++}` })],
        ['that only the controller can read', (gateway) => exchange(gateway.target, 'POST', path(V), {
            headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'secret=x',
        })],
    ])
        test(`a 404 to a connect ${what} lets the controller answer the agent's next heartbeat`, () =>
            withWrites(none, {}, async (gateway, { beats, state }) => {
                await eventually('the first beat', async () => (await beat(gateway, V)).status === 201 && beats.length === 1);
                state.connect = gone;
                assert.equal((await send(gateway)).status, 404);
                assert.equal((await beat(gateway, V)).status, 201, 'the controller still knows it');
                assert.equal(beats.length, 2);
                state.beat = gone;
                assert.equal((await send(gateway)).status, 404);
                assert.equal((await beat(gateway, V)).status, 404);
            }));

    test('a 404 to a client that guesses ids says nothing of agents that were never let in here', () =>
        withWrites(none, {}, async (gateway, { state }) => {
            state.connect = gone;
            assert.equal((await connect(gateway, V, { secret: 'guess' })).status, 404);
            assert.equal((await beat(gateway, V)).status, 201);
        }));

    test('a 404 that is not the controller\'s own says nothing', () => withWrites(none, {}, async (gateway, { state }) => {
        await assertConnects(gateway, V, MISS);
        state.connect = () => ({ status: 404, body: errorBody(404, 'Cannot POST /agents') });
        assert.equal((await connect(gateway, V, fresh)).status, 404);
        assert.equal((await beat(gateway, V)).status, 201);
    }));

    const nowS = () => Math.floor(Date.now() / 1000);
    const httpDate = (s) => new Date(s * 1000).toUTCString();
    const ended = (effect, skew) => (seen) => ({
        body: effect === 'suspended' ? document('suspended') : '{"message":"Agent deleted successfully"}',
        headers: { Date: httpDate(nowS() - skew) },
        status: seen.method === 'GET' ? 404 : 200,
    });
    for (const [effect, method, status] of [['suspended', 'PUT', 401], ['deleted', 'DELETE', 404]])
        test(`${effect}: its tokens are refused with clocks five seconds apart`, () =>
            withWrites(ended(effect, 0), {}, async (gateway) => {
                const written = await call(gateway.target, method, `/agents/${id}`, { token: universe(), body: {} });
                assert.equal(written.status, 200);
                for (const ahead of [-60, 0, 2, 4])
                    assert.equal((await beat(gateway, V, { iat: nowS() + ahead })).status, status, `${ahead} s ahead`);
                assert.equal((await beat(gateway, OTHER, { iat: nowS() + 4 })).status, 201, 'a bystander');
            }));

    test('regenerated: a token of the same second is taken', () =>
        withWrites(() => ({ body: '{}', headers: { Date: httpDate(nowS()) } }),
            { policy: { revoke_on_regenerate: true } }, async (gateway) => {
                const written = await call(gateway.target, 'POST', `/agents/${id}/credentials/regenerate`, { token: universe() });
                assert.equal(written.status, 200);
                assert.equal((await beat(gateway, V, { iat: nowS() - 60 })).status, 401);
                assert.equal((await beat(gateway, V, { iat: nowS() })).status, 201);
            }));
});
