// Several gateways in front of one controller, with one Redis between them, and what their agents'
// heartbeats come to.
import assert from 'node:assert/strict';
import { eventually } from './child.mjs';
import { hears } from './fleet.mjs';
import { startGateway } from './gateway.mjs';
import { agentToken } from './jwt.mjs';
import { Redis } from './redis.mjs';
import { Stub, agentId } from './stub.mjs';
import { call } from './wire.mjs';

/** Times that a test can wait for; and Redis has all the time that a busy machine may need. */
export const quick = {
    forward_interval: '1s', max_hold: '700ms', expiry: '20s', min_forward_gap: '200ms', max_rate: 100,
    ack_budget: '5s',
};
/** Nothing but first beats and changed states is passed on while the test lasts. */
export const patient = {
    forward_interval: '1h', max_hold: '1h', expiry: '1h', min_forward_gap: '0s', max_rate: 100,
    ack_budget: '5s',
};

export const of = (n, action = 'heartbeat') => `/agents/${agentId(n)}/${action}`;
export const KEYS = 'aiwm-gateway:1:';

export class Beating {
    gateways = [];

    /** Runs `body(fleet)` and ends everything, whatever happens. Options: replicas, heartbeat
     * (config), config, env, redis (options of the server), redisUrl, stub (a started one), bulk. */
    static async using(options, body) {
        const fleet = new Beating();
        fleet.options = options;
        try {
            fleet.stub = options.stub ?? await Stub.start({ transcripts: false, bulk: Boolean(options.bulk) });
            // What it has answered it has written: kills of Redis are seen by themselves.
            fleet.redis = await Redis.start({
                appendonly: true, conf: { appendfsync: 'always' }, ...options.redis,
            });
            for (let i = 0; i < (options.replicas ?? 2); i++) await fleet.add();
            await body(fleet);
            for (const gateway of fleet.gateways)
                if (!gateway.child.ended) await gateway.stop();
        } finally {
            for (const gateway of fleet.gateways)
                if (!gateway.child.ended) await gateway.child.kill();
            await fleet.stub?.stop();
            await fleet.redis?.discard();
        }
    }

    /** One more replica. */
    async add({ config = {}, env = {}, heartbeat = {} } = {}) {
        const o = this.options;
        const gateway = await startGateway(this.stub, {
            config: {
                workers: o.workers ?? 2,
                redis: { url: o.redisUrl?.(this) ?? this.redis.url, ...o.redisConfig },
                ...o.config,
                ...config,
                heartbeat: { ...quick, ...o.heartbeat, ...heartbeat },
            },
            env: { ...o.env, ...env },
        });
        this.gateways.push(gateway);
        await hears(gateway, 10000);
        return gateway;
    }

    beat(gateway, n, status = 'online', mark = 0, { id = agentId(n), token = agentToken(id), ...more } = {}) {
        return call(gateway.target, 'POST', `/agents/${id}/heartbeat`, {
            token, body: { status, metrics: { mark } }, ...more,
        });
    }

    /** A beat that is acknowledged, and lives in Redis. */
    async durable(gateway, n, status, mark, more) {
        const answer = await this.beat(gateway, n, status, mark, more);
        assert.equal(answer.status, 201, answer.text);
        assert.equal(answer.text, '{"success":true}');
        assert.equal(answer.header('x-aiwm-ack'), undefined);
        return answer;
    }

    /** A beat that is acknowledged, and held in memory only. */
    async fleeting(gateway, n, status, mark) {
        const answer = await this.beat(gateway, n, status, mark);
        assert.equal(answer.status, 201, answer.text);
        assert.equal(answer.header('x-aiwm-ack'), 'memory');
        return answer;
    }

    disconnect(gateway, n, more) {
        return call(gateway.target, 'POST', of(n, 'disconnect'), {
            token: agentToken(agentId(n)), body: { reason: 'test' }, ...more,
        });
    }

    /** What reached the controller of this agent: 'online 3', 'disconnect'. */
    async arrived(n) {
        const entries = (await this.stub.requests()).filter((e) => e.target?.startsWith(of(n, '')));
        return entries.filter((e) => !e.target.endsWith('/connect')).map((e) => {
            if (e.target.endsWith('/disconnect')) return 'disconnect';
            // The journal cuts large bodies off.
            const [, status, mark] = /"status":"(\w+)".*?"mark":(\d+)/.exec(e.body) ?? [];
            return `${status} ${mark}`;
        });
    }

    /** Waits until exactly this has reached the controller. */
    async arrives(n, expected, ms = 8000) {
        let seen;
        await eventually(`${expected} of agent ${n}`, async () => {
            seen = await this.arrived(n);
            return seen.length >= expected.length;
        }, ms).catch(() => {});
        assert.deepEqual(seen, expected);
    }

    /** What a gateway has counted. */
    async counts(gateway) {
        const value = (name) => gateway.metric(`heartbeats_${name}`);
        return {
            received: await value('received_total'), delivered: await value('delivered_total'),
            superseded: await value('superseded_total'), expired: await value('expired_total'),
            held: await value('held'),
        };
    }

    /** How many beats Redis holds. */
    async heldShared() {
        return await this.redis.call('ZCARD', `${KEYS}beats:due`) +
            await this.redis.call('ZCARD', `${KEYS}beats:sending`);
    }

    /** Nothing got lost, over all replicas that live. */
    async assertNoneLost() {
        let sum;
        const add = (a, b) => Object.fromEntries(Object.keys(b).map((k) => [k, (a[k] ?? 0) + b[k]]));
        // What is under way between two counters is in neither: look until they agree.
        await eventually('received = delivered + superseded + expired + held', async () => {
            const alive = this.gateways.filter((g) => !g.child.ended);
            sum = (await Promise.all(alive.map((g) => this.counts(g)))).reduce(add, {});
            sum.heldShared = await this.heldShared();
            return sum.received === sum.delivered + sum.superseded + sum.expired + sum.held + sum.heldShared;
        }).catch((error) => assert.fail(`${error.message}: ${JSON.stringify(sum)}`));
        return sum;
    }
}
