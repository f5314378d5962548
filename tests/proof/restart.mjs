// A fleet restarts: agents whose cached connects are stale, and who all said goodbye first, connect
// at once, each on a connection of its own, while a connect costs the controller 48 ms of CPU.
// Ages are scaled: fresh for 1 s and stale after 2 s, not 60 s and 55 min.
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { eventually, sleep } from '../e2e/support/child.mjs';
import { Agent } from '../e2e/support/agent.mjs';
import { Gateway } from '../e2e/support/gateway.mjs';
import { Redis } from '../e2e/support/redis.mjs';
import { agentId, agentSecret } from '../e2e/support/stub.mjs';
import { cpuSeconds, each, numbers, prove, quantile } from './support.mjs';

const AGENTS = Number(process.env.AGENTS ?? 2000);
const COST_MS = 48;
const THREADS = 2; // of clients: their handshakes cost more than the gateway's

const newcomer = (target) => (n) => new Agent({ target, id: agentId(n), secret: agentSecret(n) });

async function fill(gateway) {
    await each(numbers(AGENTS).map(newcomer(gateway.target)), 50, async (agent) => {
        const answer = await agent.connect();
        agent.token = answer.json.accessToken;
        const goodbye = await agent.disconnect();
        if (answer.status !== 201 || goodbye.status !== 201) throw new Error('the fleet did not get in');
        agent.vanish();
    });
}

/** In a thread: connects its share of the fleet at once; tells when and how each was answered. */
async function connectShare({ target, share }) {
    const fleet = share.map(newcomer(target));
    const answers = await Promise.all(fleet.map(async (agent) => {
        const answer = await agent.connect().catch((error) => ({ status: error.message, headers: {} }));
        const cache = answer.headers['cache-status']?.replace(/^aiwm-gateway; |ttl=[-\d]+/g, '');
        return { at: Date.now(), kind: `${answer.status} ${cache}` };
    }));
    parentPort.postMessage(answers);
    for (const agent of fleet) agent.vanish();
}

async function connectAll({ target }) {
    const start = Date.now();
    const shares = numbers(THREADS).map((t) => numbers(AGENTS).filter((n) => n % THREADS === t));
    const answers = await Promise.all(shares.map((share) => new Promise((resolve, reject) => {
        const thread = new Worker(new URL(import.meta.url), { workerData: { target, share } });
        thread.once('message', resolve).once('error', reject);
    })));
    const kinds = {};
    for (const { kind } of answers.flat()) kinds[kind] = (kinds[kind] ?? 0) + 1;
    return { took: answers.flat().map(({ at }) => (at - start) / 1000), kinds };
}

async function proveRestart(tls) {
    const config = {
        tls: { enabled: tls }, connect_cache: { fresh_for: '1s', stale_after: '2s' },
    };
    await prove(`Restart of ${AGENTS} agents, ${tls ? 'TLS' : 'plain HTTP'}`,
        { stubOptions: { agents: AGENTS }, config }, async (gateway, stub, figure) => {
            await fill(gateway);
            await sleep(6000); // stale, and the burst is whole again
            await stub.set({ connect_cost_ms: COST_MS });
            const before = await stub.counts();
            const cpu = cpuSeconds(gateway.child.pid);
            const { took, kinds } = await connectAll(gateway);
            const after = await stub.counts();
            const share = (counts) => (100 * (counts.bcrypts - before.bcrypts)) / AGENTS;
            for (const [kind, count] of Object.entries(kinds)) figure(kind, count);
            const ok = Object.keys(kinds).every((kind) => kind.startsWith('201'));
            figure('half connected, s', quantile(took, 0.5));
            figure('all connected, s', Math.max(...took), '<= 5', ok && Math.max(...took) <= 5);
            figure('CPU of the gateway meanwhile, s', cpuSeconds(gateway.child.pid) - cpu);
            figure('of them cost a bcrypt by then, %', share(after), '<= 5', share(after) <= 5);
            await sleep(31000); // what waits longer is dropped
            figure('the same with the refreshes of the next 30 s, %', share(await stub.counts()));
            figure('refreshes dropped', await gateway.metric('connect_refreshes_total', 'result="dropped"'));
        });
}

/** The fleet meets a replica with an empty memory, while Redis has what another has learnt. */
async function proveFresh() {
    const redis = await Redis.start({ appendonly: true });
    const config = {
        redis: { url: redis.url }, connect_cache: { fresh_for: '1s', stale_after: '2s' },
    };
    await prove(`${AGENTS} agents meet a fresh replica and a warm Redis, TLS`,
        { stubOptions: { agents: AGENTS }, config }, async (first, stub, figure) => {
            await eventually('redis is here', async () => (await first.metric('purge_channel_up')) === 1);
            await fill(first);
            await eventually('all is kept', async () =>
                (await first.metric('connect_shared_kept_total')) >= AGENTS);
            await sleep(2500); // stale
            const fresh = await Gateway.start(stub, { config: { log: { level: 'info' }, ...config } });
            await eventually('redis is here', async () => (await fresh.metric('purge_channel_up')) === 1);
            await stub.set({ connect_cost_ms: COST_MS });
            const before = await stub.counts();
            const { took, kinds } = await connectAll(fresh);
            const share = (100 * ((await stub.counts()).bcrypts - before.bcrypts)) / AGENTS;
            for (const [kind, count] of Object.entries(kinds)) figure(kind, count);
            const ok = Object.keys(kinds).every((kind) => kind.startsWith('201'));
            figure('half connected, s', quantile(took, 0.5));
            figure('all connected, s', Math.max(...took), '<= 5', ok && Math.max(...took) <= 5);
            for (const result of ['hit', 'stale', 'miss', 'locked', 'late', 'error'])
                figure(`looked up in Redis: ${result}`,
                    await fresh.metric('connect_shared_total', `result="${result}"`));
            figure('of them cost a bcrypt by then, %', share, '<= 5', share <= 5);
            await fresh.stop({ ms: 60000 });
        });
    await redis.discard();
}

if (isMainThread) {
    await proveRestart(true);
    await proveRestart(false);
    await proveFresh();
} else {
    await connectShare(workerData);
}
