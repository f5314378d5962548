// What kustomize makes of an overlay, and what the gateway makes of the configuration in it.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import YAML from 'yaml';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const gateway = path.resolve(root, process.env.BUILD ?? 'build', 'aiwm-gateway');
const CONFIG_ROOT = '/etc/aiwm-gateway/';

/** Every overlay that is meant to be applied, by name. */
export const overlays = fs.readdirSync(path.join(root, 'deploy/k8s/examples')).sort();

/** The objects of an overlay. */
export function render(overlay) {
    const text = execFileSync('kubectl', ['kustomize', path.join(root, 'deploy/k8s/examples', overlay)],
        { encoding: 'utf8' });
    return YAML.parseAllDocuments(text).map((document) => document.toJS());
}

let dir;

/** Stand-ins for what Secrets bring, at the places where pods mount them. */
function secretsDir() {
    if (dir) return dir;
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-gateway-k8s-'));
    process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
    for (const name of ['config', 'tls', 'jwt', 'redis']) fs.mkdirSync(path.join(dir, name));
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
        '-nodes', '-keyout', path.join(dir, 'tls/tls.key'), '-out', path.join(dir, 'tls/tls.crt'),
        '-days', '2', '-subj', '/CN=aiwm-gateway'], { stdio: 'pipe' });
    fs.writeFileSync(path.join(dir, 'jwt/secret'), 'a-secret-of-the-check-0123456789abcdef');
    fs.writeFileSync(path.join(dir, 'redis/password'), 'a-password-of-the-check');
    return dir;
}

const configMap = (docs, prefix, key) => docs.find((doc) => doc.kind === 'ConfigMap' &&
    doc.metadata.name.startsWith(prefix) && (!key || key in doc.data))?.data ?? {};

/** What the gateway says to the configuration in `docs`: { fine, complaint, config }. */
export function judgeConfig(docs) {
    const here = `${secretsDir()}/`;
    const moved = (text) => text.replaceAll(CONFIG_ROOT, here);
    const file = path.join(here, 'config/gateway.yaml');
    fs.writeFileSync(file, moved(configMap(docs, 'aiwm-gateway-', 'gateway.yaml')['gateway.yaml'] ?? ''));
    const env = Object.fromEntries(Object.entries(configMap(docs, 'aiwm-gateway-env'))
        .map(([name, value]) => [name, moved(value)]));
    const run = (what) => spawnSync(gateway, ['--config', file, what], { env, encoding: 'utf8' });
    const check = run('--check-config');
    // What it does not know in the environment is only a warning there.
    if (check.status !== 0 || check.stderr.includes('no key has this name'))
        return { fine: false, complaint: check.stderr, config: undefined };
    const text = run('--print-config').stdout.replaceAll(here, CONFIG_ROOT);
    return { fine: true, complaint: '', config: YAML.parse(text) };
}
