// A client that sees every byte: sends what it is told, reads answers one at a time, and knows
// how the connection ended.
import net from 'node:net';
import tls from 'node:tls';
import { within } from './child.mjs';

const CRLF2 = Buffer.from('\r\n\r\n');

/** The connection ended before an answer was complete. */
export class Closed extends Error {
    constructor(how, received) {
        super(`connection ${how} after ${received.length} bytes: ${received.toString('latin1', 0, 200)}`);
        this.how = how;
        this.received = received;
    }
}

export class Answer {
    constructor(head) {
        const [line, ...fields] = head.split('\r\n');
        const match = /^HTTP\/(1\.[01]) (\d{3})(?: (.*))?$/.exec(line);
        if (!match) throw new Error(`not a status line: ${line}`);
        this.version = match[1];
        this.status = Number(match[2]);
        this.reason = match[3] ?? '';
        this.headers = fields.map((field) => {
            const colon = field.indexOf(':');
            if (colon < 1) throw new Error(`not a field: ${field}`);
            return [field.slice(0, colon), field.slice(colon + 1).trim()];
        });
        this.interim = [];
        this.body = Buffer.alloc(0);
    }

    /** All values of a field, joined as RFC 9110 allows; undefined when absent. */
    header(name) {
        const values = this.headers.filter(([n]) => n.toLowerCase() === name.toLowerCase());
        return values.length ? values.map(([, v]) => v).join(', ') : undefined;
    }

    get text() {
        return this.body.toString('utf8');
    }

    get json() {
        return JSON.parse(this.text);
    }
}

function dechunk(bytes) {
    const pieces = [];
    let at = 0;
    for (;;) {
        const line = bytes.indexOf('\r\n', at);
        if (line < 0) return undefined;
        const size = bytes.toString('latin1', at, line);
        if (!/^[0-9a-f]+$/i.test(size)) throw new Error(`not a chunk size: ${size}`);
        const length = parseInt(size, 16);
        at = line + 2;
        if (bytes.length < at + length + 2) return undefined;
        pieces.push(bytes.subarray(at, at + length));
        at += length;
        if (bytes.toString('latin1', at, at + 2) !== '\r\n') throw new Error('no CRLF after a chunk');
        at += 2;
        if (length === 0) return { body: Buffer.concat(pieces), used: at };
    }
}

function bodyOf(answer, bytes, { head, ended }) {
    if (head || answer.status < 200 || answer.status === 204 || answer.status === 304)
        return { body: Buffer.alloc(0), used: 0 };
    if (/chunked/i.test(answer.header('transfer-encoding') ?? '')) return dechunk(bytes);
    const length = answer.header('content-length');
    if (length !== undefined) {
        if (!/^\d+$/.test(length)) throw new Error(`not a length: ${length}`);
        const n = Number(length);
        return bytes.length >= n ? { body: bytes.subarray(0, n), used: n } : undefined;
    }
    return ended ? { body: bytes, used: bytes.length } : undefined;
}

/** The first complete answer in `bytes` and what is behind it; undefined while there is none.
 * `head`: it answers a HEAD request. `ended`: no more bytes will come. */
export function parseAnswer(bytes, { head = false, ended = false } = {}) {
    const interim = [];
    let at = 0;
    for (;;) {
        const end = bytes.indexOf(CRLF2, at);
        if (end < 0) return undefined;
        const answer = new Answer(bytes.toString('latin1', at, end));
        at = end + 4;
        if (answer.status < 200 && answer.status !== 101) {
            interim.push(answer);
            continue;
        }
        const found = bodyOf(answer, bytes.subarray(at), { head, ended });
        if (!found) return undefined;
        answer.interim = interim;
        answer.body = Buffer.from(found.body);
        return { answer, rest: bytes.subarray(at + found.used) };
    }
}

export class Wire {
    received = Buffer.alloc(0); // what was not yet read
    how = undefined; // 'ended' or 'reset' once the peer has closed
    #waiting = [];

    /** target: { host, port, tls, ca }; more options go to net or tls. */
    static async open({ host = '127.0.0.1', port, tls: secure, ca, ...more }, { ms = 5000 } = {}) {
        const wire = new Wire();
        const options = { host, port, ca, servername: 'localhost', allowHalfOpen: true, ...more };
        wire.socket = secure ? tls.connect(options) : net.connect(options);
        wire.socket.setNoDelay(true);
        wire.#listen();
        const ready = new Promise((resolve, reject) => {
            wire.socket.once(secure ? 'secureConnect' : 'connect', resolve);
            wire.socket.once('error', reject);
            wire.socket.once('close', () => reject(new Error('closed while connecting')));
        });
        await within(ms, 'connecting', ready);
        return wire;
    }

    /** On a plain socket that is connected already. */
    static over(socket) {
        const wire = new Wire();
        wire.socket = socket;
        wire.#listen();
        return wire;
    }

    #listen() {
        this.socket.on('data', (bytes) => {
            this.received = Buffer.concat([this.received, bytes]);
            this.#wake();
        });
        this.socket.on('end', () => this.#close('ended'));
        this.socket.on('error', () => this.#close('reset'));
        this.socket.on('close', () => this.#close('ended'));
    }

    #close(how) {
        this.how ??= how;
        this.#wake();
    }

    #wake() {
        for (const resolve of this.#waiting.splice(0)) resolve();
    }

    #change() {
        return new Promise((resolve) => this.#waiting.push(resolve));
    }

    send(bytes) {
        this.socket.write(bytes);
    }

    /** The next answer. Rejects with Closed when the connection ends first. */
    answer({ head = false, ms = 10000 } = {}) {
        const read = async () => {
            for (;;) {
                const found = parseAnswer(this.received, { head, ended: this.how === 'ended' });
                if (found) {
                    this.received = found.rest;
                    return found.answer;
                }
                if (this.how) throw new Closed(this.how, this.received);
                await this.#change();
            }
        };
        return within(ms, 'an answer', read());
    }

    /** At least n raw bytes, taken. */
    bytes(n, { ms = 5000 } = {}) {
        const read = async () => {
            while (this.received.length < n) {
                if (this.how) throw new Closed(this.how, this.received);
                await this.#change();
            }
            const taken = this.received.subarray(0, n);
            this.received = this.received.subarray(n);
            return taken;
        };
        return within(ms, `${n} bytes`, read());
    }

    /** 'ended' or 'reset', once the peer closes. */
    closed({ ms = 5000 } = {}) {
        const wait = async () => {
            while (!this.how) await this.#change();
            return this.how;
        };
        return within(ms, 'the peer to close', wait());
    }

    /** Our FIN. */
    end() {
        this.socket.end();
    }

    /** Our RST (or as near to it as there is). */
    abort() {
        if (this.socket.encrypted) this.socket.destroy(); // Node cannot reset those
        else this.socket.resetAndDestroy();
    }

    close() {
        this.socket.destroy();
    }
}

/** A request's bytes. `headers` is an object or a list of pairs; Host and Content-Length are
 * added unless given (null: left out). */
export function request(method, target, { headers = {}, body, version = '1.1' } = {}) {
    const pairs = Array.isArray(headers) ? [...headers] : Object.entries(headers);
    const has = (name) => pairs.some(([n]) => n.toLowerCase() === name);
    const bytes = body === undefined ? Buffer.alloc(0)
        : Buffer.from(typeof body === 'object' && !Buffer.isBuffer(body) ? JSON.stringify(body) : body);
    if (!has('host')) pairs.unshift(['Host', 'localhost']);
    if (body !== undefined && !has('content-length') && !has('transfer-encoding'))
        pairs.push(['Content-Length', String(bytes.length)]);
    const fields = pairs.filter(([, value]) => value !== null).map(([n, v]) => `${n}: ${v}\r\n`);
    const head = `${method} ${target} HTTP/${version}\r\n${fields.join('')}\r\n`;
    return Buffer.concat([Buffer.from(head, 'latin1'), bytes]);
}

/** One exchange on a connection of its own. */
export async function exchange(target, method, path, options = {}) {
    const wire = await Wire.open(target);
    try {
        wire.send(request(method, path, options));
        return await wire.answer({ head: method === 'HEAD', ms: options.ms });
    } finally {
        wire.close();
    }
}

/** The same with a JSON body. */
export function call(target, method, path, { token, headers = {}, body, ...more } = {}) {
    const all = { ...headers };
    if (body !== undefined) all['Content-Type'] ??= 'application/json';
    if (token) all.Authorization = `Bearer ${token}`;
    return exchange(target, method, path, { headers: all, body, ...more });
}
