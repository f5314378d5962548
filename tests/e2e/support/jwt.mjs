// Tokens as the controller makes them, and as it does not.
import { createHmac } from 'node:crypto';
import { JWT_SECRET } from './stub.mjs';

const digests = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' };
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

export const ORG = '691eb9e6517f917943ae1f9d';

export function signature(alg, input, secret = JWT_SECRET) {
    return digests[alg] ? createHmac(digests[alg], secret).update(input).digest('base64url') : '';
}

export function sign(claims, { alg = 'HS256', secret = JWT_SECRET, header = {} } = {}) {
    const input = `${encode({ alg, typ: 'JWT', ...header })}.${encode(claims)}`;
    return `${input}.${signature(alg, input, secret)}`;
}

export function decode(token) {
    const [header, claims, mac] = token.split('.');
    const part = (text) => JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
    return { header: part(header), claims: part(claims), mac, input: `${header}.${claims}` };
}

export const isGenuine = (token, secret = JWT_SECRET) => {
    const { header, mac, input } = decode(token);
    return Boolean(mac) && mac === signature(header.alg, input, secret);
};

const nowS = () => Math.floor(Date.now() / 1000);

/** An agent's claims; undefined members are left out of the token. */
export function agentClaims(id, over = {}) {
    return {
        sub: id, username: `agent:${id}`, status: 'active', roles: ['organization.viewer'],
        orgId: ORG, groupId: '', agentId: id, userId: '', type: 'agent',
        iat: nowS(), exp: nowS() + 86400, ...over,
    };
}

export const agentToken = (id, over, options) => sign(agentClaims(id, over), options);

/** A token of the IAM service, allowed to write. */
export const adminToken = (over = {}, options) => sign({
    sub: '691eba08517f917943ae1fa1', username: 'admin@x-or.cloud', status: 'active',
    roles: ['universe.owner'], orgId: ORG, groupId: '', agentId: '', appId: '',
    iat: nowS(), exp: nowS() + 86400, ...over,
}, options);

/** The gateway's own: it may send heartbeats for agents. */
export const serviceToken = (over = {}, options) => sign({
    sub: 'aiwm-gateway', username: 'service:aiwm-gateway', status: 'active', type: 'service',
    roles: ['service.heartbeats'], iat: nowS(), exp: nowS() + 86400, ...over,
}, options);
