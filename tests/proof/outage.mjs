// The controller is away for ten minutes: it hangs, then refuses connections, then hangs again.
// Agents beat each minute and connect again each three minutes and a bit; none may notice. The
// gateway's monotonic clock goes ten times as fast, its connect cache's ages are a tenth, and so are
// the agents' times.
import { sleep } from '../e2e/support/child.mjs';
import { Agent } from '../e2e/support/agent.mjs';
import { agentId, agentSecret } from '../e2e/support/stub.mjs';
import { timelapse } from '../e2e/support/timelapse.mjs';
import { fates, numbers, prove, quantile } from './support.mjs';

const AGENTS = Number(process.env.AGENTS ?? 200);
const FACTOR = 10;
const OUTAGE_MS = (600 * 1000) / FACTOR;
const times = { timeoutMs: 10000, heartbeatMs: 60000 / FACTOR, reconnectMs: 200000 / FACTOR };

const config = { connect_cache: { fresh_for: '6s', stale_after: '330s' } };

await prove(`Controller away for 10 minutes, ${AGENTS} agents`,
    { stubOptions: { agents: AGENTS }, config, env: timelapse(FACTOR) }, async (gateway, stub, figure) => {
        const seen = { connects: 0, heartbeats: 0, errors: [] };
        const waits = [];
        const watch = (agent) => {
            const connect = agent.connect.bind(agent);
            agent.connect = async () => {
                const start = performance.now();
                const answer = await connect();
                waits.push(performance.now() - start);
                seen.connects++;
                return answer;
            };
            agent.on('heartbeat', (status) => {
                seen.heartbeats++;
                if (status !== 201) seen.errors.push(`heartbeat: ${status}`);
            });
            agent.on('local', () => seen.errors.push('works locally'));
            agent.on('stopped', (why) => why === 'vanished' || seen.errors.push(why));
        };
        const fleet = numbers(AGENTS).map((n) =>
            new Agent({ target: gateway.target, id: agentId(n), secret: agentSecret(n), times }));
        for (const agent of fleet) {
            watch(agent);
            await sleep(times.reconnectMs / AGENTS); // so that connects come evenly
            agent.start();
        }
        await sleep(2 * times.heartbeatMs);
        const before = { ...seen };
        waits.length = 0;
        for (const outage of ['hang', 'refuse', 'hang']) {
            await stub.set({ outage });
            await sleep(OUTAGE_MS / 3);
        }
        figure('connects during the outage', seen.connects - before.connects);
        figure('heartbeats during the outage', seen.heartbeats - before.heartbeats);
        figure('longest wait for a connect, ms of real time', Math.max(...waits));
        figure('median wait for a connect, ms of real time', quantile(waits, 0.5));
        await stub.set({ outage: 'off' });
        const back = await stub.counts();
        await sleep(2.5 * times.heartbeatMs);
        const beats = (await stub.counts()).heartbeats_ok - back.heartbeats_ok;
        figure('heartbeats that reached it 150 s after', beats, `>= ${AGENTS}`, beats >= AGENTS);
        for (const agent of fleet) agent.vanish();
        await sleep(500);
        const fate = await fates(gateway);
        figure('heartbeats expired', fate.expired);
        figure('heartbeats lost', fate.lost, '= 0', fate.lost === 0);
        const errors = [...new Set(seen.errors)].slice(0, 3).join(', ');
        figure('errors seen by agents', seen.errors.length, `= 0 ${errors}`, seen.errors.length === 0);
    });
