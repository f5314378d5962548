// Planted mistakes, each of which must be refused by the rule that is there for it: `types` (the
// compiler), `config` (--check-config), or a rule of rules.mjs. A rule without a mutant is a failure,
// too: nobody knows whether it sees anything.

const find = (docs, kind, name) => docs.find((doc) => doc.kind === kind && (!name || doc.metadata.name === name));
const pod = (docs, kind = 'Deployment') => find(docs, kind).spec.template.spec;
const inPod = (docs, name, kind) => [...(pod(docs, kind).initContainers ?? []), ...pod(docs, kind).containers]
    .find((container) => container.name === name);
const gateway = (docs) => inPod(docs, 'gateway');
const redis = (docs) => inPod(docs, 'redis', 'StatefulSet');
const mapWith = (docs, key) => docs.find((doc) => doc.kind === 'ConfigMap' && key in doc.data).data;
const edit = (map, key, from, to) => {
    if (!map[key].includes(from)) throw new Error(`a mutant finds no "${from}" in ${key}`);
    map[key] = map[key].replace(from, to);
};
const drop = (docs, kind) => docs.splice(docs.indexOf(find(docs, kind)), 1);

/** [overlay, who refuses, what is planted, the planting] */
export const mutants = [
    ['edge', 'types', 'a misspelt field of a container', (d) => { gateway(d).securtyContext = {}; }],
    ['edge', 'types', 'a probe one level too high', (d) => { pod(d).livenessProbe = { httpGet: { path: '/', port: 1 } }; }],
    ['edge', 'types', 'a text where a number belongs', (d) => { pod(d).terminationGracePeriodSeconds = '45'; }],
    ['edge', 'types', 'an unknown field of the budget', (d) => { find(d, 'PodDisruptionBudget').spec.maxUnavailble = 1; }],
    ['edge', 'types', 'an autoscaler of another API version', (d) => { find(d, 'HorizontalPodAutoscaler').spec.targetCPUUtilizationPercentage = 50; }],
    ['edge-complete', 'types', 'a misspelt field of the ServiceMonitor', (d) => { find(d, 'ServiceMonitor').spec.endpoint = []; }],
    ['edge-complete', 'types', 'a misspelt field of the Certificate', (d) => { find(d, 'Certificate').spec.dnsName = 'a'; }],
    ['edge-complete', 'types', 'a misspelt field of the StatefulSet', (d) => { find(d, 'StatefulSet').spec.volumeClaimTemplate = []; }],

    ['edge', 'config', 'a key that there is not', (d) => edit(mapWith(d, 'gateway.yaml'), 'gateway.yaml', 'workers:', 'wrokers:')],
    ['edge', 'config', 'a controller that is no URL', (d) => { mapWith(d, 'AIWM_GATEWAY_UPSTREAM_URL').AIWM_GATEWAY_UPSTREAM_URL = 'aiwm:3000'; }],
    ['edge', 'config', 'a secret at another path', (d) => edit(mapWith(d, 'gateway.yaml'), 'gateway.yaml', 'jwt/secret', 'jwt/sceret')],
    ['edge', 'config', 'a variable that means nothing', (d) => { mapWith(d, 'AIWM_GATEWAY_UPSTREAM_URL').AIWM_GATEWAY_UPSTREM_URL = 'http://a'; }],

    ['edge', 'pod security: restricted', 'root', (d) => { gateway(d).securityContext.runAsUser = 0; }],
    ['edge', 'pod security: restricted', 'a capability', (d) => { gateway(d).securityContext.capabilities.add = ['NET_BIND_SERVICE']; }],
    ['edge', 'pod security: restricted', 'capabilities kept', (d) => { delete gateway(d).securityContext.capabilities; }],
    ['edge', 'pod security: restricted', 'privilege escalation', (d) => { delete gateway(d).securityContext.allowPrivilegeEscalation; }],
    ['edge', 'pod security: restricted', 'the host\'s network', (d) => { pod(d).hostNetwork = true; }],
    ['edge', 'pod security: restricted', 'a host path', (d) => { pod(d).volumes.push({ name: 'x', hostPath: { path: '/' } }); }],
    ['edge-complete', 'pod security: restricted', 'a Redis without seccomp', (d) => { delete pod(d, 'StatefulSet').securityContext.seccompProfile; }],
    ['sidecar', 'a gateway is restricted in anybody\'s pod', 'left to the pod', (d) => {
        const own = gateway(d).securityContext;
        pod(d).securityContext = { runAsNonRoot: true, seccompProfile: own.seccompProfile };
        delete own.runAsNonRoot;
    }],
    ['edge', 'read-only root', 'a writable root', (d) => { gateway(d).securityContext.readOnlyRootFilesystem = false; }],
    ['edge-complete', 'read-only root', 'a writable root of Redis', (d) => { delete redis(d).securityContext.readOnlyRootFilesystem; }],
    ['edge', 'no service account token', 'a token mounted', (d) => { delete pod(d).automountServiceAccountToken; }],
    ['edge', 'no service account token', 'an account that offers one', (d) => { find(d, 'ServiceAccount').automountServiceAccountToken = true; }],
    ['edge-complete', 'no service account token', 'everybody\'s account', (d) => { delete pod(d, 'StatefulSet').serviceAccountName; }],
    ['edge', 'probes', 'liveness that asks for readiness', (d) => { gateway(d).livenessProbe.httpGet.path = '/readyz'; }],
    ['edge', 'probes', 'a probe of the data port', (d) => { gateway(d).readinessProbe.httpGet.port = 8443; }],
    ['sidecar', 'probes', 'no startup probe', (d) => { delete gateway(d).startupProbe; }],
    ['sidecar', 'a native sidecar is one', 'an init container that never ends', (d) => { delete gateway(d).restartPolicy; }],
    ['sidecar', 'a native sidecar is one', 'a sidecar nobody waits for', (d) => { delete gateway(d).startupProbe; }],
    ['sidecar-container', 'a native sidecar is one', 'an ordinary one that says it is', (d) => { gateway(d).restartPolicy = 'Always'; }],
    ['sidecar-container', 'the controller outlives the gateway beside it', 'the hook on the wrong container', (d) => {
        const other = inPod(d, 'aiwm');
        gateway(d).lifecycle = other.lifecycle;
        delete other.lifecycle;
    }],
    ['sidecar-container', 'the controller outlives the gateway beside it', 'a longer drain', (d) => { mapWith(d, 'AIWM_GATEWAY_DRAIN_TIMEOUT').AIWM_GATEWAY_DRAIN_TIMEOUT = '30s'; }],
    ['sidecar-container', 'time to drain', 'the usual grace period', (d) => { delete pod(d).terminationGracePeriodSeconds; }],
    ['edge', 'time to drain', 'a short grace period', (d) => { pod(d).terminationGracePeriodSeconds = 30; }],
    ['edge', 'time to drain', 'a hook that needs a shell', (d) => { gateway(d).lifecycle = { preStop: { exec: { command: ['sh'] } } }; }],
    ['edge', 'resources', 'no request of memory', (d) => { delete gateway(d).resources.requests.memory; }],
    ['edge', 'resources', 'a limit of CPU', (d) => { gateway(d).resources.limits.cpu = '1'; }],
    ['edge-complete', 'resources', 'an unlimited Redis', (d) => { delete redis(d).resources.limits; }],
    ['edge', 'workers are counted, as CPU is not limited', 'as many as the node has', (d) => edit(mapWith(d, 'gateway.yaml'), 'gateway.yaml', 'workers: 2', 'workers: 0')],
    ['edge', 'what is mounted is there', 'a mount without a volume', (d) => { pod(d).volumes.shift(); }],
    ['edge', 'what is mounted is there', 'a Secret nobody was told of', (d) => { pod(d).volumes[1].secret.secretName = 'other'; }],
    ['edge', 'what is mounted is there', 'the environment of nobody', (d) => { gateway(d).envFrom[0].configMapRef.name = 'aiwm-gateway-env'; }],
    ['sidecar', 'the gateway can read its secrets', 'secrets only for root', (d) => { pod(d).volumes.find((v) => v.secret).secret.defaultMode = 0o440; }],
    ['edge', 'files in the configuration are mounted', 'the key not mounted', (d) => {
        gateway(d).volumeMounts = gateway(d).volumeMounts.filter((mount) => !mount.mountPath.endsWith('/tls'));
    }],
    ['edge', 'services lead to ports', 'a port nobody listens on', (d) => { find(d, 'Service').spec.ports[0].targetPort = 8080; }],
    ['sidecar', 'services lead to ports', 'a label that is gone', (d) => { delete find(d, 'Deployment').spec.template.metadata.labels['aiwm-gateway/serves']; }],
    ['edge', 'agents\' service has the data port alone', 'the health port for everybody', (d) => { find(d, 'Service').spec.ports.push({ name: 'health', port: 9902, targetPort: 9902 }); }],
    ['sidecar', 'the controller\'s own port is hidden', 'no policy', (d) => { drop(d, 'NetworkPolicy'); }],
    ['sidecar', 'the controller\'s own port is hidden', 'the controller\'s port, too', (d) => { find(d, 'NetworkPolicy', 'aiwm-gateway').spec.ingress.push({ ports: [{ protocol: 'TCP', port: 3000 }] }); }],
    ['sidecar', 'the controller\'s own port is hidden', 'every port', (d) => { delete find(d, 'NetworkPolicy', 'aiwm-gateway').spec.ingress[0].ports; }],
    ['edge', 'the controller\'s own port is hidden', 'metrics for everybody', (d) => { delete find(d, 'NetworkPolicy', 'aiwm-gateway').spec.ingress[1].from; }],
    ['edge', 'scaling and disruption', 'replicas beside an autoscaler', (d) => { find(d, 'Deployment').spec.replicas = 2; }],
    ['edge', 'scaling and disruption', 'a single pod', (d) => { find(d, 'HorizontalPodAutoscaler').spec.minReplicas = 1; }],
    ['edge', 'scaling and disruption', 'a budget that blocks', (d) => { find(d, 'PodDisruptionBudget').spec.maxUnavailable = 0; }],
    ['edge', 'an edge is spread', 'all on one node', (d) => { pod(d).topologySpreadConstraints.pop(); }],
    ['edge', 'an edge is spread', 'a spread of other pods', (d) => { pod(d).topologySpreadConstraints[0].labelSelector.matchLabels = { app: 'x' }; }],
    ['edge', 'an edge is spread', 'no budget', (d) => { drop(d, 'PodDisruptionBudget'); }],
    ['edge', 'no secret in the open', 'a Secret', (d) => { d.push({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'x' }, stringData: {} }); }],
    ['edge', 'no secret in the open', 'a secret in the environment', (d) => { mapWith(d, 'AIWM_GATEWAY_UPSTREAM_URL').AIWM_GATEWAY_JWT_SECRET = 'x'; }],
    ['edge', 'an image has a version', 'latest', (d) => { gateway(d).image = 'aiwm-gateway:latest'; }],
    ['edge', 'an image has a version', 'none', (d) => { gateway(d).image = 'registry:5000/aiwm-gateway'; }],
    ['edge-complete', 'Redis keeps what it acknowledged', 'eviction', (d) => edit(mapWith(d, 'redis.conf'), 'redis.conf', 'noeviction', 'allkeys-lru')],
    ['edge-complete', 'Redis keeps what it acknowledged', 'no AOF', (d) => edit(mapWith(d, 'redis.conf'), 'redis.conf', 'appendonly yes', 'appendonly no')],
    ['edge-complete', 'Redis keeps what it acknowledged', 'no room for its copy', (d) => { redis(d).resources.limits.memory = '256Mi'; }],
    ['edge-complete', 'Redis lets strangers ping', 'a default user', (d) => edit(mapWith(d, 'users.acl'), 'users.acl', '-@all +ping\n', '+@read\n')],
    ['edge-complete', 'Redis lets strangers ping', 'FLUSHALL', (d) => edit(mapWith(d, 'users.acl'), 'users.acl', '* +role', '* +flushall +role')],
    ['edge-complete', 'Redis lets strangers ping', 'everybody\'s keys', (d) => edit(mapWith(d, 'users.acl'), 'users.acl', '~aiwm-gateway:*', '~*')],
    ['edge-complete', 'Redis lets strangers ping', 'no ACL at all', (d) => edit(mapWith(d, 'redis.conf'), 'redis.conf', 'aclfile', '#aclfile')],
    ['edge-complete', 'Prometheus finds the metrics', 'another page', (d) => { find(d, 'ServiceMonitor').spec.endpoints[0].path = '/stats'; }],
    ['edge-complete', 'Prometheus finds the metrics', 'a label nobody has', (d) => { delete find(d, 'Service', 'aiwm-gateway-metrics').metadata.labels; }],
    ['edge-complete', 'the certificate is the one that is mounted', 'another Secret', (d) => { find(d, 'Certificate').spec.secretName = 'tls'; }],
];
