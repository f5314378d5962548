// Every overlay of deploy/k8s/examples: it renders, has the API's types, a configuration the gateway
// takes, and keeps every rule; and every planted mutant is refused. check.sh calls this.
// The last line is "N passed, N failed".
import assert from 'node:assert/strict';
import { mutants } from './mutants.mjs';
import { judgeConfig, overlays, render } from './render.mjs';
import { judge, ruleNames } from './rules.mjs';
import { judgeTypes } from './types.mjs';

let passed = 0;
let failed = 0;

function result(what, complaints) {
    if (complaints.length === 0) {
        passed++;
        return;
    }
    failed++;
    console.log(`  ${what}: FAILED`);
    for (const complaint of complaints.slice(0, 10)) console.log(`    ${complaint}`);
}

const rendered = {};
for (const overlay of overlays) {
    rendered[overlay] = render(overlay);
    console.log(`  ${overlay}: ${rendered[overlay].length} objects`);
}

// The gateway's two faces differ in where they stand alone.
function gatewayOf(overlay) {
    const { spec } = rendered[overlay].find((doc) => doc.kind === 'Deployment').spec.template;
    const { restartPolicy, ...rest } = [...(spec.initContainers ?? []), ...spec.containers]
        .find((container) => container.name === 'gateway');
    delete rest.envFrom; // its name carries a hash of each site's values
    return rest;
}

for (const overlay of overlays) {
    let complaint = [];
    try {
        assert.deepEqual(gatewayOf(overlay), gatewayOf('edge'));
    } catch (error) {
        complaint = [error.message];
    }
    result(`${overlay}: the same container as everywhere`, complaint);
}

/** All that is found in these objects: { check: complaints }. */
function judgeAll(docs) {
    const { fine, complaint, config } = judgeConfig(docs);
    if (!fine) return { config: [complaint] };
    return { config: [], ...judge(docs, config) };
}

for (const overlay of overlays)
    for (const [check, complaints] of Object.entries(judgeAll(rendered[overlay])))
        result(`${overlay}: ${check}`, complaints);

const planted = mutants.map(([overlay, by, name, plant]) => {
    const docs = structuredClone(rendered[overlay]);
    plant(docs);
    return { by, name: `mutant of ${overlay}: ${name}`, docs };
});

const typed = planted.filter((mutant) => mutant.by === 'types');
const types = judgeTypes({ ...rendered,
    ...Object.fromEntries(typed.map((mutant) => [mutant.name, mutant.docs])) });
for (const overlay of overlays) result(`${overlay}: types`, types[overlay]);

for (const { by, name, docs } of planted) {
    const found = by === 'types' ? types[name] : judgeAll(docs)[by] ?? [];
    result(`${name} is refused by "${by}"`, found.length > 0 ? [] : ['it was let through']);
}
for (const rule of [...ruleNames, 'types', 'config'])
    result(`the rule "${rule}" has a mutant`, planted.some(({ by }) => by === rule) ? [] : ['none']);

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
