// What deploy/k8s promises beyond types, as rules over the objects of one overlay. A rule gives its
// complaints; `judge` runs them all.
//
// The example's AIWM container is the user's, not ours: only `gateway` and `redis` are judged.

import fs from 'node:fs';

/** What docs/redis.md has a gateway's user do: keys and commands. */
const documentedRights = () => /^ACL SETUSER aiwm-gateway reset on >PASSWORD (.*)$/m
    .exec(fs.readFileSync(new URL('../../docs/redis.md', import.meta.url), 'utf8'))[1];

/** The Secrets a user makes (docs/kubernetes.md), and their keys. */
const SECRETS = {
    'aiwm-gateway-tls': ['tls.crt', 'tls.key'],
    'aiwm-gateway-jwt': ['secret'],
    'aiwm-gateway-redis': ['password'],
};

// ---- looking into objects ----

const ofKind = (docs, ...kinds) => docs.filter((doc) => kinds.includes(doc.kind));
const workloads = (docs) => ofKind(docs, 'Deployment', 'StatefulSet');
const podOf = (workload) => workload.spec.template.spec;
const containersOf = (pod) => [...(pod.initContainers ?? []), ...(pod.containers ?? [])];
const containerIn = (pod, name) => containersOf(pod).find((container) => container.name === name);
const isNative = (pod) => (pod.initContainers ?? []).some((container) => container.name === 'gateway');
const withGateway = (docs) => workloads(docs).filter((w) => containerIn(podOf(w), 'gateway'));
const secondsOf = (text) => ({ ms: 0.001, s: 1, m: 60, h: 3600 })[/[a-z]+$/.exec(text)[0]] * parseFloat(text);
const mebibytes = (text) => ({ Mi: 1, Gi: 1024, mb: 1, gb: 1024 })[/[A-Za-z]+$/.exec(text)?.[0]] * parseFloat(text);

/** Containers that are ours: [workload, pod, container]. */
function ours(docs) {
    return workloads(docs).flatMap((workload) => containersOf(podOf(workload))
        .filter(({ name }) => name === 'gateway' || name === 'redis')
        .map((container) => [workload, podOf(workload), container]));
}

/** Pods that are wholly ours: a sidecar's pod is not. */
const ownPods = (docs) => workloads(docs).filter((workload) =>
    containersOf(podOf(workload)).every(({ name }) => name === 'gateway' || name === 'redis'));

const matches = (labels, selector) =>
    Object.entries(selector ?? {}).every(([key, value]) => labels?.[key] === value) &&
    Object.keys(selector ?? {}).length > 0;
const selected = (docs, selector) =>
    workloads(docs).filter((w) => matches(w.spec.template.metadata.labels, selector));

const each = (list, look) => list.flatMap((item) => [].concat(look(item) ?? []).filter(Boolean));

// ---- the rules ----

const rules = {
    'pod security: restricted': ({ docs }) => each(ours(docs), ([workload, pod, container]) => {
        const own = container.securityContext ?? {};
        const both = { ...pod.securityContext, ...own };
        const name = `${workload.metadata.name}/${container.name}`;
        return [
            both.runAsNonRoot !== true && `${name}: runAsNonRoot`,
            !(both.runAsUser > 0) && `${name}: runAsUser`,
            both.seccompProfile?.type !== 'RuntimeDefault' && `${name}: seccompProfile`,
            own.allowPrivilegeEscalation !== false && `${name}: allowPrivilegeEscalation`,
            own.privileged === true && `${name}: privileged`,
            !own.capabilities?.drop?.includes('ALL') && `${name}: capabilities.drop`,
            own.capabilities?.add && `${name}: capabilities.add`,
            (pod.hostNetwork || pod.hostPID || pod.hostIPC) && `${name}: the host's namespaces`,
            container.ports?.some((port) => port.hostPort) && `${name}: hostPort`,
            pod.volumes?.some((volume) => volume.hostPath) && `${name}: hostPath`,
        ];
    }),

    'a gateway is restricted in anybody\'s pod': ({ docs }) => each(withGateway(docs), (workload) => {
        const own = containerIn(podOf(workload), 'gateway').securityContext ?? {};
        return (own.runAsNonRoot !== true || own.seccompProfile?.type !== 'RuntimeDefault' ||
            !(own.runAsUser > 0)) && `${workload.metadata.name}: leaves it to the pod`;
    }),

    'read-only root': ({ docs }) => each(ours(docs), ([workload, , container]) =>
        container.securityContext?.readOnlyRootFilesystem !== true && workload.metadata.name),

    'no service account token': ({ docs }) => each(ownPods(docs), (workload) => {
        const pod = podOf(workload);
        const account = ofKind(docs, 'ServiceAccount')
            .find((a) => a.metadata.name === pod.serviceAccountName);
        return [
            pod.automountServiceAccountToken !== false && `${workload.metadata.name}: mounts one`,
            !account && `${workload.metadata.name}: no ServiceAccount of its own`,
            account && account.automountServiceAccountToken !== false && 'the account offers one',
        ];
    }),

    'probes': ({ docs, config }) => each(withGateway(docs), (workload) => {
        const container = containerIn(podOf(workload), 'gateway');
        const expected = { startupProbe: '/startupz', readinessProbe: '/readyz', livenessProbe: '/livez' };
        return Object.entries(expected).map(([probe, path]) => {
            const asked = container[probe]?.httpGet;
            return (asked?.path !== path || asked?.port !== config.health.port) &&
                `${workload.metadata.name}: ${probe} must ask ${path} at ${config.health.port}`;
        });
    }),

    'a native sidecar is one': ({ docs }) => each(withGateway(docs), (workload) => {
        const pod = podOf(workload);
        const container = containerIn(pod, 'gateway');
        if (!isNative(pod)) return container.restartPolicy && 'an ordinary one has no restartPolicy';
        return [
            container.restartPolicy !== 'Always' && 'restartPolicy: Always is missing',
            !container.startupProbe && 'without a startupProbe nothing waits for it',
        ];
    }),

    'the controller outlives the gateway beside it': ({ docs, config }) =>
        each(withGateway(docs), (workload) => {
            const pod = podOf(workload);
            const others = pod.containers.filter(({ name }) => name !== 'gateway');
            if (others.length === 0 || isNative(pod)) return [];
            const needed = secondsOf(config.drain.delay) + secondsOf(config.drain.timeout);
            return others.map((other) => !(other.lifecycle?.preStop?.sleep?.seconds >= needed) &&
                `${other.name}: preStop sleeps less than the gateway's drain, ${needed} s`);
        }),

    'time to drain': ({ docs, config }) => each(withGateway(docs), (workload) => {
        const pod = podOf(workload);
        const drain = secondsOf(config.drain.delay) + secondsOf(config.drain.timeout);
        const hooks = containersOf(pod).map((c) => c.lifecycle?.preStop?.sleep?.seconds ?? 0);
        const needed = (isNative(pod) ? Math.max(...hooks) + 30 + drain : Math.max(drain, ...hooks)) + 5;
        return [
            !(pod.terminationGracePeriodSeconds >= needed) &&
                `${workload.metadata.name}: terminationGracePeriodSeconds below ${needed}`,
            containerIn(pod, 'gateway').lifecycle && 'the gateway needs no hooks',
        ];
    }),

    'resources': ({ docs }) => each(ours(docs), ([workload, , container]) => {
        const { requests = {}, limits = {} } = container.resources ?? {};
        return [
            !requests.cpu && `${workload.metadata.name}: no request of CPU`,
            !requests.memory && `${workload.metadata.name}: no request of memory`,
            !limits.memory && `${workload.metadata.name}: no limit of memory`,
            limits.cpu && `${workload.metadata.name}: a limit of CPU throttles`,
        ];
    }),

    'workers are counted, as CPU is not limited': ({ docs, config }) =>
        withGateway(docs).length > 0 && !(config.workers > 0) ? ['workers: 0'] : [],

    'what is mounted is there': ({ docs }) => each(ours(docs), ([workload, pod, container]) => {
        const templates = workload.spec.volumeClaimTemplates ?? [];
        const volumes = [...(pod.volumes ?? []), ...templates.map((t) => ({ name: t.metadata.name }))];
        const configMaps = ofKind(docs, 'ConfigMap').map((doc) => doc.metadata.name);
        const known = (volume) =>
            (!volume.configMap || configMaps.includes(volume.configMap.name)) &&
            (!volume.secret || volume.secret.secretName in SECRETS);
        const from = container.envFrom?.map((source) => source.configMapRef?.name) ?? [];
        return [
            ...container.volumeMounts.map((mount) =>
                !volumes.some((volume) => volume.name === mount.name) && `no volume ${mount.name}`),
            ...volumes.map((volume) => !known(volume) && `nobody brings volume ${volume.name}`),
            ...from.map((name) => !configMaps.includes(name) && `no ConfigMap ${name}`),
        ];
    }),

    'the gateway can read its secrets': ({ docs }) => each(withGateway(docs), (workload) =>
        podOf(workload).volumes.map((volume) => volume.secret && podOf(workload).securityContext?.fsGroup === undefined &&
            (volume.secret.defaultMode & 0o004) === 0 && `${volume.name}: only for root`)),

    'files in the configuration are mounted': ({ docs, config }) => each(withGateway(docs), (workload) => {
        const pod = podOf(workload);
        const files = Object.values(config).filter((v) => v && typeof v === 'object')
            .flatMap((group) => Object.entries(group))
            .filter(([key, value]) => key.endsWith('_file') && value)
            .map(([, value]) => value);
        return files.map((file) => {
            const mount = containerIn(pod, 'gateway').volumeMounts
                .find((m) => file.startsWith(`${m.mountPath}/`));
            const volume = pod.volumes.find((v) => v.name === mount?.name);
            const keys = SECRETS[volume?.secret?.secretName];
            return !keys?.includes(file.slice((mount?.mountPath.length ?? 0) + 1)) && `${file}: not mounted`;
        });
    }),

    'services lead to ports': ({ docs }) => each(ofKind(docs, 'Service'), (service) => {
        const pods = selected(docs, service.spec.selector);
        const ports = pods.flatMap((w) => containersOf(podOf(w)).flatMap((c) => c.ports ?? []));
        return [
            pods.length === 0 && `${service.metadata.name}: selects nothing`,
            ...service.spec.ports.map(({ targetPort }) =>
                !ports.some((port) => port.containerPort === targetPort || port.name === targetPort) &&
                `${service.metadata.name}: nothing at ${targetPort}`),
        ];
    }),

    'agents\' service has the data port alone': ({ docs, config }) => {
        const service = ofKind(docs, 'Service').find((s) => s.metadata.name === 'aiwm-gateway');
        return service?.spec.ports.length === 1 && service.spec.ports[0].targetPort === config.listen.port
            ? [] : ['aiwm-gateway: must lead to listen.port and nowhere else'];
    },

    'the controller\'s own port is hidden': ({ docs, config }) => each(withGateway(docs), (workload) => {
        const labels = workload.spec.template.metadata.labels;
        const policies = ofKind(docs, 'NetworkPolicy').filter((policy) =>
            matches(labels, policy.spec.podSelector.matchLabels) && policy.spec.policyTypes.includes('Ingress'));
        const open = policies.flatMap((policy) => policy.spec.ingress);
        const fine = ({ from, ports }) => ports?.length === 1 &&
            (ports[0].port === config.listen.port || (ports[0].port === config.health.port && from?.length > 0));
        return [
            policies.length === 0 && `${workload.metadata.name}: no NetworkPolicy`,
            ...open.map((rule) => !fine(rule) && `${workload.metadata.name}: more is open than must be`),
        ];
    }),

    'scaling and disruption': ({ docs }) => [
        ...each(ofKind(docs, 'HorizontalPodAutoscaler'), (hpa) => {
            const target = workloads(docs).find((w) => w.metadata.name === hpa.spec.scaleTargetRef.name);
            return [
                !target && 'the autoscaler scales nothing',
                target?.spec.replicas !== undefined && 'replicas fights with the autoscaler',
                !(hpa.spec.minReplicas >= 2) && 'one pod is no pod while it is replaced',
            ];
        }),
        ...each(ofKind(docs, 'PodDisruptionBudget'), (budget) => [
            selected(docs, budget.spec.selector.matchLabels).length !== 1 && 'the budget selects nothing',
            !(budget.spec.maxUnavailable >= 1) && 'a budget that allows nothing blocks every drain',
        ]),
    ],

    'an edge is spread': ({ docs }) => each(ownPods(docs).filter((w) => w.kind === 'Deployment'), (workload) => {
        const spread = podOf(workload).topologySpreadConstraints ?? [];
        const labels = workload.spec.template.metadata.labels;
        return [
            !spread.some((s) => s.topologyKey === 'kubernetes.io/hostname') && 'not over nodes',
            !spread.some((s) => s.topologyKey === 'topology.kubernetes.io/zone') && 'not over zones',
            ...spread.map((s) => !matches(labels, s.labelSelector?.matchLabels) && 'counts other pods'),
            ofKind(docs, 'PodDisruptionBudget').length === 0 && 'no PodDisruptionBudget',
            ofKind(docs, 'HorizontalPodAutoscaler').length === 0 && 'no autoscaler',
        ];
    }),

    'no secret in the open': ({ docs }) => [
        ...ofKind(docs, 'Secret').map((doc) => `${doc.metadata.name}: a Secret in the repository`),
        ...each(ofKind(docs, 'ConfigMap'), (map) => Object.entries(map.data).map(([key, value]) =>
            /(SECRET|PASSWORD|KEY|TOKEN)$/.test(key) && `${map.metadata.name}: ${key}`)),
    ],

    'an image has a version': ({ docs }) => each(ours(docs), ([, , { image }]) =>
        (!/:[^/]+$/.test(image) || image.endsWith(':latest')) && image),

    'Redis keeps what it acknowledged': ({ docs }) => each(
        ofKind(docs, 'ConfigMap').filter((map) => 'redis.conf' in map.data), ({ data }) => {
            const conf = data['redis.conf'];
            const lines = ['appendonly yes', 'appendfsync everysec', 'maxmemory-policy noeviction'];
            const redis = ours(docs).find(([, , { name }]) => name === 'redis')[2];
            const most = mebibytes(/^maxmemory (\S+)/m.exec(conf)?.[1] ?? '9999gb');
            return [
                ...lines.map((line) => !conf.split('\n').includes(line) && `redis.conf: ${line}`),
                2 * most > mebibytes(redis.resources.limits.memory) && 'no room to rewrite the AOF',
            ];
        }),

    'Redis lets strangers ping': ({ docs }) => each(
        ofKind(docs, 'ConfigMap').filter((map) => 'users.acl' in map.data), ({ data }) => {
            const users = data['users.acl'].trim().split('\n').map((line) => line.split(' '));
            const stranger = users.find(([, name]) => name === 'default');
            return [
                !/^aclfile /m.test(data['redis.conf']) && 'redis.conf: no aclfile',
                stranger?.slice(2).join(' ') !== 'on nopass resetkeys resetchannels -@all +ping' &&
                    'users.acl: default may do more than ping',
                ...users.map((user) => user !== stranger && (user.includes('nopass') ||
                    user.slice(4).join(' ') !== `resetchannels -@all ${documentedRights()}`) &&
                    `users.acl: ${user[1]} may not do what docs/redis.md says, or may do more`),
            ];
        }),

    'Prometheus finds the metrics': ({ docs }) => each(ofKind(docs, 'ServiceMonitor'), (monitor) => {
        const services = ofKind(docs, 'Service').filter((service) =>
            matches(service.metadata.labels, monitor.spec.selector.matchLabels));
        return [
            services.length !== 1 && 'not exactly one Service',
            ...monitor.spec.endpoints.map((endpoint) => (endpoint.path !== '/metrics' ||
                !services[0]?.spec.ports.some((port) => port.name === endpoint.port)) && 'no such page'),
        ];
    }),

    'the certificate is the one that is mounted': ({ docs }) => each(ofKind(docs, 'Certificate'), (doc) =>
        doc.spec.secretName !== 'aiwm-gateway-tls' && doc.spec.secretName),
};

/** The complaints of every rule: { rule: [text] }. */
export function judge(docs, config) {
    return Object.fromEntries(Object.entries(rules).map(([name, rule]) => {
        try {
            return [name, rule({ docs, config })];
        } catch (error) { // a field that a rule relies on is not there
            return [name, [String(error)]];
        }
    }));
}

export const ruleNames = Object.keys(rules);
