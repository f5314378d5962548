// Clients that have nothing to do with an attack: users and agents of another organization, and what
// they ask for while somebody else's calls fail, last long or get no answer.
import { io } from 'socket.io-client';
import { eventually, within } from '../e2e/support/child.mjs';
import { adminToken, agentToken } from '../e2e/support/jwt.mjs';
import { agentId } from '../e2e/support/stub.mjs';
import { call } from '../e2e/support/wire.mjs';
import { secretOf } from './controller.mjs';

const OTHER_ORG = '691eb9e6517f917943aeffff';
export const otherUser = () => adminToken({ sub: '691eba08517f917943aeffff', orgId: OTHER_ORG });

export const connect = (gateway, id) =>
    call(gateway.target, 'POST', `/agents/${id}/connect`, { body: { secret: secretOf(id) } });

/** A socket.io client with this transport only: connects to /ws, sends a text, gives what comes back. */
async function echo(gateway, transport, { ms = 8000 } = {}) {
    const socket = io(`http://127.0.0.1:${gateway.port}/ws`, {
        transports: [transport], auth: { token: otherUser() }, reconnection: false, forceNew: true, timeout: ms,
    });
    try {
        await within(ms, 'a namespace', new Promise((resolve, reject) => {
            socket.once('connect', resolve);
            socket.once('connect_error', reject);
            socket.io.once('close', (reason) => reject(new Error(reason))); // after the handshake
        }));
        return await socket.timeout(ms).emitWithAck('echo', transport);
    } finally {
        socket.close();
    }
}

/** Each makes one request, and says whether it was served. `id`: an agent nobody has heard of;
 * `cached`: one whose connect the gateway has cached. */
const kinds = {
    'GET of another organization': async ({ gateway }) =>
        (await call(gateway.target, 'GET', '/agents', { token: otherUser() })).status === 200,
    'MCP call': async ({ gateway }) =>
        (await call(gateway.target, 'POST', '/mcp', {
            token: otherUser(), body: { jsonrpc: '2.0', id: 1, method: 'tools/list' },
        })).status === 200,
    'first connect': async ({ gateway, id }) => {
        const answer = await connect(gateway, id);
        return answer.status === 201 && /fwd=miss; stored/.test(answer.header('cache-status'));
    },
    'cached connect': async ({ gateway, cached }) => {
        const answer = await connect(gateway, cached);
        return answer.status === 201 && /; hit; /.test(answer.header('cache-status'));
    },
    'regenerate': async ({ gateway, id }) =>
        (await call(gateway.target, 'POST', `/agents/${id}/credentials/regenerate`, { token: otherUser() }))
            .status === 201,
    'heartbeat that reaches AIWM': async ({ gateway, controller, id }) => {
        const token = agentToken(id, { orgId: OTHER_ORG });
        const answer = await call(gateway.target, 'POST', `/agents/${id}/heartbeat`, {
            token, body: { status: 'online' },
        });
        return answer.status === 201 &&
            eventually('the heartbeat', () => controller.heartbeats(id) === 1, 3000);
    },
    'socket.io over websocket': async ({ gateway }) => await echo(gateway, 'websocket') === 'websocket',
    'socket.io over polling': async ({ gateway }) => await echo(gateway, 'polling') === 'polling',
};

export const EACH = 3; // requests of each kind in one round
const eachServed = (count) => Object.fromEntries(Object.keys(kinds).map((kind) => [kind, count]));
export const ALL_SERVED = eachServed(EACH);
export const NONE_SERVED = eachServed(0);

let lastAgent = 0x1000;

/** For one gateway: a function that makes a round of requests, all at once, and gives how many of each
 * kind were served. */
export async function bystandersOf(gateway, controller) {
    const cached = agentId(++lastAgent);
    await connect(gateway, cached);
    return async () => {
        const served = { ...NONE_SERVED };
        const ask = async (kind) => {
            const given = { gateway, controller, cached, id: agentId(++lastAgent) };
            if (await kinds[kind](given).catch(() => false)) served[kind]++;
        };
        await Promise.all(Object.keys(kinds).flatMap((kind) => Array.from({ length: EACH }, () => ask(kind))));
        // A closed polling client still sends its last packet; a gateway that stops would wait for the poll.
        await eventually('them to be gone', () => controller.clients === 0, 2000).catch(() => {});
        return served;
    };
}
