// Clients and a controller that do anything at any moment. Whatever they did: nobody gets another
// one's answer, and in the end nothing is left of them. Most of its worth is under ASan.
import assert from 'node:assert/strict';
import net from 'node:net';
import tls from 'node:tls';
import { test } from 'node:test';
import { eventually } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { agentId, agentSecret } from './support/stub.mjs';
import { Upstream, answerBytes } from './support/upstream.mjs';
import { exchange, request } from './support/wire.mjs';

const SECONDS = Number(process.env.CHAOS_SECONDS ?? 4);
const PATIENCE_SECONDS = SECONDS + 30; // a slow machine gets longer to do as much
const CLIENTS = { tls: 8, plain: 24 }; // this process must be quick enough to see answers

/** Numbers that are the same in every run with the same seed. */
class Dice {
    constructor(seed) {
        this.state = seed;
    }

    below(n) {
        this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
        return Math.floor((this.state / 4294967296) * n);
    }

    one(list) {
        return list[this.below(list.length)];
    }
}

const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

/** The answer says whose it is: its target stands in it. `mood.kind`: all requests get theirs. */
function controller(dice, mood) {
    const whole = (got) => answerBytes(`for ${got.target} ${'x'.repeat(dice.below(3000))}`);
    const inChunks = (got, end) => {
        const text = `for ${got.target} `;
        return `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${text.length.toString(16)}\r\n${text}\r\n${end}`;
    };
    const large = (got) => answerBytes(`for ${got.target} ${'y'.repeat(100000 + dice.below(2000000))}`);
    const deeds = [
        (s, got) => s.write(whole(got)),
        (s, got) => s.write(whole(got)),
        (s, got) => s.write(inChunks(got, '0\r\n\r\n')),
        (s, got) => s.write(large(got)),
        (s, got) => setTimeout(() => s.write(whole(got)), dice.below(60)),
        (s, got) => {
            const bytes = whole(got);
            const at = dice.below(bytes.length);
            s.write(bytes.subarray(0, at));
            setTimeout(() => s.write(bytes.subarray(at)), dice.below(20));
        },
        (s, got) => {
            s.write(inChunks(got, ''));
            setTimeout(() => s.end(dice.below(2) ? '0\r\n\r\n' : 'nonsense'), dice.below(30));
        },
        (s, got) => s.end(`HTTP/1.1 200 OK\r\n\r\nfor ${got.target} `),
        (s, got) => s.end(whole(got).subarray(0, dice.below(200))),
        (s, got) => s.write(Buffer.concat([whole(got), whole(got)])), // one too many
        (s) => s.destroy(),
        (s) => s.resetAndDestroy(),
        (s) => s.write('nonsense\r\n\r\n'),
        () => {}, // nothing, until the gateway's patience ends
    ];
    return (socket, got) => {
        if (/^upgrade: websocket/im.test(got.head) && dice.below(2)) {
            socket.raw = true;
            socket.on('data', (bytes) => socket.write(bytes));
            socket.write(SWITCH);
            if (dice.below(3) === 0) setTimeout(() => socket.destroy(), dice.below(50));
            return;
        }
        (mood.kind ? deeds[0] : dice.one(deeds))(socket, got);
    };
}

function someRequest(dice, target) {
    const agent = dice.below(20);
    const headers = { 'Content-Type': 'application/json' };
    const kinds = [
        () => request('GET', target),
        () => request('HEAD', target),
        () => request('GET', target, { version: '1.0' }),
        () => request('GET', target, { headers: { Connection: 'close' } }),
        () => request('POST', target, { body: 'z'.repeat(dice.below(100000)) }),
        () => request('POST', target, { body: 'z', headers: { Expect: '100-continue' } }),
        () => Buffer.from(`PUT ${target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`),
        () => Buffer.concat([request('GET', target, { headers: { Connection: 'Upgrade', Upgrade: 'websocket' } }), Buffer.from('early')]),
        () => request('POST', `/agents/${agentId(agent)}/connect`, { headers, body: { secret: agentSecret(agent) } }),
        () => request('POST', `/agents/${agentId(agent)}/heartbeat`, { headers, body: { status: 'online' } }),
        () => request('DELETE', `/agents/${agentId(agent)}`),
        () => Buffer.from('nonsense\r\n\r\n'),
    ];
    return dice.one(kinds)();
}

let targets = 0;

/** One connection's life: how many answers it got. Fails when one is for somebody else. */
function live(gateway, dice) {
    return new Promise((resolve, reject) => {
        const { port, ca } = gateway.target;
        const socket = gateway.target.tls
            ? tls.connect({ host: '127.0.0.1', port, ca, servername: 'localhost', allowHalfOpen: true })
            : net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
        const mine = [];
        const heard = new Set();
        let received = '';
        socket.on('data', (bytes) => {
            received += bytes.toString('latin1');
            const named = [...received.matchAll(/for (\/t\/\d+) /g)].map((m) => m[1]);
            for (const target of named) {
                if (!mine.includes(target)) reject(new Error(`${target} is not of ${mine}`));
                heard.add(target);
            }
            if (received.length > 100000) received = received.slice(-100);
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(heard.size));
        const acts = Array.from({ length: 1 + dice.below(6) }, () => dice.below(10));
        const next = () => {
            if (socket.destroyed) return;
            const act = acts.pop();
            if (act === undefined) {
                const end = dice.below(4);
                if (end === 0 && !gateway.target.tls) socket.resetAndDestroy();
                else if (end < 3) socket.destroy();
                else {
                    socket.end();
                    setTimeout(() => socket.destroy(), 40);
                }
                return;
            }
            const target = `/t/${++targets}`;
            mine.push(target);
            const bytes = someRequest(dice, target);
            if (act < 7) {
                socket.write(bytes);
            } else {
                const at = dice.below(bytes.length);
                socket.write(bytes.subarray(0, at));
                setTimeout(() => socket.destroyed || socket.write(bytes.subarray(at)), dice.below(10));
            }
            if (act === 5) {
                socket.pause();
                setTimeout(() => socket.resume(), dice.below(100));
            }
            setTimeout(next, dice.below(3) ? dice.below(40) : 0);
        };
        // Else most would be gone before their handshake is over.
        if (gateway.target.tls && dice.below(4)) socket.once('secureConnect', next);
        else next();
    });
}

for (const secure of [true, false])
    test(`whatever happens, nothing is mixed up and nothing stays (${secure ? 'TLS' : 'plain'})`, async (t) => {
        const dice = new Dice(secure ? 1 : 2);
        const mood = { kind: false };
        const upstream = await Upstream.start(controller(new Dice(3), mood));
        const gateway = await startGateway(upstream, {
            config: {
                workers: 2, tls: { enabled: secure }, upstream: { response_timeout: '500ms' },
                breaker: { failures: 1000, failure_percent: 100 }, // else most are refused, and nothing happens
            },
        });
        const clients = secure ? CLIENTS.tls : CLIENTS.plain;
        let lives = 0;
        let answers = 0;
        const start = Date.now();
        const saysSomething = () => lives > clients * 4 && answers > clients * 4;
        const goesOn = () => Date.now() < start + SECONDS * 1000 ||
            (!saysSomething() && Date.now() < start + PATIENCE_SECONDS * 1000);
        const client = async (n) => {
            const own = new Dice(dice.below(1e9) + n);
            while (goesOn()) {
                const heard = await live(gateway, own);
                answers += heard;
                lives++;
            }
        };
        try {
            await Promise.all(Array.from({ length: clients }, (_, n) => client(n)));
            t.diagnostic(`${lives} lives, ${answers} answers`);
            assert.ok(saysSomething(), `${lives} lives, ${answers} answers`);
            mood.kind = true;
            await eventually('no client is left', async () => (await gateway.metric('connections')) === 0);
            await eventually('it still serves', async () => {
                const { status, text } = await exchange(gateway.target, 'GET', '/after').catch(() => ({}));
                return status === 200 && text.startsWith('for /after ');
            });
            const left = () => gateway.metric('upstream_connections');
            await eventually('calls nobody waits for end', async () => (await left()) <= 64);
            await gateway.stop();
        } finally {
            await gateway.discard();
            await upstream.stop();
        }
    });
