// Real Redis servers: each on a port of its own, in a temporary directory of its own, with a
// client for the test that comes in by a side door (a unix socket, as a user who may do anything),
// so that it works whatever the front door demands.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Child, eventually } from './child.mjs';
import { freePort } from './ports.mjs';
import { Resp } from './resp.mjs';
import { discard, temporary } from './temporary.mjs';

const TESTER = { username: 'tester', password: 'tester' };

// ---- certificates ----

let made;

/** One set a run: { ca, server, elsewhere, client, strangerCa }, paths of PEM files; those with a
 * key are { cert, key }. `server` is for localhost and 127.0.0.1, `elsewhere` for another host;
 * `strangerCa` signed none of them. */
export function redisCertificates() {
    if (made) return made;
    const dir = temporary('redis-tls');
    const at = (name) => path.join(dir, name);
    const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    const authority = (name) => {
        openssl('req', '-x509', ...key, '-keyout', at(`${name}.key`), '-out', at(`${name}.crt`),
            '-subj', `/CN=${name}`, '-addext', 'keyUsage=critical,keyCertSign,cRLSign');
        return at(`${name}.crt`);
    };
    const signed = (name, names) => {
        openssl('req', '-new', ...key.slice(0, -2), '-keyout', at(`${name}.key`),
            '-out', at(`${name}.csr`), '-subj', `/CN=${name}`);
        fs.writeFileSync(at(`${name}.ext`), `subjectAltName=${names}\n`);
        openssl('x509', '-req', '-in', at(`${name}.csr`), '-CA', at('ca.crt'), '-CAkey', at('ca.key'),
            '-CAcreateserial', '-days', '2', '-extfile', at(`${name}.ext`), '-out', at(`${name}.crt`));
        return { cert: at(`${name}.crt`), key: at(`${name}.key`) };
    };
    made = {
        ca: authority('ca'),
        strangerCa: authority('stranger'),
        server: signed('server', 'DNS:localhost,IP:127.0.0.1'),
        elsewhere: signed('elsewhere', 'DNS:elsewhere.example'),
        client: signed('client', 'DNS:client'),
    };
    return made;
}

/** Regular files; node 18's `recursive` takes a socket for a directory. */
function filesBelow(dir) {
    return fs.readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
        const at = path.join(dir, entry.name);
        return entry.isDirectory() ? filesBelow(at) : entry.isFile() ? [at] : [];
    });
}

// ---- a server ----

export class Redis {
    /** Options, all of them off unless given:
     *   appendonly: true          AOF, everysec
     *   password                  requirepass
     *   acl: [lines]              an ACL file: 'user agent on >secret ~* +@all'. The default user
     *                             is off unless a line says otherwise
     *   tls: true | { server, clients }   TLS on its port; `server`: another certificate;
     *                             `clients`: they must show one
     *   maxmemory, policy         '2mb', 'noeviction'
     *   cluster: true             Cluster mode, no slots given
     *   replicaOf: redis          a replica of that one
     *   conf: { directive: value or [values] }   anything else
     *   port                      that one, not any free one
     *   ready: false              does not wait until it serves (it may be loading) */
    static async start(options = {}) {
        for (let tries = 1; ; tries++) {
            const redis = new Redis();
            redis.options = options;
            redis.port = options.port ?? (await freePort());
            redis.dir = temporary('redis');
            redis.socketPath = path.join(redis.dir, 's');
            try {
                await redis.#spawn(options.ready ?? true);
                return redis;
            } catch (error) {
                // Somebody else may have been quicker to take the port.
                if (options.port || tries === 3 || !/in use/.test(error.message)) throw error;
            }
        }
    }

    /** Where gateways find it: redis://127.0.0.1:port, or rediss://localhost:port. */
    get url() {
        return this.options.tls ? `rediss://localhost:${this.port}` : `redis://127.0.0.1:${this.port}`;
    }

    get unixUrl() {
        return `unix:${this.socketPath}`;
    }

    #directives() {
        const o = this.options;
        const d = {
            bind: '127.0.0.1', port: this.port, dir: this.dir, unixsocket: this.socketPath,
            unixsocketperm: 700, save: '""', daemonize: 'no', appendonly: o.appendonly ? 'yes' : 'no',
            appendfsync: 'everysec', 'enable-debug-command': 'local',
            'repl-diskless-sync-delay': 0, 'repl-timeout': 10,
        };
        if (o.tls) this.#tls(d, o.tls);
        if (o.password) d.requirepass = o.password;
        if (o.password) d.masterauth = o.password;
        if (o.acl) d.aclfile = this.#aclFile(o.acl);
        if (o.maxmemory) d.maxmemory = o.maxmemory;
        if (o.policy) d['maxmemory-policy'] = o.policy;
        if (o.cluster) d['cluster-enabled'] = 'yes';
        if (o.replicaOf) d.replicaof = `127.0.0.1 ${o.replicaOf.port}`;
        return { ...d, ...o.conf };
    }

    #tls(d, { server = 'server', clients = false }) {
        const { ca, [server]: own } = redisCertificates();
        Object.assign(d, {
            port: 0, 'tls-port': this.port, 'tls-cert-file': own.cert, 'tls-key-file': own.key,
            'tls-ca-cert-file': ca, 'tls-auth-clients': clients ? 'yes' : 'no', 'tls-replication': 'yes',
        });
    }

    #aclFile(lines) {
        const file = path.join(this.dir, 'users.acl');
        const known = lines.some((line) => line.startsWith('user default '));
        const all = [...lines, `user ${TESTER.username} on >${TESTER.password} ~* &* +@all`];
        fs.writeFileSync(file, `${[...(known ? [] : ['user default off']), ...all].join('\n')}\n`);
        return file;
    }

    async #spawn(ready) {
        const file = path.join(this.dir, 'redis.conf');
        const lines = Object.entries(this.#directives()).flatMap(([name, value]) =>
            [value].flat().map((v) => `${name} ${v}\n`));
        fs.writeFileSync(file, lines.join(''));
        this.child = new Child('redis-server', [file], { cwd: this.dir });
        const said = ready ? /Ready to accept connections/ : /Server initialized|Running mode=/;
        await this.child.waitForLines('it serves', (line) => said.test(line));
    }

    /** A connection of its own, as a user who may do anything; the test closes it. */
    connect() {
        const { acl, password } = this.options;
        return Resp.open({ path: this.socketPath, ...(acl ? TESTER : password ? { password } : {}) });
    }

    /** One command: call('HGETALL', key). */
    async call(...words) {
        if (!this.client || this.client.socket.destroyed) {
            /* Calls at the same time share the one connection. */
            this.opening ??= this.connect().finally(() => { this.opening = undefined; });
            this.client = await this.opening;
        }
        return this.client.call(...words);
    }

    /** One field of INFO. */
    async info(field) {
        const line = (await this.call('INFO', 'everything')).split('\r\n')
            .find((l) => l.startsWith(`${field}:`));
        return line?.slice(field.length + 1);
    }

    /** Everything it was told from now on, until close(): { lines, close }. */
    async monitor() {
        const client = await this.connect();
        await client.call('MONITOR');
        return { lines: client.pushed, close: () => client.close() };
    }

    /** All bytes it has written down: a fresh dump, the AOF and its log. */
    async dump() {
        await this.call('SAVE');
        const files = filesBelow(this.dir);
        const own = /(users\.acl|redis\.conf|\.given)$/; // what the test itself wrote
        return Buffer.concat([...files.filter((file) => !own.test(file)).map((f) => fs.readFileSync(f)),
            Buffer.from(this.child.lines.join('\n'))]);
    }

    // ---- what happens to it ----

    /** SIGSTOP: connections stay, nobody answers. */
    pause() {
        this.child.signal('SIGSTOP');
    }

    resume() {
        this.child.signal('SIGCONT');
    }

    /** kill -9. */
    async kill() {
        this.client?.close();
        await this.child.kill();
    }

    /** Again on the same port with the data it had written; after kill() or stop(). */
    async restart({ ready = true, ...options } = {}) {
        Object.assign(this.options, options);
        await this.#spawn(ready);
    }

    async stop() {
        this.client?.close();
        if (!this.child.ended) this.resume();
        await this.child.stop();
    }

    /** Whatever state it is in; for the end of a test. */
    async discard() {
        this.client?.close();
        if (!this.child.ended) await this.child.kill();
        discard(this.dir);
    }
}

// ---- Sentinel ----

class Sentinel {
    static async start(master, name, quorum, options) {
        const sentinel = new Sentinel();
        sentinel.port = await freePort();
        sentinel.dir = temporary('sentinel');
        const file = path.join(sentinel.dir, 'sentinel.conf');
        const lines = [
            'bind 127.0.0.1', `port ${sentinel.port}`, `dir ${sentinel.dir}`, 'daemonize no',
            `sentinel monitor ${name} 127.0.0.1 ${master.port} ${quorum}`,
            `sentinel down-after-milliseconds ${name} 1000`,
            `sentinel failover-timeout ${name} 5000`,
            `sentinel parallel-syncs ${name} 1`,
        ];
        if (master.options.password) lines.push(`sentinel auth-pass ${name} ${master.options.password}`);
        if (options.sentinelPassword) lines.push(`requirepass ${options.sentinelPassword}`,
            `sentinel sentinel-pass ${options.sentinelPassword}`);
        sentinel.password = options.sentinelPassword;
        fs.writeFileSync(file, `${lines.join('\n')}\n`);
        sentinel.file = file;
        await sentinel.spawn();
        return sentinel;
    }

    async spawn() {
        this.child = new Child('redis-sentinel', [this.file], { cwd: this.dir });
        await this.child.waitForLines('it watches', (line) => /\+monitor/.test(line));
    }

    async call(...words) {
        const client = await Resp.open({ host: '127.0.0.1', port: this.port, password: this.password });
        try {
            return await client.call(...words);
        } finally {
            client.close();
        }
    }

    /** kill -9; `spawn` brings it back. */
    kill() {
        return this.child.kill();
    }

    async discard() {
        if (!this.child.ended) await this.child.kill();
        discard(this.dir);
    }
}

/** A master, its replica and three sentinels who watch them (quorum 2, a server counts as down
 * after 1 s). */
export class Sentinels {
    name = 'fleet';

    /** options: for the Redis servers; and sentinelPassword. */
    static async start({ sentinelPassword, ...options } = {}) {
        const group = new Sentinels();
        group.servers = [await Redis.start({ ...options })];
        group.servers.push(await Redis.start({ ...options, replicaOf: group.servers[0] }));
        group.sentinels = [];
        for (let i = 0; i < 3; i++)
            group.sentinels.push(
                await Sentinel.start(group.servers[0], group.name, 2, { sentinelPassword }));
        await eventually('the sentinels know each other and the replica', () => group.isComplete(), 15000);
        return group;
    }

    get url() {
        const hosts = this.sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',');
        return `redis+sentinel://${hosts}/${this.name}`;
    }

    /** Does every sentinel know the two others and a replica that is in step? */
    async isComplete() {
        for (const sentinel of this.sentinels) {
            const flat = await sentinel.call('SENTINEL', 'MASTER', this.name);
            const field = (name) => flat[flat.indexOf(name) + 1];
            if (field('num-other-sentinels') !== '2' || field('num-slaves') !== '1') return false;
            const replicas = await sentinel.call('SENTINEL', 'REPLICAS', this.name);
            const of = (name) => replicas[0][replicas[0].indexOf(name) + 1];
            if (of('master-link-status') !== 'ok' || of('flags') !== 'slave') return false;
        }
        return true;
    }

    /** The server that this sentinel calls master. */
    async masterOf(sentinel) {
        const [, port] = await sentinel.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.name);
        return this.servers.find((server) => server.port === Number(port));
    }

    /** Once all sentinels that live call somebody else master than `old`: that one. */
    switchedFrom(old, ms = 30000) {
        return eventually('the sentinels to switch', async () => {
            const alive = this.sentinels.filter(({ child }) => !child.ended);
            const masters = await Promise.all(alive.map((s) => this.masterOf(s).catch(() => old)));
            return masters.every((m) => m && m === masters[0] && m !== old) && masters[0];
        }, ms);
    }

    async discard() {
        await Promise.all([...this.sentinels, ...this.servers].map((each) => each.discard()));
    }
}
