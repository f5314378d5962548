// CORS: browsers' questions are answered here, and every answer says whose page may read it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { admin, connect, path as ofAgent, using } from './support/connecting.mjs';
import { Controller } from './support/controller.mjs';
import { agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const SUITE = { timeout: 30000, concurrency: 2 };
const UI = 'https://ui.example.com';
const EVIL = 'https://ui.example.com.evil.example';

const cors = (settings) => ({ forward: { cors: { origins: `http://localhost:3000, ${UI}`, ...settings } } });

const preflight = (gateway, target, origin, headers = {}) => call(gateway.target, 'OPTIONS', target, {
    headers: { Origin: origin, 'Access-Control-Request-Method': 'PUT', 'Access-Control-Request-Headers': 'authorization', ...headers },
});

/** The fields of an answer that are about CORS. */
const said = (answer) => answer.headers.map(([name, value]) => [name.toLowerCase(), value])
    .filter(([name]) => name.startsWith('access-control-') || name === 'vary');

/** A controller that speaks of CORS itself, as the real one's proxy does. */
const talkative = () => Controller.start(() => ({
    status: 200, body: '{}',
    headers: {
        'Access-Control-Allow-Origin': '*', 'access-control-allow-credentials': 'true',
        'Access-Control-Expose-Headers': 'X-Its-Own', Vary: 'Accept-Encoding',
    },
}));

describe('CORS', SUITE, () => {
    test('off, everything is the controller\'s business', async () => {
        await using({ stub: await talkative() }, async (gateway, controller) => {
            const asked = await preflight(gateway, '/agents', UI);
            assert.equal(asked.status, 200);
            assert.equal(controller.seen('/agents').length, 1, 'the controller is asked');
            assert.deepEqual(said(asked), [['access-control-allow-origin', '*'], ['access-control-allow-credentials', 'true'],
                ['access-control-expose-headers', 'X-Its-Own'], ['vary', 'Accept-Encoding']]);
        });
    });

    test('a preflight is answered without the controller, and without a token', async () => {
        await using({ config: cors({ max_age: '90s' }) }, async (gateway, stub) => {
            const before = (await stub.requests()).length;
            for (const target of ['/agents', ofAgent(1, ''), ofAgent(1, 'credentials/regenerate'), ofAgent(1, 'heartbeat'), '/nowhere']) {
                const answer = await preflight(gateway, target, UI);
                assert.equal(answer.status, 204);
                assert.equal(answer.header('content-length'), undefined);
                assert.ok(answer.header('x-correlation-id'));
                assert.deepEqual(said(answer), [
                    ['vary', 'Origin'], ['access-control-allow-origin', UI],
                    ['access-control-allow-methods', 'GET, HEAD, POST, PUT, PATCH, DELETE'],
                    ['access-control-allow-headers', 'Authorization, Content-Type, X-Correlation-Id, X-Organization-Id'],
                    ['access-control-max-age', '90'],
                ], target);
            }
            const refused = await preflight(gateway, '/agents', EVIL);
            assert.equal(refused.status, 204);
            assert.deepEqual(said(refused), [['vary', 'Origin']], 'which a browser takes for a no');
            assert.equal((await stub.requests()).slice(before).filter((r) => r.method === 'OPTIONS').length, 0);
        });
    });

    test('an OPTIONS that is no preflight is the controller\'s', async () => {
        await using({ config: cors() }, async (gateway) => {
            const answer = await call(gateway.target, 'OPTIONS', '/agents', {});
            assert.equal(answer.status, 404);
        });
    });

    test('what the controller says of CORS is replaced, not doubled', async () => {
        await using({ stub: await talkative(), config: cors() }, async (gateway) => {
            const get = (headers) => call(gateway.target, 'GET', '/agents', { headers });
            assert.deepEqual(said(await get({ Origin: UI })), [
                ['vary', 'Accept-Encoding'], ['vary', 'Origin'], ['access-control-allow-origin', UI],
                ['access-control-expose-headers', 'X-Correlation-Id, Retry-After'],
            ]);
            for (const headers of [{ Origin: EVIL }, { Origin: 'null' }, {}])
                assert.deepEqual(said(await get(headers)), [['vary', 'Accept-Encoding'], ['vary', 'Origin']]);
        });
    });

    test('refusals and answers from the cache can be read, too', async () => {
        await using({ config: cors({ credentials: true }) }, async (gateway) => {
            const headers = { Origin: 'http://localhost:3000' };
            const wanted = [['vary', 'Origin'], ['access-control-allow-origin', 'http://localhost:3000'],
                ['access-control-allow-credentials', 'true'], ['access-control-expose-headers', 'X-Correlation-Id, Retry-After']];
            const answers = [
                await connect(gateway, 1, { headers }), await connect(gateway, 1, { headers }),
                await call(gateway.target, 'POST', ofAgent(1, 'heartbeat'), { headers, body: { status: 'online' } }),
                await call(gateway.target, 'POST', ofAgent(1, 'heartbeat'), { headers, token: agentToken(agentId(1)), body: { status: 'online' } }),
                await call(gateway.target, 'POST', ofAgent(1, 'disconnect'), { headers, token: agentToken(agentId(1)), body: {} }),
                await call(gateway.target, 'POST', ofAgent(1), { headers, body: 'x'.repeat(102401) }),
                await call(gateway.target, 'GET', '/nowhere', { headers, ...admin() }),
                await call(gateway.target, 'HEAD', '/nowhere', { headers }),
            ];
            assert.deepEqual(answers.map((a) => a.status), [201, 201, 401, 201, 201, 413, 404, 404]);
            for (const [i, answer] of answers.entries()) assert.deepEqual(said(answer), wanted, `answer ${i}`);
        });
    });

    test('agents, which have no origin, hear nothing of it', async () => {
        await using({ config: cors() }, async (gateway) => {
            assert.deepEqual(said(await connect(gateway, 1)), []);
        });
    });

    test('a browser\'s own fetch is let through, and stopped where it must be', async () => {
        await using({ config: { ...cors({ origins: '*' }), tls: { enabled: false } } }, async (gateway) => {
            const asked = await preflight(gateway, '/agents', 'https://any.example');
            assert.deepEqual(said(asked)[0], ['access-control-allow-origin', '*']);
            const answer = await fetch(`http://127.0.0.1:${gateway.port}/nowhere`, { headers: { Origin: 'https://any.example' } });
            assert.equal(answer.headers.get('access-control-allow-origin'), '*');
            assert.equal(answer.headers.get('vary'), null);
        });
    });

    test('a reload changes who may; requests in flight keep theirs', async () => {
        let answerIt;
        const controller = await Controller.start(() => new Promise((resolve) => {
            answerIt = () => resolve({ body: '{}' });
        }));
        await using({ stub: controller, config: cors() }, async (gateway) => {
            const slow = call(gateway.target, 'GET', '/slow', { headers: { Origin: UI } });
            await eventually('it is asked', () => controller.seen('/slow').length === 1);
            gateway.writeConfig({ ...gateway.config, ...cors({ origins: 'https://other.example' }) });
            gateway.child.signal('SIGHUP');
            await gateway.logged('reloaded');
            assert.deepEqual(said(await preflight(gateway, '/agents', UI)), [['vary', 'Origin']]);
            assert.equal((await preflight(gateway, '/agents', 'https://other.example')).header('access-control-allow-origin'), 'https://other.example');
            answerIt();
            assert.equal((await slow).header('access-control-allow-origin'), UI);
        });
    });
});
