// The controller stub as a process, and its control port.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { Child, build, root } from './child.mjs';

export const JWT_SECRET = 'aiwm-local-test-secret-0123456789abcdef';
export const transcriptsDir = path.join(root, 'tests/transcripts');

/** The id and the secret of the stub's agent number N. */
export const agentId = (n) => '6a' + n.toString(16).padStart(22, '0');
export const agentSecret = (n) => `agent-secret-for-tests-${n}`;
/** The special ones: bench/stub/stub.h says what they are. */
export const specialId = (k) => agentId(0x0f000000 + k);

function json(port, method, target, body) {
    return new Promise((resolve, reject) => {
        const request = http.request(
            { host: '127.0.0.1', port, method, path: target, agent: false, timeout: 10000 },
            (response) => {
                let text = '';
                response.setEncoding('utf8');
                response.on('data', (piece) => (text += piece));
                response.on('end', () => {
                    if (response.statusCode !== 200)
                        reject(new Error(`${method} ${target}: ${response.statusCode} ${text}`));
                    else resolve(JSON.parse(text));
                });
            },
        );
        request.on('error', reject);
        request.on('timeout', () => request.destroy(new Error(`${target}: no answer`)));
        request.end(body === undefined ? undefined : JSON.stringify(body));
    });
}

export class Stub {
    static async start({
        agents = 1000,
        connectCostMs = 0,
        processors = 0,
        tokenTtlS = 86400,
        transcripts = true,
        port = 0,
        jwtSecret = JWT_SECRET,
        bulk = false,
        journal,
    } = {}) {
        const stub = new Stub();
        stub.journalFile = journal;
        const args = ['--port', port, '--agents', agents, '--connect-cost-ms', connectCostMs, '--processors', processors,
            '--token-ttl', tokenTtlS, '--jwt-secret', jwtSecret];
        if (bulk) args.push('--bulk');
        if (transcripts) args.push('--transcripts', transcriptsDir);
        if (journal) args.push('--journal', journal);
        await stub.#spawn(args.map(String));
        return stub;
    }

    async #spawn(args) {
        this.args = args;
        this.child = new Child(path.join(build, 'aiwm-stub'), args);
        const [line] = await this.child.waitForLines('its ports', (l) => l.startsWith('{'));
        const ports = JSON.parse(line);
        this.port = ports.port;
        this.controlPort = ports.control_port;
        this.url = `http://127.0.0.1:${this.port}`;
    }

    counts() {
        return json(this.controlPort, 'GET', '/counts');
    }

    /** What reached it, after entry `since`. */
    requests(since = 0) {
        return json(this.controlPort, 'GET', `/requests?since=${since}`);
    }

    /** delay_ms, connect_delay_ms, heartbeat_status, fail_next, fail_status, outage, bulk,
     * bulk_fail_items, bulk_fail_status, ... */
    set(settings) {
        return json(this.controlPort, 'POST', '/set', settings);
    }

    reset() {
        return json(this.controlPort, 'POST', '/reset');
    }

    /** What it answered, in the order of its answers; needs `journal`, a file's name. Entries have
     * the number of their `life`: their `seq` begins anew in each. */
    journal() {
        const lines = fs.readFileSync(this.journalFile, 'utf8').split('\n').slice(0, -1);
        return lines.map((line, i) => ({
            ...JSON.parse(line), life: this.#lives.filter((end) => i >= end).length,
        }));
    }

    #lives = []; // where in the journal each but the last ended

    /** kill -9; its port stays closed until restart(), which begins a new life of it. */
    async kill() {
        await this.child.kill();
        if (this.journalFile) this.#lives.push(this.journal().length);
    }

    restart() {
        const args = [...this.args];
        args[args.indexOf('--port') + 1] = String(this.port);
        return this.#spawn(args);
    }

    stop() {
        return this.child.stop();
    }
}
