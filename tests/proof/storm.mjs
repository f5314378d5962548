// 2,000 agents of the documented client connect within two seconds, four times: directly, through a
// gateway that knows none of them (Retry-After ignored, then obeyed), and through one that knows all.
// Twenty agents that are connected beat all the while, from a process of their own.
//
//   BUILD=build node tests/proof/storm.mjs
//
// AGENTS=2000, SECONDS=120 each at most, COST_MS=57 a bcrypt. The controller's two processors are those of
// another machine: a bcrypt takes its time, none of this machine's. BURN=1 burns this one's second
// processor instead, and has everything else on the first. SVG=docs/img/storm-real.svg draws it.
// Prints a table and what meets its target; the exit code says whether all did.
import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import { sleep } from '../e2e/support/child.mjs';
import { Gateway } from '../e2e/support/gateway.mjs';
import { Stub, agentId, agentSecret } from '../e2e/support/stub.mjs';
import { each, numbers, quantile } from './support.mjs';

const AGENTS = Number(process.env.AGENTS ?? 2000);
const COST_MS = Number(process.env.COST_MS ?? 57);
const SECONDS = Number(process.env.SECONDS ?? 120);
const BURN = process.env.BURN === '1';
const BEATERS = 20;
const CALM_S = 8;
const BUCKET_S = 10;
const LOOKS_A_SECOND = 10;
const PROCESSORS = BURN ? 1 : 2;
const PAUSES_MS = [1000, 2000, 4000];
const LOCAL_MS = 300000;

/** One connect on a connection of its own; rejects after 10 s, as the client's own patience does. */
function connect(port, n) {
    const body = JSON.stringify({ secret: agentSecret(n) });
    const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length };
    return new Promise((resolve, reject) => {
        const request = http.request({
            host: '127.0.0.1', port, method: 'POST', path: `/agents/${agentId(n)}/connect`, headers, agent: false,
        }, (response) => {
            response.resume();
            response.on('end', () => {
                clearTimeout(timer);
                resolve(response);
            });
        });
        const timer = setTimeout(() => request.destroy(new Error('timeout')), 10000);
        request.on('error', (error) => {
            clearTimeout(timer);
            reject(error);
        });
        request.end(body);
    });
}

// ---- the agents ----

class Fleet {
    refusals = 0;
    times = []; // of each that is connected, seconds since the start

    constructor(port, obeys) {
        this.port = port;
        this.obeys = obeys;
    }

    /** An agent's whole morning. A refusal counts as no answer, unless Retry-After is obeyed. */
    async connect(n) {
        for (let tries = 0; !this.over;) {
            const answer = await connect(this.port, n).catch(() => undefined);
            if (this.over) return;
            if (answer?.statusCode === 201) {
                this.times.push((performance.now() - this.start) / 1000);
                return;
            }
            this.refusals += answer !== undefined;
            const told = answer && this.obeys ? Number(answer.headers['retry-after']) * 1000 : undefined;
            await sleep(told ?? PAUSES_MS[tries] ?? LOCAL_MS);
            if (told === undefined) tries = tries < 3 ? tries + 1 : 0;
        }
    }

    begin() {
        this.start = performance.now();
        for (const n of numbers(AGENTS)) setTimeout(() => this.connect(n), (2000 * n) / AGENTS);
    }

    connectedBy(second) {
        return this.times.filter((s) => s <= second).length;
    }

    /** When that share of them was connected, or undefined. */
    secondOf(share) {
        return this.times[Math.ceil(share * AGENTS) - 1];
    }
}

async function startBeaters(port) {
    const script = new URL('beaters.mjs', import.meta.url);
    const beaters = fork(script, [port, AGENTS, BEATERS].map(String));
    await sleep(2000); // first beats wait for the controller
    beaters.send('begin');
    return beaters;
}

async function endBeaters(beaters) {
    beaters.send('end');
    const [{ waits, failed }] = await once(beaters, 'message');
    return { waits, failed };
}

// ---- the processes ----

const pin = (pid, cpu) => execFileSync('taskset', ['-a', '-p', '-c', String(cpu), String(pid)], { stdio: 'ignore' });

async function startStub(connectCostMs) {
    const stub = await Stub.start({
        transcripts: false, agents: AGENTS + BEATERS, connectCostMs, processors: BURN ? 0 : 2,
    });
    if (BURN) pin(stub.child.pid, 1);
    return stub;
}

async function startAll({ direct, known }) {
    const stub = await startStub(known ? 0 : COST_MS);
    if (direct) return { stub, port: stub.port };
    const config = {
        tls: { enabled: false }, log: { level: 'info' }, connect_cache: { fresh_for: '1s', stale_after: '1s' },
    };
    const gateway = await Gateway.start(stub, { config });
    if (!known) return { stub, gateway, port: gateway.port };
    await each(numbers(AGENTS), 8, (n) => connect(gateway.port, n));
    await stub.set({ connect_cost_ms: COST_MS });
    await sleep(1500); // all entries are stale now
    return { stub, gateway, port: gateway.port };
}

/** Connects a second that the controller bears: measured, kept busy with nothing else, and no less than
 * its processors would do by their cost. */
async function capacity() {
    const stub = await startStub(COST_MS);
    const until = performance.now() + 6000;
    let done = 0;
    const start = performance.now();
    await Promise.all(numbers(8).map(async (n) => {
        for (; performance.now() < until; done++) await connect(stub.port, n);
    }));
    const perSecond = done / ((performance.now() - start) / 1000);
    await stub.child.kill();
    return Math.max(perSecond, BURN ? 0 : PROCESSORS * (1000 / COST_MS));
}

const connectsAtOnce = (gateway) => gateway.metric('controller_calls', 'class="connect"');

/** Until all are connected, or the time is over; a bucket at least. How many connects the controller had
 * at once, looked at ten times a second: at most, and in how many looks enough for all its processors,
 * from the first second until only those were left. */
async function watch(fleet, gateway) {
    const seen = [];
    for (let look = 1; look <= SECONDS * LOOKS_A_SECOND; look++) {
        await sleep(Math.max(0, fleet.start + (look * 1000) / LOOKS_A_SECOND - performance.now()));
        const left = AGENTS - fleet.times.length;
        if (gateway) seen.push({ look, left, count: await connectsAtOnce(gateway) });
        if (left === 0 && look >= BUCKET_S * LOOKS_A_SECOND) break;
    }
    const working = seen.filter(({ look, left }) => look > LOOKS_A_SECOND && left > 8);
    return {
        mostAtOnce: gateway && Math.max(...seen.map(({ count }) => count)),
        busy: (100 * working.filter(({ count }) => count >= PROCESSORS).length) / working.length,
    };
}

async function storm({ direct, obeys, known }) {
    const { stub, gateway, port } = await startAll({ direct, known });
    const before = (await stub.counts()).bcrypts;
    const beaters = await startBeaters(port);
    const fleet = new Fleet(port, obeys);
    fleet.begin();
    const { mostAtOnce, busy } = await watch(fleet, gateway);
    const bcrypts = (await stub.counts()).bcrypts - before;
    const underWay = gateway ? await connectsAtOnce(gateway) : 0;
    const connected = fleet.times.length;
    fleet.over = true;
    const beats = await endBeaters(beaters);
    await gateway?.child.kill();
    await stub.child.kill();
    const wasted = known ? 0 : Math.max(0, bcrypts - connected - underWay);
    return { fleet, connected, bcrypts, underWay, wasted, mostAtOnce, busy, beats };
}

/** What a beat takes through a gateway that has nothing else to do. */
async function calm() {
    const { stub, gateway, port } = await startAll({});
    const beaters = await startBeaters(port);
    await sleep(CALM_S * 1000);
    const beats = await endBeaters(beaters);
    await gateway.child.kill();
    await stub.child.kill();
    return beats;
}

// ---- the table ----

const seconds = (value) => value === undefined ? '-' : `${value.toFixed(1)} s`;
const ms = (values, q) => values.length ? quantile(values, q).toFixed(2) : '-';
const beatCells = ({ waits, failed }) =>
    `${waits.length} of ${waits.length + failed} | ${ms(waits, 0.5)} | ${ms(waits, 0.99)}`;

function row(name, r) {
    console.log(`| ${name} | ${r.connected} | ${seconds(r.fleet.secondOf(0.5))} | ${seconds(r.fleet.secondOf(0.9))} | ` +
        `${seconds(r.fleet.secondOf(1))} | ${r.fleet.refusals} | ${r.bcrypts} | ${r.wasted} | ${r.mostAtOnce ?? '-'} | ` +
        `${beatCells(r.beats)} |`);
}

function judge(text, met) {
    console.log(`${met ? 'met   ' : 'MISSED'} ${text}`);
    if (!met) process.exitCode = 1;
}

/** The buckets after the first in which `fleet` has fewer than `other` by their end. */
const behind = (fleet, other) => numbers(SECONDS / BUCKET_S).slice(1)
    .map((k) => (k + 1) * BUCKET_S)
    .filter((end) => fleet.connectedBy(end) < other.connectedBy(end));

function judgeAll({ direct, ignored, obeyed, known }, perSecond) {
    const fewer = behind(ignored.fleet, direct.fleet);
    judge(`Retry-After ignored: bcrypts wasted ${ignored.wasted} (0)`, ignored.wasted === 0);
    judge(`Retry-After ignored: buckets after the first with fewer connected than directly ${fewer.length} (0)` +
        `${fewer.length ? `, ending at ${fewer.join(', ')} s` : ''}`, fewer.length === 0);
    const all = obeyed.fleet.secondOf(1);
    const share = (100 * obeyed.connected) / (perSecond * (all ?? SECONDS));
    judge(`Retry-After obeyed: ${share.toFixed(1)} % of the controller's capacity, ${perSecond.toFixed(1)} a second (95 %)`,
        share >= 95);
    console.log(`       it had work for all its processors in ${obeyed.busy.toFixed(1)} % of the looks (ignored: ` +
        `${ignored.busy.toFixed(1)} %)`);
    judge(`Retry-After obeyed: bcrypts wasted ${obeyed.wasted} (0)`, obeyed.wasted === 0);
    judge(`known: all connected after ${seconds(known.fleet.secondOf(1))} (5 s)`, known.fleet.secondOf(1) <= 5);
    judge(`known: ${((100 * known.bcrypts) / AGENTS).toFixed(1)} % of them cost a bcrypt (5 %)`,
        known.bcrypts <= 0.05 * AGENTS);
    for (const [name, r] of Object.entries({ ignored, obeyed, known }))
        judge(`${name}: a beat's p99 ${ms(r.beats.waits, 0.99)} ms, ${r.beats.failed} failed (20 ms, 0)`,
            quantile(r.beats.waits, 0.99) < 20 && r.beats.failed === 0);
}

function draw(results, file) {
    const names = Object.keys(results);
    const rows = [`s,${names.join(',')}`];
    for (let s = 0; s <= SECONDS; s++)
        rows.push([s, ...names.map((name) => results[name].fleet.connectedBy(s))].join(','));
    const title = `${AGENTS} agents within 2 s, real processes`;
    const plot = new URL('../../bench/sim/plot.mjs', import.meta.url).pathname;
    fs.writeFileSync(file, execFileSync(process.execPath, [plot, title, 'connected'], { input: `${rows.join('\n')}\n` }));
}

const load = () => os.loadavg()[0].toFixed(1);

if (BURN) pin(process.pid, 0);
const began = load();
const perSecond = await capacity();
console.log(`${AGENTS} agents within 2 s, ${COST_MS} ms a bcrypt, ` +
    `${BURN ? 'burnt on the second processor' : 'two processors of a machine of its own'}: ` +
    `${perSecond.toFixed(1)} connects a second at most; ${SECONDS} s each at most`);
console.log('| | connected | 50 % | 90 % | 100 % | refusals | bcrypts | wasted | at once | beats answered | p50 ms | p99 ms |');
console.log('|---|---|---|---|---|---|---|---|---|---|---|---|');
console.log(`| no storm | | | | | | | | | ${beatCells(await calm())} |`);
const results = {};
for (const [name, way] of Object.entries({
    direct: { direct: true }, ignored: {}, obeyed: { obeys: true }, known: { known: true },
})) {
    results[name] = await storm(way);
    row(name, results[name]);
}
console.log(`load ${began} at the start, ${load()} at the end; ${os.cpus().length} cores`);
judgeAll(results, perSecond);
if (process.env.SVG) draw(results, process.env.SVG);
process.exit();
