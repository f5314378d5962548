// The access log: which requests get a line, what stands in it, and what never does.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { eventually, root } from './support/child.mjs';
import { admin, connect, path as ofAgent, using } from './support/connecting.mjs';
import { agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { Upstream } from './support/upstream.mjs';
import { Wire, call, request } from './support/wire.mjs';

const SUITE = { timeout: 30000, concurrency: 2 };

const requests = (gateway) => gateway.log.filter((line) => line.message === 'request');

/** The line of the request with that id. */
const lineOf = (gateway, id) => gateway.logged('request', { request_id: id });

const marked = (id) => ({ headers: { 'x-correlation-id': id } });

const beat = (gateway, n, more) => call(gateway.target, 'POST', ofAgent(n, 'heartbeat'), {
    token: agentToken(agentId(n)), body: { status: 'online' }, ...more,
});

/** One request that is refused: its line comes after those of all before it. */
async function last(gateway, id) {
    await call(gateway.target, 'POST', ofAgent(1, 'heartbeat'), { body: { status: 'online' }, ...marked(id) });
    return lineOf(gateway, id);
}

const access = (log, more) => ({ config: { log, ...more } });

describe('the access log', SUITE, () => {
    test('by default it has failures and refusals, and nothing else', async () => {
        await using(access({}), async (gateway, stub) => {
            assert.equal((await connect(gateway, 1, marked('good-connect'))).status, 201);
            assert.equal((await beat(gateway, 1, marked('good-beat'))).status, 201);
            assert.equal((await call(gateway.target, 'GET', '/nowhere', marked('not-found'))).status, 404);
            await stub.set({ fail_next: 1, fail_status: 500 });
            assert.equal((await call(gateway.target, 'GET', '/agents', { ...admin(), ...marked('failed') })).status, 500);
            const line = await last(gateway, 'refused');
            assert.deepEqual(requests(gateway).map((l) => l.request_id), ['failed', 'refused']);
            const { time, duration_us, client, ...rest } = line;
            assert.match(time, /^\d{4}-\d\d-\d\dT/);
            assert.ok(Number.isInteger(duration_us) && duration_us >= 0);
            assert.equal(client, '127.0.0.1');
            assert.deepEqual(rest, {
                level: 'info', message: 'request', request_id: 'refused', agent: agentId(1),
                route: '/agents/:id/heartbeat', class: 'heartbeat', method: 'POST',
                path: ofAgent(1, 'heartbeat'), status: 401, outcome: 'refused',
                bytes_in: 19, bytes_out: line.bytes_out, tls: 'TLSv1.3', tls_resumed: 0,
            });
            assert.ok(line.bytes_out > 50);
        });
    });

    test('off, it has nothing', async () => {
        await using(access({ access: 'off' }), async (gateway) => {
            await call(gateway.target, 'POST', ofAgent(1, 'heartbeat'), { body: {} });
            await connect(gateway, 1);
            gateway.writeConfig({ ...gateway.config, log: { ...gateway.config.log, access: 'all' } });
            gateway.child.signal('SIGHUP');
            await gateway.logged('reloaded');
            await last(gateway, 'after-reload');
            assert.deepEqual(requests(gateway).map((l) => l.request_id), ['after-reload'], 'a reload changes it');
        });
    });

    test('sampled, it has one good heartbeat in so many, and all others', async () => {
        await using(access({ access: 'sampled', access_sample: 5, access_rate: 1000 }, { heartbeat: { max_rate: 1000 } }), async (gateway) => {
            await connect(gateway, 1, marked('connect'));
            for (let i = 1; i <= 20; i++) await beat(gateway, 1, marked(`beat-${i}`));
            await last(gateway, 'last');
            assert.deepEqual(requests(gateway).map((l) => l.request_id),
                ['connect', 'beat-5', 'beat-10', 'beat-15', 'beat-20', 'last']);
        });
    });

    test('whatever log.level says, it is written', async () => {
        await using(access({ access: 'all' }), async (gateway) => {
            gateway.writeConfig({ ...gateway.config, log: { ...gateway.config.log, level: 'error' } });
            gateway.child.signal('SIGHUP');
            await eventually('the reload', async () => (await gateway.metric('config_reloads_total', 'result="ok"')) === 1);
            await last(gateway, 'still-there');
        });
    });

    test('each line says what became of its request', async () => {
        await using(access({ access: 'all' }), async (gateway, stub) => {
            const outcome = async (id, promise) => {
                await promise;
                const line = await lineOf(gateway, id);
                return [line.outcome, line.status, line.class, 'upstream_us' in line];
            };
            assert.deepEqual(await outcome('miss', connect(gateway, 1, marked('miss'))), ['forwarded', 201, 'connect', true]);
            assert.deepEqual(await outcome('hit', connect(gateway, 1, marked('hit'))), ['hit', 201, 'connect', false]);
            assert.deepEqual(await outcome('beat', beat(gateway, 1, marked('beat'))), ['held', 201, 'heartbeat', false]);
            assert.deepEqual(await outcome('wrong', connect(gateway, 1, { secret: 'x', ...marked('wrong') })), ['forwarded', 401, 'connect', true]);
            assert.deepEqual(await outcome('again', connect(gateway, 1, { secret: 'x', ...marked('again') })), ['repeated', 401, 'connect', false]);
            assert.deepEqual(await outcome('get', call(gateway.target, 'GET', '/nowhere', marked('get'))), ['forwarded', 404, 'forward', true]);
            assert.deepEqual(await outcome('bye', call(gateway.target, 'POST', ofAgent(1, 'disconnect'),
                { token: agentToken(agentId(1)), body: {}, ...marked('bye') })), ['forwarded', 201, 'disconnect', true]);
            const { upstream } = await lineOf(gateway, 'get');
            assert.equal(upstream, `127.0.0.1:${stub.port}`);
            await stub.set({ outage: 'refuse' });
            await call(gateway.target, 'GET', '/nowhere', marked('down'));
            const line = await lineOf(gateway, 'down');
            assert.equal(line.outcome, 'refused');
            assert.match(line.code, /^GATEWAY_/);
        });
    });

    test('followers of a connect are told from the one that asked', async () => {
        await using({ ...access({ access: 'all' }), stubOptions: { connectCostMs: 300 } }, async (gateway) => {
            await Promise.all(['a', 'b', 'c'].map((id) => connect(gateway, 1, marked(id))));
            const outcomes = [];
            for (const id of ['a', 'b', 'c']) outcomes.push((await lineOf(gateway, id)).outcome);
            assert.deepEqual(outcomes.sort(), ['collapsed', 'collapsed', 'forwarded']);
        });
    });

    test('an answer that breaks off is a failure', async () => {
        const controller = await Upstream.start((socket) => {
            socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart');
            setTimeout(() => socket.end(), 50);
        });
        await using({ ...access({}), stub: controller }, async (gateway) => {
            await assert.rejects(call(gateway.target, 'GET', '/cut', marked('cut')));
            const line = await lineOf(gateway, 'cut');
            assert.deepEqual([line.outcome, line.status, line.bytes_out], ['cut', 200, 4]);
        });
    });

    test('a client that leaves before its answer', async () => {
        const controller = await Upstream.start(() => {});
        await using({ ...access({ access: 'sampled' }), stub: controller }, async (gateway) => {
            const wire = await Wire.open(gateway.target);
            wire.send(request('GET', '/slow', marked('left')));
            await eventually('it waits', async () => (await gateway.metric('requests_in_flight')) === 1);
            wire.close();
            const line = await lineOf(gateway, 'left');
            assert.equal(line.outcome, 'left');
            assert.ok(!('status' in line));
        });
    });

    test('requests that are no HTTP have their line, too', async () => {
        await using(access({}), async (gateway) => {
            const wire = await Wire.open(gateway.target);
            wire.send('GET / HTTP/1.1\r\nHost : x\r\n\r\n');
            await wire.answer();
            const line = await eventually('a line', () => requests(gateway)[0]);
            assert.equal(line.status, 400);
            assert.equal(line.outcome, 'refused');
            assert.ok(!('path' in line) && !('route' in line));
            const long = await call(gateway.target, 'POST', ofAgent(1, 'connect'),
                { body: 'x'.repeat(102401), ...marked('too-long') });
            assert.equal(long.status, 413);
            assert.equal((await lineOf(gateway, 'too-long')).path, ofAgent(1, 'connect'));
        });
    });

    test('a path by allow-list, of a query what is named', async () => {
        await using(access({ access: 'all', access_query: 'page, limit' }), async (gateway) => {
            await call(gateway.target, 'GET', '/agents/Secret1/x?page=2&token=abc&limit=5', marked('one'));
            await call(gateway.target, 'GET', `/AGENTS/${agentId(0xabc).toUpperCase()}/?key=abc`, marked('two'));
            const one = await lineOf(gateway, 'one');
            assert.deepEqual([one.path, one.query], ['/agents/*/x', 'page=2&limit=5']);
            const two = await lineOf(gateway, 'two');
            assert.deepEqual([two.path, two.query], [`/*/${agentId(0xabc).toUpperCase()}/`, undefined]);
        });
    });

    test('equal tokens have equal fingerprints, which are no part of them', async () => {
        await using(access({ access: 'all' }), async (gateway) => {
            const token = agentToken(agentId(1)); // another one in another second
            for (const id of ['a', 'b']) await beat(gateway, 1, { token, ...marked(id) });
            await beat(gateway, 2, marked('c'));
            const [a, b, c] = [await lineOf(gateway, 'a'), await lineOf(gateway, 'b'), await lineOf(gateway, 'c')];
            assert.match(a.token, /^[0-9a-f]{8}$/);
            assert.equal(a.token, b.token);
            assert.notEqual(a.token, c.token);
        });
    });

    test('a flood of failures fills no disk, and does not hide the others', async () => {
        await using(access({ access: 'sampled', access_rate: 1 }), async (gateway) => {
            const wire = await Wire.open(gateway.target);
            for (let i = 0; i < 100; i++) {
                wire.send(request('POST', ofAgent(1, 'heartbeat'), { body: { status: 'online' } }));
                await wire.answer();
            }
            await connect(gateway, 1, marked('good'));
            const line = await lineOf(gateway, 'good');
            const written = requests(gateway).length - 1;
            assert.ok(written >= 10 && written < 90, `${written} lines`);
            const leftOut = requests(gateway).reduce((sum, l) => sum + (l.left_out ?? 0), 0);
            assert.equal(leftOut, 100 - written, 'and it is said how many were left out');
            assert.ok(line.left_out > 0);
            assert.equal(await gateway.metric('access_lines_left_out_total'), 100 - written);
            wire.close();
        });
    });

    test('every field is explained in docs/logs.md', () => {
        const source = fs.readFileSync(path.join(root, 'src/serve/request/access.c'), 'utf8');
        const docs = fs.readFileSync(path.join(root, 'docs/logs.md'), 'utf8');
        const fields = [...source.matchAll(/^ {4}X\(([a-z_]+), /gm)].map(([, name]) => name);
        assert.ok(fields.length > 15);
        for (const name of fields) assert.ok(docs.includes(`\`${name}\``), name);
    });
});
