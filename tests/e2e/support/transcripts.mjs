// The recorded conversations: read, made playable again, and compared with what comes back now.
//
// They were recorded as one session against one controller, so they are played in that order:
// an agent that is deleted in one is not found in a later one.
import { gzipSync } from 'node:zlib';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { eventually } from './child.mjs';
import { transcriptsDir } from './stub.mjs';
import { decode, isGenuine, signature } from './jwt.mjs';
import { Answer, Closed, Wire, parseAnswer } from './wire.mjs';

const TOKEN = /eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*/g;
const TIMES = ['iat', 'exp', 'nbf'];

// ---- reading ----

// Where the second that a Date header tells does not say which came first.
const MOMENTS = {
    'agent-put-suspend': '2026-11-23T04:23:12.493Z',
    'agent-delete-admin': '2026-11-23T04:23:12.540Z',
    'agent-delete-again': '2026-11-23T04:23:12.560Z',
};
// For the few answers that tell no time.
const RECORDED = Date.parse('2026-11-23T04:23:12Z');

function momentOf(name, response) {
    const timestamp = /"timestamp":"([^"]+)"/.exec(response)?.[1];
    const date = /\r\ndate: ([^\r]+)/i.exec(response)?.[1];
    return Date.parse(MOMENTS[name] ?? timestamp ?? date ?? '') || RECORDED;
}

function read(file) {
    const name = path.basename(file, '.http');
    const bytes = fs.readFileSync(path.join(transcriptsDir, file));
    const text = bytes.toString('latin1');
    const at = text.indexOf('\n\n### RESPONSE\n');
    const end = text.lastIndexOf('\n\n### ');
    const request = bytes.subarray('### REQUEST\n'.length, at);
    const response = bytes.subarray(at + '\n\n### RESPONSE\n'.length, Math.max(end, at + 15));
    return {
        name,
        request,
        response,
        method: request.toString('latin1').split(' ', 1)[0],
        closes: text.slice(end).includes('the server closed the connection'),
        moment: momentOf(name, response.toString('latin1')),
    };
}

export function transcripts() {
    const files = fs.readdirSync(transcriptsDir).filter((file) => file.endsWith('.http'));
    return files.sort().map(read).sort((a, b) => a.moment - b.moment);
}

// ---- playing ----

/** The same claims, as far from now as they were from the recording; genuine if it was. */
export function refreshToken(token, shiftS) {
    const { header, claims, mac } = decode(token);
    for (const name of TIMES) if (typeof claims[name] === 'number') claims[name] += shiftS;
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const input = `${part(header)}.${part(claims)}`;
    return `${input}.${isGenuine(token) ? signature(header.alg, input) : mac}`;
}

const splitHead = (bytes) => {
    const at = bytes.indexOf('\r\n\r\n') + 4;
    return [bytes.toString('latin1', 0, at), bytes.subarray(at)];
};

/** Bodies that the recorder cut or spoilt, as they were. */
function restore(transcript) {
    let [head, body] = splitHead(transcript.request);
    if (body.includes('more bytes left out')) {
        const length = Number(/content-length: (\d+)/i.exec(head)[1]);
        const start = '{"secret":"agent-secret-for-tests-0","pad":"';
        body = Buffer.from(start + 'x'.repeat(length - start.length - 2) + '"}');
    } else if (/content-encoding: gzip/i.test(head)) {
        body = gzipSync('{"secret":"agent-secret-for-tests-0"}', { level: 0 });
        head = head.replace(/(content-length: )\d+/i, `$1${body.length}`);
    }
    return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

export class Session {
    #etags = new Map(); // recorded -> the one that came instead

    /** The request to send now. */
    request(transcript) {
        const shiftS = Math.floor((Date.now() - transcript.moment) / 1000);
        let text = restore(transcript).toString('latin1');
        text = text.replace(TOKEN, (token) => refreshToken(token, shiftS));
        for (const [before, now] of this.#etags) text = text.replaceAll(before, now);
        return Buffer.from(text, 'latin1');
    }

    /** Sends it on a connection of its own: as many answers as were recorded, and its end where
     * the peer is to close. */
    async play(transcript, target, closes = transcript.closes) {
        const recorded = recordedAnswers(transcript);
        const wire = await Wire.open(target);
        const answers = [];
        try {
            await this.#send(wire, this.request(transcript));
            for (let i = 0; i < Math.max(recorded.length, 1); i++)
                answers.push(await wire.answer({ head: transcript.method === 'HEAD' }));
            if (answers[0].status === 101) answers[0].body = await openingFrame(wire);
            if (closes) await wire.closed({ ms: 2000 });
            this.#remember(recorded[0], answers[0]);
        } catch (error) {
            if (!(error instanceof Closed) || recorded.length > 0) throw error;
        } finally {
            wire.close();
        }
        return answers;
    }

    /** Who expects "100 Continue" waits for it, a second at most. */
    async #send(wire, request) {
        const [head, body] = splitHead(request);
        if (!/\r\nexpect: 100-continue\r\n/i.test(head)) return wire.send(request);
        wire.send(Buffer.from(head, 'latin1'));
        await eventually('100 Continue', () => wire.received.length > 0, 1000).catch(() => {});
        wire.send(body);
    }

    #remember(recorded, answer) {
        const before = recorded?.header('etag');
        const now = answer.header('etag');
        if (before && now) this.#etags.set(before, now);
    }
}

async function openingFrame(wire) {
    const [first, length] = await wire.bytes(2);
    if (first !== 0x81 || length > 125) throw new Error(`not a short text frame: ${first} ${length}`);
    return wire.bytes(length);
}

/** What the controller said, as answers; none when it only closed. */
export function recordedAnswers(transcript) {
    const head = transcript.method === 'HEAD';
    const answers = [];
    let rest = transcript.response;
    while (rest.length > 0) {
        const found = rest.includes('HTTP/1.1 101 ') ? upgradedAnswer(rest)
            : parseAnswer(rest, { head, ended: transcript.closes }) ?? cutAnswer(rest);
        answers.push(found.answer);
        rest = found.rest;
    }
    return answers;
}

/** The recorder spoilt the frame's first bytes; its text begins with engine.io's "0". */
function upgradedAnswer(bytes) {
    const { answer } = parseAnswer(bytes);
    answer.body = bytes.subarray(bytes.indexOf('0{"sid"'));
    return { answer, rest: Buffer.alloc(0) };
}

/** An answer whose body was shortened by the recorder. */
function cutAnswer(bytes) {
    const [head, body] = splitHead(bytes);
    const answer = new Answer(head.slice(0, -4));
    answer.body = body;
    return { answer, rest: Buffer.alloc(0) };
}

// ---- comparing ----

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const IMF = /^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/;

// Members of bodies that no two answers share; what is left of them must still be of their kind.
const LOOSE = {
    expiresIn: (v) => (v > 86400 - 60 && v <= 86400 ? '<a day>' : v),
    connectionCount: (v) => (Number.isInteger(v) ? '<count>' : v),
    secret: (v) => (/^[0-9a-f]{64}$/.test(v) || /^\$2b\$/.test(v) ? '<secret>' : v),
    sid: (v) => (v.length === 20 ? '<sid>' : v),
    envConfig: (v) => (v.length > 20 ? '<text>' : v),
    installScript: (v) => (v.length > 20 ? '<text>' : v),
};

function plainText(text, correlation) {
    let out = text.replace(TOKEN, (token) => JSON.stringify(plainToken(token)).replaceAll('"', "'"));
    if (correlation) out = out.replaceAll(correlation, '<correlation>');
    return out;
}

/** The claims, with their life instead of their times. */
function plainToken(token) {
    const { header, claims } = decode(token);
    const { iat, exp, ...rest } = claims;
    return { header, ...rest, lives_s: exp - iat, genuine: isGenuine(token) };
}

function plainValue(value, key, correlation) {
    if (key in LOOSE) return LOOSE[key](value);
    if (Array.isArray(value)) return value.map((v) => plainValue(v, '', correlation));
    if (value && typeof value === 'object')
        return Object.fromEntries(
            Object.entries(value).map(([k, v]) => [k, plainValue(v, k, correlation)]));
    if (typeof value !== 'string') return value;
    return ISO.test(value) ? '<time>' : plainText(value, correlation);
}

function plainBody(text, correlation) {
    const json = /^0?\{|^\[|^"/.exec(text);
    if (!json) return plainText(text, correlation);
    try {
        // The order of members is compared, too.
        return JSON.stringify(plainValue(JSON.parse(text.replace(/^0/, '')), '', correlation));
    } catch {
        return plainText(text, correlation);
    }
}

/** Express' ETag of a body. */
export function etagOf(body) {
    const hash = createHash('sha1').update(body).digest('base64').slice(0, 27);
    return `W/"${body.length.toString(16)}-${hash}"`;
}

const LOOSE_LENGTH = /left out|connectionCount|"secret":/;

function plainHeader(name, value, answer, correlation) {
    if (name === 'date') return IMF.test(value) ? '<date>' : value;
    if (name === 'x-correlation-id') return UUID.test(value) ? '<uuid>' : value;
    if (name === 'etag') return plainEtag(value, answer);
    if (name === 'content-length' && LOOSE_LENGTH.test(answer.text)) return '<length>';
    return plainText(value, correlation);
}

/** An ETag need not be the recorded one, but it must fit the body it came with. */
function plainEtag(value, answer) {
    const isWhole = answer.body.length > 0 && !answer.text.includes('left out');
    if (isWhole && value !== etagOf(answer.body)) return `${value}, which does not fit the body`;
    return /^W\/"[0-9a-f]+-[\w+/]{27}"$/.test(value) ? '<etag>' : value;
}

/** An answer without what differs from one second to the next. */
export function plain(answer) {
    if (!answer) return { status: 'closed', interim: [], headers: {}, body: '' };
    const correlation = answer.header('x-correlation-id') ?? bodyCorrelation(answer.text);
    const headers = {};
    for (const [spelled] of answer.headers) {
        const name = spelled.toLowerCase();
        headers[name] = plainHeader(name, answer.header(name), answer, correlation);
    }
    return {
        status: answer.status,
        interim: answer.interim.map((a) => a.status),
        headers,
        body: plainBody(answer.text, correlation),
    };
}

const bodyCorrelation = (text) => /"correlationId":"([^"]+)"/.exec(text)?.[1];
