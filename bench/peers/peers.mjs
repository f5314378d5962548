// The gateway beside HAProxy and nginx, the same work in turn, in one run: `make bench-peers`.
//
// The proxy has one worker on the first processor; the load and the stub have the second. A figure
// is the proxy's CPU by the kernel's account, divided by the requests answered; of ROUNDS rounds the
// median, with the least and the most. In a round everyone takes a turn, in another order each time,
// so that what else the machine does hits all alike. A run with a single error is no run.
//   ROUNDS=5  rounds · SECONDS=2  of each load · ROWS=heartbeat,forged  only these
import { mkdtempSync, mkdirSync, rmSync, writeFileSync, readFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { line, pause, pssKiB, requireTools, start, stop, stopAll } from './support/processes.mjs';
import * as proxies from './support/proxies.mjs';
import { bars, table } from './support/report.mjs';
import { FRESH_ROWS, ROWS } from './rows.mjs';

const rounds = Number(process.env.ROUNDS ?? 5);
const wanted = process.env.ROWS?.split(',');
const wants = (id) => !wanted || wanted.includes(id);
// HAProxy wants two descriptors for each connection it may have, and 20,000 is what there are.
const IDLE_CONNECTIONS = 9800, AGENTS = 1000;

async function startAll(dir) {
  const many = wants('tokens');
  const stub = await proxies.startStub(many ? 200000 : AGENTS);
  await proxies.enlargeAgent(stub.port, 1, 4096);
  await proxies.enlargeAgent(stub.port, 2, 65536);
  const running = {
    gateway: await proxies.run(await proxies.gateway(dir, stub.port)),
    deliver: await proxies.run(await proxies.gateway(dir, stub.port, {
      AIWM_GATEWAY_HEARTBEAT_FORWARD_INTERVAL: '1s', AIWM_GATEWAY_HEARTBEAT_MIN_FORWARD_GAP: '500ms' })),
    forward: await proxies.run(await proxies.gateway(dir, stub.port)),
    plain: await proxies.run(await proxies.gateway(dir, stub.port, { AIWM_GATEWAY_TLS_ENABLED: 'false' })),
    haproxy: await proxies.run(await proxies.haproxy(dir, stub.port)),
    nginx: await proxies.run(await proxies.nginx(dir, stub.port)),
  };
  return {
    stub, seconds: Number(process.env.SECONDS ?? 2),
    tokens: proxies.writeTokens(join(dir, 'tokens'), AGENTS),
    manyTokens: (count) => many ? proxies.writeTokens(join(dir, 'many'), count) : '',
    agent: (number) => proxies.agentToken(number)[0],
    at: (proxy, port) => ({ pid: running[proxy].pid, port: running[proxy].ports[port] }),
  };
}

// In round i the i-th of them begins.
const inTurn = (names, i) => [...names.slice(i % names.length), ...names.slice(0, i % names.length)];

async function measureRow(row, bench) {
  const runs = row.runs(bench), names = Object.keys(runs);
  const figures = Object.fromEntries(names.map((who) => [who, []]));
  const also = Object.fromEntries(names.map((who) => [who, []]));
  for (let i = 0; i < (row.warmUps ?? 1); i++) // for nothing: caches fill, connections open
    for (const who of names) await runs[who]();
  for (let round = 0; round < rounds; round++)
    for (const who of inTurn(names, round)) {
      const got = await runs[who]();
      figures[who].push(got.cpu ?? got);
      if (got.p99) also[who].push(got.p99);
    }
  const beside = names.filter((who) => who.endsWith('lean'));
  const { id, title, unit, target, lacks } = row;
  return [{ id, title, unit, target, lacks, beside, figures }, ...(row.also ? [{ ...row.also, beside, figures: also }] : [])];
}

// ---- rows that start their proxies afresh ----

const fresh = { gateway: proxies.gateway, haproxy: proxies.haproxy, nginx: proxies.nginx };
const bare = { ...fresh, nginx: proxies.nginxBare };
const firstPort = (program) => Object.values(program.ports)[0];

async function idleKiB(make, dir, bench) {
  const program = await make(dir, bench.stub.port, make === proxies.gateway ? {} : IDLE_CONNECTIONS + 100);
  const proxy = await proxies.run(program);
  const before = pssKiB(proxy.pid);
  const client = start(proxies.LOAD_CPU, join(proxies.build, 'bench-client'),
    ['hold', String(firstPort(program)), bench.tokens, String(IDLE_CONNECTIONS)]);
  await line(client);
  await pause(500);
  const each = (pssKiB(proxy.pid) - before) / IDLE_CONNECTIONS;
  client.stdin.end();
  await client.gone;
  await stop(proxy.child);
  return each;
}

async function startMs(make, dir, bench) {
  const program = await make(dir, bench.stub.port);
  const client = start(proxies.PROXY_CPU, join(proxies.build, 'bench-client'),
    ['start', String(firstPort(program)), program.command, ...program.args], program.env);
  const { ms } = await line(client);
  await client.gone;
  return ms;
}

async function restMiB(make, dir, bench) {
  const proxy = await proxies.run(await make(dir, bench.stub.port));
  await pause(300);
  const mib = pssKiB(proxy.pid) / 1024;
  await stop(proxy.child);
  return mib;
}

async function measureFresh(row, makers, measure, times, dir, bench) {
  const figures = Object.fromEntries(Object.keys(makers).map((who) => [who, []]));
  for (let i = 0; i < times; i++)
    for (const who of inTurn(Object.keys(makers), i)) figures[who].push(await measure(makers[who], dir, bench));
  return { ...row, figures };
}

// ---- the run ----

async function measureAll(dir) {
  const bench = await startAll(dir), rows = [];
  const note = (...done) => { rows.push(...done); process.stderr.write(table(done).split('\n')[2] + '\n'); };
  for (const row of ROWS.filter(({ id }) => wants(id))) note(...await measureRow(row, bench));
  if (wants('idle')) note(await measureFresh(FRESH_ROWS.idle, fresh, idleKiB, 1, dir, bench));
  if (wants('start')) note(await measureFresh(FRESH_ROWS.start, bare, startMs, rounds * 2, dir, bench));
  if (wants('rest')) note(await measureFresh(FRESH_ROWS.rest, bare, restMiB, 3, dir, bench));
  return rows;
}

async function main() {
  requireTools(['haproxy', 'nginx', 'wrk', 'openssl', 'taskset', join(proxies.build, 'bench-client')]);
  const dir = mkdtempSync(join(tmpdir(), 'bench-peers-')), out = join(proxies.build, 'bench');
  const before = loadavg()[0];
  proxies.workDirectory(dir);
  mkdirSync(out, { recursive: true });
  try {
    const rows = await measureAll(dir);
    writeFileSync(join(out, 'peers.json'), JSON.stringify({ load_before: before, rounds, rows }, null, 1));
    writeFileSync(join(out, 'peers.svg'), bars(rows));
    writeFileSync(join(out, 'peers.md'), table(rows));
    console.log(`${table(rows)}\nmachine's load before: ${before.toFixed(2)}; ${rounds} rounds; written to ${out}`);
  } catch (error) {
    for (const log of ['nginx.log'])
      try { process.stderr.write(readFileSync(join(dir, log), 'utf8').slice(-2000)); } catch { /* none */ }
    throw error;
  } finally {
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
}

await main();
