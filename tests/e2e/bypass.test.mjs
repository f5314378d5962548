// Ways around what the gateway knows: each was one once, or nearly.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Controller, errorBody } from './support/controller.mjs';
import { startGateway } from './support/gateway.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { Stub, agentId, agentSecret } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const SUITE = { timeout: 30000, concurrency: 4 };

async function using(stub, config, body) {
    let gateway;
    try {
        gateway = await startGateway(stub, { config: { workers: 1, ...config } });
        await body(gateway);
        await gateway.stop();
    } finally {
        if (gateway && !gateway.child.ended) await gateway.child.kill();
        await stub.stop();
    }
}

const path = (n, action) => `/agents/${agentId(n)}/${action}`;
const connect = (gateway, n) => call(gateway.target, 'POST', path(n, 'connect'), { body: { secret: agentSecret(n) } });
const status = (answer) => answer.header('cache-status');

describe('a write that nobody we know asked for', SUITE, () => {
    const answers = ({ path: asked }) => (asked.endsWith('connect')
        ? { status: 201, body: JSON.stringify({ accessToken: agentToken(agentId(1)) }) }
        : { status: 500, body: errorBody(500, 'Internal server error') });

    for (const [method, target] of [['DELETE', `/agents/${agentId(1)}`], ['PUT', `/agents/${agentId(1)}`],
        ['PUT', '/models/x'], ['POST', '/configurations']]) {
        test(`${method} ${target}: a 500 to a stranger forgets nothing, to an admin it does`, async () => {
            await using(await Controller.start(answers), {}, async (gateway) => {
                await connect(gateway, 1);
                assert.match(status(await connect(gateway, 1)), /hit/);
                await call(gateway.target, method, target, { body: { pad: 'x'.repeat(1000) } });
                await call(gateway.target, method, target, { token: 'a.b.c', body: {} });
                assert.match(status(await connect(gateway, 1)), /hit/);
                if (target === '/models/x') return; // of managed agents only
                await call(gateway.target, method, target, { token: adminToken(), body: {} });
                assert.match(status(await connect(gateway, 1)), /fwd=(miss|stale)/);
            });
        });
    }
});

describe('a token spelled so that only the controller would find it', SUITE, () => {
    const spellings = [
        ['a tab', (t) => `Bearer\t${t}`],
        ['something behind it', (t) => `Bearer ${t} x`],
        ['a no-break space', (t) => `Bearer \xa0${t}`],
        ['a no-break space behind it', (t) => `Bearer ${t}\xa0`],
        ['something in front', (t) => `\xa0Bearer ${t}`],
        ['a comma', (t) => `Bearer ${t},`],
    ];

    test('neither regenerates credentials nor passes anywhere', async () => {
        const stub = await Stub.start({ transcripts: false });
        await using(stub, {}, async (gateway) => {
            const token = agentToken(agentId(1));
            for (const [name, spell] of spellings) {
                const headers = { Authorization: spell(token) };
                const regenerated = await call(gateway.target, 'POST', path(2, 'credentials/regenerate'), { headers, body: {} });
                assert.equal(regenerated.status, 401, name);
                assert.equal((await call(gateway.target, 'GET', `/agents/${agentId(2)}`, { headers })).status, 401, name);
            }
            assert.equal((await stub.counts()).regenerates, 0);
            // Plain spellings pass, whatever their case and number of spaces.
            for (const spell of [(t) => `bearer ${t}`, (t) => `BEARER   ${t}`]) {
                const answer = await call(gateway.target, 'GET', `/agents/${agentId(1)}`, { headers: { Authorization: spell(token) } });
                assert.equal(answer.status, 200);
            }
            const basic = await call(gateway.target, 'GET', `/agents/${agentId(1)}`, { headers: { Authorization: 'Basic eDp5' } });
            assert.equal(basic.header('x-powered-by'), 'Express', 'other schemes are the controller\'s business');
        });
    });
});
