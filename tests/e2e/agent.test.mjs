// The documented agent client through the gateway: it changes nothing but its base URL.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, beforeEach, test } from 'node:test';
import { Agent } from './support/agent.mjs';
import { eventually, sleep, within } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { adminToken, agentToken, decode, sign, agentClaims } from './support/jwt.mjs';
import { Stub, agentId, agentSecret, specialId } from './support/stub.mjs';
import { call } from './support/wire.mjs';

let stub;
let gateway;
let used = 100; // each test takes agents that no other has touched
before(async () => {
    stub = await Stub.start();
    gateway = await startGateway(stub, { config: { heartbeat: { min_forward_gap: '0s' } } });
});
beforeEach(() => stub.reset());
after(async () => {
    await gateway?.stop();
    await stub?.stop();
});

function newAgent(times) {
    const n = used++;
    return new Agent({ target: gateway.target, id: agentId(n), secret: agentSecret(n), times });
}

/** The same agent in a new process: it remembers nothing but its id and secret. */
const restarted = (agent, times) =>
    new Agent({ target: gateway.target, id: agent.id, secret: agent.secret, times });

async function using(agent, body) {
    try {
        return await body(agent);
    } finally {
        agent.vanish();
    }
}

const quick = { retriesMs: [20, 40, 80], localMs: 200, heartbeatMs: 40, reconnectMs: 3600000 };

test('an agent connects and gets its token and configuration', () => using(newAgent(), async (agent) => {
    const answer = await agent.connect();
    assert.equal(answer.status, 201);
    const { claims } = decode(answer.json.accessToken);
    assert.equal(claims.agentId, agent.id);
    assert.equal(answer.json.expiresIn, 86400);
    assert.ok(answer.json.mcpServers.Builtin.headers.Authorization.endsWith(answer.json.accessToken));
    assert.match(answer.headers['cache-status'], /^aiwm-gateway; fwd=miss/);
}));

test('an agent that restarts is answered from the cache', async () => {
    const first = newAgent();
    const fresh = await using(first, () => first.connect());
    const second = restarted(first);
    const known = await using(second, () => second.connect());
    assert.equal(known.status, 201);
    assert.match(known.headers['cache-status'], /^aiwm-gateway; hit; ttl=\d+$/);
    assert.equal(known.headers['cache-control'], 'no-store');
    assert.match(known.headers.age, /^\d+$/);
    assert.equal(known.json.accessToken, fresh.json.accessToken);
    assert.deepEqual({ ...known.json, expiresIn: 0 }, { ...fresh.json, expiresIn: 0 });
    assert.equal((await stub.counts()).bcrypts, 1);
});

test('a wrong secret is refused, cached or not, and spoils nothing', async () => {
    const agent = newAgent();
    const stranger = restarted(agent);
    stranger.secret = 'guess';
    await using(stranger, async () => {
        assert.equal((await stranger.connect()).status, 401);
        await using(agent, () => agent.connect());
        const answer = await stranger.connect();
        assert.equal(answer.status, 401);
        assert.equal(answer.json.message, 'Invalid credentials');
    });
    const again = restarted(agent);
    const answer = await using(again, () => again.connect());
    assert.match(answer.headers['cache-status'], /hit/);
});

test('an unknown agent hears the controller\'s 404', async () => {
    const agent = new Agent({ target: gateway.target, id: specialId(1), secret: agentSecret(1) });
    const answer = await using(agent, () => agent.connect());
    assert.equal(answer.status, 404);
    assert.equal(answer.json.message, `Agent with ID ${specialId(1)} not found`);
    assert.equal(answer.json.path, `/agents/${specialId(1)}/connect`);
});

test('a heartbeat is acknowledged, and the first one reaches the controller', () =>
    using(newAgent(), async (agent) => {
        agent.token = (await agent.connect()).json.accessToken;
        const answer = await agent.heartbeat('busy');
        assert.equal(answer.status, 201);
        assert.deepEqual(answer.json, { success: true });
        await eventually('the beat to arrive', async () => (await stub.counts()).heartbeats_ok === 1);
        const beat = (await stub.requests()).find((r) => r.target.endsWith('/heartbeat'));
        assert.equal(beat.agent, agent.id);
        assert.equal(JSON.parse(beat.body).status, 'busy');
    }));

test('a changed status reaches the controller, the same again does not', () =>
    using(newAgent(), async (agent) => {
        agent.token = (await agent.connect()).json.accessToken;
        for (const status of ['online', 'online', 'busy', 'busy'])
            assert.equal((await agent.heartbeat(status)).status, 201);
        await eventually('both beats', async () => (await stub.counts()).heartbeats >= 2);
        await sleep(50); // for one too many
        const beats = (await stub.requests()).filter((r) => r.target.endsWith('/heartbeat'));
        assert.deepEqual(beats.map((r) => JSON.parse(r.body).status), ['online', 'busy']);
    }));

const badTokens = [
    ['none', () => undefined],
    ['garbage', () => 'abc.def.ghi'],
    ['another secret', (id) => agentToken(id, {}, { secret: 'x'.repeat(32) })],
    ['an expired one', (id) => agentToken(id, { iat: 1000, exp: 2000 })],
    ['one without exp', (id) => agentToken(id, { exp: undefined })],
    ['HS512', (id) => agentToken(id, {}, { alg: 'HS512' })],
    ['alg none', (id) => sign(agentClaims(id), { alg: 'none' })],
];

test('a heartbeat with a bad token is refused and never reaches the controller', async () => {
    const id = agentId(used++);
    for (const [name, make] of badTokens) {
        const options = { token: make(id), body: { status: 'online' } };
        const answer = await call(gateway.target, 'POST', `/agents/${id}/heartbeat`, options);
        assert.equal(answer.status, 401, name);
        assert.equal(answer.json.message, 'Unauthorized', name);
    }
    assert.equal((await stub.counts()).heartbeats, 0);
});

test('a heartbeat with another agent\'s or a user\'s token is refused', async () => {
    const id = agentId(used++);
    for (const token of [agentToken(agentId(used++)), adminToken()]) {
        const body = { status: 'online' };
        const answer = await call(gateway.target, 'POST', `/agents/${id}/heartbeat`, { token, body });
        assert.equal(answer.status, 403);
        assert.equal(answer.json.code, 'GATEWAY_AGENT_MISMATCH');
    }
});

test('a disconnect reaches the controller before it is answered', () =>
    using(newAgent(), async (agent) => {
        agent.token = (await agent.connect()).json.accessToken;
        const answer = await agent.disconnect('shutdown');
        assert.equal(answer.status, 201);
        assert.equal((await stub.counts()).disconnects, 1);
        const sent = (await stub.requests()).find((r) => r.target.endsWith('/disconnect'));
        assert.equal(sent.body, '{"reason":"shutdown"}');
    }));

test('connect, heartbeats and disconnect share one connection', () =>
    using(newAgent(), async (agent) => {
        agent.token = (await agent.connect()).json.accessToken;
        for (let i = 0; i < 3; i++) await agent.heartbeat();
        const { headers } = await agent.disconnect();
        assert.equal(agent.sockets.size, 1);
        assert.equal(headers['keep-alive'], 'timeout=75');
    }));

test('an agent lives through a day in miniature', () => using(newAgent(quick), async (agent) => {
    await agent.start();
    assert.equal(agent.state, 'connected');
    for (let i = 0; i < 5; i++) {
        const [status] = await within(2000, 'a heartbeat', once(agent, 'heartbeat'));
        assert.equal(status, 201);
    }
    await agent.shutdown();
    assert.equal((await stub.counts()).disconnects, 1);
}));

test('an agent whose token is no longer taken connects again by itself', () =>
    using(newAgent(quick), async (agent) => {
        await agent.start();
        agent.token = agentToken(agent.id, { iat: 1000, exp: 2000 });
        await within(2000, 'the new connect', once(agent, 'connected'));
        const [status] = await within(2000, 'a heartbeat', once(agent, 'heartbeat'));
        assert.equal(status, 201);
    }));

test('an agent that was deleted hears 404 on its first heartbeat and stops', async () => {
    const agent = newAgent(quick);
    await call(gateway.target, 'DELETE', `/agents/${agent.id}`, { token: adminToken() });
    agent.token = agentToken(agent.id);
    const answer = await using(agent, () => agent.heartbeat());
    assert.equal(answer.status, 404);
    assert.equal(answer.json.message, `Agent with ID ${agent.id} not found`);
});

test('known agents connect and are acknowledged during an outage of the controller', async () => {
    const agent = newAgent();
    await using(agent, () => agent.connect());
    await stub.set({ outage: 'refuse' });
    const again = restarted(agent);
    await using(again, async () => {
        const answer = await again.connect();
        assert.equal(answer.status, 201);
        again.token = answer.json.accessToken;
        assert.equal((await again.heartbeat()).status, 201);
    });
    await stub.set({ outage: 'off' });
});

test('unknown agents work locally during an outage and connect when it is over', () =>
    using(newAgent(quick), async (agent) => {
        await stub.set({ outage: 'refuse' });
        await agent.start();
        assert.equal(agent.state, 'local');
        await stub.set({ outage: 'off' });
        await within(5000, 'the connect', once(agent, 'connected'));
    }));

test('the new secret works at once after regenerate, the old one no more', async () => {
    const agent = newAgent();
    await using(agent, () => agent.connect());
    const path = `/agents/${agent.id}/credentials/regenerate`;
    const answer = await call(gateway.target, 'POST', path, { token: adminToken(), body: {} });
    assert.equal(answer.status, 201);
    const old = restarted(agent);
    assert.equal((await using(old, () => old.connect())).status, 401);
    const renewed = restarted(agent);
    renewed.secret = answer.json.secret;
    assert.equal((await using(renewed, () => renewed.connect())).status, 201);
});

test('an agent\'s own token may not regenerate credentials', async () => {
    const id = agentId(used++);
    const path = `/agents/${id}/credentials/regenerate`;
    const answer = await call(gateway.target, 'POST', path, { token: agentToken(id), body: {} });
    assert.equal(answer.status, 403);
    assert.equal(answer.json.code, 'GATEWAY_AGENT_TOKEN_DENIED');
    assert.equal((await stub.counts()).regenerates, 0);
});
