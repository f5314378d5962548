// What says something about the controller, and what only about those who have asked: unknown secrets,
// one agent, a TLS alert behind a request, a body in drips. Each beside another organization.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { Aiwm, OTHER_ORG, bystanders, contained, json } from './support/bystanders.mjs';
import { eventually, sleep } from './support/child.mjs';
import { connect, path, using } from './support/connecting.mjs';
import { testCertificate } from './support/gateway.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { answerBytes, HEALTHY } from './support/upstream.mjs';
import { Wire, call, exchange, request } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 4 };
const numbers = (count, from = 1) => Array.from({ length: count }, (_, i) => from + i);
const ATTACKER = agentId(7777);
const attacker = () => agentToken(ATTACKER, { orgId: '6ff000000000000000000666' });
const unlimited = { connect_failures_per_ip: 0, connect_failures_per_agent: 0, connects_per_agent: 0 };
const leftAlone = (gateway) => gateway.metric('controller_left_alone');
const inside = (gateway, name) => gateway.metric('controller_calls', `class="${name}"`);
const is = (got, start) => got.target.startsWith(start);

describe('connects with unknown secrets', SUITE, () => {
    const evil = (act) => (socket, got) => {
        if (!/connect$/.test(got.target) || !/evil/.test(got.body.toString())) return false;
        act(socket);
        return true;
    };
    const UNAVAILABLE = answerBytes('{}', { status: '503 Service Unavailable' });
    for (const [what, act] of [
        ['are closed without an answer', (socket) => socket.destroy()],
        ['are answered 503', (socket) => socket.write(UNAVAILABLE)],
    ])
        test(`that ${what} neither open the breaker nor lower a limit`, () =>
            contained({ limits: unlimited }, evil(act), async (gateway) => {
                const limit = await gateway.metric('controller_limit', 'class="connect"');
                for (const n of numbers(30))
                    assert.ok([502, 503].includes((await connect(gateway, 5000 + n, { secret: `evil${n}` })).status));
                assert.equal(await gateway.metric('controller_limit', 'class="connect"'), limit);
                assert.ok(!gateway.log.some((line) => line.message === 'the controller fails'));
            }));

    test('open it at once where a probe fails, too', async () => {
        let down = false;
        const aiwm = await Aiwm.start({ health: (socket) => (down ? socket.destroy() : socket.write(HEALTHY)) });
        await using({ stub: aiwm, config: { limits: unlimited } }, async (gateway) => {
            await bystanders(gateway, aiwm); // and so it is not looked at again soon
            aiwm.trouble = (socket) => {
                socket.destroy();
                return true;
            };
            down = true;
            for (const n of numbers(5)) await connect(gateway, 5000 + n);
            await eventually('the breaker to open', async () => await leftAlone(gateway) === 1, 900);
            down = false;
            aiwm.trouble = () => false;
            await eventually('it to be found', async () => await leftAlone(gateway) === 0);
        });
    });
});

describe('one agent\'s calls', SUITE, () => {
    test('connects that the controller trips over open no breaker, however well its secret is known', async () => {
        const aiwm = await Aiwm.start();
        const config = { connect_cache: { fresh_for: '0s', stale_after: '0s' }, limits: unlimited };
        await using({ stub: aiwm, config }, async (gateway) => {
            assert.equal((await connect(gateway, 7777)).status, 201);
            aiwm.trouble = (socket, got) => {
                if (got.target !== path(7777)) return false;
                socket.destroy();
                return true;
            };
            for (const _ of numbers(20)) await connect(gateway, 7777);
            assert.equal((await call(gateway.target, 'GET', '/things', { token: adminToken() })).status, 200);
            assert.equal((await connect(gateway, 7778)).status, 201);
            assert.ok(!gateway.log.some((line) => line.message === 'the controller fails'));
        });
    });

    test('held heartbeats of one agent that are closed without an answer open no breaker', () =>
        contained({ heartbeat: { min_forward_gap: '0s' } }, (socket, got) => {
            if (got.target !== path(7777, 'heartbeat')) return false;
            socket.destroy();
            return true;
        }, async (gateway) => {
            for (const n of numbers(40)) {
                await call(gateway.target, 'POST', path(7777, 'heartbeat'), {
                    token: agentToken(ATTACKER, { orgId: OTHER_ORG }), body: { status: n % 2 ? 'busy' : 'idle' },
                });
                await sleep(50);
            }
            assert.ok(!gateway.log.some((line) => line.message === 'the controller fails'));
        }));
});

describe('a controller over TLS', SUITE, () => {
    const pems = testCertificate();

    /** As Aiwm, with the raw socket below at `socket.below`. */
    async function secure() {
        const aiwm = await Aiwm.start();
        const serve = aiwm.upstream.server.listeners('connection')[0];
        const secureContext = tls.createSecureContext({
            key: fs.readFileSync(pems.privateKeyFile), cert: fs.readFileSync(pems.certificateFile),
        });
        const below = new Set();
        const server = net.createServer((raw) => {
            below.add(raw);
            raw.on('error', () => {});
            const socket = new tls.TLSSocket(raw, { isServer: true, secureContext });
            socket.below = raw;
            serve(socket);
        });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        aiwm.url = `https://127.0.0.1:${server.address().port}`;
        const stop = aiwm.stop.bind(aiwm);
        aiwm.stop = async () => {
            server.close();
            for (const raw of below) raw.destroy();
            await stop();
        };
        return aiwm;
    }

    for (const [what, hex] of [
        ['an alert', '1503030002022a'],
        ['a record that does not decrypt', '170303002000112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'],
        ['no TLS', '474554202f'],
    ])
        test(`that answers calls with ${what} is no controller that cannot be reached`, async () => {
            const aiwm = await secure();
            await using({ stub: aiwm, config: { upstream: { ca_file: pems.certificateFile } } }, async (gateway) => {
                assert.deepEqual(await bystanders(gateway, aiwm), [], 'the control');
                aiwm.trouble = (socket, got) => {
                    if (!is(got, '/odd')) return false;
                    socket.below.write(Buffer.from(hex, 'hex'));
                    return true;
                };
                const calls = numbers(8).map(() => call(gateway.target, 'GET', '/odd', { token: attacker() }));
                for (const answer of await Promise.all(calls)) assert.equal(answer.status, 502);
                assert.deepEqual(await bystanders(gateway, aiwm), []);
                assert.ok(!gateway.log.some((line) => line.message === 'the controller fails'));
                aiwm.trouble = () => false;
            });
        });
});

describe('a probe', SUITE, () => {
    const health = (more) => (socket) => socket.write(json('503 Service Unavailable', {
        status: 'error', info: {}, error: { database: { status: 'down' } },
    }, more));

    test('that AIWM answers 503 itself leaves the API open: its database is slow', async () => {
        let asked = 0;
        const answer = health({ 'x-correlation-id': '0b318316-fa8d-4e61-ad7d-2b7aafa5d280' });
        const aiwm = await Aiwm.start({ health: (socket) => (asked++, answer(socket)) });
        await using({ stub: aiwm, config: { breaker: { failures: 1 } } }, async (gateway) => {
            await eventually('a probe', () => asked > 0);
            assert.deepEqual(await bystanders(gateway, aiwm), []);
            assert.equal(await leftAlone(gateway), 0);
        });
    });

    test('that is answered 503 by something else opens the breaker', async () => {
        const aiwm = await Aiwm.start({ health: health({}) });
        await using({ stub: aiwm, config: { breaker: { failures: 1 } } }, (gateway) =>
            eventually('the breaker to open', async () => await leftAlone(gateway) === 1));
    });
});

describe('connections to the controller', SUITE, () => {
    test('that refused an upgrade are not used for others\' calls', () =>
        contained({ upstream: { response_timeout: '2s' } }, (socket, got) => {
            if (socket.isDeaf) return true; // as Node's own server, which has handed the socket on
            if (!is(got, '/up')) return false;
            socket.isDeaf = true;
            socket.write(json('403 Forbidden', {}));
            return true;
        }, async (gateway) => {
            const upgrades = numbers(10).map(() => exchange(gateway.target, 'GET', '/up', {
                headers: { Connection: 'Upgrade', Upgrade: 'websocket' },
            }));
            for (const answer of await Promise.all(upgrades)) assert.equal(answer.status, 403);
        }));

    test('bodies in drips hold no permits for longer than a call may take', async () => {
        const aiwm = await Aiwm.start();
        const victims = new Set(numbers(6, 70).map(agentId));
        aiwm.trouble = (socket, got) => {
            const id = /^\/agents\/(\w{24})\//.exec(got.target)?.[1];
            if (!victims.has(id)) return false;
            socket.write('HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{');
            const drip = setInterval(() => socket.write(' '), 100);
            socket.on('close', () => clearInterval(drip));
            return true;
        };
        const config = {
            queue: { connect: 2, control: 2, heartbeat: 2, wait: '300ms' }, upstream: { response_timeout: '1s' },
        };
        await using({ stub: aiwm, config }, async (gateway) => {
            const send = (n, action) => call(gateway.target, 'POST', path(n, action), {
                token: agentToken(agentId(n)), body: { status: 'online' },
            });
            const calls = [connect(gateway, 70), connect(gateway, 71), send(72, 'heartbeat'), send(73, 'heartbeat')]
                .map((one) => one.catch(() => {}));
            await eventually('the permits to be taken', async () => await inside(gateway, 'connect') === 2);
            for (const name of ['connect', 'heartbeat'])
                await eventually(`${name} to be free`, async () => await inside(gateway, name) === 0, 14000);
            await Promise.all(calls);
            aiwm.trouble = () => false; // TERM delivers what is held
            assert.deepEqual(await bystanders(gateway, aiwm), []);
        });
    });
});

describe('clients that do not read', SUITE, () => {
    test('keep no connect permit with an answer that has begun', async () => {
        const aiwm = await Aiwm.start();
        const body = Buffer.alloc(8 << 20, 'x');
        aiwm.trouble = (socket, got) => {
            if (!/x-www-form-urlencoded/.test(got.header('content-type') ?? '')) return false;
            socket.write(answerBytes(body));
            return true;
        };
        await using({ stub: aiwm, config: { queue: { connect: 2 }, limits: unlimited } }, async (gateway) => {
            const wires = await Promise.all([1, 2].map(() => Wire.open(gateway.target)));
            for (const [i, wire] of wires.entries()) {
                wire.send(request('POST', path(600 + i), {
                    headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'secret=x',
                }));
                wire.socket.pause();
            }
            await eventually('both permits to be taken', async () => await inside(gateway, 'connect') === 2);
            await eventually('both to be free', async () => await inside(gateway, 'connect') === 0, 14000);
            assert.deepEqual(await bystanders(gateway, aiwm), []);
            for (const wire of wires) wire.close();
        });
    });
});

describe('clients that have gone', SUITE, () => {
    const begins = (socket, got) => {
        if (!is(got, '/events')) return false;
        socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n');
        return true;
    };

    for (const [what, behind] of [['a client', ''], ['a client that has pipelined 200 KB', 'x'.repeat(200000)]])
        test(`the call of ${what} ends with its connection`, () =>
            contained({ queue: { streams: 5, long: 5 } }, (socket, got) =>
                begins(socket, got) || is(got, '/deployments'), async (gateway) => {
                const open = async (method, target) => {
                    const wire = await Wire.open(gateway.target);
                    wire.send(Buffer.concat([request(method, target), Buffer.from(behind)]));
                    return wire;
                };
                const wires = await Promise.all(numbers(5).flatMap(() => [
                    open('GET', '/events'), open('POST', '/deployments/x/inference/v1'),
                ]));
                await eventually('all of them', async () =>
                    await inside(gateway, 'stream') === 5 && await inside(gateway, 'long') === 5);
                for (const wire of wires) wire.close();
                await eventually('their ends', async () =>
                    await inside(gateway, 'stream') === 0 && await inside(gateway, 'long') === 0, 12000);
            }));
});

describe('an agent\'s own ordered calls', SUITE, () => {
    test('are not refused because a user of another organization calls for it all the time', async () => {
        const aiwm = await Aiwm.start();
        const victim = agentId(402);
        aiwm.trouble = (socket, got) => {
            if (got.target !== `/agents/${victim}/disconnect`) return false;
            const isMine = /mine/.test(got.body.toString());
            setTimeout(() => socket.write(isMine
                ? json('201 Created', { success: true })
                : json('403 Forbidden', { statusCode: 403, message: 'no', path: '/', correlationId: 'c' })), 20);
            return true;
        };
        const config = { limits: { control_rate: 0, api_rate: 0 } };
        await using({ stub: aiwm, config }, async (gateway) => {
            const own = { token: agentToken(victim, { orgId: OTHER_ORG }) };
            const user = adminToken({ sub: '6ff0000000000000000000aa', roles: ['organization.viewer'], orgId: '6ff000000000000000000666' });
            let runs = true, theirs = 0;
            const loops = numbers(20).map(async () => {
                while (runs) {
                    await call(gateway.target, 'POST', `/agents/${victim}/disconnect`, { token: user, body: {} });
                    theirs++;
                }
            });
            await eventually('the siege', () => theirs > 20);
            for (const _ of numbers(10)) {
                const gone = await call(gateway.target, 'POST', `/agents/${victim}/disconnect`, { ...own, body: { reason: 'mine' } });
                assert.equal(gone.status, 201);
                const passed = await call(gateway.target, 'POST', `/agents/${victim}/heartbeat`, {
                    ...own, body: { status: 'online', pad: 'x'.repeat(9000) },
                });
                assert.equal(passed.status, 201);
            }
            runs = false;
            await Promise.all(loops);
        });
    });
});
