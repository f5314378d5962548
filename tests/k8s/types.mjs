// Are the objects what the Kubernetes API knows? Every object becomes a literal of its type, and the
// compiler, which knows no unknown fields in literals, judges.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { root } from './render.mjs';

const here = path.join(root, 'tests/k8s');

const MODULES = {
    'monitoring.coreos.com/v1': '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
    'cert-manager.io/v1': '@kubernetes-models/cert-manager/cert-manager.io/v1',
};

function literal(doc, i) {
    const module = MODULES[doc.apiVersion] ?? `kubernetes-models/${doc.apiVersion}`;
    return `import type { I${doc.kind} as T${i} } from '${module}/${doc.kind}';\n` +
        `export const o${i}: T${i} = ${JSON.stringify(doc, null, 1)};\n`;
}

const OPTIONS = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'esnext', '--target', 'es2022',
    '--moduleResolution', 'node', '--pretty', 'false'];

/** `sets`: { name: objects }. Gives { name: complaints }. */
export function judgeTypes(sets) {
    const dir = fs.mkdtempSync(path.join(here, 'node_modules/.types-'));
    try {
        const names = Object.keys(sets);
        const files = names.map((name, i) => {
            const file = path.join(dir, `set${i}.ts`);
            fs.writeFileSync(file, sets[name].map(literal).join(''));
            return file;
        });
        const run = spawnSync(process.execPath,
            [path.join(here, 'node_modules/typescript/bin/tsc'), ...OPTIONS, ...files],
            { cwd: here, encoding: 'utf8', maxBuffer: 1 << 26 });
        const lines = run.stdout.split('\n').filter((line) => line.includes('error TS'));
        if (run.status !== 0 && lines.length === 0)
            throw new Error(`tsc: ${run.stdout}${run.stderr}`);
        return Object.fromEntries(names.map((name, i) =>
            [name, lines.filter((line) => line.includes(`/set${i}.ts(`))]));
    } finally {
        fs.rmSync(dir, { recursive: true, force: true });
    }
}
