// A fleet of agents that keep a record: what they asked, what they were answered and by whom. Each
// sends one request at a time; its heartbeats and disconnects carry a rising mark, so that what
// reached the controller can be held against what was promised.
import { sleep } from '../e2e/support/child.mjs';
import { agentToken } from '../e2e/support/jwt.mjs';
import { agentId, agentSecret } from '../e2e/support/stub.mjs';
import { Wire, request } from '../e2e/support/wire.mjs';

const STATUSES = ['online', 'online', 'online', 'busy', 'idle'];
const PATIENCE_MS = 12000; // the gateway gives up after 10 s

/** What an entry of the controller's journal is: { agent, mark, what }, or undefined. */
export function readEntry({ target, route, agent, body, status }) {
    if (status < 200 || status >= 300) return undefined;
    const mark = Number(/mark[" :]+(\d+)/.exec(body)?.[1]);
    if (!mark) return undefined;
    if (route === 'bulk') return { agent, mark, what: 'beat' };
    const [, id, what] = /^\/agents\/([0-9a-f]{24})\/(heartbeat|disconnect)$/.exec(target) ?? [];
    return id && { agent: id, mark, what: what === 'heartbeat' ? 'beat' : 'disconnect' };
}

export class Agent {
    mark = 0;
    acknowledged = []; // { mark, what, memory, by, at } of beats and disconnects answered 201
    failures = []; // { what, by, at, end, why }: anything else
    #wires = new Map();

    constructor(n, dice, replicas) {
        Object.assign(this, { n, dice, replicas, id: agentId(n), token: agentToken(agentId(n)) });
        this.home = dice.one(replicas);
    }

    /** Until `signal.over`: mostly heartbeats, through its own replica or whichever a balancer
     * would choose; now and then one that is too large to be held, a disconnect, a connect. */
    async live(signal, { pauseMs }) {
        await sleep(this.dice.below(pauseMs));
        while (!signal.over) {
            if (this.dice.oneIn(12)) this.home = this.dice.one(this.replicas);
            await this.#act(this.dice.below(60));
            await sleep(this.dice.between(pauseMs / 2, pauseMs * 1.5));
        }
        for (const wire of this.#wires.values()) wire.close();
    }

    #act(number) {
        if (number === 0) return this.disconnect();
        if (number <= 2) return this.connect();
        return this.beat({ large: number <= 4 });
    }

    connect() {
        return this.#ask('connect', request('POST', `/agents/${this.id}/connect`, {
            headers: { 'Content-Type': 'application/json' }, body: { secret: agentSecret(this.n) },
        }));
    }

    beat({ large = false } = {}) {
        const padding = large ? 'x'.repeat(9000) : undefined;
        return this.#ask(large ? 'large beat' : 'beat', this.#own('heartbeat', {
            status: this.dice.one(STATUSES), metrics: { mark: ++this.mark, padding },
        }));
    }

    disconnect() {
        return this.#ask('disconnect', this.#own('disconnect', { reason: `mark ${++this.mark}` }));
    }

    #own(action, body) {
        return request('POST', `/agents/${this.id}/${action}`, {
            headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${this.token}` }, body,
        });
    }

    async #ask(what, bytes) {
        const by = this.home;
        const record = { what, mark: this.mark, by, at: Date.now() };
        try {
            const answer = await this.#answer(by, bytes);
            const memory = answer.header('x-aiwm-ack') === 'memory';
            if (answer.status !== 201) this.failures.push({ ...record, end: Date.now(), why: `${answer.status} ${answer.text}` });
            else if (what !== 'connect') this.acknowledged.push({ ...record, memory });
        } catch (error) {
            this.failures.push({ ...record, end: Date.now(), why: error.message, network: true });
            this.#wires.get(by)?.close();
            this.#wires.delete(by);
            this.home = this.dice.one(this.replicas); // as a balancer would
        }
    }

    async #answer(by, bytes) {
        let wire = this.#wires.get(by);
        if (!wire || wire.how) {
            wire = await Wire.open(by.target);
            this.#wires.set(by, wire);
        }
        wire.send(bytes);
        return wire.answer({ ms: PATIENCE_MS });
    }
}
