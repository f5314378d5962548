// The gateway as a process: a temporary directory with certificate, secret and config, free ports,
// its log lines, and an end that is checked.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { Child, build } from './child.mjs';
import { JWT_SECRET } from './stub.mjs';
import { discard, temporary } from './temporary.mjs';

let certificate;

/** One self-signed certificate a run (P-256: quick under valgrind, too). */
export function testCertificate() {
    if (certificate) return certificate;
    const dir = temporary('gateway-cert');
    const certificateFile = path.join(dir, 'tls.crt');
    const privateKeyFile = path.join(dir, 'tls.key');
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
        '-nodes', '-keyout', privateKeyFile, '-out', certificateFile, '-days', '2',
        '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
    { stdio: 'pipe' });
    certificate = { certificateFile, privateKeyFile, ca: fs.readFileSync(certificateFile) };
    return certificate;
}

const isObject = (value) => value && typeof value === 'object' && !Array.isArray(value);

function merge(base, over) {
    const out = { ...base };
    for (const [key, value] of Object.entries(over))
        out[key] = isObject(value) && isObject(out[key]) ? merge(out[key], value) : value;
    return out;
}

function configFor(stub, dir) {
    const { certificateFile, privateKeyFile } = testCertificate();
    const secretFile = path.join(dir, 'jwt-secret');
    fs.writeFileSync(secretFile, JWT_SECRET, { mode: 0o600 });
    return {
        listen: { address: '127.0.0.1', port: 0 },
        tls: { certificate_file: certificateFile, private_key_file: privateKeyFile },
        health: { address: '127.0.0.1', port: 0 },
        admin: { address: '127.0.0.1', port: 0 },
        upstream: { url: stub.url },
        jwt: { secret_file: secretFile },
        drain: { delay: '0s', timeout: '5s' },
        log: { format: 'json', level: 'debug' },
    };
}

export class Gateway {
    /** `config` is merged over the defaults above. YAML is a superset of JSON. `nofile`: how many
     * descriptors it may have. */
    static async start(stub, { config = {}, env = {}, args = [], nofile } = {}) {
        const gateway = new Gateway();
        gateway.limits = nofile ? ['prlimit', `--nofile=${nofile}:${nofile}`] : [];
        gateway.dir = temporary('gateway-e2e');
        gateway.configFile = path.join(gateway.dir, 'gateway.yaml');
        gateway.config = merge(configFor(stub, gateway.dir), config);
        gateway.writeConfig(gateway.config);
        gateway.#spawn(args, env);
        try {
            await gateway.#learnPorts();
        } catch (error) {
            await gateway.#discard();
            throw error;
        }
        return gateway;
    }

    #spawn(args, env) {
        const wrapper = (process.env.GATEWAY_WRAPPER ?? '').split(' ').filter(Boolean);
        const command = [...this.limits, ...wrapper, path.join(build, 'aiwm-gateway'),
            '--config', this.configFile, ...args];
        this.child = new Child(command[0], command.slice(1), { env });
    }

    async #learnPorts() {
        const wanted = ['data', 'health', 'admin'];
        const isPort = (line) => {
            const entry = parse(line);
            return entry?.message === 'listening' && wanted.includes(entry.name);
        };
        const ms = process.env.GATEWAY_WRAPPER ? 60000 : 10000;
        const lines = await this.child.waitForLines('"listening"', isPort, wanted.length, ms);
        for (const entry of lines.map(parse)) this[`${entry.name}Port`] = entry.port;
        this.port = this.dataPort;
        const { ca } = testCertificate();
        /** What clients need to reach it. */
        this.target = this.config.tls.enabled === false
            ? { host: '127.0.0.1', port: this.port, tls: false }
            : { host: '127.0.0.1', port: this.port, tls: true, ca };
    }

    writeConfig(config) {
        fs.writeFileSync(this.configFile, JSON.stringify(config, null, 2));
    }

    /** Everything logged so far, as objects. */
    get log() {
        return this.child.lines.map(parse).filter(Boolean);
    }

    /** Waits for a log line with that message (and these fields). */
    async logged(message, fields = {}) {
        const matches = (line) => {
            const entry = parse(line);
            return entry?.message === message &&
                Object.entries(fields).every(([key, value]) => entry[key] === value);
        };
        const [line] = await this.child.waitForLines(`"${message}"`, matches);
        return parse(line);
    }

    /** GET on the health port: { status, body }. */
    health(target) {
        return new Promise((resolve, reject) => {
            http.get({ host: '127.0.0.1', port: this.healthPort, path: target, agent: false },
                (response) => {
                    let body = '';
                    response.setEncoding('utf8').on('data', (piece) => (body += piece));
                    response.on('end', () => resolve({ status: response.statusCode, body }));
                }).on('error', reject);
        });
    }

    /** Milliseconds of CPU it has used, as the kernel counts them. */
    cpuMs() {
        const fields = fs.readFileSync(`/proc/${this.child.pid}/stat`, 'utf8').split(') ')[1].split(' ');
        return (Number(fields[11]) + Number(fields[12])) * 10;
    }

    /** One metric's value: metric('requests_total', 'route="connect"'); 0 when it is not there. */
    async metric(name, labels = '') {
        const { body } = await this.health('/metrics');
        const head = `aiwm_gateway_${name}${labels && `{${labels}}`} `;
        const line = body.split('\n').find((l) => l.startsWith(head));
        return line ? Number(line.slice(head.length)) : 0;
    }

    /** Again with the same configuration, after child.kill(); on the same ports if those were given. */
    async restart({ args = [], env = {} } = {}) {
        this.#spawn(args, env);
        await this.#learnPorts();
    }

    async stop(options) {
        try {
            await this.child.stop(options);
        } finally {
            await this.#discard();
        }
    }

    /** Whatever state it is in; for the end of a test. */
    discard() {
        return this.#discard();
    }

    async #discard() {
        if (!this.child.ended) await this.child.kill();
        discard(this.dir);
    }
}

function parse(line) {
    try {
        return JSON.parse(line);
    } catch {
        return undefined;
    }
}

/** The stub under the gateway's interface: shows that a test fails for the gateway's sake. */
class Direct {
    constructor(stub) {
        this.port = stub.port;
        this.target = { host: '127.0.0.1', port: stub.port, tls: false };
        this.log = [];
    }

    async stop() {}
}

/** True when E2E_DIRECT is set: tests then talk to the stub itself. */
export const direct = Boolean(process.env.E2E_DIRECT);

export function startGateway(stub, options) {
    return direct ? new Direct(stub) : Gateway.start(stub, options);
}
