// Everything at once, for sanitizers to watch: connects, heartbeats, forwards, disconnects, admin
// writes, clients that leave at any moment, a controller that fails now and then; then TERM.
//
//   BUILD=build/tsan node tests/support/load.mjs [--seconds 20] [--seed 1] [--workers 4]
//
// Fails when the gateway crashes or complains, when an acknowledged heartbeat of an orderly agent
// is lost or overtaken, or when the counts do not add up. What is done depends on the seed alone;
// how it interleaves, on the machine.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { sleep } from '../e2e/support/child.mjs';
import { Gateway } from '../e2e/support/gateway.mjs';
import { adminToken, agentToken } from '../e2e/support/jwt.mjs';
import { Stub, agentId, agentSecret } from '../e2e/support/stub.mjs';
import { Wire, call, request } from '../e2e/support/wire.mjs';

const { values: options } = parseArgs({
    options: {
        seconds: { type: 'string', default: '20' },
        seed: { type: 'string', default: '1' },
        workers: { type: 'string', default: '4' },
    },
});

const ORDERLY = 10; // agents with one well-behaved client each: nothing of theirs may be lost
const WILD = 10; // agents that many clients play with
const WILD_CLIENTS = 14;
const statuses = ['online', 'busy', 'idle'];
const tally = {};

/** Numbers below n, the same for the same seed (mulberry32). */
function dice(seed) {
    let state = seed >>> 0;
    return (n) => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = Math.imul(state ^ (state >>> 15), state | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) % n;
    };
}

const note = (what) => (tally[what] = (tally[what] ?? 0) + 1);
const path = (n, action) => `/agents/${agentId(n)}/${action}`;
const bearer = (token) => ({ 'Content-Type': 'application/json', Authorization: `Bearer ${token}` });

/** A heartbeat's bytes; one in eight is too large to be held. */
function beat(roll, n, mark) {
    const padding = roll(8) === 0 ? 'x'.repeat(9000) : undefined;
    return request('POST', path(n, 'heartbeat'), {
        headers: bearer(agentToken(agentId(n))),
        body: { status: statuses[roll(3)], metrics: { mark, padding } },
    });
}

/** One request on a kept connection, which is opened again when it is gone. */
class Client {
    constructor(target) {
        this.target = target;
    }

    async ask(bytes, { ms = 15000 } = {}) {
        if (!this.wire || this.wire.how) this.wire = await Wire.open(this.target);
        this.wire.send(bytes);
        return this.wire.answer({ ms });
    }

    /** Sends it, or a part of it, and leaves. */
    async leave(roll, bytes) {
        const wire = await Wire.open(this.target);
        wire.send(roll(3) === 0 ? bytes.subarray(0, roll(bytes.length)) : bytes);
        await sleep(roll(30));
        if (roll(2)) wire.abort();
        else wire.close();
    }
}

async function orderly(target, n, roll, until) {
    const client = new Client(target);
    let acknowledged = 0;
    for (let mark = 1; Date.now() < until(); mark++) {
        const answer = await client.ask(beat(roll, n, mark));
        note(`orderly beat ${answer.status}`);
        if (answer.status === 201) acknowledged = mark;
        await sleep(20 + roll(60));
    }
    client.wire?.close();
    return acknowledged;
}

const deeds = [
    ['connect', (roll, n) => request('POST', path(n, 'connect'), {
        headers: { 'Content-Type': 'application/json', ...(roll(6) === 0 && { 'Cache-Control': 'no-cache' }) },
        body: { secret: roll(5) === 0 ? `wrong ${roll(4)}` : agentSecret(n) },
    })],
    ['connect', (roll, n) => request('POST', path(n, 'connect'), {
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: `secret=${agentSecret(n)}`,
    })],
    ['beat', (roll, n) => beat(roll, n, roll(1000))],
    ['beat', (roll, n) => beat(roll, n, roll(1000))],
    ['disconnect', (roll, n) => request('POST', path(n, 'disconnect'), {
        headers: bearer(agentToken(agentId(n))), body: { reason: 'load' },
    })],
    ['forward', (roll, n) => request('GET', `/agents/${agentId(n)}`, { headers: bearer(adminToken()) })],
    ['write', (roll, n) => request('PUT', `/agents/${agentId(n)}`, {
        headers: bearer(adminToken()), body: { settings: { n: roll(100) } },
    })],
];

async function wild(target, roll, until) {
    const client = new Client(target);
    while (Date.now() < until()) {
        const [name, spell] = deeds[roll(deeds.length)];
        const bytes = spell(roll, ORDERLY + roll(WILD));
        if (roll(5) === 0) {
            await client.leave(roll, bytes);
            note(`${name}, left`);
        } else {
            note(`${name} ${(await client.ask(bytes)).status}`);
        }
        await sleep(roll(25));
    }
    client.wire?.close();
}

/** Something goes wrong with the controller every now and then. */
async function troubles(stub, roll, until) {
    const kinds = [
        { fail_next: 5, fail_status: 500 }, { fail_next: 5, fail_status: 0 }, { connect_delay_ms: 150 },
        { delay_ms: 60 }, { outage: 'refuse' }, { outage: 'hang' },
    ];
    while (Date.now() < until()) {
        await sleep(500 + roll(700));
        await stub.set(kinds[roll(kinds.length)]);
        await sleep(200 + roll(300));
        await stub.set({ outage: 'off', delay_ms: 0, connect_delay_ms: 0, fail_next: 0 });
    }
}

async function everything(stub) {
    const all = [];
    for (;;) {
        const page = await stub.requests(all.at(-1)?.seq ?? 0);
        if (page.length === 0) return all;
        all.push(...page);
    }
}

/** What the stub answered to the agent's heartbeats, in order. */
function marksOf(entries, n) {
    const marks = entries.filter((e) => e.target === path(n, 'heartbeat') && e.status === 201)
        .map((e) => Number(/"mark":(\d+)/.exec(e.body)[1]));
    marks.forEach((mark, i) => assert.ok(i === 0 || mark >= marks[i - 1],
        `agent ${n}: ${mark} after ${marks[i - 1]}`));
    return marks;
}

async function assertNoneLost(gateway) {
    const of = (name) => gateway.metric(`heartbeats_${name}`);
    const [received, held] = [await of('received_total'), await of('held')];
    const rest = [await of('delivered_total'), await of('superseded_total'), await of('expired_total')];
    assert.equal(received, rest[0] + rest[1] + rest[2] + held, `${received} = ${rest} + ${held}`);
}

async function main() {
    const seed = Number(options.seed);
    const end = Date.now() + Number(options.seconds) * 1000;
    let failed = false;
    const until = () => (failed ? 0 : end);
    const stub = await Stub.start({ transcripts: false, connectCostMs: 5 });
    const gateway = await Gateway.start(stub, {
        config: {
            workers: Number(options.workers),
            connect_cache: { fresh_for: '200ms' },
            heartbeat: {
                forward_interval: '400ms', max_hold: '300ms', expiry: '30s', min_forward_gap: '50ms',
                max_rate: 50,
            },
            drain: { timeout: '10s' },
        },
    });
    const fail = (error) => {
        failed = true;
        throw error;
    };
    const clients = [
        ...Array.from({ length: ORDERLY }, (_, n) => orderly(gateway.target, n, dice(seed * 1000 + n), until)),
        ...Array.from({ length: WILD_CLIENTS }, (_, i) => wild(gateway.target, dice(seed * 2000 + i), until)),
        troubles(stub, dice(seed * 3000), until),
    ].map((client) => client.catch(fail));
    const acknowledged = (await Promise.all(clients)).slice(0, ORDERLY);
    await call(gateway.target, 'GET', '/health');
    await assertNoneLost(gateway);
    await gateway.stop({ ms: 30000 });
    const entries = await everything(stub);
    acknowledged.forEach((mark, n) => assert.ok(marksOf(entries, n).at(-1) >= mark, `agent ${n} lost ${mark}`));
    await stub.stop();
    console.log(tally);
    console.log(`seed ${seed}: ${entries.length} requests reached the controller, no heartbeat was lost`);
}

await main();
