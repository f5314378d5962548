// The table, a row each: what is measured of whom, and what was aimed at.
//   unit     what the figures are
//   target   ours divided by the best peer's; or `limit`: ours in the unit
//   runs     who -> how: a function that gives one figure; `bench` is what peers.mjs has started
//   warmUps  runs before the first that counts (1)
//   lacks    what a peer cannot do, and why it is not there
import { paced, saturate, handshakes } from './support/load.mjs';

const US = 'µs of CPU per request';
const TOKENS_MANY = 200000;

function loads(bench, env, runs, extra = {}) {
  return Object.fromEntries(Object.entries(runs).map(([who, [proxy, port]]) =>
    [who, () => saturate({ ...bench.at(proxy, port), seconds: bench.seconds, env, ...extra })]));
}

const everyone = { gateway: ['gateway', 'data'], haproxy: ['haproxy', 'acknowledge'], nginx: ['nginx', 'acknowledge'] };
const forwarding = { gateway: ['forward', 'data'], haproxy: ['haproxy', 'forward'], nginx: ['nginx', 'forward'] };
const plain = { gateway: ['plain', 'data'], haproxy: ['haproxy', 'plain'], nginx: ['nginx', 'plain'] };
const cached = { gateway: ['gateway', 'data'], 'nginx lua': ['nginx', 'shared'], 'nginx disk': ['nginx', 'disk'] };
const NO_CACHE = 'HAProxy caches no answers to POST';

const beat = (bench, tokens) => ({ WHAT: 'heartbeat', TOKENS: tokens ?? bench.tokens });

const connect = (number, name) => ({
  id: `connect-${name.replace(' ', '')}`, title: `connect from the cache, ${name}`, unit: US, target: number === 1 ? 0.7 : 0.85,
  lacks: { haproxy: NO_CACHE },
  runs: (bench) => loads(bench, { WHAT: 'connect', TARGET: `/agents/${bench.agent(number)}/connect`,
    BODY: `{"secret":"agent-secret-for-tests-${number}"}` }, cached),
});

const get = (id, bytes, name, who, title, target, extra) => ({
  id, title: `${title}, ${name}`, unit: US, target,
  runs: (bench) => loads(bench, { WHAT: 'get', TARGET: `/__stub/bytes?n=${bytes}` }, who, extra),
});

const handshake = (kind, title) => ({
  id: `handshake-${kind}`, title, unit: US, target: 1.0,
  runs: (bench) => Object.fromEntries(Object.entries(everyone).map(([who, [proxy, port]]) =>
    [who, () => handshakes({ ...bench.at(proxy, port), tokens: bench.tokens, count: 1000, kind })])),
});

export const ROWS = [
  { id: 'heartbeat', title: 'heartbeat acknowledged at the edge', unit: US, target: 0.55,
    runs: (bench) => loads(bench, beat(bench), { ...everyone, 'haproxy lean': ['haproxy', 'lean'] }) },
  { id: 'delivered', title: 'heartbeat delivered', unit: US, target: 0.45,
    runs: (bench) => loads(bench, beat(bench),
      { gateway: ['deliver', 'data'], haproxy: ['haproxy', 'deliver'], nginx: ['nginx', 'deliver'] }) },
  { id: 'tokens', title: '200,000 agents in turn, a token each', unit: US, target: 1.0, warmUps: 5,
    runs: (bench) => loads(bench, beat(bench, bench.manyTokens(TOKENS_MANY)), everyone) },
  { id: 'forged', title: 'forged token refused', unit: US, target: 0.65,
    runs: (bench) => loads(bench, { WHAT: 'forged', TOKENS: bench.tokens }, everyone, { want: 'refused' }) },
  connect(1, '4 KB'), connect(2, '64 KB'),
  get('get-1KB', 1024, '1 KB', forwarding, 'GET forwarded', 0.9), get('get-64KB', 65536, '64 KB', forwarding, 'GET forwarded', 0.9),
  get('plain-1KB', 1024, '1 KB', plain, 'GET forwarded, plain', 0.95, { tls: false }),
  get('plain-64KB', 65536, '64 KB', plain, 'GET forwarded, plain', 0.95, { tls: false }),
  handshake('full', 'full handshake (P-256) and a heartbeat'),
  handshake('resumed', 'resumed handshake and a heartbeat'),
  { id: 'rate', title: '5,000 heartbeats a second', unit: US, target: 0.8, also: { id: 'p99',
    title: '5,000 heartbeats a second, p99', unit: 'µs', target: 1.0 },
  runs: (bench) => Object.fromEntries(Object.entries(everyone).map(([who, [proxy, port]]) =>
    [who, () => paced({ ...bench.at(proxy, port), tokens: bench.tokens, rate: 5000, seconds: 2, connections: 200 })])) },
];

// Those that need a proxy started afresh: peers.mjs does them last.
export const FRESH_ROWS = {
  idle: { id: 'idle', title: 'idle TLS connection, 9,800 held', unit: 'KiB (PSS) each', target: 1.0 },
  start: { id: 'start', title: 'start to the first answer', unit: 'ms', limit: 23 },
  rest: { id: 'rest', title: 'at rest', unit: 'MiB (PSS)', limit: 8 },
};
