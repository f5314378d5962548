// A TCP relay that does to connections what networks do.
import net from 'node:net';
import { freePort } from './ports.mjs';

export class Toxic {
    connections = 0; // accepted so far
    #mode = 'pass';
    #delayMs = 0;
    #sockets = new Set(); // open ones, of both sides

    /** Relays to 127.0.0.1:port. */
    static async start(port) {
        const toxic = new Toxic();
        toxic.target = port;
        toxic.port = await freePort();
        await toxic.#listen();
        return toxic;
    }

    #listen() {
        this.server = net.createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
        return new Promise((resolve, reject) => {
            this.server.once('error', reject);
            this.server.listen(this.port, '127.0.0.1', resolve);
        });
    }

    #accept(client) {
        this.connections++;
        const server = net.connect({ host: '127.0.0.1', port: this.target, allowHalfOpen: true });
        for (const [from, to] of [[client, server], [server, client]]) {
            this.#sockets.add(from);
            from.setNoDelay(true);
            from.on('data', (bytes) => this.#pass(to, (socket) => socket.write(bytes)));
            from.on('end', () => this.#pass(to, (socket) => socket.end()));
            from.on('error', () => to.destroy());
            from.on('close', () => {
                this.#sockets.delete(from);
                if (this.#mode !== 'blackhole') setTimeout(() => to.destroy(), this.#delayMs);
            });
        }
    }

    #pass(to, deed) {
        if (this.#mode === 'blackhole') return; // for ever: who waited for these bytes waits on
        const act = () => to.destroyed || deed(to);
        if (this.#delayMs) setTimeout(act, this.#delayMs);
        else act();
    }

    /** Everything goes through, `delayMs` late in each direction. Ends what a blackhole broke. */
    pass({ delayMs = 0 } = {}) {
        if (this.#mode === 'blackhole') this.cut();
        this.#mode = 'pass';
        this.#delayMs = delayMs;
        return this.server.listening ? undefined : this.#listen();
    }

    /** Connections stay and are accepted, no byte arrives. */
    blackhole() {
        this.#mode = 'blackhole';
    }

    /** Resets what is open; new connections are still served. */
    cut() {
        for (const socket of this.#sockets) socket.resetAndDestroy();
        this.#sockets.clear();
    }

    /** Nobody listens any more, and what was open is reset. pass() listens again. */
    async refuse() {
        const closed = new Promise((resolve) => this.server.close(resolve));
        this.cut();
        await closed;
    }

    async stop() {
        if (this.server.listening) await this.refuse();
        this.cut(); // what a blackhole kept open after its other end had gone
    }
}
