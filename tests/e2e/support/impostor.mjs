// A relay in front of Redis (or of nothing) that answers in its place, once it is told what.
import net from 'node:net';
import { freePort } from './ports.mjs';

export class Impostor {
    given = []; // of each answer of ours: { taken: bytes, closed: has the asker hung up? }
    #word;
    #answer;
    #sockets = new Set();

    /** Relays to 127.0.0.1:port; without one nothing is passed on. */
    static async start(port) {
        const impostor = new Impostor();
        impostor.port = await freePort();
        impostor.server = net.createServer((client) => impostor.#accept(client, port));
        await new Promise((resolve, reject) => {
            impostor.server.once('error', reject);
            impostor.server.listen(impostor.port, '127.0.0.1', resolve);
        });
        return impostor;
    }

    #accept(client, port) {
        const server = port && net.connect(port, '127.0.0.1');
        for (const socket of [client, server].filter(Boolean)) {
            this.#sockets.add(socket);
            socket.setNoDelay(true);
            socket.on('error', () => {});
            socket.on('close', () => {
                this.#sockets.delete(socket);
                client.destroy();
                server?.destroy();
            });
        }
        server?.on('data', (bytes) => client.answered || client.write(bytes));
        client.on('data', (bytes) => {
            if (this.#word && !client.answered && bytes.includes(this.#word)) this.#give(client);
            else if (!client.answered) server?.write(bytes);
        });
    }

    /** Who asks something with this word in it gets `answer` instead of Redis': { head, piece, times },
     * a piece so often, as fast as it is taken; or 'reset'. */
    answers(word, answer) {
        this.#word = word;
        this.#answer = answer;
    }

    /** From now on everything passes. */
    passes() {
        this.#word = undefined;
    }

    #give(client) {
        const given = { taken: 0, closed: false };
        this.given.push(given);
        client.answered = true;
        client.on('close', () => {
            given.taken = client.bytesWritten - client.writableLength;
            given.closed = true;
        });
        if (this.#answer === 'reset') {
            client.resetAndDestroy();
            return;
        }
        const { head, piece, times } = this.#answer;
        let left = times;
        const more = () => {
            while (left > 0 && !client.destroyed) {
                left--;
                if (!client.write(piece)) return;
            }
        };
        client.on('drain', more);
        client.write(head);
        more();
    }

    async stop() {
        const closed = new Promise((resolve) => this.server.close(resolve));
        for (const socket of this.#sockets) socket.destroy();
        await closed;
    }
}
