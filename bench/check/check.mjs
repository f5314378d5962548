// Instructions per request on six hot paths, against those in figures.json: `make bench-check`.
//
// The gateway runs under callgrind, one request after the other; only instructions of its own object
// are judged, since those of libraries are their makers' and change with their versions. Counts
// repeat within a fraction of a per cent, on any machine and under any load, but not with another
// compiler: then they are shown and not judged.
//   PROFILES=dir  keeps the profiles there, for callgrind_annotate
//   --write       stores what was counted: for a change that is worth it, in the same commit
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { listening, requireTools, start, stopAll } from '../peers/support/processes.mjs';
import * as proxies from '../peers/support/proxies.mjs';
import * as callgrind from './callgrind.mjs';

const TOLERANCE = 0.03, REQUESTS = 400, HANDSHAKES = 60, AGENTS = 50;
const stored = new URL('figures.json', import.meta.url).pathname;
const BEAT = '{"status":"online","metrics":{"cpu":45,"memory":60,"activeConnections":3}}';

// ---- requests ----

const post = (path, body, token) => `POST ${path} HTTP/1.1\r\nHost: gateway\r\nUser-Agent: node\r\n`
  + `Accept: */*\r\nContent-Type: application/json\r\n${token ? `Authorization: Bearer ${token}\r\n` : ''}`
  + `Content-Length: ${body.length}\r\n\r\n${body}`;

const agents = Array.from({ length: AGENTS }, (_, i) => proxies.agentToken(i));
const beat = (i, forge = (token) => token) => {
  const [id, token] = agents[i % AGENTS];
  return post(`/agents/${id}/heartbeat`, BEAT, forge(token));
};
/* With a token that nobody has seen yet. */
const fresh = (() => {
  const now = Math.floor(Date.now() / 1000);
  let count = 0;
  return () => {
    const number = count++, [id, token] = proxies.agentToken(number % AGENTS, now - 1 - Math.floor(number / AGENTS));
    return post(`/agents/${id}/heartbeat`, BEAT, token);
  };
})();
const forged = (token) => `${token.slice(0, -43)}A${token.slice(-42, -1).split('').reverse().join('')}A`;

function isWhole(text) {
  const end = text.indexOf('\r\n\r\n'), length = /\r\ncontent-length: *(\d+)/i.exec(text);
  return end >= 0 && length && text.length >= end + 4 + Number(length[1]);
}

function ask(socket, request, status) {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (bytes) => {
      text += bytes.toString('latin1');
      if (!isWhole(text)) return;
      socket.off('data', onData);
      if (text.startsWith(`HTTP/1.1 ${status} `)) resolve();
      else reject(new Error(`expected ${status}: ${text.slice(0, 400)}`));
    };
    socket.on('data', onData);
    socket.write(request);
  });
}

function dial(port) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false,
      minVersion: 'TLSv1.3', noDelay: true }, () => resolve(socket));
    socket.on('error', reject);
  });
}

// ---- paths: each takes the port and how many; all of it is counted ----

const alongOne = (spell, status) => async (port, count) => {
  const socket = await dial(port);
  for (let i = 0; i < count; i++) await ask(socket, spell(i), status);
  socket.destroy();
};

const PATHS = {
  'heartbeat acknowledged': { count: REQUESTS, run: alongOne((i) => beat(i), 201) },
  'token not seen before': { count: REQUESTS, run: alongOne(fresh, 201) },
  'connect from the cache': { count: REQUESTS, run: alongOne(() =>
    post(`/agents/${agents[1][0]}/connect`, '{"secret":"agent-secret-for-tests-1"}'), 201) },
  'forged token': { count: REQUESTS, run: alongOne((i) => beat(i, forged), 401) },
  'GET forwarded': { count: REQUESTS, run: alongOne(() =>
    'GET /__stub/bytes?n=1024 HTTP/1.1\r\nHost: gateway\r\nAccept: */*\r\n\r\n', 200) },
  'handshake and heartbeat': { count: HANDSHAKES, run: async (port, count) => {
    for (let i = 0; i < count; i++) await alongOne(() => beat(i), 201)(port, 1);
  } },
};

const profile = (name) => process.env.PROFILES && join(process.env.PROFILES, name.replace(/ /g, '-'));

async function measure(pid, port, dir, name, { count, run }) {
  await run(port, Math.min(count, AGENTS + 10)); // first beats, caches, pools
  callgrind.zero(pid);
  await run(port, count);
  const counts = callgrind.dump(pid, dir, profile(name));
  const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
  return { own: Math.round(counts['aiwm-gateway'] / count), all: Math.round(all / count) };
}

async function measureAll(dir) {
  const stub = await proxies.startStub(AGENTS);
  // Lines of the access log come by the clock; what it costs beyond them is in docs/logs.md.
  const gateway = await proxies.gateway(dir, stub.port, { AIWM_GATEWAY_LOG_ACCESS: 'off' });
  const [command, args] = callgrind.command(dir, gateway.command, gateway.args);
  const child = start(proxies.PROXY_CPU, command, args, gateway.env);
  await listening(gateway.ports.data, child);
  const found = {};
  for (const [name, path] of Object.entries(PATHS))
    found[name] = await measure(child.pid, gateway.ports.data, dir, name, path);
  return found;
}

// ---- the verdict ----

const compiler = () => execFileSync('gcc', ['-dumpfullversion', '-dumpmachine']).toString().trim().replace('\n', ' ');

function judge(name, found, was) {
  const change = was ? found.own / was.own - 1 : 0;
  const line = `  ${name.padEnd(26)} ${String(found.own).padStart(7)} of our own, ${String(found.all).padStart(8)} with libraries`
    + (was ? `   ${change >= 0 ? '+' : ''}${(change * 100).toFixed(1)} %` : '   new');
  if (change < -TOLERANCE) return { line: `${line}  (well done: make bench-check WRITE=1 keeps it)`, fine: true };
  if (change <= TOLERANCE) return { line, fine: true };
  return { line: `${line}  FAILED: ${was.own} were stored. Find what is done twice; or, if it is worth it, `
    + 'make bench-check WRITE=1', fine: false };
}

async function main() {
  requireTools(['valgrind', 'callgrind_control', 'openssl', 'taskset']);
  const dir = mkdtempSync(join(tmpdir(), 'bench-check-'));
  let found;
  try {
    found = await measureAll(proxies.workDirectory(dir));
  } finally {
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
  if (process.argv.includes('--write'))
    writeFileSync(stored, `${JSON.stringify({ compiler: compiler(), paths: found }, null, 2)}\n`);
  const { compiler: by, paths } = JSON.parse(readFileSync(stored, 'utf8'));
  const judged = Object.entries(found).map(([name, counts]) => judge(name, counts, paths[name]));
  console.log(['instructions per request', ...judged.map(({ line }) => line)].join('\n'));
  if (by !== compiler()) {
    console.log(`  not judged: the figures are those of gcc ${by}, this is ${compiler()}\n1 passed, 0 failed`);
    return;
  }
  const failed = judged.filter(({ fine }) => !fine).length;
  console.log(`${judged.length - failed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}

await main();
