// The gateway in front of a controller on a real Express 5 and socket.io (tests/aiwm-node): whatever
// becomes of one client's calls and however long they last, the calls of others are served.
// `npm ci` in tests/aiwm-node installs the packages; tests/support/run-tests.sh does that.
import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { using as usingAny } from './support/connecting.mjs';
import { agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { timelapse } from './support/timelapse.mjs';
import { Wire, call, exchange, request } from './support/wire.mjs';

const load = async () => ({
    ...await import('../aiwm-node/controller.mjs'), ...await import('../aiwm-node/bystanders.mjs'),
});

// Only a package that is missing is a reason to skip, and with FAIL_ON_SKIP not even that.
const aiwm = await load().catch((error) => {
    if (process.env.FAIL_ON_SKIP || error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    return undefined;
});
const SUITE = {
    timeout: 40000, concurrency: 4,
    skip: !aiwm && 'packages are missing: npm ci in tests/aiwm-node',
};
const sanitized = /asan|tsan/.test(process.env.BUILD ?? '') || Boolean(process.env.GATEWAY_WRAPPER);

// ---- the keys of long calls, in one place ----

/** A configuration with so many places for long calls, and so long for their first byte. */
const withLong = ({ places, timeout }, { queue, upstream, ...more } = {}) => ({
    ...more, queue: { ...queue, long: places }, upstream: { ...upstream, long_timeout: timeout },
});

// ---- what all tests use ----

const INFERENCE = '/deployments/6e0000000000000000000001/inference/v1/chat/completions';
const LONG = [
    ['POST', INFERENCE],
    ['POST', '/mcp'],
    ['POST', '/util/generate-text'],
    ['POST', '/conversations/6e0000000000000000000002/summary'],
    ['POST', '/resources/6e0000000000000000000003/exec'],
];
const AGENT = agentToken(agentId(1));

/** All at once. When a test has failed already, what becomes of them does not matter. */
function times(count, what) {
    const all = Promise.all(Array.from({ length: count }, (_, i) => what(i)));
    all.catch(() => {});
    return all;
}

/** A controller and a gateway in front of it: plain HTTP, and one worker, so one connection pool. */
async function using(config, body, { env } = {}) {
    const controller = await aiwm.Controller.start();
    const plain = { ...config, tls: { enabled: false } };
    await usingAny({ stub: controller, config: plain, env }, (gateway) => body(gateway, controller));
}

const ask = (gateway, method, target, { token = AGENT, ...more } = {}) => call(gateway.target, method, target, {
    token, body: method === 'POST' ? { messages: [{ role: 'user', content: 'hi' }] } : undefined,
    ms: 20000, ...more,
});

const inside = (gateway, kind) => gateway.metric('controller_calls', `class="${kind}"`);
const waiting = (gateway, kind) => gateway.metric('controller_waiting', `class="${kind}"`);

/** So many calls to a path, which the controller holds until `answers()` is called. `reached`: how many
 * it holds when all others wait in the gateway or were refused. */
async function hold(gateway, controller, count, method, target, options) {
    let over = 0;
    const all = times(count, () => ask(gateway, method, `${target}?hold`, options).finally(() => over++));
    await eventually('each to be somewhere', async () => controller.holds(target) + over +
        await waiting(gateway, 'api') + await waiting(gateway, 'long') === count);
    const answers = async () => {
        for (; over < count; await sleep(10)) controller.release(target);
        return all;
    };
    return { reached: controller.holds(target), answers };
}

const having = (answers, ...statuses) => answers.filter((a) => statuses.includes(a.status)).length;

// ---- the circuit breaker ----

/** Ten calls of one agent, all at once. As all attacks it gives a function that checks their answers. */
const inferring = (query, check) => async (gateway) => {
    const answers = await times(10, (i) =>
        ask(gateway, 'POST', `${INFERENCE}?${query}`, { headers: { 'X-Correlation-Id': `attack-${i}` } }));
    return () => answers.forEach(check);
};

const isPassedOn = (status, body) => (answer, i) => {
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.header('x-correlation-id'), `attack-${i}`);
    assert.match(answer.text, body);
};

const isGatewaysOwn = (...codes) => (answer) => assert.ok(codes.includes(answer.json.code), answer.text);

const silent = (method, target) => async (gateway) => {
    const answers = await times(10, () => ask(gateway, method, `${target}?silent`));
    return () => answers.forEach(isGatewaysOwn('GATEWAY_UPSTREAM_TIMEOUT'));
};

const UPGRADE = {
    Connection: 'Upgrade', Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

/** Without a token, to a path that socket.io does not serve: engine.io closes it after a second. */
const upgrading = async (gateway) => {
    const answers = await times(10, () =>
        exchange(gateway.target, 'GET', '/ws/socket.io/?EIO=4&transport=websocket', { headers: UPGRADE }));
    return () => answers.forEach(isGatewaysOwn('GATEWAY_UPSTREAM_CLOSED', 'GATEWAY_UPSTREAM_TIMEOUT'));
};

/** On a connection that has carried an answer before, it neither answers nor closes. */
const upgradingOnUsed = async (gateway, controller) => {
    const { answers } = await hold(gateway, controller, 10, 'GET', '/agents');
    await answers();
    return upgrading(gateway);
};

const attacks = {
    'are answered 503 by their LLM provider': inferring('status=503', isPassedOn(503, /^\{"ok":false\}$/)),
    'are answered 504 by their LLM provider': inferring('status=504', isPassedOn(504, /^\{"ok":false\}$/)),
    'are answered 503 by AIWM': inferring('error=503', isPassedOn(503, /"message":"Not now".*"correlationId":"attack-/)),
    'have a provider that AIWM cannot reach': inferring('unreachable', isPassedOn(502, /BadGatewayException/)),
    'get an answer whose head is too large': inferring('head_bytes=17408', isGatewaysOwn('GATEWAY_UPSTREAM_PROTOCOL')),
    'are closed without an answer': inferring('close', isGatewaysOwn('GATEWAY_UPSTREAM_CLOSED')),
    'are long and time out': silent('POST', INFERENCE),
    'are not long and time out': silent('GET', '/agents'),
    'are upgrades to a path that socket.io does not serve': upgrading,
    'are such upgrades, on connections that were used before': upgradingOnUsed,
};

describe('calls of one client keep nobody else from AIWM when they', SUITE, () => {
    // Once open the circuit breaker stays open for the rest of the test: whatever it refuses is seen.
    const config = withLong({ timeout: '2s' }, {
        breaker: { open: '60s', max_open: '60s' }, upstream: { response_timeout: '2s' },
    });

    for (const [name, burst] of Object.entries(attacks))
        test(name, () => using(config, async (gateway, controller) => {
            const round = await aiwm.bystandersOf(gateway, controller);
            const control = await round();
            assert.deepEqual(control, aiwm.ALL_SERVED, 'without the attack');
            const first = await burst(gateway, controller);
            const [attacked, second] = await Promise.all([round(), burst(gateway, controller)]);
            assert.deepEqual(attacked, control);
            first();
            second();
            assert.equal(await gateway.metric('controller_left_alone'), 0);
        }));
});

test('an AIWM that cannot be reached opens the circuit breaker; once it is back nobody is refused', SUITE, () =>
    using({ breaker: { open: '300ms', max_open: '500ms' } }, async (gateway, controller) => {
        const round = await aiwm.bystandersOf(gateway, controller);
        const control = await round();
        await controller.stop();
        await eventually('the circuit breaker to open', async () => {
            await aiwm.connect(gateway, agentId(7)); // no forwarded call
            return (await ask(gateway, 'GET', '/agents')).json.code === 'GATEWAY_CONTROLLER_DOWN';
        });
        const gone = await round();
        assert.deepEqual(gone, { ...aiwm.NONE_SERVED, 'cached connect': aiwm.EACH });
        await controller.listen();
        await eventually('it to close', async () => (await ask(gateway, 'GET', '/agents')).status === 200);
        assert.deepEqual(await round(), control);
    }));

// ---- places ----

describe('long calls', SUITE, () => {
    test('are these, in each spelling that AIWM accepts, and no others', () =>
        using({ upstream: { strip_prefix: '/dev/aiwm' } }, async (gateway, controller) => {
            const spellings = [
                ...LONG, ['GET', INFERENCE], ['PUT', `${INFERENCE}/x`], ['POST', '/dev/aiwm/mcp'],
                ['POST', '/MCP'], ['POST', '/mcp/'], ['POST', '/Util/Generate-Text/'],
            ];
            const others = [
                ['GET', '/agents'], ['GET', '/conversations/6e0000000000000000000002'], ['GET', '/mcp'],
                ['GET', '/executions/_statistics/summary'], ['POST', '/agents/6e0000000000000000000002/inference/x'],
            ];
            const calls = [...spellings, ...others];
            const answers = times(calls.length, (i) => ask(gateway, calls[i][0], `${calls[i][1]}?hold`));
            await eventually('all', () => controller.holds() === calls.length);
            assert.deepEqual([await inside(gateway, 'long'), await inside(gateway, 'api')],
                [spellings.length, others.length]);
            controller.release();
            assert.equal(having(await answers, 200, 201), calls.length - 2, 'GET /mcp and the last one are 404');
        }));

    test('140 of one agent at once take no place from anybody else', () => {
        const config = { queue: { wait: '1s' }, limits: { api_rate: 1000, api_burst: 1000 } };
        return using(config, async (gateway, controller) => {
            const round = await aiwm.bystandersOf(gateway, controller);
            const gets = async () =>
                having(await times(50, () => ask(gateway, 'GET', '/agents', { token: aiwm.otherUser() })), 200);
            const control = [await gets(), await round()];
            assert.deepEqual(control, [50, aiwm.ALL_SERVED]);
            const { reached, answers } = await hold(gateway, controller, 140, 'POST', INFERENCE);
            assert.deepEqual([await gets(), await round()], control);
            assert.equal(reached, 140);
            assert.equal(having(await answers(), 200), 140);
        });
    });

    test('beyond queue.long are refused, and no other calls', () =>
        using(withLong({ places: 4 }, { queue: { wait: '300ms' } }), async (gateway, controller) => {
            const round = await aiwm.bystandersOf(gateway, controller);
            const { reached, answers } = await hold(gateway, controller, 7, 'POST', INFERENCE);
            assert.equal(reached, 4);
            await eventually('three refusals', async () => await waiting(gateway, 'long') === 0);
            // One of them is an MCP call.
            assert.deepEqual(await round(), { ...aiwm.ALL_SERVED, 'MCP call': 0 });
            const all = await answers();
            assert.deepEqual([having(all, 200), having(all, 503)], [4, 3]);
            for (const answer of all.filter((a) => a.status === 503)) {
                assert.equal(answer.json.code, 'GATEWAY_CONTROLLER_BUSY');
                assert.ok(Number(answer.header('retry-after')) >= 1);
            }
        }));

    for (const [name, method, target] of [['long calls', 'POST', INFERENCE], ['calls that are not', 'GET', '/agents']])
        test(`slow ones of a hundred agents leave api its 128 places: ${name}`, () =>
            using({}, async (gateway, controller) => {
                const user = { token: aiwm.otherUser() };
                const reached = async () => {
                    const held = await hold(gateway, controller, 120, 'GET', '/agents', user);
                    return [held.reached, having(await held.answers(), 200)];
                };
                // Quick ones first: what comes then is slow beside them.
                await times(300, () => ask(gateway, 'GET', '/agents', user));
                const control = await reached();
                assert.deepEqual(control, [120, 120]);
                await times(100, async (i) => {
                    const token = agentToken(agentId(100 + i));
                    for (let n = 0; n < 6; n++) await ask(gateway, method, `${target}?after_ms=400`, { token });
                });
                assert.equal(await gateway.metric('controller_limit', 'class="api"'), 128);
                assert.deepEqual(await reached(), control);
            }));
});

// ---- time ----

const EVENTS = { Accept: 'application/json, text/event-stream' };
const isTooLate = (answer) => assert.deepEqual([answer.status, answer.json.code], [504, 'GATEWAY_UPSTREAM_TIMEOUT']);

describe('time', SUITE, () => {
    test('a long call may take upstream.long_timeout, other calls upstream.response_timeout', () =>
        using(withLong({ timeout: '30s' }, { upstream: { response_timeout: '1s' } }), async (gateway) => {
            const late = (method, target, headers) => ask(gateway, method, `${target}?after_ms=2500`, { headers });
            const [control, ...answers] = await Promise.all([
                late('GET', '/agents'),
                ...LONG.map(([method, target]) => late(method, target)),
                late('POST', INFERENCE, EVENTS), late('POST', '/mcp', EVENTS),
            ]);
            isTooLate(control);
            for (const answer of answers) assert.ok([200, 201].includes(answer.status), answer.text);
        }));

    test('a long call that takes longer is answered 504', () =>
        using(withLong({ timeout: '500ms' }, { upstream: { response_timeout: '30s' } }), async (gateway) => {
            const late = (method, target) => ask(gateway, method, `${target}?after_ms=1500`);
            const [control, answer] = await Promise.all([late('GET', '/agents'), late('POST', INFERENCE)]);
            assert.equal(control.status, 200);
            isTooLate(answer);
        }));

    test('the default is 300 s: an answer after 75 s is passed on, no answer is a 504 then', { skip: sanitized && 'no preloading here' }, () => {
        const FAST = 40;
        const config = { upstream: { connect_timeout: '60s' }, breaker: { failures: 1000, failure_percent: 100 } };
        return using(config, async (gateway) => {
            const late = (method, target) => ask(gateway, method, `${target}?after_ms=${75000 / FAST}`);
            const start = performance.now();
            const silence = ask(gateway, 'POST', `${INFERENCE}?silent`).then((answer) => {
                isTooLate(answer);
                return (performance.now() - start) / 1000 * FAST;
            });
            silence.catch(() => {});
            const [control, answer] = await Promise.all([late('GET', '/agents'), late('POST', INFERENCE)]);
            isTooLate(control);
            assert.equal(answer.status, 200, answer.text);
            const seconds = await silence;
            assert.ok(seconds > 295, `${seconds} s`);
        }, { env: timelapse(FAST) });
    });

    describe('of an answer that has begun', { concurrency: true }, () => {
        const config = withLong({ timeout: '1s' }, { upstream: { response_timeout: '1s' } });
        const silence = (type) => `stream=${type}&silence_ms=2500`;

        test('an event stream and a long call may be silent between bytes, another call may not', () =>
            using(config, async (gateway) => {
                const begun = (method, target, type, headers) =>
                    ask(gateway, method, `${target}?${silence(type)}`, { headers });
                const control = begun('GET', '/agents', 'application/json');
                const all = await Promise.all([
                    begun('GET', '/agents', 'text/event-stream'),
                    begun('GET', '/agents', 'text/event-stream', EVENTS),
                    begun('POST', INFERENCE, 'text/event-stream'),
                    begun('POST', INFERENCE, 'text/event-stream', EVENTS),
                    ...LONG.map(([method, target]) => begun(method, target, 'application/json')),
                    assert.rejects(control, /connection (ended|reset) after/),
                ]);
                all.pop();
                for (const answer of all) assert.match(answer.text, /\[DONE\]\s*$/);
            }));

        // The gateway stops reading until the client has caught up. No timer may start with that.
        test('... also after the client was slow', () =>
            using(config, async (gateway) => {
                const bytes = 24 << 20;
                const target = `${INFERENCE}?stream=text/event-stream&silence_ms=4000&first_bytes=${bytes}`;
                const taken = await new Promise((resolve, reject) => {
                    const headers = { Authorization: `Bearer ${AGENT}`, 'Content-Length': 0 };
                    http.request({ port: gateway.port, host: '127.0.0.1', method: 'POST', path: target, headers },
                        (response) => {
                            let sum = 0;
                            response.pause();
                            setTimeout(() => response.on('data', (piece) => (sum += piece.length)).resume(), 500);
                            response.on('end', () => resolve(sum));
                            response.on('error', reject);
                        }).on('error', reject).end();
                });
                assert.ok(taken > bytes, `${taken} bytes`);
            }));

        test('a silent stream ends when its client leaves', () =>
            using(config, async (gateway, controller) => {
                const wire = await Wire.open(gateway.target);
                wire.send(request('GET', '/agents?stream=text/event-stream&silence_ms=60000', {
                    headers: { Authorization: `Bearer ${AGENT}` },
                }));
                await wire.bytes(100);
                assert.equal(controller.unanswered, 1);
                wire.close();
                await eventually('the call to end', () => controller.unanswered === 0);
            }));
    });
});
