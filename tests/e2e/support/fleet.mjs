// Several gateways that share a Redis, in front of one stub.
import { eventually } from './child.mjs';
import { Controller } from './controller.mjs';
import { Gateway } from './gateway.mjs';
import { Redis } from './redis.mjs';
import { Stub } from './stub.mjs';
import { Toxic } from './toxic.mjs';

export class Fleet {
    gateways = [];
    toxics = [];

    /** options: redis (for Redis.start), stub (for Stub.start) or controller (for Controller.start),
     * config (of all gateways). */
    static async start({ redis, stub, controller, config } = {}) {
        const fleet = new Fleet();
        fleet.config = config;
        try {
            fleet.redis = await Redis.start(redis);
            fleet.stub = controller ? await Controller.start(controller)
                : await Stub.start({ transcripts: false, ...stub });
        } catch (error) {
            await fleet.discard();
            throw error;
        }
        return fleet;
    }

    /** One more gateway, once it hears the others. `toxic`: it reaches Redis through a relay, which
     * becomes gateway.toxic; `waits: false`: Redis may be away. */
    async gateway({ config = {}, env, toxic = false, waits = true } = {}) {
        const relay = toxic && await Toxic.start(this.redis.port);
        if (relay) this.toxics.push(relay);
        const url = relay ? `redis://127.0.0.1:${relay.port}` : this.redis.url;
        const gateway = await Gateway.start(this.stub, { env, config: {
            workers: 2, ...this.config, ...config, redis: { url, ...this.config?.redis, ...config.redis },
            // All the time that a busy machine may need, unless a test is about it.
            connect_cache: { redis_budget: '5s', ...(config.connect_cache ?? this.config?.connect_cache) },
        } });
        this.gateways.push(gateway);
        gateway.toxic = relay;
        if (waits) await hears(gateway);
        return gateway;
    }

    async stop() {
        for (const gateway of this.gateways.splice(0)) await gateway.stop();
    }

    async discard() {
        for (const gateway of this.gateways) await gateway.discard();
        for (const relay of this.toxics) await relay.stop();
        await this.redis?.discard();
        if (this.stub?.child?.ended === undefined) await (this.stub?.child?.kill() ?? this.stub?.stop());
    }
}

/** Waits until the purges of other gateways reach this one, and its workers have their Redis. */
export async function hears(gateway, ms) {
    const workers = gateway.config.workers;
    await eventually('the others are heard', async () =>
        (await gateway.metric('purge_channel_up')) === 1 &&
        (await gateway.metric('redis_connections')) >= workers + 1, ms);
}

/** Runs `body` with a fleet, and ends it as it should end. */
export async function withFleet(options, body) {
    const fleet = await Fleet.start(options);
    try {
        await body(fleet);
        await fleet.stop();
    } finally {
        await fleet.discard();
    }
}

/** How often connects that were looked up in Redis came to `result`. */
export const shared = (gateway, result) =>
    gateway.metric('connect_shared_total', `result="${result}"`);
