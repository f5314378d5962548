// The stub, the gateway and its peers, each started on ports of its own. A proxy is { pid, ports }.
import { createHmac } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts, line, listening, start } from './processes.mjs';

export const SECRET = 'aiwm-local-test-secret-0123456789abcdef';
export const PROXY_CPU = 0, LOAD_CPU = 1;
const here = new URL('..', import.meta.url).pathname;
export const build = process.env.BUILD ?? new URL('../../../build', import.meta.url).pathname;
const b64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function sign(claims) {
  const signed = `${b64({ alg: 'HS256', typ: 'JWT' })}.${b64(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

export function agentToken(number, issued = Math.floor(Date.now() / 1000)) {
  const id = `6a${number.toString(16).padStart(22, '0')}`;
  return [id, sign({ sub: id, username: `agent:${id}`, status: 'active', roles: ['organization.viewer'],
    orgId: '691eb9e6517f917943ae1f9d', groupId: '', agentId: id, userId: '', type: 'agent',
    iat: issued, exp: issued + 86400 })];
}

// A file of `count` tokens, of agents in turn.
export function writeTokens(path, count, agents = count) {
  const now = Math.floor(Date.now() / 1000);
  let text = '';
  for (let i = 0; i < count; i++)
    text += `${agentToken(i % agents, now - Math.floor(i / agents)).join(' ')}\n`;
  writeFileSync(path, text);
  return path;
}

export function writeCertificate(dir) {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
    '-days', '2', '-subj', '/CN=localhost', '-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')],
  { stdio: 'ignore' });
  writeFileSync(join(dir, 'both.pem'),
    readFileSync(join(dir, 'cert.pem'), 'utf8') + readFileSync(join(dir, 'key.pem'), 'utf8'));
}

export async function startStub(agents) {
  const child = start(LOAD_CPU, join(build, 'aiwm-stub'), ['--agents', String(agents)]);
  const { port } = await line(child);
  return { child, port };
}

// An agent whose connect is answered with about `bytes`.
export async function enlargeAgent(stubPort, number, bytes) {
  const token = sign({ sub: '691eba08517f917943ae1fa1', orgId: '691eb9e6517f917943ae1f9d', type: 'user',
    roles: ['universe.owner'], iat: Math.floor(Date.now() / 1000), exp: Math.floor(Date.now() / 1000) + 86400 });
  const plain = 1700; // what it has anyway
  const answer = await fetch(`http://127.0.0.1:${stubPort}/agents/${agentToken(number)[0]}`, {
    method: 'PUT', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ settings: { prompt: 'x'.repeat(bytes - plain) } }) });
  if (!answer.ok) throw new Error(`PUT on the stub: ${answer.status} ${await answer.text()}`);
}

function fill(dir, file, values) {
  const text = readFileSync(join(here, `${file}.in`), 'utf8').replace(/@([A-Z]+)@/g, (_, name) => {
    if (!(name in values)) throw new Error(`${file}: @${name}@`);
    return values[name];
  });
  writeFileSync(join(dir, file), text);
  return join(dir, file);
}

const common = (dir) => ({ DIR: dir, HERE: here.replace(/\/$/, ''), SECRET, PEM: join(dir, 'both.pem') });

// What is run, for all three: { command, args, env, ports }.
export async function haproxy(dir, stubPort, connections = 4000) {
  const names = ['acknowledge', 'lean', 'deliver', 'forward', 'plain'];
  const ports = Object.fromEntries((await freePorts(names.length)).map((port, i) => [names[i], port]));
  const upper = Object.fromEntries(names.map((name) => [name.toUpperCase(), ports[name]]));
  const file = fill(dir, 'haproxy.cfg', { ...common(dir), ...upper, STUB: stubPort, CONNECTIONS: connections });
  return { command: 'haproxy', args: ['-db', '-f', file], ports };
}

export async function nginx(dir, stubPort, connections = 4000) {
  const names = ['acknowledge', 'deliver', 'shared', 'disk', 'forward', 'plain'];
  const ports = Object.fromEntries((await freePorts(names.length)).map((port, i) => [names[i], port]));
  const upper = Object.fromEntries(names.map((name) => [name.toUpperCase(), ports[name]]));
  const file = fill(dir, 'nginx.conf', { ...common(dir), ...upper, STUB: stubPort, CONNECTIONS: connections });
  return { command: 'nginx', args: ['-c', file, '-p', '/usr/share/nginx'], ports };
}

export async function nginxBare(dir, stubPort, connections = 4000) {
  const [forward] = await freePorts(1);
  const file = fill(dir, 'nginx-bare.conf', { ...common(dir), FORWARD: forward, STUB: stubPort, CONNECTIONS: connections });
  return { command: 'nginx', args: ['-c', file, '-p', '/usr/share/nginx'], ports: { forward } };
}

export async function gateway(dir, stubPort, settings = {}) {
  const [port, health] = await freePorts(2);
  const env = {
    AIWM_GATEWAY_WORKERS: '1', AIWM_GATEWAY_LISTEN_ADDRESS: '127.0.0.1', AIWM_GATEWAY_LISTEN_PORT: String(port),
    AIWM_GATEWAY_HEALTH_ADDRESS: '127.0.0.1', AIWM_GATEWAY_HEALTH_PORT: String(health),
    AIWM_GATEWAY_ADMIN_PORT: '0', AIWM_GATEWAY_DRAIN_DELAY: '0s',
    AIWM_GATEWAY_UPSTREAM_URL: `http://127.0.0.1:${stubPort}`, AIWM_GATEWAY_JWT_SECRET: SECRET,
    AIWM_GATEWAY_TLS_CERTIFICATE_FILE: join(dir, 'cert.pem'),
    AIWM_GATEWAY_TLS_PRIVATE_KEY_FILE: join(dir, 'key.pem'), AIWM_GATEWAY_HEARTBEAT_MAX_RATE: '1000',
    AIWM_GATEWAY_CONNECT_CACHE_FRESH_FOR: '50m', ...settings,
  };
  return { command: join(build, 'aiwm-gateway'), args: [], env, ports: { data: port } };
}

export async function run(program) {
  const child = start(PROXY_CPU, program.command, program.args, program.env);
  await listening(Object.values(program.ports)[0], child);
  return { child, pid: child.pid, ports: program.ports };
}

export function workDirectory(path) {
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o755); // nginx's worker is another user
  writeCertificate(path);
  return path;
}
