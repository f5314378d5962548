// TLS on the wire: records do not arrive as they were sent.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { after, before, describe, test } from 'node:test';
import { sleep } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { Stub } from './support/stub.mjs';
import { temporary } from './support/temporary.mjs';
import { Wire, exchange, request } from './support/wire.mjs';

let stub;
let gateway;
before(async () => {
    stub = await Stub.start();
    gateway = await startGateway(stub);
});
after(async () => {
    await gateway?.stop();
    await stub?.stop();
});

/** A relay to the gateway that hands on what clients send through `pace(bytes, write)`. */
async function relay(pace, body) {
    const server = net.createServer((client) => {
        const there = net.connect({ host: '127.0.0.1', port: gateway.port, noDelay: true });
        for (const socket of [client, there]) socket.on('error', () => {});
        let turn = Promise.resolve();
        client.on('data', (bytes) => {
            turn = turn.then(() => pace(bytes, (piece) => there.write(piece)));
        });
        there.pipe(client);
        client.on('close', () => there.destroy());
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
        return await body({ ...gateway.target, port: server.address().port });
    } finally {
        server.close();
    }
}

async function inPieces(bytes, write) {
    for (let at = 0; at < bytes.length; at += 7) {
        write(bytes.subarray(at, at + 7));
        await new Promise(setImmediate);
    }
}

test('records that arrive in pieces are read', () => relay(inPieces, async (target) => {
    const body = 'x'.repeat(2000);
    const { json } = await exchange(target, 'POST', '/__stub/echo', { body, ms: 5000 });
    assert.equal(json.body, body);
}));

for (const size of [16384, 65536, 102400, 1000000])
    test(`a body of ${size} bytes is read to its end`, async () => {
        const body = Buffer.alloc(size, 'y');
        const { json } = await exchange(gateway.target, 'POST', '/__stub/echo', { body, ms: 5000 });
        assert.equal(json.body_bytes, size);
    });

test('half a record costs no processor time', () => {
    let held = false;
    const half = async (bytes, write) => {
        if (!held) return write(bytes);
        write(bytes.subarray(0, bytes.length >> 1));
    };
    return relay(half, async (target) => {
        const wire = await Wire.open(target);
        wire.send(request('GET', '/'));
        assert.equal((await wire.answer()).status, 200);
        held = true;
        wire.send(request('GET', '/'));
        await sleep(50);
        const start = gateway.cpuMs();
        await sleep(500);
        assert.ok(gateway.cpuMs() - start < 250, `${gateway.cpuMs() - start} ms of CPU in 500 ms`);
        wire.close();
    });
});

// ---- which cipher suites ----

/** Handshakes with these suites only; the suite that was agreed on, or the error's code. */
function handshake(target, options) {
    return new Promise((resolve) => {
        const socket = tls.connect({ ...target, servername: 'localhost', rejectUnauthorized: false, ...options },
            () => {
                resolve(socket.getCipher().standardName);
                socket.destroy();
            });
        socket.on('error', (error) => resolve(error.code));
    });
}

function rsaCertificate() {
    const dir = temporary('rsa-cert');
    const files = { certificate_file: path.join(dir, 'tls.crt'), private_key_file: path.join(dir, 'tls.key') };
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', files.private_key_file,
        '-out', files.certificate_file, '-days', '2', '-subj', '/CN=localhost'], { stdio: 'pipe' });
    return files;
}

describe('TLS 1.2', () => {
    const REFUSED = 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE'; // the gateway's alert
    let rsa;
    before(async () => (rsa = await startGateway(stub, { config: { tls: rsaCertificate() } })));
    after(() => rsa?.stop());

    const only = (ciphers) => ({ ciphers, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
    const cases = {
        RSA: { of: () => rsa, good: ['ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-RSA-CHACHA20-POLY1305'],
            bad: ['AES128-SHA', 'AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'AES128-SHA256', 'ECDHE-RSA-AES128-SHA',
                'ECDHE-RSA-AES128-SHA256', 'ECDHE-RSA-AES256-SHA384', 'DHE-RSA-AES128-GCM-SHA256', 'DHE-RSA-CHACHA20-POLY1305'] },
        ECDSA: { of: () => gateway,
            good: ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
            bad: ['ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES128-CCM'] },
    };
    for (const [kind, { of, good, bad }] of Object.entries(cases)) {
        for (const suite of good)
            test(`${suite} is served (${kind} certificate)`, async () =>
                assert.match(await handshake(of().target, only(suite)), /^TLS_ECDHE_/));
        for (const suite of bad)
            test(`${suite} is refused (${kind} certificate)`, async () =>
                assert.equal(await handshake(of().target, only(suite)), REFUSED));
        test(`of good and bad suites a good one is taken (${kind} certificate)`, async () =>
            assert.match(await handshake(of().target, only([...bad, good[0]].join(':'))), /^TLS_ECDHE_.*_GCM_/));
    }

    test('TLS 1.3 has its own suites', async () => {
        for (const suite of ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'])
            for (const { target } of [gateway, rsa])
                assert.equal(await handshake(target, { ciphers: suite, minVersion: 'TLSv1.3' }), suite);
    });
});
