// One measurement: a load against a port, and the proxy's CPU meanwhile.
import { join } from 'node:path';
import { cpuUs, line, start } from './processes.mjs';
import { build, LOAD_CPU } from './proxies.mjs';

const script = new URL('../requests.lua', import.meta.url).pathname;

async function output(child) {
  const code = await child.gone;
  if (code !== 0) throw new Error(`${child.spawnargs.join(' ')}: ${child.complaint}`);
  return child.said;
}

function judge(said, want, where) {
  const requests = Number(/(\d+) requests in/.exec(said)?.[1] ?? 0);
  const bad = Number(/Non-2xx or 3xx responses: (\d+)/.exec(said)?.[1] ?? 0);
  const failed = /Socket errors: (.*)/.exec(said)?.[1];
  if (requests === 0 || failed || (want === 'refused' ? bad !== requests : bad > 0))
    throw new Error(`${where}: a load that measures errors measures nothing:\n${said}`);
  return requests;
}

// wrk for `seconds`; what: see requests.lua. Microseconds of the proxy's CPU per request.
export async function saturate({ pid, port, tls = true, seconds, connections = 64, env, want }) {
  const before = cpuUs(pid);
  const wrk = start(LOAD_CPU, 'wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', script,
    `${tls ? 'https' : 'http'}://127.0.0.1:${port}`], env);
  const said = await output(wrk);
  return (cpuUs(pid) - before) / judge(said, want, `port ${port}`);
}

export async function handshakes({ pid, port, tokens, count, kind }) {
  const before = cpuUs(pid);
  const child = start(LOAD_CPU, join(build, 'bench-client'), ['handshakes', String(port), tokens, String(count), kind]);
  const { requests, resumed } = await line(child);
  await child.gone;
  if (kind === 'resumed' && resumed < requests - 1) throw new Error(`only ${resumed} of ${requests} resumed`);
  return (cpuUs(pid) - before) / requests;
}

export async function paced({ pid, port, tokens, rate, seconds, connections }) {
  const child = start(LOAD_CPU, join(build, 'bench-client'),
    ['paced', String(port), tokens, String(rate), String(seconds), String(connections)]);
  await line(child);
  const before = cpuUs(pid);
  child.stdin.write('\n');
  const { requests, p99_us: p99 } = await line(child);
  await child.gone;
  return { cpu: (cpuUs(pid) - before) / requests, p99 };
}
