// Does the time of a remembered refusal tell whether an agent exists? Ids that exist and are known
// here, that exist and are not, and that do not exist are asked in random order, one at a time, with
// secrets that were refused before. (The status tells it anyway, as the controller's does: 401 or
// 404. This is about what a gateway must not add.)
//
// The figure is the probability that of two answers, one of each kind, the one for the id that does
// not exist took longer (ties count half): 0.5 where time tells nothing. Its error is that of the
// Mann-Whitney statistic where both are alike.
//
//   BUILD=build node tests/proof/refusal-times.mjs
import assert from 'node:assert/strict';
import { agentId, agentSecret } from '../e2e/support/stub.mjs';
import { Wire, request } from '../e2e/support/wire.mjs';
import { prove, quantile } from './support.mjs';

const IDS = 8; // of each kind
const SECONDS = 20; // what is remembered is for 30 s
const TARGET = 0.03;

const kinds = [
    { name: 'exists, known here', first: 0, status: 401, us: [] },
    { name: 'exists, unknown here', first: 100, status: 401, us: [] },
    { name: 'does not exist', first: 900000, status: 404, us: [] },
];

const connectOf = (n, secret) => request('POST', `/agents/${agentId(n)}/connect`, {
    headers: { 'Content-Type': 'application/json' }, body: { secret },
});

async function ask(wire, bytes) {
    wire.send(bytes);
    const answer = await wire.answer();
    return answer.status;
}

/** P(one of b > one of a), ties half. */
function probability(a, b) {
    const all = [...a.map((us) => ({ us, of: 0 })), ...b.map((us) => ({ us, of: 1 }))].sort((x, y) => x.us - y.us);
    let sum = 0;
    for (let i = 0; i < all.length;) {
        let end = i;
        while (end < all.length && all[end].us === all[i].us) end++;
        for (let k = i; k < end; k++) sum += all[k].of ? (i + 1 + end) / 2 : 0;
        i = end;
    }
    return (sum - b.length * (b.length + 1) / 2) / (a.length * b.length);
}

const config = { limits: { connect_failures_per_ip: 0 }, tls: { enabled: false } };

await prove('remembered refusals', { config, stubOptions: { connectCostMs: 1 } }, async (gateway, stub, figure) => {
    const wire = await Wire.open(gateway.target);
    for (let i = 0; i < IDS; i++) assert.equal(await ask(wire, connectOf(i, agentSecret(i))), 201);
    const asked = kinds.flatMap((kind) => Array.from({ length: IDS }, (_, i) =>
        ({ kind, bytes: connectOf(kind.first + i, 'wrong') })));
    for (const { kind, bytes } of asked) assert.equal(await ask(wire, bytes), kind.status);
    const { connects } = await stub.counts();
    const end = performance.now() + SECONDS * 1000;
    while (performance.now() < end) {
        const { kind, bytes } = asked[Math.floor(Math.random() * asked.length)];
        const start = performance.now();
        assert.equal(await ask(wire, bytes), kind.status);
        kind.us.push((performance.now() - start) * 1000);
    }
    wire.close();
    assert.equal((await stub.counts()).connects, connects, 'all were answered from memory');
    const missing = kinds.at(-1).us;
    for (const { name, us } of kinds)
        figure(`${name}: ${us.length} times, median, p99 us`, `${quantile(us, 0.5).toFixed(1)}, ${quantile(us, 0.99).toFixed(0)}`);
    for (const { name, us } of kinds.slice(0, -1)) {
        const p = probability(us, missing);
        const error = 1.96 * Math.sqrt((us.length + missing.length + 1) / (12 * us.length * missing.length));
        figure(`"does not exist" takes longer than "${name}"`, `${p.toFixed(4)} +-${error.toFixed(4)}`,
            `0.5 +-${TARGET}`, Math.abs(p - 0.5) - error < TARGET);
    }
});
