// Heartbeats at constant status, each minute: how many requests each of them costs the controller,
// one by one with the default settings, and in bulk. The first interval, in which every agent's
// first heartbeat passes at once, is not counted. The gateway's clock goes faster, and so do the
// agents; its settings are the defaults.
import { sleep } from '../e2e/support/child.mjs';
import { agentToken, serviceToken } from '../e2e/support/jwt.mjs';
import { agentId } from '../e2e/support/stub.mjs';
import { timelapse } from '../e2e/support/timelapse.mjs';
import { Lines, cpuSeconds, fates, numbers, prove } from './support.mjs';

const BEAT_S = 60;
const INTERVAL_S = 120;
const TICK_MS = 20;

/** Sends each agent's beats, evenly spread, until told to stop. */
function beatAll(lines, agents, factor) {
    const tokens = numbers(agents).map((n) => agentToken(agentId(n)));
    const state = { sent: 0, wrong: 0, late: 0, stopped: false, pending: 0 };
    const body = { status: 'online', metrics: { cpu: 45, memory: 60, activeConnections: 3 } };
    const send = async (n) => {
        state.pending++;
        const answer = await lines.post(`/agents/${agentId(n)}/heartbeat`, { token: tokens[n], body });
        state.pending--;
        if (answer.status !== 201) state.wrong++;
    };
    state.done = (async () => {
        const start = performance.now();
        const perMs = agents / ((BEAT_S * 1000) / factor);
        for (let next = 0; !state.stopped; await sleep(TICK_MS)) {
            const due = Math.floor((performance.now() - start) * perMs);
            if (state.pending > agents / 10) state.late++;
            for (; next < due; next++) send(next % agents);
        }
        while (state.pending > 0) await sleep(TICK_MS);
    })();
    return state;
}

async function proveSteady({ title, agents, factor, minutes, target, bulk, workers }) {
    const stubOptions = { agents, bulk };
    const env = { ...timelapse(factor), ...(bulk && { AIWM_GATEWAY_UPSTREAM_SERVICE_TOKEN: serviceToken() }) };
    const config = { tls: { enabled: false }, ...(workers && { workers }) };
    await prove(`${title}, ${agents} agents, time x ${factor}`, { stubOptions, config, env },
        async (gateway, stub, figure) => {
            const lines = await Lines.open(gateway.target, 64);
            const beating = beatAll(lines, agents, factor);
            await sleep(((BEAT_S + INTERVAL_S + 5) * 1000) / factor);
            const sample = async () => ({
                ...await fates(gateway), ...await stub.counts(), cpu: cpuSeconds(gateway.child.pid),
                calls: await gateway.metric('upstream_calls_total'),
            });
            const before = await sample();
            await sleep((minutes * 60 * 1000) / factor);
            const after = await sample();
            beating.stopped = true;
            await beating.done;
            lines.close();
            const of = (name) => after[name] - before[name];
            const ratio = of('requests') / of('received');
            figure('heartbeats received', of('received'));
            figure('of them delivered', of('delivered'));
            figure('requests to the controller', of('requests'));
            figure('the same, as the gateway counts its calls', of('calls'));
            figure('requests per heartbeat', ratio, `<= ${target}`, ratio <= target);
            figure('CPU of the gateway per heartbeat, us', (1e6 * of('cpu')) / of('received'));
            figure('heartbeats expired', of('expired'), '= 0', of('expired') === 0);
            const { lost } = await fates(gateway);
            figure('heartbeats lost', lost, '= 0', lost === 0);
            figure('not answered 201', beating.wrong, '= 0', beating.wrong === 0);
            figure('times the client fell behind', beating.late);
        });
}

await proveSteady({ title: 'One by one', agents: 600, factor: 30, minutes: 10, target: 0.52 });
await proveSteady({
    title: 'In bulk', agents: 10000, factor: 10, minutes: 5, target: 0.01, bulk: true,
    workers: Number(process.env.WORKERS ?? 2),
});
