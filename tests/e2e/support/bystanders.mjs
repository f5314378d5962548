// Another organization's everyday beside an attack: what it is refused, and what of it never arrives.
import assert from 'node:assert/strict';
import { eventually } from './child.mjs';
import { cacheStatus, connect, path, using } from './connecting.mjs';
import { adminToken, agentToken } from './jwt.mjs';
import { agentId } from './stub.mjs';
import { Upstream, answerBytes } from './upstream.mjs';
import { call } from './wire.mjs';

export const OTHER_ORG = '6ff000000000000000000002';

const numbers = (count, from) => Array.from({ length: count }, (_, i) => from + i);

export const json = (status, body, headers = {}) => answerBytes(JSON.stringify(body), {
    status, headers: { 'Content-Type': 'application/json; charset=utf-8', ...headers },
});

/** A controller as AIWM is, but for what `trouble(socket, request)` takes on itself: it returns
 * true for what it has seen to. */
export class Aiwm {
    beats = new Map(); // agent id -> how many arrived
    connects = new Map();
    trouble = () => false;

    /** `options`: see Upstream. */
    static async start(options) {
        const aiwm = new Aiwm();
        aiwm.upstream = await Upstream.start((socket, got, n) => aiwm.#answer(socket, got, n), options);
        aiwm.url = aiwm.upstream.url;
        return aiwm;
    }

    #answer(socket, got, n) {
        if (this.trouble(socket, got, n)) return;
        const [, id, action] = /^\/agents\/([0-9a-f]{24})\/(\w+)$/.exec(got.target) ?? [];
        if (got.method === 'POST' && action === 'connect') {
            this.connects.set(id, (this.connects.get(id) ?? 0) + 1);
            socket.write(json('201 Created', {
                accessToken: agentToken(id, { orgId: OTHER_ORG }), expiresIn: 86400, tokenType: 'Bearer',
                mcpServers: {}, instruction: { id: 'i', systemPrompt: 's', guidelines: [] }, settings: {},
            }));
        } else if (action === 'heartbeat' || action === 'disconnect') {
            if (action === 'heartbeat') this.beats.set(id, (this.beats.get(id) ?? 0) + 1);
            socket.write(json('201 Created', { success: true }));
        } else {
            socket.write(json('200 OK', { fine: true }));
        }
    }

    stop() {
        return this.upstream.stop();
    }
}

let nextAgent = 20000; // agents that no other bystander is

/** Another organization's everyday: returns what was refused, and which heartbeats never arrived. */
export async function bystanders(gateway, aiwm) {
    const refused = [];
    const note = (what, answer) => {
        if (answer.status >= 300) refused.push(`${what}: ${answer.status} ${answer.json?.code ?? ''}`);
        return answer;
    };
    const admin = adminToken({ orgId: OTHER_ORG, roles: ['organization.owner'] });
    const ids = numbers(3, (nextAgent += 3));
    for (const n of ids) {
        note('GET', await call(gateway.target, 'GET', `/things/${n}`, { token: admin }));
        note('first connect', await connect(gateway, n));
        const again = note('cached connect', await connect(gateway, n));
        assert.match(cacheStatus(again) ?? '', /^hit/);
        const token = agentToken(agentId(n), { orgId: OTHER_ORG });
        note('heartbeat', await call(gateway.target, 'POST', path(n, 'heartbeat'), {
            token, body: { status: 'online' },
        }));
    }
    const arrived = () => ids.every((n) => aiwm.beats.get(agentId(n)) >= 1);
    await eventually('each heartbeat to reach the controller', arrived, 20000);
    return refused;
}

/** `attack(gateway, aiwm)` with bystanders during and after it, and a control without it. */
export async function contained(config, trouble, attack) {
    const aiwm = await Aiwm.start();
    await using({ stub: aiwm, config }, async (gateway) => {
        assert.deepEqual(await bystanders(gateway, aiwm), [], 'the control');
        aiwm.trouble = trouble;
        await attack(gateway, aiwm);
        assert.deepEqual(await bystanders(gateway, aiwm), []);
        assert.equal(await gateway.metric('controller_left_alone'), 0);
        aiwm.trouble = () => false;
    });
}
