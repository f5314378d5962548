// Attacks, one after the other, while a hundred agents work: each beats twice a second on a
// connection it keeps, and connects every few seconds on a new one. What do they notice?
import { spawn } from 'node:child_process';
import path from 'node:path';
import { sleep } from '../e2e/support/child.mjs';
import { agentToken } from '../e2e/support/jwt.mjs';
import { agentId, agentSecret } from '../e2e/support/stub.mjs';
import { Wire, call, request } from '../e2e/support/wire.mjs';
import { numbers, prove, quantile, resident } from './support.mjs';

const AGENTS = 100;
const SECONDS = Number(process.env.SECONDS ?? 15);
const BEAT_MS = 500;
const CONNECT_MS = 5000;
const GROWTH_MAX = 32 * 1024 * 1024;
const attacker = path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), 'attacker.mjs');

const kinds = [
    ['nobody', 'Nobody attacks'],
    ['heads', '200 clients that never end their head'],
    ['bodies', '200 clients that never end their body'],
    ['readers', '200 clients that do not read their answer of 2 MB'],
    ['connections', 'Silent connections, as many as can be'],
    ['tokens', 'Forged tokens'],
    ['secrets', 'Wrong secrets of an agent at work'],
    ['unknown', 'Wrong secrets of an agent nobody knows'],
];

/** One good agent, until told to stop. */
class Good {
    errors = [];
    beats = [];
    connects = [];

    constructor(target, n) {
        this.target = target;
        this.n = n;
    }

    async #timed(into, work) {
        const start = performance.now();
        try {
            const answer = await work();
            if (answer.status !== 201) this.errors.push(`${answer.status} ${answer.json.code ?? ''}`);
        } catch (error) {
            this.errors.push(error.message.slice(0, 80));
        }
        into.push(performance.now() - start);
    }

    connect() {
        const target = `/agents/${agentId(this.n)}/connect`;
        return this.#timed(this.connects, () => call(this.target, 'POST', target, { body: { secret: agentSecret(this.n) } }));
    }

    beat() {
        return this.#timed(this.beats, async () => {
            if (!this.wire || this.wire.how) this.wire = await Wire.open(this.target);
            this.wire.send(this.bytes);
            return this.wire.answer();
        });
    }

    async live(state) {
        this.bytes = request('POST', `/agents/${agentId(this.n)}/heartbeat`, {
            headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${agentToken(agentId(this.n))}` },
            body: { status: 'online' },
        });
        await sleep((this.n * CONNECT_MS) / AGENTS);
        for (let i = 0; !state.stopped; i++) {
            await this.beat();
            if (i % (CONNECT_MS / BEAT_MS) === 0) await this.connect();
            await sleep(BEAT_MS);
        }
        this.wire?.close();
    }

    take() {
        const taken = { errors: this.errors, beats: this.beats, connects: this.connects };
        this.errors = [];
        this.beats = [];
        this.connects = [];
        return taken;
    }
}

function attack(kind, target) {
    const child = spawn(process.execPath, [attacker, kind, '127.0.0.1', String(target.port), String(SECONDS)],
        { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (piece) => (text += piece));
    return new Promise((resolve) => child.on('close', () => resolve(JSON.parse(text))));
}

/** An agent that the gateway does not know, under attack: when is it let in, if it obeys? */
async function newcomer(target) {
    const start = performance.now();
    for (;;) {
        const answer = await call(target, 'POST', `/agents/${agentId(500)}/connect`, { body: { secret: agentSecret(500) } });
        if (answer.status === 201) return (performance.now() - start) / 1000;
        await sleep(Number(answer.header('retry-after') ?? 1) * 1000);
    }
}

const all = (taken, what) => taken.flatMap((one) => one[what]);
const config = { workers: 2, listen: { max_connections: 2000 } };

await prove(`Attacks of ${SECONDS} s each while ${AGENTS} agents work`,
    { stubOptions: { connectCostMs: 20 }, config }, async (gateway, stub, figure) => {
        const state = { stopped: false };
        const fleet = numbers(AGENTS).map((n) => new Good(gateway.target, n));
        const lives = fleet.map((good) => good.live(state));
        await sleep(CONNECT_MS + 3000);
        for (const [kind, title] of kinds) {
            fleet.forEach((good) => good.take());
            const bcrypts = (await stub.counts()).bcrypts;
            let most = resident(gateway.child.pid);
            const memory = most;
            const looking = setInterval(() => (most = Math.max(most, resident(gateway.child.pid))), 100);
            const waited = kind === 'unknown' && sleep(2000).then(() => newcomer(gateway.target));
            const did = await attack(kind, gateway.target);
            const letIn = await waited;
            clearInterval(looking);
            const taken = fleet.map((good) => good.take());
            const errors = all(taken, 'errors');
            console.log(`  ${title}: ${did.connections} connections, ${JSON.stringify(did.answers)}`);
            figure('  errors of the good', errors.length, `= 0 ${[...new Set(errors)].slice(0, 3)}`, errors.length === 0);
            figure('  heartbeats', all(taken, 'beats').length);
            for (const q of [0.5, 0.99])
                figure(`  p${q * 100} of a heartbeat, ms`, quantile(all(taken, 'beats'), q));
            figure('  p99 of a connect on a new connection, ms', quantile(all(taken, 'connects'), 0.99));
            figure('  memory grown by, MiB', (most - memory) / 1048576, '< 32', most - memory < GROWTH_MAX);
            figure('  secrets compared by the controller', (await stub.counts()).bcrypts - bcrypts);
            if (kind === 'unknown') figure('  the agent itself let in after, s', letIn);
            await sleep(1500);
        }
        state.stopped = true;
        await Promise.all(lives);
        figure('connections evicted', await gateway.metric('connections_evicted_total'));
    });
