// Everything that comes from outside, and every secret of the configuration, is looked for in all
// that is logged (debug, a line for each request), on the admin port's pages and in the metrics.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { eventually } from './support/child.mjs';
import { connect, path as ofAgent } from './support/connecting.mjs';
import { Gateway } from './support/gateway.mjs';
import { agentToken, sign } from './support/jwt.mjs';
import { Planted } from './support/planted.mjs';
import { JWT_SECRET, agentId } from './support/stub.mjs';
import { Upstream, answerBytes } from './support/upstream.mjs';
import { Wire, call, request } from './support/wire.mjs';

const planted = new Planted();
let planting = 0;

/** A secret that is nowhere else: letters, digits and signs, as secrets have. */
function plant(what) {
    const word = `pl4nted-${what.replace(/[^a-z]/g, '')}-${(++planting).toString(16)}Zq7`;
    planted.add(what, word);
    return word;
}

/** A controller whose every answer holds secrets: status line, fields, body. */
const babbling = () => Upstream.start((socket, asked) => {
    const status = /status=(\d+)/.exec(asked.target)?.[1] ?? '500';
    if (asked.target.includes('broken')) {
        socket.end(`HTTP/1.1 ${plant('a broken answer')} ${plant('a broken answer')}\r\n\r\n`);
        return;
    }
    socket.write(answerBytes(JSON.stringify({ statusCode: Number(status), message: plant('a message of the controller') }), {
        status: `${status} ${plant('a reason phrase')}`,
        headers: { Location: `/${plant('a location')}`, 'Set-Cookie': `a=${plant('a cookie of the controller')}` },
    }));
});

/** A Redis that says no to everything, with secrets. */
function babblingRedis() {
    const sockets = new Set();
    const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => {});
        socket.on('data', () => socket.write(`-${['ERR', 'NOPERM', 'WRONGPASS', plant('an error code').toUpperCase()][sockets.size % 4]} ${plant('an error of Redis')}\r\n`));
    });
    return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({
        port: server.address().port,
        stop() {
            server.close();
            for (const socket of sockets) socket.destroy();
        },
    })));
}

function ask(port, target, { method = 'GET', headers = {} } = {}) {
    return new Promise((resolve, reject) => {
        http.request({ method, host: '127.0.0.1', port, path: target, headers, agent: false }, (response) => {
            let text = '';
            response.setEncoding('utf8').on('data', (piece) => (text += piece));
            response.on('end', () => resolve(text));
        }).on('error', reject).end();
    });
}

/** Requests of all kinds, with something in every place. */
async function babble(gateway, n) {
    const headers = () => ({
        Cookie: `session=${plant('a cookie')}`, 'X-Api-Key': plant('a field'), Referer: `http://x/?t=${plant('a referer')}`,
        'User-Agent': plant('a user agent'), 'Proxy-Authorization': `Basic ${plant('proxy credentials')}`,
        'X-Forwarded-For': plant('a claim'), Forwarded: `for=${plant('a claim')}`, traceparent: plant('a trace'),
        'x-correlation-id': `${plant('a correlation id that is none')} `.repeat(8),
        'X-Organization-Id': plant('an organization'), 'Accept-Language': plant('a language'),
    });
    const token = () => {
        const made = agentToken(agentId(n));
        planted.addToken('a token', made);
        return made;
    };
    const bearers = () => [token(), `${token()}x`, plant('a token that is none'), sign({ sub: plant('a subject'), exp: 1 })];
    for (const status of [200, 401, 404, 500, 503])
        await call(gateway.target, 'GET', `/reset/${plant('a path')}/${plant('a path')}?token=${plant('a query')}&status=${status}&${plant('a query')}`, { headers: headers() });
    for (const bearer of bearers()) {
        await call(gateway.target, 'POST', ofAgent(n, 'heartbeat'), { token: bearer, headers: headers(), body: { status: plant('a status'), metrics: { a: plant('a metric') } } });
        await call(gateway.target, 'POST', ofAgent(n, 'heartbeat'), { token: bearer, body: { status: 'online', metrics: { a: plant('a metric') } } });
        await call(gateway.target, 'POST', ofAgent(n, 'disconnect'), { token: bearer, headers: headers(), body: { reason: plant('a reason') } });
        await call(gateway.target, 'PUT', ofAgent(n, ''), { token: bearer, headers: headers(), body: { name: plant('a name') } });
    }
    for (const authorization of [`Basic ${plant('credentials')}`, plant('credentials'), `Bearer  ${plant('credentials')} x`])
        await call(gateway.target, 'GET', '/agents', { headers: { ...headers(), Authorization: authorization } });
    await connect(gateway, n, { secret: plant('a secret') });
    await connect(gateway, plant('an id'), { secret: plant('a secret') });
    for (const body of [`{"secret":"${plant('a secret')}"`, `{"secret":${plant('a secret')}}`, `secret=${plant('a secret')}`])
        await call(gateway.target, 'POST', ofAgent(n), { body });
    await call(gateway.target, 'POST', ofAgent(n), { body: { secret: plant('a secret').repeat(8000) } });
    await call(gateway.target, 'GET', '/broken', {}).catch(() => {});
    for (const bytes of [
        `${plant('a method')} / HTTP/1.1\r\nHost: x\r\n\r\n`, `${plant('no http')}\r\n\r\n`,
        `GET / HTTP/1.1\r\nHost: x\r\n${plant('a line without a colon')}\r\n\r\n`,
        `GET /${plant('a path')}\x01 HTTP/1.1\r\nHost: x\r\n\r\n`,
        `GET / HTTP/1.1\r\nHost: ${plant('a host')}\r\nHost: ${plant('a host')}\r\n\r\n`,
        `GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: ${plant('a coding')}\r\n\r\n`,
        `OPTIONS * HTTP/1.1\r\nHost: x\r\nX: ${plant('a field')}\r\n\r\n`,
        request('GET', `http://${plant('an authority')}/${plant('a path')}`),
        request('GET', `/${plant('a long path').repeat(500)}`),
    ]) {
        const wire = await Wire.open(gateway.target);
        wire.send(bytes);
        await wire.answer({ ms: 5000 }).catch(() => {});
        wire.close();
    }
    const plain = await Wire.open({ ...gateway.target, tls: false });
    plain.send(`${plant('no TLS')}\r\n\r\n`);
    await plain.closed().catch(() => {});
    plain.close();
}

test('whatever is planted, no log, no admin page and no metric shows it', { timeout: 60000 }, async () => {
    planted.add('the secret of tokens', JWT_SECRET);
    const controller = await babbling();
    const redis = await babblingRedis();
    const files = {};
    let gateway;
    try {
        const env = {};
        for (const name of ['ADMIN_TOKEN', 'REDIS_PASSWORD', 'UPSTREAM_SERVICE_TOKEN', 'CONNECT_CACHE_KEY', 'CONNECT_CACHE_PREVIOUS_KEY', 'JWT_PREVIOUS_SECRET']) {
            files[name] = plant(name.toLowerCase()).repeat(3);
            env[`AIWM_GATEWAY_${name}`] = files[name];
        }
        gateway = await Gateway.start(controller, { env, config: {
            workers: 2, redis: { url: `redis://127.0.0.1:${redis.port}` }, breaker: { failures: 1000 },
            log: { level: 'debug', access: 'all' }, limits: { api_rate: 0 }, drain: { timeout: '200ms' },
        } });
        for (const n of [1, 2]) await babble(gateway, n);
        await eventually('Redis has said no', () => gateway.log.some((line) => /redis/.test(line.message)));
        // The admin port, asked by those who may not.
        const authorization = `Bearer ${files.ADMIN_TOKEN}`;
        const pages = [];
        for (const target of ['/state', '/config', '/agents', `/agents/${agentId(1)}`])
            pages.push([target, await ask(gateway.adminPort, target, { headers: { authorization } })]);
        for (const target of ['/metrics', '/readyz', '/livez', '/startupz'])
            pages.push([target, (await gateway.health(target)).body]);
        for (const headers of [{ authorization: `Bearer ${plant('a wrong admin token')}` }, { authorization, origin: `http://${plant('an origin')}` }, { authorization, host: plant('a host') }])
            pages.push(['a refusal', await ask(gateway.adminPort, `/purge?agent=${plant('a parameter')}`, { method: 'POST', headers })]);
        // Secrets where paths belong, and other mistakes: the reload is refused, and says why.
        const secretFile = path.join(gateway.dir, 'jwt-secret');
        const mistakes = [
            { jwt: { secret_file: plant('a secret for a path') } },
            { tls: { ...gateway.config.tls, private_key_file: `-----BEGIN PRIVATE KEY-----${plant('a key')}` } },
            { redis: { url: `redis://user:${plant('a password')}@127.0.0.1` } },
            { upstream: { url: `http://user:${plant('a password')}@127.0.0.1` } },
        ];
        for (const mistake of mistakes) {
            const refused = gateway.log.filter((line) => /reload refused/.test(line.message)).length;
            gateway.writeConfig({ ...gateway.config, ...mistake });
            gateway.child.signal('SIGHUP');
            await eventually('it is refused', () => gateway.log.filter((line) => /reload refused/.test(line.message)).length > refused);
        }
        fs.writeFileSync(secretFile, `-----BEGIN PUBLIC KEY-----\n${plant('a key')}`);
        gateway.writeConfig(gateway.config);
        gateway.child.signal('SIGHUP');
        await eventually('it is refused', () => gateway.log.some((line) => /PEM|key/i.test(line.detail ?? '')));

        const lines = gateway.log.filter((line) => line.message === 'request');
        assert.ok(lines.length >= 70, `${lines.length} requests have their lines`);
        assert.ok(planting > 200, 'much was planted');
        const text = gateway.child.lines.join('\n') + gateway.child.stderr;
        planted.assertNotIn('the log', text);
        for (const [name, page] of pages) planted.assertNotIn(name, page);
        assert.throws(() => planted.assertNotIn('a line', `x ${files.ADMIN_TOKEN} x`), /admin/, 'it would be found');
        await gateway.stop({ code: 1 }); // the controller takes no heartbeat
    } finally {
        await gateway?.discard();
        redis.stop();
        await controller.stop();
    }
});
