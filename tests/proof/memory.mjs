// What an agent costs in memory: one whose connect is cached, and one whose heartbeat is held.
import { eventually } from '../e2e/support/child.mjs';
import { agentToken } from '../e2e/support/jwt.mjs';
import { agentId, agentSecret } from '../e2e/support/stub.mjs';
import { Lines, each, numbers, prove, resident } from './support.mjs';

const AGENTS = 10000;
const WARM = 200; // before the first look: pools, pages, threads
const WIDTH = 32;

// Held: nothing is due for an hour once the first has passed.
const hold = { forward_interval: '1h', max_hold: '1h', expiry: '1h' };
const config = { tls: { enabled: false }, heartbeat: hold, connect_cache: { memory: '256MiB' } };

await prove(`Memory of ${AGENTS} agents`, { stubOptions: { agents: AGENTS + WARM }, config },
    async (gateway, stub, figure) => {
        const lines = await Lines.open(gateway.target, WIDTH);
        const pid = gateway.child.pid;
        const all = numbers(AGENTS).map((n) => n + WARM);
        let bytes = 0;
        const connect = async (n) => {
            const body = { secret: agentSecret(n) };
            const answer = await lines.post(`/agents/${agentId(n)}/connect`, { body });
            if (answer.status !== 201) throw new Error(answer.text);
            bytes += answer.body.length;
        };
        const beat = async (n) => {
            const token = agentToken(agentId(n));
            const body = { status: 'online', metrics: { cpu: 45, memory: 60, activeConnections: 3 } };
            const answer = await lines.post(`/agents/${agentId(n)}/heartbeat`, { token, body });
            if (answer.status !== 201) throw new Error(answer.text);
        };
        await each(numbers(WARM), WIDTH, connect);
        await each(numbers(WARM), WIDTH, beat);
        bytes = 0;
        const empty = resident(pid);
        await each(all, WIDTH, connect);
        const known = resident(pid);
        const cached = await gateway.metric('connect_cache_entries');
        figure('resident before, MiB', empty / 2 ** 20);
        figure('bytes of an answer', bytes / AGENTS);
        figure('answers cached', cached, `= ${AGENTS + WARM}`, cached === AGENTS + WARM);
        figure('per cached agent, bytes', (known - empty) / AGENTS);
        const held = () => gateway.metric('heartbeats_held');
        await each(all, WIDTH, beat);
        await eventually('the first ones to have passed', async () => (await held()) === 0, 20000);
        await each(all, WIDTH, beat);
        const beating = resident(pid);
        figure('heartbeats held', await held(), `= ${AGENTS}`, (await held()) === AGENTS);
        figure('per held heartbeat, its token in the token cache, bytes', (beating - known) / AGENTS);
        figure('resident after, MiB', beating / 2 ** 20);
        lines.close();
    });
