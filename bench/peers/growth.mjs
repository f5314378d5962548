// How the cost of a request grows: with agents, with the body, with connections, with the answer's
// size. The gateway beside HAProxy, interleaved, as in peers.mjs: `make bench-growth`.
//   ROUNDS=3  rounds of one second each
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requireTools, stopAll } from './support/processes.mjs';
import * as proxies from './support/proxies.mjs';
import { paced, saturate } from './support/load.mjs';
import { curves, summary } from './support/report.mjs';

const rounds = Number(process.env.ROUNDS ?? 3), seconds = 1, AGENTS = 100000;
const SMALL = '{"status":"online","metrics":{"cpu":45,"memory":60,"activeConnections":3}}';

// The same heartbeat with more metrics: `bytes` of JSON.
function beatOf(bytes) {
  let body = '{"status":"online","metrics":{"groups":[';
  for (let i = 0; body.length < bytes - 40; i++) body += `${i ? ',' : ''}{"cpu":${i % 100},"memory":60}`;
  return `${body}]}}`;
}

// name, what the steps are, and for a step: the load.
const GROWTHS = (dir) => [
  { id: 'agents', title: 'heartbeat, by agents', xName: 'agents', steps: [100, 316, 1000, 3162, 10000, 100000],
    load: (n) => ({ env: { WHAT: 'heartbeat', TOKENS: proxies.writeTokens(join(dir, `agents-${n}`), n) } }) },
  { id: 'connections', title: 'heartbeat, 10,000 a second, by connections', xName: 'connections',
    steps: [10, 100, 1000, 4000], load: (n) => ({ rate: 10000, connections: n }) },
  { id: 'body', title: 'heartbeat, by size of its body', xName: 'bytes', steps: [74, 256, 1024, 4096],
    load: (n) => ({ env: { WHAT: 'heartbeat', BEAT: n === 74 ? SMALL : beatOf(n) } }) },
];

// At a fixed rate the connections are open before it counts: no handshake is in the figure.
async function ask({ pid, port }, tokens, { env = {}, rate, connections = 64 }) {
  if (rate) return (await paced({ pid, port, tokens, rate, seconds, connections })).cpu;
  return saturate({ pid, port, seconds, connections, env: { WHAT: 'heartbeat', TOKENS: tokens, BEAT: SMALL, ...env } });
}

async function measure(bench, load) {
  const figures = { gateway: [], haproxy: [] };
  for (let round = -1; round < rounds; round++) // the first one for nothing
    for (const who of round % 2 ? ['gateway', 'haproxy'] : ['haproxy', 'gateway']) {
      const figure = await ask(bench[who], bench.tokens, load);
      if (round >= 0) figures[who].push(figure);
    }
  return { gateway: summary(figures.gateway).median, haproxy: summary(figures.haproxy).median };
}

async function grow({ id, title, xName, steps, load }, bench, out) {
  const series = { gateway: [], haproxy: [] };
  for (const step of steps) {
    const found = await measure(bench, load(step));
    for (const who of Object.keys(series)) series[who].push([step, found[who]]);
    console.log(`${title}: ${step}: gateway ${found.gateway.toFixed(2)}, haproxy ${found.haproxy.toFixed(2)}`);
  }
  writeFileSync(join(out, `${id}.svg`), curves({ title, xName, yName: 'µs', series }));
  return { id, title, series };
}

async function main() {
  requireTools(['haproxy', 'wrk', 'openssl', 'taskset']);
  const dir = mkdtempSync(join(tmpdir(), 'bench-growth-')), out = join(proxies.build, 'bench');
  mkdirSync(out, { recursive: true });
  try {
    proxies.workDirectory(dir);
    const stub = await proxies.startStub(AGENTS);
    const started = [await proxies.run(await proxies.gateway(dir, stub.port)),
      await proxies.run(await proxies.haproxy(dir, stub.port, 9000))];
    const bench = {
      gateway: { pid: started[0].pid, port: started[0].ports.data },
      haproxy: { pid: started[1].pid, port: started[1].ports.acknowledge },
      tokens: proxies.writeTokens(join(dir, 'tokens'), 1000),
    };
    const grown = [];
    for (let i = 0; i < 3; i++) await measure(bench, {}); // until the processor has its speed
    for (const growth of GROWTHS(dir)) grown.push(await grow(growth, bench, out));
    writeFileSync(join(out, 'growth.json'), JSON.stringify(grown, null, 1));
  } finally {
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
}

await main();
