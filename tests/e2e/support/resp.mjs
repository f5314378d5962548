// A small client of Redis (RESP2), for tests to prepare and look. Replies: strings, numbers, null,
// arrays; an error reply rejects with its text.
import net from 'node:net';
import { within } from './child.mjs';

const CRLF = Buffer.from('\r\n');

export class ReplyError extends Error {}

/** The reply that begins at `at` and where it ends; undefined while it is not whole. */
function parse(bytes, at) {
    const end = bytes.indexOf(CRLF, at);
    if (end < 0) return undefined;
    const text = bytes.toString('utf8', at + 1, end);
    const next = end + 2;
    switch (bytes[at]) {
    case 43: return { value: text, next }; // +
    case 45: return { value: new ReplyError(text), next }; // -
    case 58: return { value: Number(text), next }; // :
    case 36: return bulk(bytes, Number(text), next); // $
    case 42: return list(bytes, Number(text), next); // *
    default: throw new Error(`not RESP: ${bytes.toString('latin1', at, at + 40)}`);
    }
}

function bulk(bytes, length, at) {
    if (length < 0) return { value: null, next: at };
    if (bytes.length < at + length + 2) return undefined;
    return { value: bytes.toString('utf8', at, at + length), next: at + length + 2 };
}

function list(bytes, count, at) {
    if (count < 0) return { value: null, next: at };
    const value = [];
    for (let i = 0; i < count; i++) {
        const item = parse(bytes, at);
        if (!item) return undefined;
        value.push(item.value);
        at = item.next;
    }
    return { value, next: at };
}

export class Resp {
    pushed = []; // what came unasked for: MONITOR's lines
    #waiting = [];
    #rest = Buffer.alloc(0);

    /** where: { path } or { host, port }; logs in when `password` is given. */
    static async open({ username, password, ...where }) {
        const client = new Resp();
        client.socket = net.connect(where);
        client.socket.on('data', (bytes) => client.#read(bytes));
        client.socket.on('error', (error) => (client.why = error));
        client.socket.on('close', () => client.#fail());
        const connected = new Promise((resolve, reject) => {
            client.socket.once('connect', resolve);
            client.socket.once('close', () => reject(client.why ?? new Error('closed')));
        });
        await within(5000, 'connecting to Redis', connected);
        if (password !== undefined)
            await client.call('AUTH', ...(username ? [username, password] : [password]));
        return client;
    }

    #read(bytes) {
        this.#rest = Buffer.concat([this.#rest, bytes]);
        for (let found; (found = parse(this.#rest, 0)); ) {
            this.#rest = this.#rest.subarray(found.next);
            const waiter = this.#waiting.shift();
            if (!waiter) this.pushed.push(found.value);
            else if (found.value instanceof ReplyError) waiter.reject(found.value);
            else waiter.resolve(found.value);
        }
    }

    #fail() {
        for (const waiter of this.#waiting.splice(0))
            waiter.reject(this.why ?? new Error('Redis closed the connection'));
    }

    call(...words) {
        const parts = words.map((word) => Buffer.from(String(word)));
        const pieces = parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, CRLF]);
        const reply = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
        if (this.socket.destroyed) this.#fail();
        else this.socket.write(Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...pieces]));
        return within(15000, `Redis: ${words[0]}`, reply);
    }

    close() {
        this.socket.destroy();
    }
}
