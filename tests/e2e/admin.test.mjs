// The admin port and `aiwm-gateway ctl`: what operators see and change, and who may.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { build, eventually } from './support/child.mjs';
import { HIT, assertConnects, connect, cacheStatus } from './support/connecting.mjs';
import { startGateway } from './support/gateway.mjs';
import { agentToken } from './support/jwt.mjs';
import { JWT_SECRET, Stub, agentId } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const TOKEN = 'an-admin-token-of-32-characters!';

let stub, gateway, tokenFile;
before(async () => {
    stub = await Stub.start();
    gateway = await startGateway(stub, { env: { AIWM_GATEWAY_ADMIN_TOKEN: TOKEN } });
    tokenFile = path.join(gateway.dir, 'admin-token');
    fs.writeFileSync(tokenFile, `${TOKEN}\n`);
});
beforeEach(() => stub.reset());
after(async () => {
    await gateway?.stop();
    await stub?.stop();
});

/** { status, body }; as an operator with the token unless headers say otherwise. */
function ask(method, target, { headers = { authorization: `Bearer ${TOKEN}` }, port = gateway.adminPort } = {}) {
    return new Promise((resolve, reject) => {
        http.request({ method, host: '127.0.0.1', port, path: target, headers, agent: false }, (response) => {
            let body = '';
            response.setEncoding('utf8').on('data', (text) => (body += text));
            response.on('end', () => resolve({ status: response.statusCode, body }));
        }).on('error', reject).end();
    });
}

const beat = (n, status = 'online') => call(gateway.target, 'POST', `/agents/${agentId(n)}/heartbeat`,
    { token: agentToken(agentId(n)), body: { status } });

/** Runs ctl; nothing there is a terminal. */
function ctl(...args) {
    return new Promise((resolve) => {
        execFile(path.join(build, 'aiwm-gateway'),
            ['ctl', '--address', `127.0.0.1:${gateway.adminPort}`, ...args],
            { timeout: 20000 }, (error, stdout, stderr) =>
                resolve({ code: error ? error.code : 0, stdout, stderr }));
    });
}

test('the state is JSON and needs no token on this machine', async () => {
    const { status, body } = await ask('GET', '/state', { headers: {} });
    assert.equal(status, 200);
    const state = JSON.parse(body);
    assert.equal(state.started, true);
    assert.equal(state.draining, false);
    assert.equal(state.breaker, 'closed');
    assert.equal(typeof state.heartbeats.held, 'number');
    assert(state.calls.connect.limit > 0);
});

test('the configuration is shown with its secrets masked', async () => {
    const { body } = await ask('GET', '/config');
    assert.match(body, /jwt:/);
    assert(!body.includes(JWT_SECRET) && !body.includes(TOKEN));
});

test('an agent is shown with its last heartbeat and the age of what is cached', async () => {
    await connect(gateway, 101);
    await beat(101, 'busy');
    const { status, body } = await ask('GET', `/agents/${agentId(101)}`);
    const agent = JSON.parse(body);
    assert.equal(status, 200);
    assert.equal(agent.status, 'busy');
    assert.equal(agent.cached, true);
    assert(agent.last_heartbeat_s >= 0 && agent.last_heartbeat_s < 10);
    assert(agent.cached_expires_in_s > 0);
    assert.equal((await ask('GET', `/agents/${agentId(9999)}`)).status, 404);
    assert.equal((await ask('GET', '/agents/x')).status, 400);
});

test('agents come in pages, in the order of their ids, each once, by what is asked for', async () => {
    for (let n = 200; n < 225; n++) await beat(n, n % 5 === 0 ? 'idle' : 'online');
    const seen = [];
    const prefix = agentId(200).slice(0, 20);
    for (let after = ''; after !== undefined;) {
        const page = JSON.parse((await ask('GET', `/agents?limit=10&prefix=${prefix}&after=${after}`)).body);
        assert(page.agents.length <= 10);
        seen.push(...page.agents.map((agent) => agent.id));
        after = page.next;
    }
    const mine = seen.filter((id) => id >= agentId(200) && id < agentId(225));
    assert.deepEqual(mine, Array.from({ length: 25 }, (_, i) => agentId(200 + i)));
    assert.deepEqual(seen, [...seen].sort());
    const idle = JSON.parse((await ask('GET', `/agents?prefix=${prefix}&status=idle`)).body).agents;
    assert.deepEqual(idle.map((agent) => agent.id), [200, 205, 210, 215, 220].map(agentId));
    for (const wrong of ['limit=0', 'limit=1001', 'limit=x', 'only=all', 'after=x'])
        assert.equal((await ask('GET', `/agents?${wrong}`)).status, 400, wrong);
});

test('a parameter that a page does not have is refused, not overlooked', async () => {
    const { status, body } = await ask('GET', '/agents?onyl=held');
    assert.equal(status, 400);
    assert.deepEqual(JSON.parse(body).parameter, 'onyl');
    assert.match(JSON.parse(body).known, /only/);
    assert.equal((await ask('GET', '/state?limit=1')).status, 400);
    assert.equal((await ask('POST', `/drain?agent=${agentId(1)}`)).status, 400);
    assert.equal((await ctl('state', 'now')).code, 1);
});

test('who asks for a page that is not there is told which are', async () => {
    const { status, body } = await ask('GET', '/');
    assert.equal(status, 404);
    assert.match(body, /^GET \/agents$/m);
    const health = await ask('GET', '/healthz', { port: gateway.healthPort });
    assert.equal(health.status, 404);
    assert.match(health.body, /^GET \/readyz$/m);
});

test('explain tells the route, who may, and what follows', async () => {
    const tell = async (method, target) => JSON.parse((await ask('GET',
        `/explain?method=${method}&path=${encodeURIComponent(target)}`)).body);
    assert.equal((await tell('POST', `/AGENTS/${agentId(1)}/Heartbeat/`)).route, '/agents/:id/heartbeat');
    assert.match((await tell('POST', `/agents/${agentId(1)}/heartbeat`)).who, /this very agent/);
    assert.match((await tell('DELETE', `/agents/${agentId(1)}`)).afterwards, /refuses its tokens/);
    assert.equal((await tell('GET', '/health')).route, '(any other)');
    assert.equal((await ask('GET', '/explain?method=GET')).status, 400);
});

test('explain tells the limits in force, and what is kept of the answer', async () => {
    const tell = async (method, target) => JSON.parse((await ask('GET',
        `/explain?method=${method}&path=${encodeURIComponent(target)}`)).body);
    const limit = (explained, key) => explained.limits.find((row) => row.key === key)?.value;
    const beats = await tell('POST', `/agents/${agentId(1)}/heartbeat`);
    assert.equal(limit(beats, 'heartbeat.max_rate'), 10);
    assert.equal(limit(beats, 'limits.api_rate'), undefined);
    assert.equal(beats.cache, 'never kept');
    const connects = await tell('POST', `/agents/${agentId(1)}/connect`);
    assert.equal(limit(connects, 'queue.connect'), 8);
    assert.match(connects.cache, /fresh for 60 s; .* 5 a second .* until 300 s/);
    assert.equal(limit(await tell('GET', '/health'), 'limits.api_burst'), 100);
});

test('a purge by agent makes the next connect ask the controller', async () => {
    await connect(gateway, 301);
    await assertConnects(gateway, 301, HIT);
    assert.equal((await ask('POST', `/purge?agent=${agentId(301)}`)).status, 200);
    await eventually('a connect that is no hit', async () => {
        const answer = await connect(gateway, 301);
        return !HIT.test(cacheStatus(answer));
    });
});

test('a purge of everything makes what is cached stale', async () => {
    await connect(gateway, 302);
    await assertConnects(gateway, 302, HIT);
    assert.equal((await ask('POST', '/purge?everything=yes')).status, 200);
    await eventually('a connect that asks', async () => !HIT.test(cacheStatus(await connect(gateway, 302))));
    assert.equal((await ask('POST', '/purge')).status, 400);
});

test('a purge that is not exactly one of those there are purges nothing', async () => {
    const id = agentId(304);
    const other = agentId(305);
    for (const n of [304, 305]) {
        await connect(gateway, n);
        await assertConnects(gateway, n, HIT);
    }
    const wrong = ['everything=no', 'everything=', 'everything=YES', 'everything=1', 'everything=yes%00', 'everything=yes%20',
        'EVERYTHING=yes', 'everything', 'agent=bad&everything=no', 'agent=bad&everything=yes', `agent=${other}&everything=yes`,
        'agent=&everything=yes', 'everything=yes&everything=no', 'everything=no&everything=yes', 'agent=bad', 'agent=',
        `agent=${id}0`, `agent=${id}%00`, `agent=${other}&agent=${id}`, 'instruction=', 'instruction=a&organization=b', ''];
    for (const query of wrong) {
        const answer = await ask('POST', `/purge?${query}`);
        assert.equal(answer.status, 400, query);
        assert.doesNotMatch(answer.body, /done/, query);
    }
    const refused = await ctl('--token-file', tokenFile, 'purge', 'everything=no');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /everything=yes/);
    for (const words of [['agent=bad', 'everything=no'], [id, 'everything=yes'], ['bad'], ['yes'], [id, other], []])
        assert.equal((await ctl('--token-file', tokenFile, 'purge', ...words)).code, 1, words.join(' '));
    await assertConnects(gateway, 305, HIT);
    // Purges are done in order: after this one all would have been done.
    assert.equal((await ask('POST', `/purge?agent=${other}`)).status, 200);
    await eventually('this one is', async () => !HIT.test(cacheStatus(await connect(gateway, 305))));
    await assertConnects(gateway, 304, HIT);
});

test('revoked tokens are refused, newer ones are not', async () => {
    const now = Math.floor(Date.now() / 1000);
    const by = (iat) => call(gateway.target, 'POST', `/agents/${agentId(303)}/heartbeat`,
        { token: agentToken(agentId(303), { iat }), body: { status: 'online' } });
    assert.equal((await by(now - 10)).status, 201);
    assert.equal((await ask('POST', `/revoke?agent=${agentId(303)}`)).status, 200);
    await eventually('a refusal', async () => (await by(now - 10)).status === 401);
    assert.equal((await by(now + 5)).status, 201);
});

test('nothing is changed without the token, by another origin, or under another name', async () => {
    const target = `/purge?agent=${agentId(1)}`;
    const status = async (headers) => (await ask('POST', target, { headers })).status;
    assert.equal(await status({}), 401);
    assert.equal(await status({ authorization: `Bearer ${TOKEN}x` }), 401);
    assert.equal(await status({ authorization: `Basic ${TOKEN}` }), 401);
    const right = { authorization: `Bearer ${TOKEN}` };
    assert.equal(await status({ ...right, origin: 'http://evil.example' }), 403);
    assert.equal(await status({ ...right, host: 'evil.example' }), 421);
    assert.equal(await status({ ...right, host: `localhost:${gateway.adminPort}` }), 200);
    assert.equal(await status({ ...right, origin: `http://127.0.0.1:${gateway.adminPort}` }), 200);
    assert.equal((await ask('GET', '/state', { headers: { host: 'evil.example' } })).status, 421);
    assert.equal((await ask('GET', '/purge')).status, 405);
    assert.equal((await ask('POST', '/state')).status, 405);
});

test('without a token nobody can change anything', async () => {
    const open = await startGateway(stub);
    try {
        const answer = await ask('POST', '/drain', { port: open.adminPort });
        assert.equal(answer.status, 403);
        assert.match(answer.body, /admin\.token_file/);
        assert.equal((await ask('GET', '/state', { port: open.adminPort, headers: {} })).status, 200);
    } finally {
        await open.stop();
    }
});

test('ctl asks and tells the same', async () => {
    const state = await ctl('state');
    assert.equal(state.code, 0, state.stderr);
    assert.equal(JSON.parse(state.stdout).started, true);
    assert.equal((await ctl('agent', agentId(101))).code, 0);
    const explained = await ctl('explain', 'POST', `/agents/${agentId(1)}/connect?a=b`);
    assert.equal(JSON.parse(explained.stdout).route, '/agents/:id/connect');
    const refused = await ctl('purge', agentId(1));
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /--token-file/);
    assert.equal((await ctl('--token-file', tokenFile, 'purge', agentId(1))).code, 0);
    assert.equal((await ctl('--token-file', tokenFile, 'purge', 'instruction=507f1f77bcf86cd799439011')).code, 0);
    assert.equal((await ctl('--token-file', tokenFile, 'log-level', 'warn')).code, 0);
    assert.equal((await ctl('--token-file', tokenFile, 'log-level', 'debug')).code, 0);
});

test('ctl says what is wrong with a command line, and when nobody is there', async () => {
    assert.equal((await ctl('frobnicate')).code, 64);
    assert.equal((await ctl()).code, 64);
    assert.equal((await ctl('--nonsense', 'state')).code, 64);
    assert.match((await ctl('--help')).stdout, /aiwm-gateway ctl state/);
    const nobody = await ctl('--address', '127.0.0.1:1', 'state');
    assert.equal(nobody.code, 1);
    assert.match(nobody.stderr, /is the\s+gateway running/);
});

test('a drain by an operator ends the process well', async () => {
    const leaving = await startGateway(stub, { env: { AIWM_GATEWAY_ADMIN_TOKEN: TOKEN } });
    assert.equal((await ask('POST', '/drain', { port: leaving.adminPort })).status, 200);
    assert.equal((await leaving.child.exited).code, 0);
    await leaving.stop();
});

test('it serves on for 5 s unless configured otherwise, and says that it is not ready', async () => {
    const leaving = await startGateway(stub, { env: { AIWM_GATEWAY_ADMIN_TOKEN: TOKEN }, config: { drain: undefined } });
    assert.match((await ask('GET', '/config', { port: leaving.adminPort })).body, /drain:\s+delay: 5s/);
    assert.equal((await ask('POST', '/drain', { port: leaving.adminPort })).status, 200);
    assert.equal((await leaving.health('/readyz')).status, 503);
    assert.equal((await connect(leaving, 306)).status, 201, 'a new connection is served');
    leaving.child.signal('SIGTERM'); // we have seen enough
    assert.equal((await leaving.child.exited).code, 0);
    await leaving.stop();
});
