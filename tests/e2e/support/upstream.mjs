// A controller of raw bytes: each request is given, whole, to a function that writes what it likes
// to the socket. For answers that no library would send.
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';

export const HEALTHY = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}';
const CRLF2 = Buffer.from('\r\n\r\n');

/** The first request in `bytes`, or how many bytes are needed to look again. */
function parseRequest(bytes) {
    const end = bytes.indexOf(CRLF2);
    if (end < 0) return { enough: 0 };
    const head = bytes.toString('latin1', 0, end);
    const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
    if (bytes.length < end + 4 + length) return { enough: end + 4 + length };
    const [method, target] = head.split(' ');
    return {
        head, method, target,
        body: bytes.subarray(end + 4, end + 4 + length),
        rest: bytes.subarray(end + 4 + length),
        header: (name) => new RegExp(`^${name}: *(.*)$`, 'im').exec(head)?.[1],
    };
}

export class Upstream {
    requests = [];
    connections = 0; // that carried a request; looks at /health do not count
    sockets = new Set();

    /** `answer(socket, request, n)`: n is how many requests this connection gave before. The
     * gateway's look at /health is answered here, by `health(socket)`. `secure`: { key, cert }. */
    static async start(answer, { secure, host = '127.0.0.1', health = (socket) => socket.write(HEALTHY) } = {}) {
        const upstream = new Upstream();
        upstream.health = health;
        const serve = (socket) => upstream.#serve(socket, answer);
        const options = { allowHalfOpen: true, noDelay: true };
        upstream.server = secure
            ? tls.createServer({ ...options, ...secure }, serve)
            : net.createServer(options, serve);
        upstream.server.on('tlsClientError', () => {});
        upstream.server.listen({ port: 0, host, backlog: 4096 });
        await once(upstream.server, 'listening');
        upstream.port = upstream.server.address().port;
        upstream.url = `${secure ? 'https' : 'http'}://127.0.0.1:${upstream.port}`;
        return upstream;
    }

    #serve(socket, answer) {
        let pieces = [];
        let bytes = 0;
        let enough = 0; // bytes without which looking again is useless
        let count = 0;
        this.sockets.add(socket);
        socket.on('error', () => {});
        socket.on('end', () => socket.end());
        socket.on('close', () => this.sockets.delete(socket));
        socket.on('data', (piece) => {
            if (socket.raw) return;
            pieces.push(piece);
            if ((bytes += piece.length) < enough) return;
            let received = Buffer.concat(pieces);
            let request;
            while (!socket.raw && (request = parseRequest(received)).head !== undefined) {
                received = request.rest;
                if (request.target === '/health') {
                    this.health(socket);
                    continue;
                }
                request.arrived = performance.now();
                this.requests.push(request);
                if (count === 0) this.connections++;
                answer(socket, request, count++);
            }
            pieces = [received];
            bytes = received.length;
            enough = request?.enough ?? 0;
        });
    }

    async stop() {
        this.server.close();
        for (const socket of this.sockets) socket.destroy();
    }
}

/** An answer's bytes, with Content-Length unless one of the headers frames it. */
export function answerBytes(body = '', { status = '200 OK', headers = {} } = {}) {
    const bytes = Buffer.from(body);
    const all = { 'Content-Length': String(bytes.length), ...headers };
    const fields = Object.entries(all).filter(([, v]) => v !== null).map(([n, v]) => `${n}: ${v}\r\n`);
    return Buffer.concat([Buffer.from(`HTTP/1.1 ${status}\r\n${fields.join('')}\r\n`), bytes]);
}
