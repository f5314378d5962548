// What tests of connects share: a gateway in front of a stub, an agent's connect, and what the
// answer says of the cache.
import assert from 'node:assert/strict';
import { startGateway } from './gateway.mjs';
import { adminToken } from './jwt.mjs';
import { Stub, agentId, agentSecret } from './stub.mjs';
import { call } from './wire.mjs';

/** A stub (or another controller) and a gateway in front of it, for one test. */
export async function using({ stub: given, stubOptions, config, env }, body) {
    const stub = given ?? await Stub.start({ transcripts: false, ...stubOptions });
    let gateway;
    try {
        gateway = await startGateway(stub, { config: { workers: 1, ...config }, env });
        await body(gateway, stub);
        await gateway.stop();
        gateway = undefined;
    } finally {
        await gateway?.child.kill();
        await stub.stop();
    }
}

/** Where agent n (or the agent with that id) is asked for something. */
export const path = (n, action = 'connect') =>
    `/agents/${typeof n === 'number' ? agentId(n) : n}${action && `/${action}`}`;

export const connect = (gateway, n, { secret = agentSecret(n), ...more } = {}) =>
    call(gateway.target, 'POST', path(n), { body: { secret }, ...more });

export const admin = () => ({ token: adminToken() });

/** The answer's Cache-Status without the gateway's name: 'hit; ttl=59'. */
export const cacheStatus = (answer) =>
    answer.header('cache-status')?.replace(/^aiwm-gateway; /, '');

/** Connects; the answer is let in, and its Cache-Status is that. */
export async function assertConnects(gateway, n, expected, options) {
    const answer = await connect(gateway, n, options);
    assert.equal(answer.status, 201, answer.text);
    assert.match(cacheStatus(answer), expected);
    return answer;
}

export const HIT = /^hit; ttl=\d+$/; // fresh
export const OLD = /^hit; ttl=(-\d+|0)$/; // not fresh, and nobody was asked
export const TIRED = /^hit; ttl=-?\d+; detail=controller-slow$/;
export const FAILED = /^hit; ttl=-?\d+; detail=controller-failed$/;
export const MISS = /^fwd=miss; stored$/;
export const STALE = /^fwd=stale; stored$/;

/** How long it takes, in milliseconds; and what it gives. */
export async function timed(promise) {
    const start = performance.now();
    const answer = await promise;
    return { answer, ms: performance.now() - start };
}
