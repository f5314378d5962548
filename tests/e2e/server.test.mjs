// The data port against strangers: raw bytes, over TLS and plain. What may be read in two ways is
// refused and the connection closed; what is legal works, however oddly it is spelled or cut.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { after, before, beforeEach, describe, test } from 'node:test';
import { eventually, slack, sleep } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { Stub, agentId } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Wire, request } from './support/wire.mjs';

const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);

let stub;
let secure;
let plain;
before(async () => {
    stub = await Stub.start();
    secure = await startGateway(stub, { config: { forward: { max_body: '200KiB' } } });
    plain = await startGateway(stub, {
        config: { tls: { enabled: false }, forward: { max_body: '200KiB' } },
    });
});
beforeEach(() => stub.reset());
after(async () => {
    await secure?.stop();
    await plain?.stop();
    await stub?.stop();
});

async function using(target, body) {
    const wire = await Wire.open(target);
    try {
        return await body(wire);
    } finally {
        wire.close();
    }
}

/** Over TLS and plain. */
function bothWays(name, body, options = {}) {
    test(`${name} (TLS)`, options, () => body(secure));
    test(`${name} (plain)`, options, () => body(plain));
}

const H = 'Host: localhost\r\n';
const post = (fields, body = '') => `POST /__stub/echo HTTP/1.1\r\n${H}${fields}\r\n${body}`;
const get = (target, fields = '') => `GET ${target} HTTP/1.1\r\n${H}${fields}\r\n`;
const chunked = (body) => post('Transfer-Encoding: chunked\r\n', body);
const SMUGGLED = get('/smuggled');

// ---- refused ----

const refused = [
    // Where does the body end?
    ['two differing Content-Length', post('Content-Length: 5\r\nContent-Length: 6\r\n', 'hello'), 400],
    ['two equal Content-Length', post('Content-Length: 5\r\nContent-Length: 5\r\n', 'hello'), 400],
    ['a list of Content-Length', post('Content-Length: 5, 5\r\n', 'hello'), 400],
    ['Content-Length +5', post('Content-Length: +5\r\n', 'hello'), 400],
    ['Content-Length -0', post('Content-Length: -0\r\n'), 400],
    ['Content-Length 0x5', post('Content-Length: 0x5\r\n', 'hello'), 400],
    ['Content-Length 5 5', post('Content-Length: 5 5\r\n', 'hello'), 400],
    ['an empty Content-Length', post('Content-Length:\r\n'), 400],
    ['Content-Length over 64 bits', post('Content-Length: 18446744073709551621\r\n', 'hello'), 400],
    ['Content-Length : 5', post('Content-Length : 5\r\n', SMUGGLED), 400],
    ['Content_Length', post('Content_Length: 5\r\n', 'hello'), 400],
    ['Transfer_Encoding', post('Transfer_Encoding: chunked\r\n', '0\r\n\r\n'), 400],
    ['Content-Length and Transfer-Encoding',
        post('Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${SMUGGLED}`), 400],
    ['Transfer-Encoding and Content-Length',
        post('Transfer-Encoding: chunked\r\nContent-Length: 4\r\n', `0\r\n\r\n${SMUGGLED}`), 400],
    ['Transfer-Encoding: identity', post('Transfer-Encoding: identity\r\n', SMUGGLED), 400],
    ['Transfer-Encoding: gzip', post('Transfer-Encoding: gzip\r\n', SMUGGLED), 400],
    ['Transfer-Encoding: xchunked', post('Transfer-Encoding: xchunked\r\n', SMUGGLED), 400],
    ['Transfer-Encoding: chunked, identity', post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n'), [400, 501]],
    ['Transfer-Encoding: chunked twice', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'), 400],
    ['Transfer-Encoding in a folded line', post('Transfer-Encoding:\r\n chunked\r\n', '0\r\n\r\n'), 400],
    ['Transfer-Encoding in HTTP/1.0',
        `POST /__stub/echo HTTP/1.0\r\n${H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['a vertical tab before chunked', post('Transfer-Encoding: \x0bchunked\r\n', '0\r\n\r\n'), 400],
    // Chunks.
    ['chunk size 0x5', chunked('0x5\r\nhello\r\n0\r\n\r\n'), 400],
    ['chunk size +5', chunked('+5\r\nhello\r\n0\r\n\r\n'), 400],
    ['chunk size with a blank before', chunked(' 5\r\nhello\r\n0\r\n\r\n'), 400],
    ['chunk size with a blank behind', chunked('5 \r\nhello\r\n0\r\n\r\n'), 400],
    ['no chunk size', chunked('\r\nhello\r\n0\r\n\r\n'), 400],
    ['chunk size that overflows', chunked('10000000000000005\r\nhello\r\n0\r\n\r\n'), 400],
    ['no CRLF after a chunk', chunked('5\r\nhello0\r\n\r\n'), 400],
    ['too much data for the chunk', chunked('5\r\nhello!\r\n0\r\n\r\n'), 400],
    ['LF after the size', chunked('5\nhello\r\n0\r\n\r\n'), 400],
    ['LF after the data', chunked('5\r\nhello\n0\r\n\r\n'), 400],
    ['bare CR in an extension', chunked('5;a\rb\r\nhello\r\n0\r\n\r\n'), 400],
    ['an endless extension', chunked(`5;${'a'.repeat(300)}\r\nhello\r\n0\r\n\r\n`), 400],
    ['a trailer without a colon', chunked('0\r\nnonsense\r\n\r\n'), 400],
    ['endless trailers', chunked(`0\r\n${'A: b\r\n'.repeat(1000)}\r\n`), 400],
    // Lines and fields.
    ['bare LF', `GET /x HTTP/1.1\nHost: localhost\n\n`, 400],
    ['bare LF after a field', `GET /x HTTP/1.1\r\nHost: localhost\n\r\n`, 400],
    ['bare LF before it is complete', 'GET /x HTTP/1.1\nHo', 400],
    ['bare CR', `GET /x HTTP/1.1\r\nA: b\rc\r\n${H}\r\n`, 400],
    ['obs-fold', get('/x', 'A: b\r\n c\r\n'), 400],
    ['NUL in a value', get('/x', 'A: b\0c\r\n'), 400],
    ['NUL at the start of a line', get('/x', '\0A: b\r\n'), 400],
    ['DEL in a value', get('/x', 'A: b\x7f\r\n'), 400],
    ['an empty name', get('/x', ': b\r\n'), 400],
    ['a blank in a name', get('/x', 'A b: c\r\n'), 400],
    ['a blank before a name', `GET /x HTTP/1.1\r\n A: b\r\n${H}\r\n`, 400],
    ['a name outside ASCII', Buffer.from(get('/x', '\xc3\xa4: b\r\n'), 'latin1'), 400],
    ['a field without a colon', get('/x', 'nonsense\r\n'), 400],
    ['two leading CRLFs', `\r\n\r\n${get('/x')}`, 400],
    // Host.
    ['no Host', 'GET /x HTTP/1.1\r\n\r\n', 400],
    ['two Hosts', `GET /x HTTP/1.1\r\n${H}${H}\r\n`, 400],
    ['an empty Host', 'GET /x HTTP/1.1\r\nHost:\r\n\r\n', 400],
    ['a Host with a path', 'GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n', 400],
    ['a Host with user info', 'GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n', 400],
    ['absolute-form with user info', `GET http://a@b/ HTTP/1.1\r\n${H}\r\n`, 400],
    // The request line.
    ['a blank in the target', get('/a b'), 400],
    ['a control character in the target', get('/a\x01b'), 400],
    ['a tab between method and target', `GET\t/x HTTP/1.1\r\n${H}\r\n`, 400],
    ['two blanks after the method', `GET  /x HTTP/1.1\r\n${H}\r\n`, 400],
    ['a fragment', get('/a#b'), 400],
    ['a target outside ASCII', Buffer.from(get('/\xc3\xa4'), 'latin1'), 400],
    ['a target without a slash', get('x'), 400],
    ['GET *', get('*'), 400],
    ['dot segments', get('/a/../admin'), 400],
    ['escaped dot segments', get('/a/%2e%2e/admin'), 400],
    ['HTTP/0.9 in short', 'GET /x\r\n\r\n', 400],
    ['HTTP/0.9', `GET /x HTTP/0.9\r\n${H}\r\n`, [400, 505]],
    ['HTTP/1.2', `GET /x HTTP/1.2\r\n${H}\r\n`, 505],
    ['HTTP/2.0', `GET /x HTTP/2.0\r\n${H}\r\n`, 505],
    ['HTTP/2 with its preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505],
    ['HTTP/-1.1', `GET /x HTTP/-1.1\r\n${H}\r\n`, 400],
    ['HTTP/1.10', `GET /x HTTP/1.10\r\n${H}\r\n`, 400],
    ['http/1.1 in lower case', `GET /x http/1.1\r\n${H}\r\n`, 400],
    ['TRACE', `TRACE /x HTTP/1.1\r\n${H}\r\n`, 501],
    ['CONNECT', `CONNECT localhost:443 HTTP/1.1\r\n${H}\r\n`, [400, 501]],
    ['a method that is no token', `G@T /x HTTP/1.1\r\n${H}\r\n`, 400],
    ['a TLS hello where none belongs', Buffer.from('160301020001000001fc0303', 'hex'), 400],
    // Meaning.
    ['another expectation', post('Expect: 200-ok\r\nContent-Length: 0\r\n'), 417],
    ['two Authorizations', get('/x', 'Authorization: Bearer a\r\nAuthorization: Bearer b\r\n'), 400],
    // Limits.
    ['a head over 16 KiB', get('/x', `A: ${'b'.repeat(16384)}\r\n`), 431],
    ['an endless head', `GET /x HTTP/1.1\r\nA: ${'b'.repeat(40000)}`, 431],
    ['101 fields', get('/x', 'A: b\r\n'.repeat(100)), 431],
    ['a target over 8 KiB', get(`/${'a'.repeat(8192)}`), 414],
    ['an endless target', `GET /${'a'.repeat(20000)}`, 414],
    ['a body over forward.max_body', post(`Content-Length: ${200 * 1024 + 1}\r\n`), 413],
    ['a length nobody has room for', post('Content-Length: 99999999999999999\r\n'), 413],
    ['chunks over forward.max_body', chunked(`${(200 * 1024 + 1).toString(16)}\r\n${'a'.repeat(200 * 1024 + 1)}\r\n0\r\n\r\n`), 413],
    ['many chunks over forward.max_body', chunked(`1000\r\n${'a'.repeat(4096)}\r\n`.repeat(51)), 413],
    ...['connect', 'heartbeat', 'disconnect'].map((action) => [
        `an agent's ${action} over 102,400 bytes`,
        `POST /agents/${agentId(1)}/${action} HTTP/1.1\r\n${H}Content-Length: 102401\r\n\r\n`, 413]),
    [`an agent's connect in chunks over 102,400 bytes`,
        `POST /agents/${agentId(1)}/connect HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n` +
        `19001\r\n${'a'.repeat(0x19001)}\r\n0\r\n\r\n`, 413],
];

async function expectRefusal(gateway, [name, bytes, statuses]) {
    await using(gateway.target, async (wire) => {
        wire.send(bytes);
        wire.send(SMUGGLED); // what stands behind a refused message is nobody's
        const answer = await wire.answer({ ms: 2000 });
        assert.ok([statuses].flat().includes(answer.status), `${name}: ${answer.status}`);
        assert.equal(answer.header('connection'), 'close', name);
        assert.equal(answer.json.statusCode, answer.status, name);
        assert.match(answer.json.code, /^GATEWAY_/, name);
        assert.equal(answer.json.correlationId, answer.header('x-correlation-id'), name);
        assert.equal(await wire.closed({ ms: 2000 }), 'ended', name);
        assert.equal(wire.received.length, 0, `${name}: more than one answer`);
    });
}

const nothingSmuggled = async () => {
    const targets = (await stub.requests()).map((r) => r.target);
    assert.deepEqual(targets.filter((t) => t !== '/health'), []);
};

bothWays('what may be read in two ways is refused and the connection closed', async (gateway) => {
    const failures = [];
    for (let at = 0; at < refused.length; at += 8) {
        const some = refused.slice(at, at + 8);
        const checks = some.map((row) => expectRefusal(gateway, row).catch((error) =>
            failures.push(`${row[0]}: ${error.message}`)));
        await Promise.all(checks);
    }
    assert.deepEqual(failures, []);
    await nothingSmuggled();
    assert.ok((await gateway.metric('requests_malformed_total')) >= refused.length);
});

// ---- legal ----

const legal = [
    ['chunk extensions', chunked('5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n'), 'hello'],
    ['a blank before an extension', chunked('5 ;a=b\r\nhello\r\n0\r\n\r\n'), 'hello'],
    ['trailers', chunked('5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n'), 'hello'],
    ['upper-case and padded sizes', chunked('00A\r\n0123456789\r\n0\r\n\r\n'), '0123456789'],
    ['Transfer-Encoding: Chunked', post('Transfer-Encoding: Chunked\r\n', '2\r\nhi\r\n0\r\n\r\n'), 'hi'],
    ['a leading CRLF', `\r\n${post('Content-Length: 2\r\n', 'hi')}`, 'hi'],
    ['absolute-form', `POST http://example.org/__stub/echo HTTP/1.1\r\n${H}Content-Length: 2\r\n\r\nhi`, 'hi'],
    ['no blank and many blanks before a value', post('Content-Length:2\r\nA: \t b \t\r\nC:\r\n', 'hi'), 'hi'],
    ['bytes over 127 in a value', Buffer.from(post('A: \xe4\xf6\r\nContent-Length: 2\r\n', 'hi'), 'latin1'), 'hi'],
    ['leading zeros in a length', post('Content-Length: 0002\r\n', 'hi'), 'hi'],
    ['100 fields', post(`${'A: b\r\n'.repeat(98)}Content-Length: 2\r\n`, 'hi'), 'hi'],
    ['a target of 8 KiB', `POST /__stub/echo?${'a'.repeat(8192 - 13)} HTTP/1.1\r\n${H}Content-Length: 2\r\n\r\nhi`, 'hi', 8192],
    ['a head of almost 16 KiB', post(`A: ${'b'.repeat(15000)}\r\nContent-Length: 2\r\n`, 'hi'), 'hi'],
    ['GET with a body', `GET /__stub/echo HTTP/1.1\r\n${H}Content-Length: 2\r\n\r\nhi`, 'hi'],
    ['DELETE with a chunked body', `DELETE /__stub/echo HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n`, 'hi'],
    ['a body that looks like a request', post(`Content-Length: ${SMUGGLED.length}\r\n`, SMUGGLED), SMUGGLED],
    ['a GET whose body looks like a request', `GET /__stub/echo HTTP/1.1\r\n${H}Content-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`, SMUGGLED],
    ['an empty chunked body', chunked('0\r\n\r\n'), ''],
    ['no body at all', post(''), ''],
    ['an exact forward.max_body', post(`Content-Length: ${200 * 1024}\r\n`, 'a'.repeat(200 * 1024)), 'a'.repeat(200 * 1024)],
];

const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');

bothWays('legal oddities work, one after another on one connection', async (gateway) => {
    await using(gateway.target, async (wire) => {
        for (const [name, bytes, body] of legal) {
            wire.send(bytes);
            const answer = await wire.answer();
            assert.equal(answer.status, 200, `${name}: ${answer.text}`);
            assert.equal(answer.json.body_bytes, body.length, name);
            assert.equal(answer.json.body_sha256, sha256(Buffer.from(body, 'latin1')), name);
            assert.equal(answer.header('connection'), 'keep-alive', name);
            assert.equal(answer.header('keep-alive'), 'timeout=75', name);
        }
    });
    const targets = (await stub.requests()).map((r) => r.target.split('?')[0]);
    assert.deepEqual(new Set(targets.filter((t) => t !== '/health')), new Set(['/__stub/echo']));
});

bothWays('the same requests pipelined are answered in order', async (gateway) => {
    await using(gateway.target, async (wire) => {
        wire.send(Buffer.concat(legal.map(([, bytes]) => Buffer.from(bytes))));
        for (const [name, , body] of legal) {
            const answer = await wire.answer();
            assert.equal(answer.json.body_bytes, Buffer.from(body).length, name);
        }
    });
});

bothWays('a body that comes late goes where its own head said', async (gateway) => {
    await using(gateway.target, async (early) => using(gateway.target, async (late) => {
        const head = 'POST /__stub/echo?late=%31 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n';
        late.send(head);
        early.send(`POST /agents/${agentId(1)}/heartbeat HTTP/1.1\r\n${H}Content-Length: 2\r\n\r\n{}`);
        assert.equal((await early.answer()).status, 401);
        late.send('hello');
        const answer = await late.answer();
        assert.equal(answer.status, 200);
        assert.equal(answer.json.body, 'hello');
        assert.match(answer.json.target, /^\/__stub\/echo\?late/);
    }));
});

bothWays('one byte at a time is as good as all at once', async (gateway) => {
    await using(gateway.target, async (wire) => {
        const several = [legal[0], legal[2], legal[6], legal[13], legal[5]];
        for (const [, bytes] of several) {
            for (const byte of Buffer.from(bytes)) {
                wire.send(Buffer.of(byte));
                await new Promise(setImmediate);
            }
        }
        for (const [name, , body] of several) {
            const answer = await wire.answer();
            assert.equal(answer.json.body, body, name);
        }
    });
});

/** Cuts that change from one time to the next but not from run to run. */
function* cuts(length, seed) {
    for (let at = 0; at < length; ) {
        seed = (seed * 1103515245 + 12345) % 2147483648;
        const size = seed % 7 === 0 ? (seed >> 8) % 40000 : (seed >> 8) % 97;
        yield [at, Math.min(length, at + 1 + size)];
        at += 1 + size;
    }
}

bothWays('bodies cut anywhere arrive whole, also behind a request that takes its time', async (gateway) => {
    const body = crypto.randomBytes(150000);
    const pieces = [];
    for (let at = 0, size = 1; at < body.length; at += size, size = (size * 3 + 1) % 20011) {
        const piece = body.subarray(at, at + size);
        pieces.push(`${piece.length.toString(16)};x\r\n`, piece, '\r\n');
    }
    const inChunks = Buffer.concat([chunked(''), ...pieces, '0\r\nT: 1\r\n\r\n'].map((p) => Buffer.from(p)));
    const inOne = Buffer.concat([Buffer.from(post(`Content-Length: ${body.length}\r\n`)), body]);
    const all = Buffer.concat([Buffer.from(get('/__stub/slow?ms=60')), inChunks, inOne, inChunks, Buffer.from(get('/__stub/slow?ms=30')), inOne]);
    for (let seed = 1; seed <= 4; seed++)
        await using(gateway.target, async (wire) => {
            for (const [from, to] of cuts(all.length, seed)) {
                wire.send(all.subarray(from, to));
                if (from % 3 === 0) await new Promise(setImmediate);
            }
            for (const slow of [true, false, false, false, true, false]) {
                const answer = await wire.answer();
                assert.equal(answer.status, 200);
                if (slow) assert.deepEqual(answer.json, { slow: true });
                else assert.equal(answer.json.body_sha256, sha256(body));
            }
        });
});

/** User and system time in ticks of 10 ms. */
function cpuTicks(pid) {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return Number(fields[11]) + Number(fields[12]);
}

/** Through a relay that holds back: `relay.hold` stops at that many bytes until released. */
async function relayTo(port) {
    const relay = { bytes: 0, limit: Infinity, held: [] };
    relay.server = net.createServer((client) => {
        const server = net.connect(port, '127.0.0.1');
        server.setNoDelay(true);
        const forward = () => {
            let all = Buffer.concat(relay.held.splice(0));
            const now = all.subarray(0, Math.max(0, relay.limit - relay.bytes));
            relay.bytes += now.length;
            if (now.length) server.write(now);
            if (now.length < all.length) relay.held.push(all.subarray(now.length));
        };
        relay.release = (more) => {
            relay.limit = relay.bytes + more;
            forward();
        };
        client.on('data', (bytes) => {
            relay.held.push(bytes);
            forward();
        });
        server.on('data', (bytes) => client.write(bytes));
        client.on('close', () => server.destroy());
        server.on('close', () => client.destroy());
        client.on('error', () => {});
        server.on('error', () => {});
    });
    await new Promise((resolve) => relay.server.listen(0, '127.0.0.1', resolve));
    relay.port = relay.server.address().port;
    return relay;
}

test('a record that comes in pieces costs nothing while it is incomplete', async () => {
    const relay = await relayTo(secure.port);
    try {
        await using({ ...secure.target, port: relay.port }, async (wire) => {
            await sleep(50);
            relay.release(3);
            wire.send(request('POST', '/__stub/echo', { body: 'y'.repeat(5000) }));
            await sleep(50);
            for (const more of [4, 100, 1, 3000]) {
                relay.release(more);
                const before = cpuTicks(secure.child.pid);
                await sleep(150);
                assert.ok(cpuTicks(secure.child.pid) - before < 8, 'spins on half a record');
            }
            relay.release(Infinity);
            assert.equal((await wire.answer()).json.body_bytes, 5000);
        });
    } finally {
        relay.server.close();
    }
});

test('a request right behind the handshake is answered', async () => {
    const { port } = secure;
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3']) {
        const socket = tls.connect({ host: '127.0.0.1', port, ca: secure.target.ca, servername: 'localhost', maxVersion });
        let received = '';
        socket.on('data', (bytes) => (received += bytes));
        socket.write(get('/__stub/echo') + get('/__stub/echo', 'Connection: close\r\n'));
        await new Promise((resolve) => socket.on('end', resolve));
        assert.equal(received.match(/HTTP\/1.1 200/g).length, 2, maxVersion);
        assert.equal(socket.getProtocol(), maxVersion);
        socket.destroy();
    }
});

test('TLS below 1.2 is refused, http/1.1 is chosen, sessions are resumed', async () => {
    const options = { host: '127.0.0.1', port: secure.port, ca: secure.target.ca, servername: 'localhost' };
    const old = tls.connect({ ...options, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' });
    await assert.rejects(new Promise((resolve, reject) => old.on('error', reject).on('secureConnect', resolve)));
    const before = await secure.metric('tls_handshakes_total', 'kind="resumed"');
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3']) {
        const first = tls.connect({ ...options, maxVersion, ALPNProtocols: ['h2', 'http/1.1'] });
        let session;
        first.on('session', (given) => (session = given));
        first.write(get('/__stub/echo'));
        await new Promise((resolve) => first.once('data', resolve));
        assert.equal(first.alpnProtocol, 'http/1.1');
        await eventually('a ticket', () => session);
        first.destroy();
        const again = tls.connect({ ...options, maxVersion, session });
        let another = maxVersion === 'TLSv1.2'; // 1.3 uses a ticket once
        again.on('session', () => (another = true));
        again.write(get('/__stub/echo'));
        await new Promise((resolve) => again.once('data', resolve));
        assert.ok(again.isSessionReused(), maxVersion);
        await eventually('another ticket', () => another);
        again.destroy();
    }
    assert.equal((await secure.metric('tls_handshakes_total', 'kind="resumed"')) - before, 2);
});

// ---- versions, methods, expectations ----

bothWays('HTTP/1.0 is answered and closed, unless it asks to be kept', async (gateway) => {
    await using(gateway.target, async (wire) => {
        wire.send('GET /__stub/echo HTTP/1.0\r\n\r\n');
        const answer = await wire.answer();
        assert.equal(answer.status, 200);
        assert.equal(answer.header('connection'), 'close');
        assert.equal(await wire.closed(), 'ended');
    });
    await using(gateway.target, async (wire) => {
        for (let i = 0; i < 2; i++) {
            wire.send('GET /__stub/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
            assert.equal((await wire.answer()).header('connection'), 'keep-alive');
        }
        // It knows no chunks: the body ends with the connection.
        wire.send('GET /__stub/sse?n=2&gap_ms=20 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
        const answer = await wire.answer();
        assert.equal(answer.header('transfer-encoding'), undefined);
        assert.equal(answer.header('content-length'), undefined);
        assert.equal(answer.text, 'data: event 0\n\ndata: event 1\n\n');
    });
});

bothWays('keep-alive, close is close', async (gateway) => {
    for (const value of ['keep-alive, close', 'Close', 'close, x'])
        await using(gateway.target, async (wire) => {
            wire.send(get('/__stub/echo', `Connection: ${value}\r\n`) + SMUGGLED);
            assert.equal((await wire.answer()).header('connection'), 'close');
            assert.equal(await wire.closed(), 'ended');
            assert.equal(wire.received.length, 0);
        });
    await nothingBut('/__stub/echo');
});

const nothingBut = async (target) => {
    const targets = (await stub.requests()).map((r) => r.target).filter((t) => t !== '/health');
    assert.deepEqual([...new Set(targets)], [target]);
};

bothWays('HEAD, 204 and 304 have no body and the connection goes on', async (gateway) => {
    await using(gateway.target, async (wire) => {
        wire.send(`HEAD /health HTTP/1.1\r\n${H}\r\n`);
        const head = await wire.answer({ head: true });
        assert.equal(head.status, 200);
        for (const code of [204, 304]) {
            wire.send(get(`/__stub/status?code=${code}`));
            assert.equal((await wire.answer()).status, code);
        }
        wire.send(`HEAD /__stub/chunks?n=3 HTTP/1.1\r\n${H}\r\n`);
        assert.equal((await wire.answer({ head: true })).status, 200);
        wire.send(`HEAD /agents/${agentId(1)}/heartbeat HTTP/1.1\r\n${H}\r\n`);
        await wire.answer({ head: true });
        wire.send(get('/__stub/echo'));
        assert.equal((await wire.answer()).json.method, 'GET');
    });
});

bothWays('100-continue is said when the body is awaited, and only then', async (gateway) => {
    const expecting = (length) => post(`Expect: 100-continue\r\nContent-Length: ${length}\r\n`);
    await using(gateway.target, async (wire) => {
        wire.send(expecting(5));
        assert.equal((await wire.bytes(25)).toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
        wire.send('hello');
        const waited = await wire.answer();
        assert.equal(waited.json.body, 'hello');
        assert.ok(!waited.json.headers.some(([name]) => name.toLowerCase() === 'expect'));
        wire.send(`${expecting(5)}hello`);
        const hasty = await wire.answer();
        assert.deepEqual([hasty.json.body, hasty.interim.length], ['hello', 0]);
        wire.send(expecting(200 * 1024 + 1));
        const refusal = await wire.answer();
        assert.deepEqual([refusal.status, refusal.interim.length], [413, 0]);
    });
    await using(gateway.target, async (wire) => {
        wire.send(post('Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n'));
        assert.equal((await wire.bytes(25)).toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
        wire.send('2\r\nhi\r\n');
        await sleep(20);
        wire.send('0\r\n\r\n');
        const answer = await wire.answer();
        assert.deepEqual([answer.json.body, answer.interim.length], ['hi', 0]);
    });
});

// ---- the end of a connection ----

bothWays('a refusal reaches a client that is still sending', async (gateway) => {
    await using(gateway.target, async (wire) => {
        wire.send(post('Content-Length: 5000000\r\n'));
        for (let i = 0; i < 50; i++) wire.send(Buffer.alloc(20000, 'a'));
        assert.equal((await wire.answer()).status, 413);
        assert.equal(await wire.closed(), 'ended');
    });
});

bothWays('a large last answer arrives whole before the end', async (gateway) => {
    await using(gateway.target, async (wire) => {
        wire.socket.pause();
        wire.send(get('/__stub/bytes?n=3000000', 'Connection: close\r\n'));
        await sleep(200);
        wire.socket.resume();
        const answer = await wire.answer();
        assert.equal(answer.body.length, 3000000);
        assert.equal(await wire.closed(), 'ended');
    });
});

bothWays('a client that has finished sending gets the answer that was written', async (gateway) => {
    await using(gateway.target, async (wire) => {
        // Answered here, without the controller: both are written before the end is seen.
        const beat = `POST /agents/${agentId(1)}/heartbeat HTTP/1.1\r\n${H}Content-Length: 0\r\n\r\n`;
        wire.send(beat + beat);
        wire.end();
        assert.equal((await wire.answer()).status, 401);
        assert.equal((await wire.answer()).status, 401);
        assert.equal(await wire.closed(), 'ended');
    });
});

// ---- memory ----

const memory = (pid, field) =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);

bothWays('a client that pipelines and never reads costs little', async (gateway) => {
    const beat = `POST /agents/${agentId(1)}/heartbeat HTTP/1.1\r\n${H}Content-Length: 0\r\n\r\n`;
    const many = Buffer.from(beat.repeat(2000));
    const before = memory(gateway.child.pid, 'VmRSS');
    await using(gateway.target, async (wire) => {
        wire.socket.pause();
        for (let i = 0; i < 100; i++) wire.send(many);
        await sleep(500);
        const more = memory(gateway.child.pid, 'VmRSS') - before;
        assert.ok(more < 4096 || sanitized, `${more} kB for one client`);
        wire.socket.resume();
        for (let i = 0; i < 10; i++) assert.equal((await wire.answer()).status, 401);
    });
});

test('bodies that are still coming share one bound, and leave it when their client goes', async () => {
    const gateway = await startGateway(stub, {
        config: { tls: { enabled: false }, forward: { max_body: '40MiB' } },
    });
    const head = Buffer.from(post('Content-Length: 30000000\r\n'));
    const part = Buffer.alloc(29000000, 'a');
    const wires = [];
    try {
        for (let i = 0; i < 3; i++) wires.push(await Wire.open(gateway.target));
        for (const wire of wires) {
            wire.send(head);
            wire.send(part);
        }
        const refused = await Promise.any(wires.map((wire) => wire.answer()));
        assert.equal(refused.status, 503);
        assert.equal(refused.json.code, 'GATEWAY_OVERLOADED');
        for (const wire of wires) wire.close();
        await eventually('nobody is left', async () => (await gateway.metric('connections')) === 0);
        await using(gateway.target, async (wire) => {
            wire.send(head);
            wire.send(part);
            wire.send(Buffer.alloc(1000000, 'b'));
            assert.equal((await wire.answer()).json.body_bytes, 30000000);
        });
    } finally {
        for (const wire of wires) wire.close();
        await gateway.stop();
    }
});

// ---- deadlines, with a clock that goes twenty times as fast ----

describe('deadlines', { skip: sanitized && 'no preloading here', concurrency: true }, () => {
    const FAST = 20;
    let tlsGateway;
    let plainGateway;
    before(async () => {
        const env = timelapse(FAST);
        const config = { upstream: { response_timeout: '1h', connect_timeout: '60s' } };
        tlsGateway = await startGateway(stub, { config, env });
        plainGateway = await startGateway(stub, { config: { ...config, tls: { enabled: false } }, env });
    });
    after(async () => {
        await tlsGateway?.stop();
        await plainGateway?.stop();
    });

    /** Seconds of the gateway's clock until `what` is done. */
    async function seconds(what) {
        const start = performance.now();
        await what();
        return ((performance.now() - start) / 1000) * FAST;
    }

    function about(took, expected) {
        assert.ok(took > expected - 1.5 && took < expected + 12 + (slack() / 1000) * FAST, `${took} s instead of ${expected}`);
    }

    test('a handshake has 5 s, however busy it looks', async () => {
        const socket = net.connect(tlsGateway.port, '127.0.0.1');
        socket.on('error', () => {});
        const drip = setInterval(() => socket.write(Buffer.of(22)), 60);
        socket.write(Buffer.from('160301200001', 'hex'));
        about(await seconds(() => new Promise((resolve) => socket.on('close', resolve))), 5);
        clearInterval(drip);
    });

    test('a head has 10 s, however busy it looks', () => using(plainGateway.target, async (wire) => {
        const drip = setInterval(() => wire.send('a'), 60);
        wire.send('GET /');
        about(await seconds(async () => {
            const answer = await wire.answer();
            assert.equal(answer.status, 408);
            assert.equal(answer.json.code, 'GATEWAY_REQUEST_TIMEOUT');
        }), 10);
        clearInterval(drip);
        assert.equal(await wire.closed(), 'ended');
    }));

    test('a second head has its own 10 s', () => using(tlsGateway.target, async (wire) => {
        wire.send(get('/__stub/echo'));
        await wire.answer();
        await sleep(400);
        wire.send('GET /');
        about(await seconds(async () => assert.equal((await wire.answer()).status, 408)), 10);
    }));

    test('a body has 30 s, however busy it looks', () => using(tlsGateway.target, async (wire) => {
        const drip = setInterval(() => wire.send('a'), 60);
        wire.send(post('Expect: 100-continue\r\nContent-Length: 1000\r\n'));
        about(await seconds(async () => assert.equal((await wire.answer()).status, 408)), 30);
        clearInterval(drip);
    }));

    test('a chunked body has 30 s', () => using(plainGateway.target, async (wire) => {
        const drip = setInterval(() => wire.send('1\r\na\r\n'), 60);
        wire.send(chunked(''));
        about(await seconds(async () => assert.equal((await wire.answer()).status, 408)), 30);
        clearInterval(drip);
    }));

    test('an idle connection is closed after 80 s, politely', async () => {
        const idle = (gateway) => using(gateway.target, async (wire) => {
            wire.send(get('/__stub/echo'));
            await wire.answer();
            about(await seconds(async () => assert.equal(await wire.closed({ ms: 8000 }), 'ended')), 80);
        });
        await Promise.all([tlsGateway, plainGateway].map(idle));
    });

    test('a connection that never asks is closed after 80 s', () =>
        using(plainGateway.target, async (wire) => {
            about(await seconds(async () => assert.equal(await wire.closed({ ms: 8000 }), 'ended')), 80);
        }));

    test('a client that takes nothing for 30 s is cut', () => using(plainGateway.target, async (wire) => {
        wire.socket.pause();
        wire.send(get('/__stub/bytes?n=50000000'));
        const gone = eventually('the cut', async () => (await plainGateway.metric('clients_gone_total')) > 0);
        about(await seconds(() => gone), 30);
        const { client_gone: noticed } = await eventually('the stub', async () => {
            const counts = await stub.counts();
            return counts.client_gone > 0 && counts;
        });
        assert.equal(noticed, 1);
    }));

    test('a client that takes a little now and then is not cut', () =>
        using(plainGateway.target, async (wire) => {
            let took = 0;
            wire.socket.on('data', (bytes) => (took += bytes.length));
            wire.socket.pause();
            wire.send(get('/__stub/bytes?n=12000000'));
            const sips = setInterval(() => {
                wire.socket.resume();
                setTimeout(() => wire.socket.pause(), 2);
            }, 400); // every 8 s of the gateway's
            await sleep(4000);
            clearInterval(sips);
            assert.equal(wire.how, undefined, `cut after ${took} bytes`);
            wire.socket.resume();
            assert.equal((await wire.answer()).body.length, 12000000);
        }));

    test('a last answer that nobody takes does not stay for ever', () =>
        using(plainGateway.target, async (wire) => {
            wire.socket.pause();
            wire.send(get('/__stub/bytes?n=5500000', 'Connection: close\r\n'));
            await sleep(200);
            const open = async () => (await plainGateway.metric('connections')) === 0;
            await eventually('it is given up', open, 8000);
        }));
});
