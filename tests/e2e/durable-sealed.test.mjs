// What stands in Redis in the clear beside a sealed heartbeat decides nothing about what is delivered,
// or noted as delivered; and records are read as earlier versions wrote them.
import assert from 'node:assert/strict';
import { createCipheriv, createHmac, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { Beating, KEYS, patient } from './support/beating.mjs';
import { eventually, sleep } from './support/child.mjs';
import { agentToken, serviceToken } from './support/jwt.mjs';
import { JWT_SECRET, agentId } from './support/stub.mjs';

const SUITE = { timeout: 40000, concurrency: 3 };
const record = (n) => `${KEYS}beat:${agentId(n)}`;

/** What is known of agent n: one of its fields. */
const field = (fleet, n, name) => fleet.redis.call('EVAL',
    `return cmsgpack.unpack(redis.call('GET', KEYS[1]))[ARGV[1]]`, 1, record(n), name);

/** Somebody who can write to Redis changes what is known of agent n: Lua, on `agent`. */
const tamper = (fleet, n, lua) => fleet.redis.call('EVAL', `
    local agent = cmsgpack.unpack(redis.call('GET', KEYS[1]))
    ${lua}
    redis.call('SET', KEYS[1], cmsgpack.pack(agent), 'EX', 90000)`, 1, record(n));

/** Somebody makes what is held for these agents due, in one step. */
const makeDue = (fleet, ...agents) => fleet.redis.call('ZADD', `${KEYS}beats:due`,
    ...agents.flatMap((n) => ['1', agentId(n)]));

/** Both ways to the controller; `arrived` is what came of agent n, in order: ['online 1', ...]. */
const WAYS = {
    'one by one': { options: {}, arrived: (fleet, n) => fleet.arrived(n) },
    'in bulk': {
        options: { bulk: true, env: { AIWM_GATEWAY_UPSTREAM_SERVICE_TOKEN: serviceToken() } },
        arrived: async (fleet, n) => [...await fleet.arrived(n), ...(await fleet.stub.requests())
            .filter((e) => e.route === 'bulk' && e.body?.includes(agentId(n)))
            .map(({ body }) => JSON.parse(body)).map((beat) => `${beat.status} ${beat.metrics.mark}`)],
    },
};

/** Agents 1, 2 and 3 have said `online 1`, which was delivered, and `online 2`, which is held. */
async function holding({ options }, body) {
    await Beating.using({ replicas: 1, workers: 1, ...options, heartbeat: { ...patient, bulk_linger: '50ms' } }, async (fleet) => {
        const [a] = fleet.gateways;
        if (options.bulk) await a.logged('heartbeats go in bulk');
        for (const n of [1, 2, 3]) await fleet.durable(a, n, 'online', 1);
        await eventually('the first ones', async () => (await fleet.stub.counts()).heartbeats_ok === 3);
        await eventually('they are settled', async () => (await fleet.heldShared()) === 0);
        for (const n of [1, 2, 3]) await fleet.durable(a, n, 'online', 2);
        assert.equal(await fleet.heldShared(), 3);
        await body(fleet, a);
        await fleet.assertNoneLost();
    });
}

for (const [way, { options, arrived }] of Object.entries(WAYS))
    describe(`a stored heartbeat, delivered ${way}`, SUITE, () => {
        const CHANGES = {
            'nothing': '', // the control
            'its status': `agent.status = 'busy'`,
            'its status, to none that there is': `agent.status = 'away'`,
            'its status, which is gone': 'agent.status = nil',
            'its status, to something else': 'agent.status = {1, 2}',
        };
        for (const [what, lua] of Object.entries(CHANGES))
            test(`whose record was changed (${what}): the sealed status arrives and is noted`, () =>
                holding({ options }, async (fleet, a) => {
                    await tamper(fleet, 2, lua);
                    await makeDue(fleet, 1, 2, 3);
                    for (const n of [1, 2, 3])
                        await eventually(`the second of ${n}`, async () => (await arrived(fleet, n)).length === 2);
                    await eventually('they are settled', async () => (await fleet.heldShared()) === 0);
                    for (const n of [1, 2, 3]) {
                        assert.deepEqual(await arrived(fleet, n), ['online 1', 'online 2']);
                        assert.equal(await field(fleet, n, 'sent_status'), 'online');
                        await fleet.durable(a, n, 'online', 3);
                    }
                    await sleep(300);
                    assert.equal(await fleet.heldShared(), 3, 'online is no change');
                    await fleet.durable(a, 2, 'busy', 4);
                    await eventually('a change', async () => (await arrived(fleet, 2)).at(-1) === 'busy 4');
                }));
    });

// ---- records of earlier versions ----

const hmac = (key, ...parts) => {
    const mac = createHmac('sha256', key);
    for (const part of parts) mac.update(part);
    return mac.digest();
};

/** As 0.1.0 seals it: AES-256-GCM of a token and a body, under a key of the day. */
function sealed(id, stamp, token, body) {
    const key = hmac(hmac('aiwm-gateway connect cache', JWT_SECRET), 'grant key 1', '\x01');
    const today = hmac(key, 'aiwm-gateway heartbeats of day 1:', String(Math.floor(stamp / 86400e6)));
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', today, nonce);
    cipher.setAAD(Buffer.concat([Buffer.from(id, 'hex'), Buffer.from(String(stamp))]));
    const length = Buffer.from([token.length >> 8, token.length & 255]);
    const text = Buffer.concat([length, Buffer.from(token), Buffer.from(body)]);
    return Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]);
}

/** As 0.1.0 stores it. */
function store(fleet, n, { stamp, status, seal }) {
    return fleet.redis.call('EVAL', `
        local ms = math.floor(tonumber(ARGV[2]) / 1000)
        local sealed = string.gsub(ARGV[4], '..', function(hex) return string.char(tonumber(hex, 16)) end)
        local agent = {stamp = tonumber(ARGV[2]), status = ARGV[3], sealed = sealed, since = ms, heard = ms}
        redis.call('SET', KEYS[1], cmsgpack.pack(agent), 'EX', 90000)
        redis.call('ZADD', KEYS[2], ms, ARGV[1])`,
    2, record(n), `${KEYS}beats:due`, agentId(n), stamp, status, seal.toString('hex'));
}

test('a record as 0.1.0 writes it is delivered', { timeout: 20000 }, () =>
    Beating.using({ replicas: 1, heartbeat: patient }, async (fleet) => {
        const stamp = (Date.now() - 1000) * 1000;
        const bodies = {
            1: '{"status":"busy","metrics":{"mark":1}}',
            2: '{ "metrics": {"mark": 2}, "status": "\\u0069dle" }',
        };
        for (const [n, status] of [[1, 'busy'], [2, 'idle']])
            await store(fleet, n, {
                stamp, status, seal: sealed(agentId(n), stamp, agentToken(agentId(n)), bodies[n]),
            });
        await eventually('both', async () => (await fleet.stub.counts()).heartbeats_ok === 2);
        const entries = (await fleet.stub.requests()).filter((e) => e.target?.endsWith('/heartbeat'));
        assert.deepEqual(entries.map(({ body }) => body).sort(), Object.values(bodies).sort());
        await eventually('they are settled', async () => (await fleet.heldShared()) === 0);
        assert.equal(await field(fleet, 1, 'sent_status'), 'busy');
        assert.equal(await field(fleet, 2, 'sent_status'), 'idle');
    }));
