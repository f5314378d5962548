// The stub held against every transcript of the real controller, and its own routes and faults.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { eventually, sleep } from './support/child.mjs';
import { adminToken, agentToken, decode, serviceToken } from './support/jwt.mjs';
import { freePort } from './support/ports.mjs';
import { Stub, agentId, agentSecret, specialId } from './support/stub.mjs';
import { Session, plain, recordedAnswers, transcripts } from './support/transcripts.mjs';
import { Closed, Wire, call, exchange, request } from './support/wire.mjs';

// Where evhttp, on which the stub is built, does not let it answer as Node does.
const evhttpLimits = {
    'bad-request-line': (now) => ({ status: now.status }),
    'both-length-and-chunked': (now) => ({ status: now.status }),
    'header-too-large': () => ({}),
    'no-host-header': ({ status, headers }) => ({ status, connection: headers.connection }),
};

let stub;
let target;
before(async () => {
    stub = await Stub.start();
    target = { host: '127.0.0.1', port: stub.port };
});
after(() => stub.stop());

test('answers every recorded request as the controller did', async (t) => {
    const session = new Session();
    for (const transcript of transcripts())
        await t.test(transcript.name, async () => {
            const view = evhttpLimits[transcript.name] ?? ((answer) => answer);
            const recorded = recordedAnswers(transcript);
            const answers = await session.play(transcript, target);
            assert.equal(answers.length, recorded.length);
            for (const [i, answer] of answers.entries())
                assert.deepEqual(view(plain(answer)), view(plain(recorded[i])));
        });
});

// ---- what transcripts do not show ----

const connect = (n, secret = agentSecret(n)) =>
    call(target, 'POST', `/agents/${agentId(n)}/connect`, { body: { secret } });
const heartbeat = (id, token, body = { status: 'online' }) =>
    call(target, 'POST', `/agents/${id}/heartbeat`, { token, body });

test('gives a token that lives as long as it is told', async () => {
    await stub.reset();
    await stub.set({ token_ttl_s: 120 });
    const { accessToken, expiresIn } = (await connect(3)).json;
    const { claims } = decode(accessToken);
    assert.equal(claims.exp - claims.iat, 120);
    assert.equal(expiresIn, 120);
});

test('shows settings and status that were changed at the next connect', async () => {
    await stub.reset();
    const token = adminToken();
    const body = { settings: { a: [1, 'b'] }, status: 'inactive' };
    const put = await call(target, 'PUT', `/agents/${agentId(4)}`, { token, body });
    assert.equal(put.status, 200);
    const { json } = await connect(4);
    assert.deepEqual(json.settings, { a: [1, 'b'] });
    assert.equal(decode(json.accessToken).claims.status, 'inactive');
});

test('takes only the new secret after regenerate', async () => {
    await stub.reset();
    const path = `/agents/${agentId(5)}/credentials/regenerate`;
    const { secret } = (await call(target, 'POST', path, { token: adminToken(), body: {} })).json;
    assert.equal((await connect(5)).status, 401);
    assert.equal((await connect(5, secret)).status, 201);
});

test('knows no agent beyond its number, and after reset knows deleted ones again', async () => {
    await stub.reset();
    assert.equal((await connect(999)).status, 201);
    assert.equal((await connect(1000)).status, 404);
    await call(target, 'DELETE', `/agents/${agentId(6)}`, { token: adminToken() });
    assert.equal((await connect(6)).status, 404);
    await stub.reset();
    assert.equal((await connect(6)).status, 201);
});

test('counts and logs what reached it', async () => {
    await stub.reset();
    const token = agentToken(agentId(7));
    await connect(7);
    await connect(7, 'wrong');
    await heartbeat(agentId(7), token);
    await heartbeat(agentId(7), 'x.y.z');
    await heartbeat(specialId(1), token);
    const counts = await stub.counts();
    assert.equal(counts.connects, 2);
    assert.equal(counts.connects_ok, 1);
    assert.equal(counts.bcrypts, 2);
    assert.equal(counts.heartbeats, 3);
    assert.equal(counts.heartbeats_ok, 1);
    const log = await stub.requests();
    assert.equal(log.length, 5);
    assert.deepEqual(log.map((entry) => entry.status), [201, 401, 201, 401, 404]);
    assert.equal(log[2].agent, agentId(7));
    assert.equal(log[2].body, '{"status":"online"}');
    const print = createHash('sha256').update(`Bearer ${token}`).digest('hex').slice(0, 8);
    assert.equal(log[2].authorization, print);
    assert.equal(log[0].authorization, '');
    const later = await stub.requests(log[3].seq);
    assert.deepEqual(later, log.slice(4));
});

// ---- heartbeats in bulk: docs/bulk-heartbeats.openapi.yaml ----

const beat = (n, over = {}) =>
    ({ agentId: agentId(n), status: 'online', at: '2026-01-23T04:23:11.613Z', ...over });
const bulk = (body, token = serviceToken()) =>
    call(target, 'POST', '/agents/heartbeats', { token, body });
const lastBeat = async (n) => (await call(target, 'GET', `/agents/${agentId(n)}`,
    { token: adminToken() })).json.lastHeartbeatAt;

test('has no heartbeats in bulk until it is told to', async () => {
    await stub.reset();
    const { status, json } = await bulk({ heartbeats: [] });
    assert.equal(status, 404);
    assert.equal(json.message, 'Cannot POST /agents/heartbeats');
    await stub.set({ bulk: true });
    assert.deepEqual((await bulk({ heartbeats: [] })).json, { results: [] });
    await stub.set({ bulk: false });
    assert.equal((await bulk({ heartbeats: [] })).status, 404);
    const other = await Stub.start({ bulk: true, transcripts: false });
    const path = '/agents/heartbeats';
    assert.equal((await call({ host: '127.0.0.1', port: other.port }, 'POST', path)).status, 401);
    await other.stop();
});

test('judges heartbeats in bulk one by one, and logs and counts them', async () => {
    await stub.reset();
    await stub.set({ bulk: true });
    await call(target, 'DELETE', `/agents/${agentId(2)}`, { token: adminToken() });
    const since = (await stub.requests()).at(-1).seq;
    const heartbeats = [beat(3), beat(2), beat(0, { agentId: specialId(0), metrics: { cpu: 0.1 } }),
        beat(4, { at: 'now' }), beat(1, { agentId: agentId(1).toUpperCase(), metrics: null })];
    const { status, json } = await bulk({ heartbeats });
    assert.equal(status, 200);
    assert.deepEqual(json.results, [
        { agentId: agentId(3), status: 200 },
        { agentId: agentId(2), status: 404, message: `Agent with ID ${agentId(2)} not found` },
        { agentId: specialId(0), status: 200 },
        { agentId: agentId(4), status: 400, message: 'Validation failed',
            errors: ['at must be a time in UTC, like 2026-11-23T04:23:11.613Z'] },
        { agentId: agentId(1).toUpperCase(), status: 200 },
    ]);
    const log = await stub.requests(since);
    assert.deepEqual(log.map((entry) => [entry.route, entry.status]), [['', 200],
        ['bulk', 200], ['bulk', 404], ['bulk', 200], ['bulk', 400], ['bulk', 200]]);
    assert.equal(log[3].agent, specialId(0));
    assert.deepEqual(JSON.parse(log[3].body), heartbeats[2]);
    const counts = await stub.counts();
    assert.deepEqual([counts.bulk_requests, counts.bulk_beats, counts.bulk_beats_ok], [1, 5, 3]);
    assert.equal(counts.heartbeats, 0);
});

test('forgets the oldest entries of a full log and goes on', async () => {
    await stub.reset();
    await stub.set({ bulk: true });
    const heartbeats = Array(500).fill(beat(1));
    for (let sent = 0; sent <= 100000; sent += heartbeats.length)
        assert.equal((await bulk({ heartbeats })).status, 200);
    assert.equal((await stub.counts()).bulk_beats, 100500);
    await stub.reset();
});

test('records the time of a heartbeat in bulk, never back and never ahead', async () => {
    await stub.reset();
    await stub.set({ bulk: true });
    const early = '2026-01-01T00:00:00.000Z';
    const late = '2026-01-02T00:00:00.000Z';
    await bulk({ heartbeats: [early, late, early].map((at) => beat(1, { at })) });
    assert.equal(await lastBeat(1), late);
    await bulk({ heartbeats: [beat(1, { at: '2999-01-01T00:00:00Z' })] });
    assert.ok(Math.abs(Date.parse(await lastBeat(1)) - Date.now()) < 10000);
});

test('refuses heartbeats in bulk that are not the contract', async () => {
    await stub.reset();
    await stub.set({ bulk: true });
    const padded = (size) => ({ heartbeats: [], pad: 'x'.repeat(size - 26) });
    assert.equal(JSON.stringify(padded(100)).length, 100);
    for (const [body, expected] of [
        [{}, 400], [{ heartbeats: {} }, 400], [{ heartbeats: [1] }, 400],
        [{ heartbeats: Array(500).fill(beat(1)) }, 200], [{ heartbeats: Array(501).fill({}) }, 400],
        [padded(256 * 1024), 200], [padded(256 * 1024 + 1), 413],
    ])
        assert.equal((await bulk(body)).status, expected, JSON.stringify(body).slice(0, 60));
    const bad = [{ agentId: 'zzz' }, { agentId: 1 }, { status: 'gone' }, { status: 1 },
        { metrics: [] }, { metrics: 1 }, { at: undefined }, { at: '2026-02-30T00:00:00Z' },
        { at: '2026-01-23T04:23:11+01:00' }, { at: '2026-1-23T4:23:11Z' }, { at: '2026-01-23' },
        { at: '2026-01-23T04:23:11.Z' }, { at: '2026-01-23T04:23:11.1234567890Z' }];
    const { results } = (await bulk({ heartbeats: bad.map((over) => beat(1, over)) })).json;
    for (const [i, result] of results.entries())
        assert.deepEqual([result.status, result.errors?.length], [400, 1], JSON.stringify(bad[i]));
});

test('takes heartbeats in bulk from nobody but a service that may send them', async () => {
    await stub.reset();
    await stub.set({ bulk: true });
    for (const [token, expected] of [
        ['x.y.z', 401], [serviceToken({ exp: 1 }), 401], [serviceToken({ type: 'agent' }), 403],
        [serviceToken({ roles: [] }), 403], [agentToken(agentId(1)), 403], [adminToken(), 403],
    ])
        assert.equal((await bulk({ heartbeats: [beat(1)] }, token)).status, expected);
    assert.equal(await lastBeat(1), undefined);
});

test('fails heartbeats in bulk as it is told, some or all', async () => {
    await stub.reset();
    await stub.set({ bulk: true, bulk_fail_items: 2, heartbeat_status: 503 });
    assert.equal((await bulk({ heartbeats: [beat(1)] })).status, 503);
    await stub.set({ heartbeat_status: 0 });
    const statuses = async (...beats) =>
        (await bulk({ heartbeats: beats })).json.results.map((result) => result.status);
    assert.deepEqual(await statuses(beat(1), beat(2), beat(3)), [500, 500, 200]);
    assert.equal(await lastBeat(1), undefined);
    await stub.set({ bulk_fail_items: 1, bulk_fail_status: 401 });
    assert.deepEqual(await statuses(beat(1), beat(2)), [401, 200]);
});

test('burns CPU for each secret compared, without holding up others', async () => {
    await stub.reset();
    await stub.set({ connect_cost_ms: 300 });
    const slow = connect(8);
    await eventually('the compare to begin', async () => (await stub.counts()).bcrypts === 1);
    const beat = await heartbeat(agentId(8), agentToken(agentId(8)));
    assert.equal(beat.status, 201);
    assert.equal((await stub.counts()).connects_ok, 0);
    assert.equal((await slow).status, 201);
});

test('goes on comparing for a client that has left, without keeping its connection', async () => {
    const own = await Stub.start({ transcripts: false, connectCostMs: 60, processors: 1 });
    try {
        const descriptors = () => fs.readdirSync(`/proc/${own.child.pid}/fd`).length;
        const before = descriptors();
        const text = request('POST', `/agents/${agentId(1)}/connect`, {
            headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(1) } });
        const wires = await Promise.all(Array.from({ length: 40 }, () => Wire.open(own)));
        for (const wire of wires) wire.send(text);
        await eventually('all to wait', async () => (await own.counts()).connects === 40);
        for (const wire of wires) wire.close();
        await eventually('the connections to go', () => descriptors() < before + 10);
        assert.ok((await own.counts()).bcrypts < 40, 'before all were compared');
        await eventually('all to be compared', async () => (await own.counts()).connects_ok === 40);
        assert.equal((await own.counts()).bcrypts, 40);
    } finally {
        await own.stop();
    }
});

test('lets connects wait for processors of its own', async () => {
    const own = await Stub.start({ transcripts: false, connectCostMs: 40, processors: 1 });
    try {
        const cpu = () => Number(fs.readFileSync(`/proc/${own.child.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
        const start = performance.now();
        await Promise.all([1, 2, 3, 4].map((n) =>
            call(own, 'POST', `/agents/${agentId(n)}/connect`, { body: { secret: agentSecret(n) } })));
        assert.ok(performance.now() - start >= 159, 'one after the other');
        assert.ok(cpu() < 100);
    } finally {
        await own.stop();
    }
});

test('turns connections away when no descriptor is left, and serves on', async () => {
    const own = await Stub.start({ transcripts: false });
    const wires = [];
    try {
        const used = fs.readdirSync(`/proc/${own.child.pid}/fd`).length;
        execFileSync('prlimit', ['--pid', String(own.child.pid), `--nofile=${used + 5}:${used + 5}`]);
        for (let i = 0; i < 20; i++) wires.push(await Wire.open(own));
        await Promise.all(wires.slice(10).map((wire) => wire.closed()));
        for (const wire of wires.splice(0)) wire.close();
        await eventually('room again', async () => {
            const counts = await own.counts().catch(() => null);
            return counts && counts.turned_away >= 10;
        });
        const body = { secret: agentSecret(1) };
        assert.equal((await call(own, 'POST', `/agents/${agentId(1)}/connect`, { body })).status, 201);
    } finally {
        for (const wire of wires) wire.close();
        await own.stop();
    }
});

test('fails as often as it is told, then recovers', async () => {
    await stub.reset();
    await stub.set({ fail_next: 2, fail_status: 503 });
    assert.deepEqual(
        [(await connect(1)).status, (await connect(1)).status, (await connect(1)).status],
        [503, 503, 201]);
    await stub.set({ fail_next: 1, fail_status: 0 });
    await assert.rejects(connect(1), Closed);
    await stub.set({ heartbeat_status: 500 });
    assert.equal((await heartbeat(agentId(1), agentToken(agentId(1)))).status, 500);
    assert.equal((await connect(1)).status, 201);
});

test('delays what it is told to delay', async () => {
    await stub.reset();
    await stub.set({ connect_delay_ms: 150 });
    const start = performance.now();
    await exchange(target, 'GET', '/');
    const between = performance.now();
    await connect(1);
    assert.ok(between - start < 150);
    assert.ok(performance.now() - between >= 149);
});

test('refuses connections during an outage and drops those it had', async () => {
    await stub.reset();
    const wire = await Wire.open(target);
    wire.send(request('GET', '/'));
    await wire.answer();
    await stub.set({ outage: 'refuse' });
    await wire.closed();
    await assert.rejects(Wire.open(target), { code: 'ECONNREFUSED' });
    await stub.set({ outage: 'off' });
    assert.equal((await connect(1)).status, 201);
});

test('hangs during an outage of the other kind, and sees clients give up', async () => {
    await stub.reset();
    await stub.set({ outage: 'hang' });
    const wire = await Wire.open(target);
    wire.send(request('GET', '/'));
    await eventually('the request to arrive', async () => (await stub.counts()).requests === 1);
    assert.equal(wire.received.length, 0);
    wire.close();
    await eventually('the loss to be seen', async () => (await stub.counts()).client_gone === 1);
    assert.equal((await stub.requests())[0].client_gone, true);
    await stub.set({ outage: 'off' });
    assert.equal((await connect(1)).status, 201);
});

test('streams events one by one', async () => {
    const wire = await Wire.open(target);
    wire.send(request('GET', '/__stub/sse?n=3&gap_ms=50'));
    await eventually('the first event', () => wire.received.includes('data: event 0'));
    assert.ok(!wire.received.includes('data: event 2'));
    const answer = await wire.answer();
    assert.equal(answer.header('content-type'), 'text/event-stream');
    assert.equal(answer.text, 'data: event 0\n\ndata: event 1\n\ndata: event 2\n\n');
    wire.close();
});

test('sends many bytes no faster than they are taken', async () => {
    const wire = await Wire.open(target);
    wire.socket.pause();
    wire.send(request('GET', '/__stub/bytes?n=50000000'));
    await sleep(100);
    wire.close();
    const { body } = await exchange(target, 'GET', '/__stub/bytes?n=1000000');
    assert.equal(body.length, 1000000);
    assert.ok(body.every((byte, i) => byte === i % 251));
});

test('promises more than it sends, resets, answers late', async () => {
    await assert.rejects(exchange(target, 'GET', '/__stub/cut?n=1000'), (error) => {
        assert.equal(error.how, 'ended');
        assert.match(error.received.toString('latin1'), /Content-Length: 1000\r\n/);
        return true;
    });
    await assert.rejects(exchange(target, 'GET', '/__stub/reset'), { how: 'reset' });
    assert.deepEqual((await exchange(target, 'GET', '/__stub/slow?ms=30')).json, { slow: true });
    assert.equal((await exchange(target, 'GET', '/__stub/status?code=418')).status, 418);
    const chunks = await exchange(target, 'GET', '/__stub/chunks?n=3');
    assert.equal(chunks.text, 'chunk 0\nchunk 1\nchunk 2\n');
});

test('tells what arrived', async () => {
    const body = Buffer.from([0, 1, 255, 10]);
    const headers = [['X-One', 'a'], ['x-one', 'b']];
    const { json } = await exchange(target, 'POST', '/__stub/echo?q=%20', { headers, body });
    assert.equal(json.method, 'POST');
    assert.equal(json.target, '/__stub/echo?q=%20');
    assert.deepEqual(json.headers.filter(([name]) => /x-one/i.test(name)), headers);
    assert.equal(json.body_bytes, 4);
    assert.equal(json.body_sha256, createHash('sha256').update(body).digest('hex'));
});

test('echoes whatever comes over an upgraded connection', async () => {
    const wire = await Wire.open(target);
    wire.send(Buffer.concat([request('GET', '/socket.io/?EIO=4&transport=websocket', {
        headers: { Connection: 'Upgrade', Upgrade: 'websocket',
            'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' },
    }), Buffer.from('early')]));
    const { status } = await wire.answer();
    assert.equal(status, 101);
    const [, length] = await wire.bytes(2);
    await wire.bytes(length);
    assert.equal((await wire.bytes(5)).toString(), 'early');
    wire.send('late');
    assert.equal((await wire.bytes(4)).toString(), 'late');
    wire.end();
    await wire.closed();
});

test('closes an idle connection a second after the time it advertises', async () => {
    const wire = await Wire.open(target);
    wire.send(request('GET', '/'));
    await wire.answer();
    const start = performance.now();
    await wire.closed({ ms: 8000 });
    const seconds = (performance.now() - start) / 1000;
    assert.ok(seconds > 5.5 && seconds < 7, `${seconds} s`);
});

test('what it answered stands in its journal, also after kill -9', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-stub-'));
    const own = await Stub.start({
        transcripts: false, bulk: true, journal: path.join(dir, 'journal'), port: await freePort(),
    });
    try {
        const beat = (mark) => call(own, 'POST', `/agents/${agentId(1)}/heartbeat`,
            { token: agentToken(agentId(1)), body: { status: 'online', metrics: { mark } } });
        await beat(1);
        await own.kill();
        await own.restart();
        await beat(2);
        await call(own, 'POST', '/agents/heartbeats', { token: serviceToken(), body: {
            heartbeats: [{ agentId: agentId(2), status: 'busy', at: new Date().toISOString() }],
        } });
        await own.kill();
        const seen = own.journal();
        assert.deepEqual(seen.map(({ agent, status }) => `${agent} ${status}`),
            [`${agentId(1)} 201`, `${agentId(1)} 201`, `${agentId(2)} 200`, ' 200']);
        assert.deepEqual(seen.slice(0, 2).map((e) => JSON.parse(e.body).metrics.mark), [1, 2]);
    } finally {
        if (!own.child.ended) await own.kill();
        fs.rmSync(dir, { recursive: true, force: true });
    }
});
