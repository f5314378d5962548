// 2,000 agents of the documented client connect within two seconds, four times: directly, through a
// gateway that knows none of them (Retry-After ignored, then obeyed), and through one that knows all.
// Ten agents that are connected beat all the while. Writes a table, and the series as CSV to the file
// named by OUT.
//
//   BUILD=build OUT=storm.csv node tests/proof/storm.mjs
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import { sleep } from '../e2e/support/child.mjs';
import { Gateway } from '../e2e/support/gateway.mjs';
import { agentToken } from '../e2e/support/jwt.mjs';
import { Stub, agentId, agentSecret } from '../e2e/support/stub.mjs';
import { each, numbers, quantile } from './support.mjs';

const AGENTS = Number(process.env.AGENTS ?? 2000);
const COST_MS = Number(process.env.COST_MS ?? 48);
const SECONDS = Number(process.env.SECONDS ?? 75);
const BEATERS = 10;
const PAUSES_MS = [1000, 2000, 4000];
const LOCAL_MS = 300000;

/** One request on a connection of its own; rejects after `ms`, as the client's own patience does. */
function post(port, path, body, { token, ms = 10000, agent = false } = {}) {
    const text = JSON.stringify(body);
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
    if (token) headers.Authorization = `Bearer ${token}`;
    return new Promise((resolve, reject) => {
        const request = http.request(
            { host: '127.0.0.1', port, method: 'POST', path, headers, agent },
            (response) => {
                response.resume();
                response.on('end', () => {
                    clearTimeout(timer);
                    resolve(response);
                });
            });
        const timer = setTimeout(() => request.destroy(new Error('timeout')), ms);
        request.on('error', (error) => {
            clearTimeout(timer);
            reject(error);
        });
        request.end(text);
    });
}

class Fleet {
    connected = 0;
    refusals = 0;
    times = []; // of each that is connected, seconds since the start

    constructor(port, obeys) {
        this.port = port;
        this.obeys = obeys;
    }

    /** An agent's whole morning. A refusal counts as no answer, unless Retry-After is obeyed. */
    async connect(n) {
        for (let tries = 0; !this.over;) {
            const answer = await post(this.port, `/agents/${agentId(n)}/connect`, { secret: agentSecret(n) })
                .catch(() => undefined);
            if (answer?.statusCode === 201) {
                this.connected++;
                this.times.push((performance.now() - this.start) / 1000);
                return;
            }
            this.refusals += answer !== undefined;
            const told = answer && this.obeys ? Number(answer.headers['retry-after']) * 1000 : undefined;
            await sleep(told ?? PAUSES_MS[tries] ?? LOCAL_MS);
            if (told === undefined) tries = tries < 3 ? tries + 1 : 0;
        }
    }

    async begin(agents) {
        this.start = performance.now();
        for (const n of agents)
            setTimeout(() => this.connect(n), (2000 * n) / agents.length);
    }
}

/** Agents that are connected, and beat once a second. */
class Beaters {
    waits = [];
    failed = 0;

    run(port) {
        const agent = new http.Agent({ keepAlive: true });
        for (const n of numbers(BEATERS)) {
            const id = agentId(AGENTS + n);
            const token = agentToken(id);
            this.timers = [...(this.timers ?? []), setInterval(async () => {
                const start = performance.now();
                const answer = await post(port, `/agents/${id}/heartbeat`, { status: 'online' }, { token, agent })
                    .catch(() => undefined);
                if (answer?.statusCode === 201) this.waits.push(performance.now() - start);
                else this.failed++;
            }, 1000)];
        }
        this.agent = agent;
    }

    stop() {
        for (const timer of this.timers) clearInterval(timer);
        this.agent.destroy();
    }
}

async function startAll({ direct, known }) {
    const stub = await Stub.start({ transcripts: false, agents: AGENTS + BEATERS, connectCostMs: known ? 0 : COST_MS });
    // The controller is another machine's load: it shall not take time from the gateway here.
    os.setPriority(stub.child.pid, Number(process.env.NICE ?? 10));
    if (direct) return { stub, port: stub.port };
    const config = {
        tls: { enabled: false }, log: { level: 'info' },
        connect_cache: { fresh_for: '1s', stale_after: '1s' }, queue: known ? { connect: 64 } : {},
    };
    const gateway = await Gateway.start(stub, { config });
    if (!known) return { stub, gateway, port: gateway.port };
    await each(numbers(AGENTS), 32, (n) =>
        post(gateway.port, `/agents/${agentId(n)}/connect`, { secret: agentSecret(n) }));
    await stub.set({ connect_cost_ms: COST_MS });
    await sleep(1500); // all entries are stale now
    return { stub, gateway, port: gateway.port };
}

const connectsAtOnce = (gateway) => gateway.metric('controller_calls', 'class="connect"');

async function storm(name, { direct, obeys, known }) {
    const { stub, gateway, port } = await startAll({ direct, known });
    const before = await stub.counts();
    const fleet = new Fleet(port, obeys);
    const beaters = new Beaters();
    const series = [];
    beaters.run(port);
    await sleep(1500);
    await fleet.begin(numbers(AGENTS));
    let mostAtOnce = 0;
    for (let second = 1; second <= SECONDS; second++) {
        await sleep(Math.max(0, fleet.start + second * 1000 - performance.now()));
        series.push(fleet.connected);
        if (gateway) mostAtOnce = Math.max(mostAtOnce, await connectsAtOnce(gateway));
        if (fleet.connected === AGENTS && second >= 10) break;
    }
    const counts = await stub.counts().catch(() => before);
    const bcrypts = counts.bcrypts - before.bcrypts; // begun or queued there
    const underWay = gateway ? await connectsAtOnce(gateway) : 0;
    fleet.over = true;
    beaters.stop();
    const at = (share) => fleet.times.length >= share * AGENTS
        ? fleet.times[Math.ceil(share * AGENTS) - 1].toFixed(1) : '-';
    console.log(`| ${name} | ${fleet.connected} | ${at(0.5)} | ${at(0.9)} | ${at(1)} | ${fleet.refusals} | ${bcrypts} | ` +
        `${known ? 0 : Math.max(0, bcrypts - fleet.connected - underWay)} | ${beaters.waits.length} of ${beaters.waits.length + beaters.failed} | ` +
        `${beaters.waits.length ? quantile(beaters.waits, 0.5).toFixed(1) : '-'} | ${beaters.waits.length ? quantile(beaters.waits, 0.99).toFixed(1) : '-'} | ${mostAtOnce} |`);
    await gateway?.child.kill();
    await stub.child.kill();
    return series;
}

console.log(`${AGENTS} agents within 2 s, ${COST_MS} ms of CPU a bcrypt, at most ${SECONDS} s; ` +
    `${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)}`);
console.log('| | connected | 50 % s | 90 % s | 100 % s | refusals | bcrypts | wasted | beats answered | beat p50 ms | p99 ms | at once |');
console.log('|---|---|---|---|---|---|---|---|---|---|---|---|');
const ways = [
    ['direct', { direct: true }],
    ['cold, ignored', {}],
    ['cold, obeyed', { obeys: true }],
    ['known', { known: true }],
];
const all = [];
for (const [name, way] of ways) all.push([name, await storm(name, way)]);
if (process.env.OUT) {
    const rows = [`s,${all.map(([name]) => name.replace(',', '')).join(',')}`];
    for (let i = 0; i < SECONDS; i++)
        rows.push([i + 1, ...all.map(([, series]) => series[Math.min(i, series.length - 1)])].join(','));
    fs.writeFileSync(process.env.OUT, `${rows.join('\n')}\n`);
}
process.exit(0);
