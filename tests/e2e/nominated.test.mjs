// Connection names what is for the next hop alone. It does not take from a message what controller or
// client read it by; and no other spelling brings in what only we may say.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { HIT, MISS, admin, assertConnects, path } from './support/connecting.mjs';
import { startGateway } from './support/gateway.mjs';
import { agentToken } from './support/jwt.mjs';
import { Stub, agentId, agentSecret } from './support/stub.mjs';
import { Upstream, answerBytes } from './support/upstream.mjs';
import { Wire, call, exchange, request } from './support/wire.mjs';

const SUITE = { timeout: 30000 };
const json = { 'Content-Type': 'application/json' };
const token = (n) => ({ Authorization: `Bearer ${agentToken(agentId(n))}` });

/** A request of each kind: [method, path, options, its status without an attack]. */
const ROUTES = {
    'a connect': ['POST', path(1), { headers: json, body: { secret: agentSecret(1) } }, 201],
    'a connect with a wrong secret': ['POST', path(1), { headers: json, body: { secret: 'wrong' } }, 401],
    'a heartbeat': ['POST', path(1, 'heartbeat'), { headers: { ...json, ...token(1) }, body: { status: 'online' } }, 201],
    'a disconnect': ['POST', path(1, 'disconnect'), { headers: { ...json, ...token(1) }, body: {} }, 201],
    'a regenerate': ['POST', path(9, 'credentials/regenerate'), {
        headers: { ...json, Authorization: `Bearer ${admin().token}` }, body: {},
    }, 201],
    'a forwarded call': ['GET', path(1, ''), { headers: token(1) }, 200],
    'a write': ['PUT', path(9, ''), {
        headers: { ...json, Authorization: `Bearer ${admin().token}` }, body: { name: 'nine' },
    }, 200],
    'what is refused anyway': ['POST', '/agents/nobody/connect', { headers: json, body: {} }, 400],
    'a path that nobody knows': ['GET', '/nowhere', {}, 404],
};

const NOMINATED = [
    'host', 'Authorization', 'COOKIE', 'content-type', 'Content-Encoding', 'content-length',
    'transfer-encoding', 'cache-control', 'x-correlation-id', 'X-Organization-Id', 'Forwarded',
    'x-forwarded-for', 'X-Forwarded-Proto', 'x-real-ip', 'x-original-url', 'accept', 'if-match', 'expect',
    'origin', 'via', 'content_type',
];

describe('a request whose Connection nominates what is meant for the controller', SUITE, () => {
    let stub;
    let gateway;
    before(async () => {
        stub = await Stub.start({ transcripts: false });
        gateway = await startGateway(stub, { config: { workers: 1 } });
    });
    after(async () => {
        await gateway?.stop();
        await stub?.stop();
    });

    const ask = ([method, target, { headers, body }], ...connections) => exchange(gateway.target, method, target, {
        headers: [...Object.entries(headers ?? {}), ...connections.map((value) => ['Connection', value])], body,
    });

    const asked = async () => (await stub.requests()).filter((e) => e.target !== '/health').length;

    async function assertRefused(route, ...connections) {
        const answer = await ask(route, ...connections);
        assert.equal(answer.status, 400, `${connections}: ${answer.text}`);
        assert.equal(answer.json.code, 'GATEWAY_BAD_CONNECTION', connections.join());
        assert.equal(answer.header('connection'), 'close');
    }

    for (const [name, route] of Object.entries(ROUTES))
        test(`${name}: 400, and the controller is not asked`, async () => {
            await stub.reset();
            for (const field of NOMINATED) await assertRefused(route, field);
            await assertRefused(route, 'keep-alive, content-type');
            await assertRefused(route, '\tX-Mine ,, CONTENT-TYPE\t, close');
            await assertRefused(route, 'keep-alive', 'x-mine', 'host');
            assert.equal(await asked(), 0);
        });

    for (const [name, route] of Object.entries(ROUTES))
        test(`the control, ${name}: what is the next hop's may be nominated`, async () => {
            for (const value of ['keep-alive', 'close', 'TE, Trailer', 'X-Mine, traceparent, keep-alive',
                'Upgrade, HTTP2-Settings', 'contents, hosts', ''])
                assert.equal((await ask(route, value)).status, route[3], value);
        });

    test('harms nobody else', async () => {
        await stub.reset();
        await assertConnects(gateway, 5, MISS);
        for (const [name, route] of Object.entries(ROUTES))
            for (let i = 0; i < 10; i++) await assertRefused(route, 'content-type', name.length % 2 ? 'host' : 'cookie');
        await assertConnects(gateway, 5, HIT);
        await assertConnects(gateway, 6, MISS);
        const beat = await call(gateway.target, 'POST', path(6, 'heartbeat'), {
            token: agentToken(agentId(6)), body: { status: 'online' },
        });
        assert.equal(beat.status, 201);
        assert.equal((await call(gateway.target, 'GET', path(6, ''), { token: agentToken(agentId(6)) })).status, 200);
        await eventually('the heartbeat', async () => (await stub.counts()).heartbeats_ok === 1);
    });

    test('in front of another request: the connection is closed, so that it is not read differently', async () => {
        await stub.reset();
        const wire = await Wire.open(gateway.target);
        wire.send(Buffer.concat([
            request('POST', path(1), { headers: { ...json, Connection: 'content-length' }, body: 'GET /smuggled HTTP/1.1\r\n\r\n' }),
            request('GET', path(1, ''), { headers: token(1) }),
        ]));
        assert.equal((await wire.answer()).status, 400);
        await wire.closed();
        wire.close();
        assert.equal(await asked(), 0);
    });
});

describe('a controller of raw bytes', SUITE, () => {
    let upstream;
    let gateway;
    let answer = answerBytes('{"fine":true}');
    before(async () => {
        upstream = await Upstream.start((socket) => socket.write(answer));
        gateway = await startGateway(upstream, { config: { workers: 1, breaker: { failures: 1000, failure_percent: 100 } } });
    });
    after(async () => {
        await gateway?.stop();
        await upstream?.stop();
    });

    const IMITATIONS = [
        'X_Forwarded_For', 'x-forwarded_for', 'X_Forwarded-Proto', 'x.forwarded.host', 'X_Real_IP', 'X-Real_IP',
        'True_Client_IP', 'cf_connecting_ip', 'X_Original_URL', 'X_Correlation_Id', 'X_Organization_Id',
        'Content_Type', 'If_Match', 'x~client~ip',
    ];

    for (const [name, method, target, options] of [
        ['a forwarded call', 'GET', '/x', {}],
        ['a connect', 'POST', path(1), { headers: json, body: { secret: agentSecret(1) } }],
    ])
        test(`hears nothing by a name that only looks like ours (${name})`, async () => {
            upstream.requests.length = 0;
            const { status } = await exchange(gateway.target, method, target, {
                ...options, headers: [
                    ...Object.entries(options.headers ?? {}), ...IMITATIONS.map((field) => [field, 'planted']),
                    ['my_field', 'own'], ['X_Mine', 'own'], ['content_hash', 'own'], ['X-Organization-Id', 'o1'],
                ],
            });
            assert.equal(status, 200);
            const [{ head }] = upstream.requests;
            assert.doesNotMatch(head, /planted/);
            for (const field of ['my_field', 'X_Mine', 'content_hash'])
                assert.match(head, new RegExp(`\r\n${field}: own\r\n`), 'a client\'s own names pass');
            assert.match(head, /\r\nX-Organization-Id: o1\r\n/);
            assert.match(head, /\r\nX-Forwarded-For: 127\.0\.0\.1\r\n/);
        });

    test('that nominates end-to-end fields of its answer takes none of them away', async () => {
        answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nETag: "1"\r\n' +
            'Content-Language: vi\r\nCache-Control: no-store\r\nX-Hop: 1\r\nContent-Length: 2\r\n' +
            'Connection: keep-alive, content-type, SET-COOKIE, etag, content-language\r\n' +
            'Connection: cache-control, content-length, x-hop\r\n\r\nhi');
        const got = await exchange(gateway.target, 'GET', '/x');
        assert.deepEqual([got.status, got.text], [200, 'hi']);
        for (const [name, value] of [['content-type', 'text/plain'], ['set-cookie', 'a=1'], ['etag', '"1"'],
            ['content-language', 'vi'], ['cache-control', 'no-store'], ['x-hop', undefined]])
            assert.equal(got.header(name), value, name);
    });
});
