// Whose request it is: the peer's, or whom a trusted proxy names, in X-Forwarded-For or in a PROXY
// protocol header. The controller hears of it in X-Forwarded-For.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { openBehind, proxyHeader } from './support/proxy.mjs';
import { Stub } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Wire, call, request } from './support/wire.mjs';

const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);
let stub;
before(async () => (stub = await Stub.start({ transcripts: false })));
after(() => stub?.stop());

async function using(listen, body, more = {}) {
    const gateway = await startGateway(stub, { ...more, config: { workers: 1, listen, ...more.config } });
    try {
        await body(gateway);
        await gateway.stop();
    } finally {
        await gateway.child.kill();
    }
}

const echo = request('GET', '/__stub/echo');

/** What the controller was told about the client. */
function told(answer, name = 'X-Forwarded-For') {
    assert.equal(answer.status, 200, answer.text);
    const values = answer.json.headers.filter(([n]) => n.toLowerCase() === name.toLowerCase());
    assert.equal(values.length, 1);
    return values[0][1];
}

async function asked(wire) {
    try {
        wire.send(echo);
        return told(await wire.answer());
    } finally {
        wire.close();
    }
}

const forwardedFor = (gateway, value, more = {}) =>
    call(gateway.target, 'GET', '/__stub/echo', { headers: { 'X-Forwarded-For': value, ...more } });

describe('X-Forwarded-For', () => {
    test('of a trusted proxy names the client', () =>
        using({ trusted_proxies: '127.0.0.0/8, 10.0.0.0/8' }, async (gateway) => {
            const cases = [['203.0.113.7', '203.0.113.7'], ['6.6.6.6, 203.0.113.7, 10.1.2.3', '203.0.113.7'],
                ['2001:db8::9', '2001:db8::9'], ['nonsense', '127.0.0.1']];
            for (const [list, client] of cases)
                assert.equal(told(await forwardedFor(gateway, list)), client, list);
        }));

    test('of anybody else is not believed', () =>
        using({ trusted_proxies: '10.0.0.0/8' }, async (gateway) => {
            const answer = await forwardedFor(gateway, '203.0.113.7', { 'X-Forwarded-Proto': 'http' });
            assert.equal(told(answer), '127.0.0.1');
            assert.equal(told(answer, 'X-Forwarded-Proto'), 'https');
        }));

    test('comes with the protocol that the trusted proxy was spoken to in', () =>
        using({ trusted_proxies: '127.0.0.1' }, async (gateway) => {
            const proto = async (value) =>
                told(await forwardedFor(gateway, '203.0.113.7', { 'X-Forwarded-Proto': value }),
                    'X-Forwarded-Proto');
            assert.equal(await proto('http'), 'http');
            assert.equal(await proto('https'), 'https');
            assert.equal(await proto('gopher'), 'https', 'as we see it');
        }));
});

describe('the PROXY protocol', () => {
    for (const secure of [true, false]) {
        test(`names the client of a connection (${secure ? 'TLS' : 'plain'})`, () =>
            using({ proxy_protocol: 'v2' }, async ({ target }) => {
                for (const source of ['203.0.113.7', '2001:db8::9'])
                    assert.equal(await asked(await openBehind(target, proxyHeader(source))), source);
                assert.equal(await asked(await openBehind(target, proxyHeader())), '127.0.0.1',
                    'LOCAL is the proxy itself');
            }, { config: { tls: { enabled: secure } } }));
    }

    test('may come in pieces, and together with what follows', () =>
        using({ proxy_protocol: 'v2' }, async ({ target }) => {
            const header = proxyHeader('203.0.113.7', { extensions: Buffer.from('0200036777310400020102', 'hex') });
            const bytes = [...header].map((byte) => Buffer.of(byte));
            assert.equal(await asked(await openBehind(target, ...bytes)), '203.0.113.7');
            const wire = await openBehind(target, Buffer.concat([header, echo]));
            assert.equal(told(await wire.answer()), '203.0.113.7');
            wire.close();
        }, { config: { tls: { enabled: false } } }));

    test('and X-Forwarded-For: the header names a proxy, which names the client', () =>
        using({ proxy_protocol: 'v2', trusted_proxies: '127.0.0.1, 10.0.0.0/8' }, async ({ target }) => {
            const through = async (source) => {
                const wire = await openBehind(target, proxyHeader(source));
                wire.send(request('GET', '/__stub/echo', { headers: { 'X-Forwarded-For': '203.0.113.7' } }));
                const answer = await wire.answer();
                wire.close();
                return told(answer);
            };
            assert.equal(await through('10.9.9.9'), '203.0.113.7');
            assert.equal(await through('198.51.100.1'), '198.51.100.1', 'nobody we trust');
        }));

    test('a bad header, or none, closes the connection', () =>
        using({ proxy_protocol: 'v2' }, async (gateway) => {
            const fine = proxyHeader('203.0.113.7');
            const version1 = Buffer.from('PROXY TCP4 203.0.113.7 10.0.0.1 4711 8443\r\n');
            const udp = Buffer.from(fine);
            udp[13] = 0x12;
            const cut = proxyHeader('203.0.113.7', { extensions: Buffer.from('0400ff', 'hex') });
            for (const bytes of [echo, version1, udp, cut]) {
                const wire = await openBehind({ ...gateway.target, tls: false }, bytes);
                await wire.closed();
                assert.equal(wire.received.length, 0);
                wire.close();
            }
            const closing = await openBehind({ ...gateway.target, tls: false }, fine.subarray(0, 20));
            closing.end();
            await closing.closed();
            const refused = () => gateway.metric('connections_refused_total', 'reason="proxy_header"');
            await eventually('they are counted', async () => (await refused()) === 5);
            await eventually('none stays', async () => (await gateway.metric('connections')) === 0);
        }));

    test('is taken from trusted proxies only', () =>
        using({ proxy_protocol: 'v2', trusted_proxies: '127.0.0.2' }, async (gateway) => {
            const { target } = gateway;
            const trusted = { ...target, localAddress: '127.0.0.2' };
            assert.equal(await asked(await openBehind(trusted, proxyHeader('203.0.113.7'))), '203.0.113.7');
            const socket = net.connect(target.port, '127.0.0.1');
            socket.on('error', () => {});
            await new Promise((resolve) => socket.on('close', resolve));
            assert.equal(await gateway.metric('connections_refused_total', 'reason="untrusted_peer"'), 1);
        }));

    test('has five seconds', { skip: sanitized && 'no preloading here' }, () =>
        using({ proxy_protocol: 'v2' }, async (gateway) => {
            const wire = await Wire.open({ ...gateway.target, tls: false });
            wire.send(proxyHeader('203.0.113.7').subarray(0, 27));
            const began = performance.now();
            await wire.closed();
            const seconds = ((performance.now() - began) / 1000) * 20;
            assert.ok(seconds > 4 && seconds < 17, `${seconds} s`);
            wire.close();
        }, { env: timelapse(20) }));
});
