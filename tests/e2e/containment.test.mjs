// What one caller does must not refuse another. Each attack runs beside bystanders of another
// organization, and the same bystanders run without it, as a control.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Aiwm, OTHER_ORG, bystanders, contained, json } from './support/bystanders.mjs';
import { eventually, sleep } from './support/child.mjs';
import { cacheStatus, connect, path, using } from './support/connecting.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { Redis } from './support/redis.mjs';
import { agentId } from './support/stub.mjs';
import { HEALTHY, Upstream } from './support/upstream.mjs';
import { Wire, call, exchange, request } from './support/wire.mjs';

const SUITE = { timeout: 60000, concurrency: 4 };
const numbers = (count, from = 1) => Array.from({ length: count }, (_, i) => from + i);
const ATTACKER = agentId(7777);
const attacker = () => agentToken(ATTACKER, { orgId: '6ff000000000000000000666' });

const is = (got, start) => got.target.startsWith(start);
const inference = '/deployments/6e0000000000000000000001/inference/v1/chat/completions';

describe('the breaker does not open for what becomes of a client\'s call', SUITE, () => {
    const times = numbers(8);
    const post = (gateway, target, more = {}) => call(gateway.target, 'POST', target, {
        token: attacker(), body: { prompt: 'x' }, ...more,
    });

    for (const status of ['502 Bad Gateway', '503 Service Unavailable', '504 Gateway Timeout', '500 No'])
        for (const target of [inference, '/things', '/mcp'])
            test(`POST ${target} is answered ${status}`, () => contained({}, (socket, got) => {
                if (got.method !== 'POST' || !is(got, target)) return false;
                socket.write(json(status, { ok: false }, { 'x-correlation-id': got.header('x-correlation-id') }));
                return true;
            }, async (gateway) => {
                for (const _ of times) {
                    const answer = await post(gateway, target);
                    assert.equal(`${answer.status}`, status.slice(0, 3));
                    assert.deepEqual(answer.json, { ok: false }, 'it is passed on');
                }
            }));

    test('an upgrade without a token is dropped after a while, without an answer', () =>
        contained({}, (socket, got) => {
            if (!is(got, '/nowhere')) return false;
            setTimeout(() => socket.destroy(), 100);
            return true;
        }, async (gateway) => {
            const upgrades = times.map(() => exchange(gateway.target, 'GET', '/nowhere', {
                headers: { Connection: 'Upgrade', Upgrade: 'websocket' },
            }));
            for (const answer of await Promise.all(upgrades)) assert.equal(answer.status, 502);
        }));

    for (const [what, bytes] of [
        ['a head of 17 KB', `HTTP/1.1 200 OK\r\nX-Large: ${'x'.repeat(17 << 10)}\r\nContent-Length: 2\r\n\r\n{}`],
        ['a head that never ends', `HTTP/1.1 200 OK\r\n${'X-Large: xxxxxxxxxxxxxxxxxxxxxx\r\n'.repeat(8000)}`],
        ['no HTTP at all', 'SSH-2.0-OpenSSH_9.2p1\r\n\r\n'],
    ])
        test(`a call is answered with ${what}`, () => contained({}, (socket, got) => {
            if (!is(got, '/odd')) return false;
            socket.write(bytes);
            return true;
        }, async (gateway) => {
            for (const _ of times) {
                const { status } = await call(gateway.target, 'GET', '/odd', { token: attacker() });
                assert.ok([200, 502].includes(status), `${status}`);
            }
        }));

    test('calls are closed without an answer', () => contained({}, (socket, got) => {
        if (!is(got, '/crash')) return false;
        socket.destroy();
        return true;
    }, async (gateway) => {
        for (const _ of times)
            assert.equal((await post(gateway, '/crash')).status, 502);
    }));

    test('calls are never answered', () => contained(
        { upstream: { response_timeout: '300ms', long_timeout: '400ms' } },
        (socket, got) => is(got, '/hang') || is(got, inference),
        async (gateway) => {
            const calls = times.flatMap(() => [post(gateway, '/hang'), post(gateway, inference)]);
            for (const answer of await Promise.all(calls)) assert.equal(answer.status, 504);
        }));

    test('connects of a kind that is not read, by an unauthenticated client, are closed without an answer', () =>
        contained({ limits: { connect_failures_per_ip: 0, connect_failures_per_agent: 0 } }, (socket, got) => {
            if (!/x-www-form-urlencoded/.test(got.header('content-type') ?? '')) return false;
            socket.destroy();
            return true;
        }, async (gateway) => {
            for (const n of times) {
                const answer = await exchange(gateway.target, 'POST', path(5000 + n), {
                    headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'secret=x',
                });
                assert.equal(answer.status, 502);
            }
        }));

    test('connects of that kind do not hide that the controller is gone, either', async () => {
        const aiwm = await Upstream.start((socket) => socket.destroy(), { health: (socket) => socket.destroy() });
        const config = { limits: { connect_failures_per_ip: 0, connect_failures_per_agent: 0 }, breaker: { failures: 4 } };
        await using({ stub: aiwm, config }, async (gateway) => {
            for (const n of numbers(4)) {
                await exchange(gateway.target, 'POST', path(5000 + n), {
                    headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: 'secret=x',
                });
                await connect(gateway, n);
            }
            await eventually('the breaker to open', async () => await gateway.metric('controller_left_alone') === 1, 1000);
        });
    });

    test('disconnects, and heartbeats that are passed on, are closed without an answer', () =>
        contained({}, (socket, got) => {
            if (!is(got, `/agents/${ATTACKER}/`)) return false;
            socket.destroy();
            return true;
        }, async (gateway) => {
            for (const _ of times) {
                const gone = await call(gateway.target, 'POST', `/agents/${ATTACKER}/disconnect`, { token: attacker() });
                assert.equal(gone.status, 502);
                const passed = await exchange(gateway.target, 'POST', `/agents/${ATTACKER}/heartbeat`, {
                    headers: {
                        Authorization: `Bearer ${attacker()}`, 'Content-Type': 'application/x-www-form-urlencoded',
                    },
                    body: 'status=online',
                });
                assert.equal(passed.status, 502);
            }
        }));

    test('trouble makes the gateway ask /health, about once a second', async () => {
        let asked = 0;
        const aiwm = await Aiwm.start({
            health: (socket) => {
                asked++;
                socket.write(HEALTHY);
            },
        });
        aiwm.trouble = (socket, got) => {
            if (!is(got, inference)) return false;
            socket.write(json('503 Service Unavailable', {}));
            return true;
        };
        await using({ stub: aiwm }, async (gateway) => {
            await eventually('the first look', () => asked === 1);
            await call(gateway.target, 'POST', inference, { token: attacker() });
            await eventually('another look, well before five seconds', () => asked === 2, 4000);
            for (let i = 0; i < 300; i++) await call(gateway.target, 'POST', inference, { token: attacker() });
            assert.ok(asked <= 2 + 10, `${asked} looks for 300 failures`);
        });
    });
});

describe('long calls', SUITE, () => {
    const longs = [
        ['POST', '/deployments/x/inference/v1/chat'], ['GET', '/DEPLOYMENTS/x/Inference/models/'],
        ['POST', '/deployments/x/inference/a/b/c/d/e/f/g/h'], ['POST', '/deployments/x/%69nference/y'],
        ['POST', '/util/generate-text'], ['POST', '/conversations/x/summary'], ['POST', '/resources/x/exec'],
        ['POST', '/mcp'], ['POST', '/deployments/x/inference//v1'], ['POST', '/deployments/x/inference/a%zz'],
        ['POST', `/deployments/x/inference/${'s/'.repeat(30)}`], ['POST', `/deployments/x/inference/${'m'.repeat(600)}`],
    ];
    const plain = [
        ['GET', '/mcp'], ['GET', '/deployments/x'], ['GET', '/util/generate-text/x'], ['GET', '/conversations/x'],
        ['GET', '/resources/x'],
    ];

    test('are told by their path, in any spelling', async () => {
        const aiwm = await Aiwm.start();
        await using({ stub: aiwm }, async (gateway) => {
            const made = (kind) => gateway.metric('controller_calls_total', `class="${kind}"`);
            for (const [method, target] of longs)
                await call(gateway.target, method, target, { headers: { Accept: 'application/json, text/event-stream' } });
            assert.equal(await made('long'), longs.length);
            for (const [method, target] of plain) await call(gateway.target, method, target);
            assert.equal(await made('long'), longs.length);
            assert.equal(await made('api'), plain.length);
        });
    });

    test('of one agent refuse no other call, though all their permits are taken', () => {
        const held = [];
        return contained({ queue: { long: 12, api: 2, wait: '300ms' } }, (socket, got) => {
            if (!is(got, inference)) return false;
            held.push(socket);
            return true;
        }, async (gateway, aiwm) => {
            const calls = numbers(20).map(() => call(gateway.target, 'POST', inference, { token: attacker() }));
            await eventually('twelve of them', () => held.length === 12);
            assert.deepEqual(await bystanders(gateway, aiwm), [], 'beside it');
            for (const socket of held) socket.write(json('200 OK', {}));
            const statuses = (await Promise.all(calls)).map((answer) => answer.status).sort();
            assert.deepEqual(statuses, [...Array(12).fill(200), ...Array(8).fill(503)]);
        });
    });

    test('slow calls do not lower the limit of the API', () => contained({ limits: { api_rate: 0 } }, (socket, got) => {
        if (!is(got, '/slow')) return false;
        setTimeout(() => socket.write(json('200 OK', {})), 250);
        return true;
    }, async (gateway) => {
        for (let i = 0; i < 40; i++) await call(gateway.target, 'GET', '/quick'); // a base to compare with
        const round = () => Promise.all(numbers(100).map(() => call(gateway.target, 'GET', '/slow', { token: attacker() })));
        for (let i = 0; i < 6; i++)
            for (const answer of await round()) assert.equal(answer.status, 200);
        assert.equal(await gateway.metric('controller_limit', 'class="api"'), 128);
    }));

    const short = { upstream: { response_timeout: '400ms', long_timeout: '20s' } };
    const late = (start) => (socket, got) => {
        if (!is(got, start)) return false;
        setTimeout(() => socket.write(json('200 OK', { late: true })), 1000);
        return true;
    };

    test('may take as long as upstream.long_timeout for the first byte; others may not', () =>
        contained(short, (...seen) => late(inference)(...seen) || late('/late')(...seen), async (gateway) => {
            const answer = await call(gateway.target, 'POST', inference, { token: attacker() });
            assert.deepEqual([answer.status, answer.json], [200, { late: true }]);
            assert.equal((await call(gateway.target, 'POST', '/late', { token: attacker() })).status, 504);
        }));

    test('end with 504 after upstream.long_timeout', () =>
        contained({ upstream: { long_timeout: '300ms' } }, (socket, got) => is(got, inference), async (gateway) => {
            assert.equal((await call(gateway.target, 'POST', inference, { token: attacker() })).status, 504);
        }));

    /** Begins to answer, is silent for longer than response_timeout, then ends. */
    const silent = (start, type) => (socket, got) => {
        if (!is(got, start)) return false;
        socket.write(`HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:1\r\n`);
        setTimeout(() => socket.write('6\r\ndata:2\r\n0\r\n\r\n'), 1200);
        return true;
    };
    for (const [what, method, target, type, status] of [
        ['an event stream', 'GET', '/events', 'text/event-stream', 200],
        ['an event stream of other spelling', 'POST', '/events', 'Text/Event-Stream; charset=utf-8', 200],
        ['a long call that has begun', 'POST', inference, 'application/json', 200],
        ['any other answer that has begun', 'GET', '/events', 'application/json', 'cut'],
    ])
        test(`${what} may ${status === 'cut' ? 'not ' : ''}be silent between two bytes`, () =>
            contained(short, silent(target, type), async (gateway) => {
                const answer = await call(gateway.target, method, target, { token: attacker() })
                    .catch(() => ({ status: 'cut' }));
                assert.equal(answer.status, status);
                if (status === 200) assert.equal(answer.text, 'data:1data:2');
            }));

    test('a client that leaves a silent stream takes its call along', async () => {
        const aiwm = await Aiwm.start();
        let closed = 0;
        aiwm.trouble = (socket, got) => {
            if (!is(got, '/events')) return false;
            socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n');
            socket.on('close', () => closed++);
            return true;
        };
        await using({ stub: aiwm, config: short }, async (gateway) => {
            const wires = await Promise.all(numbers(3).map(() => Wire.open(gateway.target)));
            for (const wire of wires) wire.send(request('GET', '/events'));
            await eventually('three streams', async () =>
                await gateway.metric('controller_calls', 'class="stream"') === 3);
            await sleep(600); // longer than response_timeout
            assert.equal(closed, 0);
            for (const wire of wires) wire.close();
            await eventually('their calls to end', () => closed === 3);
        });
    });
});

describe('held heartbeats and ordered calls', SUITE, () => {
    const user = (over = {}) => adminToken({ sub: '6ff0000000000000000000aa', roles: ['organization.viewer'], ...over });
    const disconnect = (gateway, id, token) =>
        call(gateway.target, 'POST', `/agents/${id}/disconnect`, { token, body: {} });
    const beat = (gateway, n, status) => call(gateway.target, 'POST', path(n, 'heartbeat'), {
        token: agentToken(agentId(n), { orgId: OTHER_ORG }), body: { status },
    });
    const calm = { heartbeat: { min_forward_gap: '0s' }, limits: { control_rate: 0, api_rate: 0 } };

    /** Runs `clients` loops of `once()` until stopped. */
    function loops(clients, once) {
        let running = true;
        const ends = numbers(clients).map(async () => {
            while (running) await once();
        });
        return async () => {
            running = false;
            await Promise.all(ends);
        };
    }

    test('disconnects of one user for made-up ids keep no acknowledged change from the controller', () =>
        contained(calm, (socket, got) => {
            if (!got.target.endsWith('/disconnect')) return false;
            setTimeout(() => socket.write(json('201 Created', { success: true })), 200);
            return true;
        }, async (gateway, aiwm) => {
            const agents = numbers(20, 300);
            for (const n of agents) assert.equal((await beat(gateway, n, 'online')).status, 201);
            await eventually('the first beats', () => agents.every((n) => aiwm.beats.get(agentId(n)) === 1));
            let made = 0;
            const stop = loops(64, () => disconnect(gateway, agentId(100000 + made++), user()));
            await eventually('the control class to be full', async () =>
                await gateway.metric('controller_calls', 'class="control"') === 16);
            for (const n of agents) assert.equal((await beat(gateway, n, 'busy')).status, 201);
            await eventually('each change to arrive', () =>
                agents.every((n) => aiwm.beats.get(agentId(n)) === 2), 10000);
            await stop();
        }));

    const REFUSED = json('403 Forbidden', { statusCode: 403, message: 'no', path: '/', correlationId: 'c' });

    /** Six connections whose disconnects of one agent are refused one after the other. */
    const besieged = (config) => async () => {
        const aiwm = await Aiwm.start();
        const victim = agentId(400);
        let order = [];
        aiwm.trouble = (socket, got) => {
            if (!is(got, `/agents/${victim}/`)) return false;
            const isBeat = got.target.endsWith('/heartbeat');
            order.push(isBeat ? 'beat' : 'disconnect');
            setTimeout(() => socket.write(isBeat ? json('201 Created', { success: true }) : REFUSED), 20);
            return true;
        };
        await using({ stub: aiwm, config: { ...calm, ...config } }, async (gateway) => {
            assert.equal((await beat(gateway, 400, 'online')).status, 201);
            await eventually('the first beat', () => order.includes('beat'));
            const stop = loops(6, () => disconnect(gateway, victim, user()));
            await eventually('the siege', () => order.length > 10);
            for (const status of ['busy', 'idle', 'online']) {
                order = [];
                assert.equal((await beat(gateway, 400, status)).status, 201);
                await eventually(`${status} to arrive`, () => order.includes('beat'), 10000);
                // One may have been on its way, one more may go.
                const before = order.indexOf('beat');
                assert.ok(before <= 2, `${before} disconnects went before it`);
            }
            order = [];
            await eventually('disconnects go on', () => order.length > 5);
            await stop();
        });
    };

    test('disconnects that are refused one after the other do not keep the agent\'s beat', besieged({}));

    test('nor where beats live in Redis', async () => {
        const redis = await Redis.start();
        try {
            await besieged({ redis: { url: redis.url } })();
        } finally {
            await redis.stop();
        }
    });

    test('a user has a rate of disconnects, and no other user feels it', () =>
        contained({ limits: { control_rate: 1, control_burst: 5 } }, () => false, async (gateway) => {
            const statuses = [];
            for (const n of numbers(8)) statuses.push((await disconnect(gateway, agentId(500 + n), user())).status);
            assert.deepEqual(statuses.slice(0, 5), Array(5).fill(201));
            assert.ok(statuses.slice(5).filter((s) => s === 429).length >= 2, `${statuses}`);
            const other = await disconnect(gateway, agentId(509), user({ sub: '6ff0000000000000000000bb' }));
            assert.equal(other.status, 201);
            assert.equal((await call(gateway.target, 'GET', '/things', { token: user() })).status, 200);
            assert.ok(await gateway.metric('limited_total', 'by="control_rate"') >= 2);
        }));

    test('0 is no limit', () =>
        contained({ limits: { control_rate: 0, control_burst: 1 } }, () => false, async (gateway) => {
            for (const n of numbers(20))
                assert.equal((await disconnect(gateway, agentId(500 + n), user())).status, 201);
        }));

    test('an ordered call that waits too long is refused, and the agent\'s beats go on', async () => {
        const aiwm = await Aiwm.start();
        const victim = agentId(600);
        const held = [];
        aiwm.trouble = (socket, got) => {
            if (!got.target.endsWith('/disconnect')) return false;
            held.push(socket);
            return true;
        };
        await using({ stub: aiwm, config: { ...calm, queue: { wait: '500ms' } } }, async (gateway) => {
            const first = disconnect(gateway, victim, user());
            await eventually('it to be asked', () => held.length === 1);
            const second = await disconnect(gateway, victim, user());
            assert.deepEqual([second.status, second.json.code], [503, 'GATEWAY_CONTROLLER_BUSY']);
            assert.ok(Number(second.header('retry-after')) >= 1);
            held[0].write(REFUSED);
            assert.equal((await first).status, 403);
            assert.equal((await beat(gateway, 600, 'busy')).status, 201);
            await eventually('the beat', () => aiwm.beats.get(victim) === 1);
            assert.equal(held.length, 1, 'the one that was refused is not made later');
        });
    });
});
