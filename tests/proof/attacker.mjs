// Strangers, as a process of their own, so that what they cost is not taken for the gateway's:
//
//   node tests/proof/attacker.mjs KIND HOST PORT SECONDS
//
// Prints what it did as JSON. Everything comes from 127.0.0.66; the good come from 127.0.0.1.
import net from 'node:net';
import tls from 'node:tls';
import { sleep } from '../e2e/support/child.mjs';
import { agentToken } from '../e2e/support/jwt.mjs';
import { agentId } from '../e2e/support/stub.mjs';
import { request } from '../e2e/support/wire.mjs';

const [kind, host, port, seconds] = process.argv.slice(2);
const FROM = '127.0.0.66';
const SLOW = 200;
const end = Date.now() + Number(seconds) * 1000;
const done = { kind, connections: 0, lost: 0, answers: {} };
const sockets = new Set();

function dial(secure) {
    const options = { host, port: Number(port), localAddress: FROM, rejectUnauthorized: false };
    const socket = secure ? tls.connect(options) : net.connect(options);
    sockets.add(socket);
    done.connections++;
    socket.on('error', () => {});
    socket.on('close', () => {
        sockets.delete(socket);
        done.lost++;
    });
    return socket;
}

const isOver = () => Date.now() >= end;

/** `SLOW` connections, each brought to life by `begin` and fed by `drip` once a second; those that
 * are cut come again. */
async function slow(begin, drip) {
    const keep = () => {
        const socket = dial(true);
        socket.once('secureConnect', () => begin(socket));
        socket.once('close', () => !isOver() && setTimeout(keep, 100));
    };
    for (let i = 0; i < SLOW; i++) keep();
    while (!isOver()) {
        await sleep(1000);
        for (const socket of sockets) if (!socket.destroyed) drip(socket);
    }
}

function count(socket) {
    socket.on('data', (bytes) => {
        for (const [, status] of bytes.toString('latin1').matchAll(/HTTP\/1\.1 (\d{3})/g))
            done.answers[status] = (done.answers[status] ?? 0) + 1;
    });
}

/** On `width` connections, request after request, `ahead` at a time. */
async function flood(width, ahead, next) {
    const line = async () => {
        const socket = dial(true);
        await new Promise((resolve) => socket.once('secureConnect', resolve).once('close', resolve));
        count(socket);
        let wake = () => {};
        socket.on('data', () => wake()).on('close', () => wake());
        while (!isOver() && !socket.destroyed) {
            const answered = new Promise((resolve) => (wake = resolve));
            socket.write(Buffer.concat(Array.from({ length: ahead }, next)));
            await answered;
        }
        socket.destroy();
    };
    const lines = async () => {
        while (!isOver()) await line();
    };
    await Promise.all(Array.from({ length: width }, lines));
}

const json = { 'Content-Type': 'application/json' };
let turn = 0;

const attacks = {
    /** Heads that never end. */
    heads: () => slow((s) => s.write('GET /agents HTTP/1.1\r\nHost: x\r\nX-Slow: '), (s) => s.write('a')),
    /** Bodies that never end. */
    bodies: () => slow((s) => s.write('POST /agents HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n'),
        (s) => s.write('a')),
    /** Answers that nobody reads. */
    readers: () => slow((s) => {
        s.pause();
        s.write(request('GET', '/__stub/bytes?n=2000000'));
    }, () => {}),
    /** Connections that say nothing, as many as there can be. */
    connections: async () => {
        const MOST = 8000;
        while (!isOver()) {
            for (let i = 0; i < 50 && sockets.size < MOST; i++) dial(false);
            await sleep(10);
        }
    },
    /** Tokens that somebody else has signed. */
    tokens: () => flood(20, 10, () => request('POST', `/agents/${agentId(turn++ % 1000)}/heartbeat`, {
        headers: { ...json, Authorization: `Bearer ${agentToken(agentId(turn % 1000), {}, { secret: `no ${turn % 50}` })}` },
        body: { status: 'online' },
    })),
    /** Wrong secrets of one agent, which is among the good. */
    secrets: () => flood(20, 1, () => request('POST', `/agents/${agentId(0)}/connect`, {
        headers: json, body: { secret: `wrong-${turn++}` },
    })),
    /** The same of an agent that the gateway does not know. */
    unknown: () => flood(20, 1, () => request('POST', `/agents/${agentId(500)}/connect`, {
        headers: json, body: { secret: `wrong-${turn++}` },
    })),
    nobody: () => sleep(Number(seconds) * 1000),
};

await attacks[kind]();
console.log(JSON.stringify(done));
process.exit(0);
