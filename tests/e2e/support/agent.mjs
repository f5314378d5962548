// An agent as the documented client behaves: ten seconds of patience, three retries on network
// errors, then working locally and trying again every five minutes; a heartbeat a minute that never
// throws; 401 means connect again, 404 means stop; a new connect every 23 hours; a disconnect at
// the end. It knows nothing of jitter, 429 or Retry-After.
import { EventEmitter } from 'node:events';
import http from 'node:http';
import https from 'node:https';

const MINUTE = 60 * 1000;

/** The documented times; tests pass shorter ones. */
export const documentedTimes = {
    timeoutMs: 10 * 1000,
    retriesMs: [1000, 2000, 4000],
    localMs: 5 * MINUTE,
    heartbeatMs: MINUTE,
    reconnectMs: 23 * 60 * MINUTE,
};

/** Emits 'connected', 'heartbeat' (status), 'local', 'stopped' (why). */
export class Agent extends EventEmitter {
    token = undefined;
    configuration = undefined; // the answer to the last connect
    state = 'new'; // new, connected, local, stopped
    sockets = new Set(); // every connection it ever made
    #timers = new Set();

    constructor({ target, id, secret, times = {}, prefix = '' }) {
        super();
        Object.assign(this, { target, id, secret, prefix, times: { ...documentedTimes, ...times } });
        const Pool = target.tls ? https.Agent : http.Agent;
        this.pool = new Pool({ keepAlive: true, maxSockets: 1 });
    }

    // ---- single calls: { status, headers, body, json } or a network error ----

    connect(more) {
        return this.#post('connect', { secret: this.secret }, more);
    }

    heartbeat(status = 'online', metrics = { cpu: 45, memory: 60, activeConnections: 3 }) {
        return this.#post('heartbeat', { status, metrics }, this.#bearer());
    }

    disconnect(reason = 'shutdown') {
        return this.#post('disconnect', { reason }, this.#bearer());
    }

    #bearer() {
        return { Authorization: `Bearer ${this.token}` };
    }

    #post(action, body, headers = {}) {
        const text = JSON.stringify(body);
        const { host, port, ca } = this.target;
        const options = {
            agent: this.pool, host, port, ca, servername: 'localhost', method: 'POST',
            path: `${this.prefix}/agents/${this.id}/${action}`,
            timeout: this.times.timeoutMs,
            headers: {
                'Content-Type': 'application/json',
                'Content-Length': Buffer.byteLength(text),
                ...headers,
            },
        };
        return new Promise((resolve, reject) => {
            const request = (this.target.tls ? https : http).request(options, (response) => {
                const pieces = [];
                response.on('data', (piece) => pieces.push(piece));
                response.on('error', reject);
                response.on('end', () => resolve(result(response, Buffer.concat(pieces))));
            });
            request.on('socket', (socket) => this.sockets.add(socket));
            request.on('timeout', () => request.destroy(new Error('timeout of 10000ms exceeded')));
            request.on('error', reject);
            request.end(text);
        });
    }

    // ---- its life ----

    /** Connects, retrying as documented; resolves when connected, working locally or stopped. */
    async start() {
        for (const pause of [...this.times.retriesMs, undefined]) {
            const answer = await this.connect().catch((error) => ({ error }));
            if (this.state === 'stopped') return;
            if (!answer.error) {
                this.#answered(answer);
                return;
            }
            if (pause !== undefined) await this.#pause(pause);
        }
        this.#workLocally();
    }

    #answered(answer) {
        const token = answer.json?.accessToken ?? answer.json?.token;
        if (answer.status >= 200 && answer.status < 300 && token) {
            this.token = token;
            this.configuration = answer.json;
            this.state = 'connected';
            this.#clearTimers();
            this.#later(this.times.heartbeatMs, () => this.#beat());
            this.#later(this.times.reconnectMs, () => this.start());
            this.emit('connected', answer);
        } else if (answer.status === 401 || answer.status === 404) {
            this.#stopped(`connect: ${answer.status}`);
        } else {
            this.#workLocally();
        }
    }

    #workLocally() {
        this.state = 'local';
        this.#clearTimers();
        this.#later(this.times.localMs, () => this.start());
        this.emit('local');
    }

    async #beat() {
        this.#later(this.times.heartbeatMs, () => this.#beat());
        const answer = await this.heartbeat().catch((error) => ({ error }));
        if (this.state !== 'connected') return;
        this.emit('heartbeat', answer.status ?? answer.error);
        if (answer.status === 404) this.#stopped('heartbeat: 404');
        if (answer.status === 401) {
            this.#clearTimers();
            await this.start();
        }
    }

    /** As on SIGTERM. */
    async shutdown() {
        if (this.state === 'connected') await this.disconnect().catch(() => {});
        this.#stopped('shutdown');
    }

    /** As on SIGKILL: nobody is told. */
    vanish() {
        this.#stopped('vanished');
    }

    #stopped(why) {
        this.state = 'stopped';
        this.#clearTimers();
        this.pool.destroy();
        this.emit('stopped', why);
    }

    #later(ms, what) {
        const timer = setTimeout(() => {
            this.#timers.delete(timer);
            what();
        }, ms);
        this.#timers.add(timer);
    }

    #pause(ms) {
        return new Promise((resolve) => this.#later(ms, resolve));
    }

    #clearTimers() {
        for (const timer of this.#timers) clearTimeout(timer);
        this.#timers.clear();
    }
}

function result(response, body) {
    let json;
    try {
        json = JSON.parse(body.toString('utf8'));
    } catch {
        json = undefined;
    }
    return { status: response.statusCode, headers: response.headers, body, json };
}
