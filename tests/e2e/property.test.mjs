// Random lives: connects, writes, failures and outages in any order and at once, from a seed that is
// printed. Whatever happens, no connect that begins after a write was answered with 2xx hears what was
// true before it, and none hears another agent's answer. (A write whose outcome nobody knows makes
// stale: the controller is asked first, and the old answer serves where it fails.)
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sleep } from './support/child.mjs';
import { Controller, errorBody } from './support/controller.mjs';
import { startGateway } from './support/gateway.mjs';
import { adminToken, agentToken } from './support/jwt.mjs';
import { agentId, agentSecret } from './support/stub.mjs';
import { call } from './support/wire.mjs';

const AGENTS = 6;
const LIFE_MS = 6000;
const PATIENCE_MS = 40000; // a slow machine gets longer to do as much

/** mulberry32: small, and the same for the same seed everywhere. */
function randomOf(seed) {
    let state = seed;
    return (below) => {
        state = (state + 0x6d2b79f5) | 0;
        let t = Math.imul(state ^ (state >>> 15), 1 | state);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) % below;
    };
}

/** A controller whose agents have a version that each write raises, and that is moody. */
class Moody {
    versions = Array(AGENTS).fill(0);
    madeBy = new Map(); // write -> the version it made
    served = 0;

    constructor(random) { this.random = random; }

    async answer({ method, path, headers }) {
        const n = Number(`0x${path.split('/')[2].slice(-2)}`);
        const isConnect = path.endsWith('/connect');
        // The write has happened, whatever is said of it.
        if (!isConnect) this.madeBy.set(headers['x-write'], ++this.versions[n]);
        const version = this.versions[n];
        await sleep(this.random(30));
        const mood = this.random(20);
        if (mood === 0) return 'reset';
        if (mood === 1) return { status: 500, body: errorBody(500, 'Internal server error') };
        if (!isConnect) return { status: method === 'POST' ? 201 : 200, body: '{"ok":true}' };
        this.served++;
        return { status: 201, body: JSON.stringify({ accessToken: agentToken(agentId(n)), agent: n, version }) };
    }
}

const WRITES = [
    (n) => ['PUT', `/agents/${agentId(n)}`, { settings: { a: 1 } }],
    (n) => ['POST', `/agents/${agentId(n)}/credentials/regenerate`, {}],
    (n) => ['PUT', `/AGENTS/%36${agentId(n).slice(1).toUpperCase()}/`, { name: 'x' }],
];

/** So much must have happened; less would prove nothing. */
const saysSomething = ({ connects, hits, writes }) => connects > 100 && hits > 30 && writes > 15;

async function live(seed, workers) {
    const random = randomOf(seed);
    const moody = new Moody(random);
    const stub = await Controller.start((request) => moody.answer(request));
    const gateway = await startGateway(stub, {
        config: {
            workers,
            connect_cache: { fresh_for: '150ms', stale_after: '300ms', refresh_rate: 50, refresh_burst: 5 },
            limits: { connects_per_agent: 0 }, // a few agents that connect all the time
            breaker: { failures: 1000, failure_percent: 100 }, // a moody controller is asked all the same
        },
    });
    const known = Array(AGENTS).fill(0); // the version that an admin has been told of
    const tally = { connects: 0, hits: 0, writes: 0 };

    async function connectOnce(n) {
        const atLeast = known[n];
        const answer = await call(gateway.target, 'POST', `/agents/${agentId(n)}/connect`, { body: { secret: agentSecret(n) } });
        if (answer.status !== 201) return;
        tally.connects++;
        if (/; hit/.test(answer.header('cache-status'))) tally.hits++;
        assert.equal(answer.json.agent, n, `seed ${seed}: another agent's answer`);
        assert.ok(answer.json.version >= atLeast,
            `seed ${seed}: agent ${n} heard version ${answer.json.version} after ${atLeast} (${answer.header('cache-status')})`);
    }

    async function writeOnce(n) {
        const [method, path, body] = WRITES[random(WRITES.length)](n);
        const write = String(tally.writes++);
        const { status } = await call(gateway.target, method, path, {
            token: adminToken(), body, headers: { 'x-write': write },
        });
        if (status < 300) known[n] = Math.max(known[n], moody.madeBy.get(write));
    }

    const start = Date.now();
    const goesOn = () => Date.now() < start + LIFE_MS ||
        (!saysSomething(tally) && Date.now() < start + PATIENCE_MS);
    const actor = async () => {
        while (goesOn()) {
            const n = random(AGENTS);
            if (random(8) === 0) await writeOnce(n);
            else await connectOnce(n);
            if (random(3) === 0) await sleep(random(40));
        }
    };
    try {
        await Promise.all(Array.from({ length: 12 }, actor));
        await gateway.stop();
    } finally {
        if (!gateway.child.ended) await gateway.child.kill();
        await stub.stop();
    }
    return tally;
}

describe('random lives', { timeout: 120000, concurrency: 2 }, () => {
    const first = Number(process.env.SEED ?? Date.now() % 1e6);
    for (const workers of [1, 4]) {
        test(`no connect hears what was true before a write (${workers} workers)`, async (t) => {
            const tally = await live(first + workers, workers);
            t.diagnostic(`seed ${first + workers}: ${JSON.stringify(tally)}`);
            assert.ok(saysSomething(tally), JSON.stringify(tally));
        });
    }
});
