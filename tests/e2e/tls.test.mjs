// TLS on the wire: records do not arrive as they were sent.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { sleep } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { Stub } from './support/stub.mjs';
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
