// What an admin changes reaches the agents it concerns with their next connect, and no others.
// tests/data/invalidation.tsv was recorded with the real controller, a write a row: its name, method
// and path, status, and what it changed in an autonomous and in a managed agent's connect.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { eventually, root, sleep } from './support/child.mjs';
import {
    HIT, MISS, STALE, admin, assertConnects, cacheStatus, connect, path as pathOf, using,
} from './support/connecting.mjs';
import { Controller, errorBody, gate } from './support/controller.mjs';
import { ORG, adminToken, agentToken } from './support/jwt.mjs';
import { agentId } from './support/stub.mjs';
import { call } from './support/wire.mjs';

// Each test has processes of its own.
const SUITE = { timeout: 30000, concurrency: 4 };

const OTHER_ORG = '691eb9e6517f917943ae1fff';
const instruction = (n) => `6b000000000000000000000${n}`;
const deployment = (n) => `6e000000000000000000000${n}`;
const MODEL = '6d0000000000000000000001';

/** Whom a write may concern. */
const AUTONOMOUS = 1;
const MANAGED = 2;
const ELSEWHERE = 3; // another instruction
const MANAGED_ELSEWHERE = 4; // another instruction, another deployment
const OTHER = 5; // another organization's
const NAMELESS = 6; // of no organization that its token names; not one of everybody
const everybody = [AUTONOMOUS, MANAGED, ELSEWHERE, MANAGED_ELSEWHERE, OTHER];
const fleet = {
    [AUTONOMOUS]: { org: ORG, instruction: instruction('a') },
    [MANAGED]: { org: ORG, instruction: instruction('a'), deployment: deployment('a') },
    [ELSEWHERE]: { org: ORG, instruction: instruction('b') },
    [MANAGED_ELSEWHERE]: { org: ORG, instruction: instruction('b'), deployment: deployment('b') },
    [OTHER]: { org: OTHER_ORG, instruction: instruction('c') },
    [NAMELESS]: { instruction: instruction('d') },
};

/** A connect's answer: `version` tells it from the one before. */
function configuration(n, version) {
    const { org, instruction: id, deployment: at } = fleet[n];
    return JSON.stringify({
        accessToken: agentToken(agentId(n), { orgId: org }), expiresIn: 86400, tokenType: 'bearer',
        instruction: { id, systemPrompt: `version ${version}`, guidelines: [] }, settings: {},
        ...(at && { deployment: { id: at, provider: 'openai', model: 'fake-1' } }),
    });
}

const numberOf = (target) => Number.parseInt(target.split('/')[2].slice(2), 16);

/** A controller: connects get its `version`; writes get what `write` says, and `during` may pause
 * what goes on. */
async function startController(write, during = () => {}) {
    const state = { version: 1 };
    const stub = await Controller.start(async (seen) => {
        if (!seen.path.endsWith('/connect')) return write(seen, state);
        const body = configuration(numberOf(seen.path), state.version);
        await during(seen, state);
        return { status: 201, body };
    });
    stub.state = state;
    return stub;
}

/** Everybody's refresh finds a place: here nobody storms. */
const calm = {
    connect_cache: { refresh_burst: 1000, refresh_rate: 1000 }, limits: { connects_per_agent: 0 },
};

async function allConnect(gateway) {
    for (const n of everybody) await assertConnects(gateway, n, MISS);
    for (const n of everybody) await assertConnects(gateway, n, HIT);
}

/** Those of `agents` whose next connect the controller is asked for. */
async function asked(gateway, agents = everybody) {
    const found = [];
    for (const n of agents) {
        const answer = await connect(gateway, n);
        assert.equal(answer.status, 201, answer.text);
        if (!HIT.test(cacheStatus(answer))) found.push(n);
    }
    return found;
}

const ids = {
    agents: agentId(AUTONOMOUS), instructions: instruction('a'), deployments: deployment('a'),
    models: MODEL, tools: '6c0000000000000000000001',
};
const bodies = {
    'agent suspended': { status: 'suspended' },
    'agent active again': { status: 'active' },
    'agent status busy': { status: 'busy' },
};
/** Whom a write on these must leave alone, whatever it says. */
const bystanders = {
    agents: [MANAGED, ELSEWHERE, MANAGED_ELSEWHERE, OTHER],
    instructions: [ELSEWHERE, MANAGED_ELSEWHERE, OTHER],
    deployments: [AUTONOMOUS, ELSEWHERE, MANAGED_ELSEWHERE, OTHER],
    models: [AUTONOMOUS, ELSEWHERE, OTHER],
    configurations: [OTHER],
    tools: everybody,
};

function readRow(line) {
    const [name, request, status, autonomous, managed] = line.split('\t');
    const [method, pattern] = request.split(' ');
    const area = pattern.split('/')[1];
    const changes = (cell) => !cell.endsWith(': no change');
    const changed = [
        ...(changes(autonomous) ? [AUTONOMOUS] : []), ...(changes(managed) ? [MANAGED] : []),
    ];
    return {
        name, method, area, changed, status: Number(status),
        target: pattern.replace(':id', ids[area]), body: bodies[name] ?? { name: 'x' },
    };
}

const rows = fs.readFileSync(path.join(root, 'tests/data/invalidation.tsv'), 'utf8')
    .split('\n').filter(Boolean).map(readRow);

const send = (gateway, { method, target, body }, more) =>
    call(gateway.target, method, target, { ...admin(), body: method === 'DELETE' ? undefined : body, ...more });

describe('each write that was recorded', SUITE, () => {
    assert.ok(rows.length >= 25);
    for (const row of rows) {
        test(`${row.name}: ${row.method} ${row.target} ${row.status}`, async () => {
            const stub = await startController((seen, state) => {
                state.version++;
                return row.status < 300 ? { status: row.status }
                    : { status: row.status, body: errorBody(row.status, 'It is being used') };
            });
            await using({ stub, config: calm }, async (gateway) => {
                await allConnect(gateway);
                assert.equal((await send(gateway, row)).status, row.status);
                const were = await asked(gateway);
                for (const n of row.changed) assert.ok(were.includes(n), `agent ${n} was not asked for`);
                for (const n of bystanders[row.area]) assert.ok(!were.includes(n), `agent ${n} was asked for`);
                if (row.status >= 400) assert.deepEqual(were, [], 'nothing was written');
                for (const n of were) {
                    const now = await assertConnects(gateway, n, HIT);
                    assert.equal(now.json.instruction.systemPrompt, 'version 2');
                }
            });
        });
    }
});

/** One write of each kind, and whom it makes the controller be asked for. */
const kinds = [
    ['PUT', pathOf(AUTONOMOUS, ''), [AUTONOMOUS]],
    ['DELETE', pathOf(AUTONOMOUS, ''), [AUTONOMOUS]],
    ['POST', pathOf(AUTONOMOUS, 'credentials/regenerate'), [AUTONOMOUS]],
    ['PUT', `/instructions/${instruction('a')}`, [AUTONOMOUS, MANAGED]],
    ['DELETE', `/deployments/${deployment('a')}`, [MANAGED]],
    ['POST', `/deployments/${deployment('a')}/start`, [MANAGED]],
    ['POST', '/models', [MANAGED, MANAGED_ELSEWHERE]],
    ['POST', `/models/${MODEL}/activate`, [MANAGED, MANAGED_ELSEWHERE]],
    ['PATCH', '/configurations/aiwm.base_mcp_url', [AUTONOMOUS, MANAGED, ELSEWHERE, MANAGED_ELSEWHERE]],
].map(([method, target, concerned]) => ({ method, target, concerned, body: {} }));

describe('how a write ended', SUITE, () => {
    for (const kind of kinds) {
        test(`${kind.method} ${kind.target}: done if it may be, not if it was refused or never left`, async () => {
            const endings = ['reset', 500, 502, 504, 'slow', 400, 401, 403, 404, 409, 429];
            let ending;
            const held = gate();
            const stub = await startController(async ({ method }) => {
                if (method === 'GET') return { status: 200 };
                if (ending === 'slow') await held.opened;
                return typeof ending === 'number' ? { status: ending, body: errorBody(ending, 'x') } : 'reset';
            });
            const config = { ...calm, upstream: { response_timeout: '400ms' } };
            await using({ stub, config }, async (gateway) => {
                await allConnect(gateway);
                for (ending of endings) {
                    const refused = ending >= 400 && ending < 500;
                    const answer = await send(gateway, kind);
                    assert.equal(answer.status, typeof ending === 'number' ? ending : { reset: 502, slow: 504 }[ending]);
                    // Of a controller that has just failed nothing is asked of free choice.
                    await call(gateway.target, 'GET', '/health/x');
                    assert.deepEqual(await asked(gateway), refused ? [] : kind.concerned, `${ending}`);
                    assert.deepEqual(await asked(gateway), [], `${ending}: once is enough`);
                }
                held.open();
            });
        });
    }

    test('one that never reached the controller changed nothing', async () => {
        const stub = await startController(() => ({ status: 200 }));
        const config = { ...calm, breaker: { failures: 1000 } };
        await using({ stub, config }, async (gateway) => {
            await allConnect(gateway);
            stub.server.closeAllConnections();
            await new Promise((resolve) => stub.server.close(resolve));
            for (const kind of kinds) assert.equal((await send(gateway, kind)).status, 502);
            await assertConnects(gateway, OTHER, HIT);
            assert.deepEqual(await asked(gateway), []);
        });
    });
});

describe('a connect under way when the write passes', SUITE, () => {
    for (const kind of kinds) {
        test(`${kind.method} ${kind.target}: is not taken for current, nor joined`, async () => {
            const held = gate();
            let holds = false;
            const stub = await startController((seen, state) => {
                state.version++;
                return { status: 200 };
            }, (seen, state) => (holds && state.version === 1 ? held.opened : undefined));
            await using({ stub, config: calm }, async (gateway) => {
                const says = (answer) => answer.json.instruction.systemPrompt;
                const again = { headers: { 'Cache-Control': 'no-cache' } };
                const n = kind.concerned[0];
                await allConnect(gateway);
                holds = true;
                const early = connect(gateway, n, again);
                await eventually('it to arrive', () => stub.seen(pathOf(n)).length === 2);
                assert.equal((await send(gateway, kind)).status, 200);
                const late = await connect(gateway, n);
                assert.equal(says(late), 'version 2', 'who comes after the write hears what is true then');
                held.open();
                assert.equal(says(await early), 'version 1', 'who came before may hear what was true then');
                const after = await connect(gateway, n);
                assert.equal(says(after), 'version 2', 'and it does not take the place of the newer one');
                assert.match(cacheStatus(after), HIT);
            });
        });

        test(`${kind.method} ${kind.target}: a first connect's answer is asked for again`, async () => {
            const held = gate();
            const stub = await startController((seen, state) => {
                state.version++;
                return { status: 200 };
            }, () => held.opened);
            await using({ stub, config: calm }, async (gateway) => {
                const n = kind.concerned[0];
                const early = connect(gateway, n);
                await eventually('it to arrive', () => stub.seen(pathOf(n)).length === 1);
                assert.equal((await send(gateway, kind)).status, 200);
                held.open();
                assert.equal((await early).status, 201);
                const next = await connect(gateway, n);
                assert.match(cacheStatus(next), /^fwd=(miss|stale); stored$/);
                assert.equal(next.json.instruction.systemPrompt, 'version 2');
                await assertConnects(gateway, n, HIT);
            });
        });
    }
});

describe('whom a write concerns', SUITE, () => {
    /** A gateway where all writes succeed, everybody connected. */
    const everythingWorks = (body, more = calm) => async () => {
        const stub = await startController(() => ({ status: 200 }));
        await using({ stub, config: more }, async (gateway) => {
            await allConnect(gateway);
            await body(gateway, stub);
        });
    };
    const write = async (gateway, method, target, more) =>
        assert.equal((await call(gateway.target, method, target, { ...admin(), body: {}, ...more })).status, 200);
    const ofOrg = [AUTONOMOUS, MANAGED, ELSEWHERE, MANAGED_ELSEWHERE];

    test('other spellings of path and id are the same write', everythingWorks(async (gateway) => {
        const spellings = [
            [`/Instructions/${instruction('a').toUpperCase()}/`, [AUTONOMOUS, MANAGED]],
            [`/instructions/%36${instruction('a').slice(1)}?x=1`, [AUTONOMOUS, MANAGED]],
            [`/DEPLOYMENTS/${deployment('b').toUpperCase()}/Stop`, [MANAGED_ELSEWHERE]],
            [`/Models/${MODEL}/`, [MANAGED, MANAGED_ELSEWHERE]],
            ['/Configurations/', ofOrg],
        ];
        for (const [target, concerned] of spellings) {
            await write(gateway, 'PUT', target);
            assert.deepEqual(await asked(gateway), concerned, target);
        }
    }));

    test('X-Organization-Id moves a configuration to that organization', everythingWorks(async (gateway) => {
        for (const named of [OTHER_ORG, OTHER_ORG.toUpperCase()]) {
            await write(gateway, 'POST', '/configurations', { headers: { 'X-Organization-Id': named } });
            assert.ok((await asked(gateway)).includes(OTHER), named);
            assert.deepEqual(await asked(gateway), []);
        }
    }));

    test('X-Organization-Id of a user without a universe role moves nothing', everythingWorks(async (gateway) => {
        await write(gateway, 'POST', '/configurations', {
            headers: { 'X-Organization-Id': OTHER_ORG }, token: adminToken({ roles: ['organization.owner'] }),
        });
        assert.deepEqual(await asked(gateway), everybody.filter((n) => n !== OTHER));
    }));

    test('a configuration of an organization that nobody can name is everybody\'s', everythingWorks(async (gateway) => {
        await write(gateway, 'POST', '/configurations', { token: 'not.a.token' });
        assert.deepEqual(await asked(gateway), everybody);
        await write(gateway, 'POST', '/configurations', { token: adminToken({ orgId: undefined }) });
        assert.deepEqual(await asked(gateway), everybody);
    }));

    test('an answer whose organization nobody can name is concerned by all of them', everythingWorks(async (gateway) => {
        await assertConnects(gateway, NAMELESS, MISS);
        await write(gateway, 'POST', '/configurations', { token: adminToken({ orgId: OTHER_ORG }) });
        assert.deepEqual(await asked(gateway, [...everybody, NAMELESS]), [OTHER, NAMELESS]);
    }));

    test('reading, inference and other routes concern nobody', everythingWorks(async (gateway) => {
        for (const [method, target] of [
            ['GET', `/instructions/${instruction('a')}`], ['GET', '/models'], ['GET', '/configurations'],
            ['POST', `/deployments/${deployment('a')}/inference/v1/chat/completions`],
            ['POST', '/instructions'], ['POST', '/tools'], ['PUT', '/nodes/1'],
        ]) await write(gateway, method, target, { body: method === 'GET' ? undefined : {} });
        assert.deepEqual(await asked(gateway), []);
    }));

    test('it holds for all who connect, until each was asked for once', everythingWorks(async (gateway, stub) => {
        await write(gateway, 'PUT', `/instructions/${instruction('a')}`);
        for (let i = 0; i < 3; i++) {
            await connect(gateway, AUTONOMOUS);
            await connect(gateway, MANAGED);
        }
        assert.equal(stub.seen(pathOf(AUTONOMOUS)).length, 2);
        assert.equal(stub.seen(pathOf(MANAGED)).length, 2);
    }));

    test('it is asked for however often the agent has connected before', everythingWorks(async (gateway) => {
        await write(gateway, 'PUT', `/instructions/${instruction('a')}`);
        assert.deepEqual(await asked(gateway), [AUTONOMOUS, MANAGED]);
        assert.deepEqual(await asked(gateway), []);
    }, { ...calm, limits: { connects_per_agent: 1 } }));

    test('only a storm may see what was true before: then at once, and refreshed soon', everythingWorks(async (gateway) => {
        await write(gateway, 'PUT', `/instructions/${instruction('a')}`);
        await assertConnects(gateway, AUTONOMOUS, STALE);
        await assertConnects(gateway, MANAGED, /^hit; ttl=\d+$/); // older than the write, and young
        await eventually('the refresh', async () =>
            (await gateway.metric('connect_refreshes_total', 'result="sent"')) === 1);
        await sleep(100);
        assert.deepEqual(await asked(gateway), []);
    }, { connect_cache: { refresh_burst: 1, refresh_rate: 1 } }));
});
