// pod.mjs NAMES POD: the pod of deploy/k8s/examples/sidecar-container with Redis beside it, as podman
// 4.3 can play it. What is changed for that, and why:
//   - Secrets become ConfigMaps: podman 4.3 crashes on a secret volume without `optional`, and mounts
//     one with it undecoded.
//   - Published ports are left out: podman wants a bridge for them, and the pod has no network but its
//     own loopback.
//   - Probes and hooks are left out: podman would run curl inside an image that has none. The test
//     asks what the probes would.
//   - Everything is in one pod, since pods share no network here: Redis is at 127.0.0.1.
//   - Memory is limited to 64 MiB, for the test's sake.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { root } from '../k8s/render.mjs';

const YAML = createRequire(path.join(root, 'tests/k8s/package.json'))('yaml');
const [names, podName] = process.argv.slice(2);
export const JWT_SECRET = 'aiwm-local-test-secret-0123456789abcdef';
const REDIS_PASSWORD = createHash('sha256').update(podName).digest('hex');

const kustomize = (where) => YAML.parseAllDocuments(
    execFileSync('kubectl', ['kustomize', path.join(root, 'deploy/k8s', where)], { encoding: 'utf8' }))
    .map((document) => document.toJS());

function certificate() {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-gateway-image-'));
    try {
        const [key, cert] = ['tls.key', 'tls.crt'].map((name) => path.join(dir, name));
        execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
            '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=localhost',
            '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'], { stdio: 'pipe' });
        return { 'tls.crt': fs.readFileSync(cert, 'utf8'), 'tls.key': fs.readFileSync(key, 'utf8') };
    } finally {
        fs.rmSync(dir, { recursive: true, force: true });
    }
}

const SECRETS = {
    'aiwm-gateway-tls': certificate(),
    'aiwm-gateway-jwt': { secret: JWT_SECRET },
    'aiwm-gateway-redis': { password: REDIS_PASSWORD },
};

const configMap = (name, data) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data });

function playable(volume) {
    if (volume.secret)
        return { name: volume.name, configMap: { name: volume.secret.secretName, optional: false } };
    if (volume.configMap) return { ...volume, configMap: { ...volume.configMap, optional: false } };
    return volume;
}

/** A container without what only a kubelet can do. */
function plain({ ports, lifecycle, startupProbe, readinessProbe, livenessProbe, restartPolicy, ...rest }) {
    return rest;
}

/** What only the pod says in Kubernetes, podman wants to hear of each container. */
const withPod = (container, { runAsUser, runAsGroup }) =>
    ({ ...container, securityContext: { runAsUser, runAsGroup, ...container.securityContext } });

const site = kustomize('examples/sidecar-container');
const complete = kustomize('examples/edge-complete');
const deployment = site.find((doc) => doc.kind === 'Deployment').spec.template.spec;
const redisPod = complete.find((doc) => doc.kind === 'StatefulSet').spec.template.spec;

const gateway = plain(deployment.containers.find(({ name }) => name === 'gateway'));
gateway.image = `${names}/gateway`;
gateway.resources.limits.memory = '64Mi';

const aiwm = { name: 'aiwm', image: `${names}/stub`,
    command: ['/build/build/aiwm-stub', '--port', '3000', '--control-port', '3001',
        '--agents', '2000', '--jwt-secret', JWT_SECRET] };

const redis = withPod(plain(redisPod.containers[0]), redisPod.securityContext);
redis.image = `${names}/redis`;

const env = site.find((doc) => doc.kind === 'ConfigMap' && doc.metadata.name.startsWith('aiwm-gateway-env'));
const redisEnv = complete.find((doc) => doc.kind === 'ConfigMap' && doc.metadata.name.startsWith('aiwm-gateway-env'));
for (const [name, value] of Object.entries(redisEnv.data))
    if (name.startsWith('AIWM_GATEWAY_REDIS_')) env.data[name] = value;
env.data.AIWM_GATEWAY_REDIS_URL = 'redis://127.0.0.1:6379';
env.data.AIWM_GATEWAY_DRAIN_DELAY = '1s'; // there is no Service to wait for

const volumes = [...deployment.volumes, ...redisPod.volumes, { name: 'data', emptyDir: {} }].map(playable);
const redisConfig = complete.find((doc) => doc.kind === 'ConfigMap' && 'redis.conf' in doc.data);
const docs = [
    ...site.filter((doc) => doc.kind === 'ConfigMap'),
    redisConfig,
    ...Object.entries(SECRETS).map(([name, data]) => configMap(name, data)),
    { apiVersion: 'v1', kind: 'Pod', metadata: { name: podName },
        spec: { restartPolicy: 'Never', containers: [redis, aiwm, gateway]
            .map((container) => ({ ...container, imagePullPolicy: 'Never' })), volumes } },
];
process.stdout.write(docs.map((doc) => YAML.stringify(doc)).join('---\n'));
