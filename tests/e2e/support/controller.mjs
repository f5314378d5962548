// A controller that answers as a test tells it to: for what the stub, which answers as the real one
// does, cannot show.
import http from 'node:http';

/** The controller's own error body. */
export const errorBody = (status, message) => JSON.stringify({
    statusCode: status, message, timestamp: new Date().toISOString(), path: '/', correlationId: 'c',
});

export class Controller {
    requests = []; // { method, path, headers, body }, in order of arrival

    /** `answer(request)` gives { status, body, headers }, a promise of it, or 'reset'. */
    static async start(answer) {
        const controller = new Controller();
        controller.answer = answer;
        controller.server = http.createServer((request, response) => {
            const pieces = [];
            request.on('data', (piece) => pieces.push(piece));
            request.on('end', async () => {
                const seen = {
                    method: request.method, path: request.url, headers: request.headers,
                    body: Buffer.concat(pieces).toString('utf8'),
                };
                controller.requests.push(seen);
                const given = seen.path === '/health' ? { status: 200, body: '{}' } : await controller.answer(seen);
                if (given === 'reset') {
                    request.socket.resetAndDestroy();
                    return;
                }
                response.writeHead(given.status ?? 200, {
                    'Content-Type': 'application/json; charset=utf-8', ...given.headers,
                });
                response.end(given.body ?? '{"success":true}');
            });
        });
        await new Promise((resolve) => controller.server.listen(0, '127.0.0.1', resolve));
        controller.url = `http://127.0.0.1:${controller.server.address().port}`;
        return controller;
    }

    /** From now on. */
    answers(answer) {
        this.answer = answer;
    }

    /** What came to this path. */
    seen(path) {
        return this.requests.filter((request) => request.path === path);
    }

    stop() {
        this.server.closeAllConnections();
        return new Promise((resolve) => this.server.close(resolve));
    }
}

/** A promise that is settled from outside. */
export function gate() {
    let open;
    const opened = new Promise((resolve) => (open = resolve));
    return { open, opened };
}
