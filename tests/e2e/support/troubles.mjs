// What tests of Redis' troubles share: a gateway with a Redis, agents that must not notice, and how
// a trouble shows to operators.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { eventually, sleep } from './child.mjs';
import { connect } from './connecting.mjs';
import { startGateway } from './gateway.mjs';
import { agentToken } from './jwt.mjs';
import { Redis } from './redis.mjs';
import { Stub, agentId } from './stub.mjs';
import { Toxic } from './toxic.mjs';
import { Wire, request } from './wire.mjs';

/** Times that a test can wait for. */
const quick = {
    forward_interval: '1s', max_hold: '700ms', min_forward_gap: '200ms', max_rate: 100, expiry: '1h',
};

/** A stub, a Redis (options: see redis.mjs; or a ready one) and a gateway that knows it, for one
 * test. settings(redis): the gateway's redis.*, redis.url is that of the server; stub: for Stub.start. */
export async function withRedis({ redis: given, options, settings = () => ({}), config, env, stub: stubOptions }, body) {
    const stub = await Stub.start({ transcripts: false, ...stubOptions });
    let redis = given;
    let gateway;
    try {
        redis ??= await Redis.start(options);
        gateway = await startGateway(stub, { env, config: {
            workers: 1, heartbeat: quick, redis: { url: redis.url, ...settings(redis) }, ...config,
        } });
        await body(gateway, redis, stub);
        await gateway.stop();
    } finally {
        await gateway?.discard();
        if (!given) await redis?.discard();
        await stub.stop();
    }
}

/** The text in a file of the server's directory: for password_file. */
export function fileWith(redis, text) {
    const file = path.join(redis.dir, `${text.replace(/\W/g, '')}.given`);
    fs.writeFileSync(file, text, { mode: 0o600 });
    return file;
}

export const isUp = (gateway, ms) =>
    eventually('redis is up', async () => (await gateway.metric('redis_up')) === 1, ms);

export const isDown = (gateway, ms) =>
    eventually('redis is down', async () => (await gateway.metric('redis_up')) === 0, ms);

export const isCounted = (gateway, reason, ms) => eventually(`the trouble ${reason} is counted`,
    async () => (await gateway.metric('redis_errors_total', `reason="${reason}"`)) > 0, ms);

/** What was logged of changes: ['tls', 'well', ...]. */
export const changes = (gateway) => gateway.log
    .map(({ message, reason }) => message === 'redis is in trouble' ? reason
        : message === 'redis is well again' ? 'well' : undefined)
    .filter(Boolean);

/** While `body` runs, agents connect and send heartbeats without pause; none of them is refused,
 * waits longer than `slowestMs`, or loses its connection. Returns how many asked, and how many
 * heartbeats were kept in memory only. */
export async function unnoticed(gateway, body, { agents = 6, slowestMs = 2000 } = {}) {
    const told = { requests: 0, inMemory: 0, slowestMs: 0 };
    const work = { over: false };
    for (let n = 0; n < agents; n++) assert.equal((await connect(gateway, n)).status, 201);
    const all = Array.from({ length: agents }, (_, n) => one(gateway, n, work, told));
    try {
        await body();
    } finally {
        work.over = true;
        await Promise.all(all);
    }
    assert.ok(told.slowestMs <= slowestMs, `one waited ${told.slowestMs} ms`);
    return told;
}

async function one(gateway, n, work, told) {
    const wire = await Wire.open(gateway.target);
    const token = agentToken(agentId(n));
    for (let mark = 1; !work.over; mark++) {
        const isConnect = mark % 10 === 0;
        const start = performance.now();
        if (isConnect) {
            assert.equal((await connect(gateway, n)).status, 201);
        } else {
            wire.send(request('POST', `/agents/${agentId(n)}/heartbeat`, {
                headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
                body: { status: 'online', metrics: { mark } },
            }));
            const answer = await wire.answer();
            assert.equal(answer.status, 201, answer.text);
            told.inMemory += answer.header('x-aiwm-ack') === 'memory' ? 1 : 0;
        }
        told.requests++;
        told.slowestMs = Math.max(told.slowestMs, performance.now() - start);
        await sleep(30);
    }
    wire.close();
}

/** The trouble is shown, unnoticed by agents (a connection that has nothing to say, the one between
 * replicas, learns of it within 6 s); then `heal` heals it without a restart. */
export async function comesAndGoes(gateway, reasons, { hurt, heal, ms = 15000 }) {
    await isUp(gateway);
    const told = await unnoticed(gateway, async () => {
        await hurt();
        await isDown(gateway, ms);
        await heal();
        await isUp(gateway, ms);
        await eventually('it is said', () => changes(gateway).at(-1) === 'well', ms);
    });
    const said = changes(gateway);
    assert.equal(said.length, 2, said.join());
    assert.ok(reasons.includes(said[0]), said[0]);
    return told;
}

/** The same with a relay between gateway and Redis. */
export async function withToxic(setup, body) {
    const redis = await Redis.start({ appendonly: true });
    const toxic = await Toxic.start(redis.port);
    try {
        await withRedis({ redis, settings: () => ({ url: `redis://127.0.0.1:${toxic.port}` }), ...setup },
            (gateway) => body(gateway, toxic, redis));
    } finally {
        await toxic.stop();
        await redis.discard();
    }
}
