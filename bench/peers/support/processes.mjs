// Programs started for a measurement, each on its processor, and what the kernel says of them.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';

const running = new Set();

export function start(processor, command, args, env = {}) {
  const child = spawn('taskset', ['-c', String(processor), command, ...args], {
    env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.said = '';
  child.stdout.on('data', (bytes) => { child.said += bytes; });
  child.stderr.on('data', (bytes) => { child.complaint = ((child.complaint ?? '') + bytes).slice(-4000); });
  child.gone = new Promise((resolve) => child.on('close', (code) => { running.delete(child); resolve(code); }));
  running.add(child);
  return child;
}

export async function stop(child) {
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), 5000);
  await child.gone;
  clearTimeout(late);
}

export const stopAll = () => Promise.all([...running].map(stop));

// The next line a program prints, as JSON.
export async function line(child) {
  while (!child.said.includes('\n')) {
    if (child.exitCode !== null) throw new Error(`${child.spawnargs.join(' ')}: ${child.complaint}`);
    await new Promise((resolve) => { child.stdout.once('data', resolve); child.once('close', resolve); });
  }
  const [first, ...rest] = child.said.split('\n');
  child.said = rest.join('\n');
  return JSON.parse(first);
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function freePorts(count) {
  const servers = [];
  for (let i = 0; i < count; i++) {
    const server = createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push(server);
  }
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export async function listening(port, child) {
  for (let i = 0; i < 500; i++) {
    if (child.exitCode !== null) throw new Error(`${child.spawnargs.join(' ')}: ${child.complaint}`);
    const table = readFileSync('/proc/net/tcp', 'utf8');
    if (table.includes(`:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`)) return;
    await pause(10);
  }
  throw new Error(`nobody listens on ${port}: ${child.complaint}`);
}

function withChildren(pid) {
  const path = `/proc/${pid}/task/${pid}/children`;
  const children = existsSync(path) ? readFileSync(path, 'utf8').trim() : '';
  return [pid, ...(children ? children.split(' ').flatMap((child) => withChildren(Number(child))) : [])];
}

// Microseconds of CPU, user and system, of a process with its children: the scheduler's own
// nanoseconds over all threads (utime + stime come in ticks of 10 ms).
export function cpuUs(pid) {
  let ns = 0;
  for (const one of withChildren(pid))
    for (const thread of readdirSync(`/proc/${one}/task`))
      ns += Number(readFileSync(`/proc/${one}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
  return ns / 1000;
}

// Proportional set size, KiB.
export function pssKiB(pid) {
  return withChildren(pid).reduce((sum, one) =>
    sum + Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${one}/smaps_rollup`, 'utf8'))[1]), 0);
}

export function requireTools(tools) {
  for (const tool of tools)
    try { execFileSync('sh', ['-c', `command -v ${tool}`]); } catch {
      throw new Error(`${tool} is missing: make deps-bench`);
    }
}
