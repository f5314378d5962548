// One round: replicas of the gateway, Redis and the controller under the load of a fleet; at random
// moments one of them is killed (-9) or stopped, and comes back. Then everything is let heal, and
// what the controller saw is held against what the agents were promised.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { sleep } from '../e2e/support/child.mjs';
import { startGateway } from '../e2e/support/gateway.mjs';
import { freePort } from '../e2e/support/ports.mjs';
import { Redis } from '../e2e/support/redis.mjs';
import { Stub } from '../e2e/support/stub.mjs';
import { Agent } from './agents.mjs';
import { lost, overtaken, seenByAgent } from './judge.mjs';

// A killed replica's calls are another's when their lease is over: 30 s, and some to deliver.
const LEASE_MS = 30000;
const SETTLE_MS = 60000;

const times = {
    forward_interval: '2s', max_hold: '1500ms', min_forward_gap: '200ms', max_rate: 100,
    expiry: '1h', // nothing may be excused by its age
};
/** Agents here connect more often than any does, and a controller that is back is noticed within
 * the time for which failures are excused. */
const patience = { limits: { connects_per_agent: 0 }, breaker: { open: '500ms', max_open: '1s' } };

/** As the controller's journal counts. */
const monotonicMs = () => Number(process.hrtime.bigint() / 1000000n);

class World {
    /** options: replicas, agents, seconds, secure; dice. */
    static async start(options, dice) {
        const world = Object.assign(new World(), { options, dice, replicas: [] });
        world.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-fault-'));
        try {
            await world.#begin();
        } catch (error) {
            await world.discard();
            throw error;
        }
        return world;
    }

    async #begin() {
        const { replicas, agents, secure = false, workers = 2, bulk = false } = this.options;
        this.stub = await Stub.start({
            transcripts: false, agents, bulk, port: await freePort(),
            journal: path.join(this.dir, 'journal'),
        });
        this.redis = await Redis.start({ appendonly: true });
        for (let i = 0; i < replicas; i++) {
            const gateway = await startGateway(this.stub, { config: {
                workers, tls: { enabled: secure }, listen: { port: await freePort() },
                ...(this.options.redis === false ? {} : { redis: { url: this.redis.url } }), heartbeat: times, log: { level: 'info' }, ...patience,
                ...this.options.config,
            } });
            this.replicas.push(Object.assign(gateway, { kills: [], number: i }));
        }
        this.agents = Array.from({ length: agents }, (_, n) => new Agent(n, this.dice.child(), this.replicas));
    }

    /** When something was down or silent, as a test of `at` (ms). */
    #down = { stub: [], redis: [] };

    async #absent(what, ms, gone, back) {
        const span = { from: Date.now(), to: Infinity, monoFrom: monotonicMs() };
        this.#down[what]?.push(span);
        await gone();
        await sleep(ms);
        await back();
        span.to = Date.now();
        span.monoTo = monotonicMs();
    }

    deeds = {
        gateway: async (dice) => {
            const gateway = dice.one(this.replicas.filter((r) => !r.child.ended));
            if (!gateway) return;
            gateway.kills.push(Date.now());
            await gateway.child.kill();
            gateway.kills.push(Date.now());
            await sleep(dice.below(400));
            await gateway.restart();
        },
        redis: (dice) => this.#absent('redis', dice.below(1200), () => this.redis.kill(), () => this.redis.restart()),
        stub: (dice) => this.#absent('stub', dice.below(1200), () => this.stub.kill(), () => this.stub.restart()),
        pause: (dice) => this.#absent('redis', this.options.pauseMs ?? dice.between(100, 2500),
            () => this.redis.pause(), () => this.redis.resume()),
    };

    /** Each kind of fault in a row of its own, so that they meet. */
    async #trouble(kind, dice, signal) {
        let count = 0;
        while (!signal.over) {
            await sleep(dice.between(300, 2500));
            if (signal.over) break;
            await this.deeds[kind](dice);
            count++;
        }
        return count;
    }

    async run() {
        const signal = { over: false };
        const { faults, seconds } = this.options;
        const lives = this.agents.map((agent) => agent.live(signal, { pauseMs: this.options.beatMs ?? 120 }));
        // Two that stop or kill the same Redis at a time would undo each other.
        const rows = faults.map((kind) => this.#trouble(kind, this.dice.child(), signal));
        await sleep(seconds * 1000);
        signal.over = true;
        const counts = await Promise.all(rows);
        await Promise.all(lives);
        this.happened = Object.fromEntries(faults.map((kind, i) => [kind, counts[i]]));
    }

    /** Failures nobody is to blame for: the replica was killed meanwhile; or it had to ask the
     * controller, which was down. */
    #isExcused({ by, at, end, network, what, why }) {
        const killed = network && by.kills.some((k) => k >= at - 2000 && k <= end + 2000);
        const asks = what !== 'beat';
        const stubDown = this.#down.stub.some(({ from, to }) => end >= from - 500 && at <= to + 3000);
        return killed || (asks && stubDown) || this.#waitsForTheDead({ at, end, what, why });
    }

    /** A replica that is killed while it sends for an agent keeps that agent for half a minute: what
     * has to keep its place among the agent's calls waits for it, and then gives up. */
    #waitsForTheDead({ at, end, what, why }) {
        const keepsItsPlace = what === 'large beat' || what === 'disconnect';
        return keepsItsPlace && /GATEWAY_UPSTREAM_TIMEOUT/.test(why) &&
            this.replicas.some(({ kills }) => kills.some((k) => k >= at - LEASE_MS && k <= end));
    }

    /** { settledMs, lost, overtaken, failures, figures }: what is wrong is in the first three lists. */
    async verdict() {
        const start = Date.now();
        let seen = seenByAgent(this.stub.journal());
        while (lost(this.agents, seen).length && Date.now() < start + SETTLE_MS) {
            await sleep(200);
            seen = seenByAgent(this.stub.journal());
        }
        const acknowledged = this.agents.flatMap((agent) => agent.acknowledged);
        const failures = this.agents.flatMap((agent) => agent.failures.map((f) => ({ ...f, agent: agent.id })));
        return {
            settledMs: Date.now() - start,
            lost: lost(this.agents, seen),
            overtaken: overtaken(this.agents, seen, this.#down.redis.map(
                ({ monoFrom, monoTo = Infinity, to }) => ({ from: monoFrom, to: monoTo, wallTo: to }))),
            failures: failures.filter((f) => !this.#isExcused(f)),
            figures: {
                acknowledged: acknowledged.length,
                inMemory: acknowledged.filter((a) => a.memory).length,
                excused: failures.filter((f) => this.#isExcused(f)).length,
                seen: [...seen.values()].reduce((sum, entries) => sum + entries.length, 0),
            },
        };
    }

    /** Ends everything in order; a sanitizer's complaint or another exit code than 0 throws. */
    async stop() {
        try {
            for (const gateway of this.replicas) await gateway.stop();
            await this.redis.stop();
            await this.stub.stop();
        } finally {
            await this.discard();
        }
    }

    async discard() {
        const all = [...this.replicas, this.redis, this.stub].filter(Boolean);
        for (const each of all)
            if (each.discard) await each.discard();
            else if (!each.child.ended) await each.child.kill();
        fs.rmSync(this.dir, { recursive: true, force: true });
    }
}

/** Runs a round; gives what verdict() gives, and what happened. */
export async function round(options, dice) {
    const world = await World.start(options, dice);
    try {
        await world.run();
        const verdict = await world.verdict();
        const { happened } = world;
        await world.stop();
        return { ...verdict, happened };
    } catch (error) {
        await world.discard();
        throw error;
    }
}

const how = (ack) => ack
    ? `by ${ack.by.number}${ack.memory ? ', in memory' : ''}${ack.by.kills.length ? ', killed at some time' : ''}`
    : 'not acknowledged';

/** What is wrong, in a few lines; undefined if nothing is. */
export function complaint({ lost: gone, overtaken: late, failures }) {
    const some = (list, text) => list.slice(0, 5).map((item) => `    ${text(item)}\n`).join('');
    const where = ({ mark, life, seq, ack }) => `mark ${mark} (life ${life}, ${seq}; ${how(ack)})`;
    if (!gone.length && !late.length && !failures.length) return undefined;
    return `${gone.length} lost\n${some(gone, (agent) => {
        const { memory, mark, what, by } = agent.acknowledged.at(-1);
        return `${agent.id}: last acknowledged ${what} ${mark} by ${by.number}${memory ? ', in memory' : ''}`;
    })}  ${late.length} overtaken\n${some(late, (o) => `${o.agent}: ${where(o.after)} after ${where(o.before)}`)
    }  ${failures.length} failed requests\n${some(failures, (f) => `${f.agent}: ${f.what} by ${f.by.number}, ${f.end - f.at} ms: ${f.why}`)}`;
}
