// What it costs that a heartbeat is in Redis before it is acknowledged: the gateway with Redis beside
// the same one without, in turn: `make bench-durable`. Figures are the gateway's CPU by the kernel's
// account, divided by the requests; Redis' own is not in them. Redis shares the load's processor.
//   BEFORE=program  another build, with Redis, takes its turn, too
//   ROUNDS=9  rounds · RATE=2000  heartbeats a second · SECONDS=2  of each load
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts, listening, requireTools, start, stopAll } from './support/processes.mjs';
import * as proxies from './support/proxies.mjs';
import { paced, saturate } from './support/load.mjs';
import { summary } from './support/report.mjs';

const rounds = Number(process.env.ROUNDS ?? 9), rate = Number(process.env.RATE ?? 2000);
const seconds = Number(process.env.SECONDS ?? 2), AGENTS = 1000;

async function startRedis(dir) {
  const [port] = await freePorts(1);
  const child = start(proxies.LOAD_CPU, 'redis-server', ['--port', String(port), '--bind', '127.0.0.1',
    '--dir', dir, '--appendonly', 'yes', '--appendfsync', 'everysec', '--save', '']);
  await listening(port, child);
  return port;
}

const said = (values, digits) => {
  const { median, min, max } = summary(values);
  return [median, min, max].map((value) => value.toFixed(digits)).join(' ').replace(/ (.*) (.*)/, ' ($1 to $2)');
};

async function compare(title, bench, measure) {
  const names = Object.keys(bench), cpu = {}, p99 = {};
  for (const who of names) { cpu[who] = []; p99[who] = []; }
  for (let round = -1; round < rounds; round++) // the first one for nothing
    for (const who of round % 2 ? names : [...names].reverse()) {
      const got = await measure(bench[who]);
      if (round < 0) continue;
      cpu[who].push(got.cpu ?? got);
      if (got.p99) p99[who].push(got.p99);
    }
  for (const who of names) {
    const ratios = cpu[who].map((value, i) => value / cpu.without[i]);
    console.log(`${title}, ${who}: ${said(cpu[who], 2)} us, ${said(ratios, 2)} of without`
      + (p99[who].length > 0 ? `, p99 ${said(p99[who], 0)} us` : ''));
  }
}

async function main() {
  requireTools(['redis-server', 'wrk', 'openssl', 'taskset', join(proxies.build, 'bench-client')]);
  const dir = mkdtempSync(join(tmpdir(), 'bench-durable-'));
  try {
    proxies.workDirectory(dir);
    const stub = await proxies.startStub(AGENTS), redis = await startRedis(dir);
    const run = async (settings, command) => {
      const program = await proxies.gateway(dir, stub.port, settings);
      const proxy = await proxies.run(command ? { ...program, command } : program);
      return { pid: proxy.pid, port: proxy.ports.data };
    };
    const shared = { AIWM_GATEWAY_REDIS_URL: `redis://127.0.0.1:${redis}` };
    const bench = { without: await run({}), redis: await run(shared) };
    if (process.env.BEFORE) bench.before = await run(shared, process.env.BEFORE);
    const tokens = proxies.writeTokens(join(dir, 'tokens'), AGENTS);
    console.log(`machine's load before: ${loadavg()[0].toFixed(2)}; ${rounds} rounds of ${seconds} s`);
    await compare(`${rate} heartbeats a second`, bench,
      (at) => paced({ ...at, tokens, rate, seconds, connections: 200 }));
    await compare('as many as there can be', bench,
      (at) => saturate({ ...at, seconds, env: { WHAT: 'heartbeat', TOKENS: tokens } }));
  } finally {
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
}

await main();
