// A controller that answers as AIWM does, on what AIWM is built on: Express 5, socket.io 4 and Node's
// own HTTP server, all with their defaults. It knows every agent; no database, no bcrypt.
//
// What a call's query says is done to it first, on every route:
//   ?after_ms=2500      the answer comes that late
//   ?hold               ... when the test says so (release)
//   ?silent             ... never
//   ?close              the connection is closed without an answer
//   ?status=503         an LLM provider's own answer, passed on
//   ?error=503          AIWM's error
//   ?unreachable        what AIWM says of a provider that it cannot reach
//   ?head_bytes=17000   an answer with that large a head
//   ?stream=text/event-stream&silence_ms=1500&first_bytes=100
//                       a first part, silence, a last part; the body's end is "[DONE]"
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import express from 'express';
import { Server } from 'socket.io';
import { agentToken, decode, isGenuine } from '../e2e/support/jwt.mjs';

/** The secret of the agent with that id. */
export const secretOf = (id) => `secret-of-${id}`;

const claimsOf = (authorization = '') => {
    const token = authorization.replace(/^bearer +/i, '');
    return token.split('.').length === 3 && isGenuine(token) ? decode(token).claims : undefined;
};

const errorOf = (request, response, status, message, more) => ({
    statusCode: status, message, timestamp: new Date().toISOString(), path: request.originalUrl,
    correlationId: response.getHeader('x-correlation-id'), ...more,
});

const refuse = (request, response, status, message) =>
    response.status(status).json(errorOf(request, response, status, message));

/** Nobody waits for the rest of a long silence once the test is over. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms).unref());

async function stream(response, { stream: type, silence_ms: silence, first_bytes: first = 100 }) {
    response.status(200).type(type);
    response.write(`data: ${'x'.repeat(Number(first))}\n\n`);
    await pause(Number(silence));
    response.end('data: [DONE]\n\n');
}

export class Controller {
    calls = []; // { method, path, agent }, in order of arrival; /health and socket.io are not in it
    held = []; // of ?hold: { path, go }
    unanswered = 0; // calls that still have a connection
    #sockets = new Set(); // an upgrade that nobody takes is in none of Node's own lists, and never closes

    static async start() {
        const controller = new Controller();
        await controller.listen();
        return controller;
    }

    /** On a port of loopback; after stop() on the same one. */
    async listen() {
        this.server = createServer(this.#app());
        this.#attachSockets();
        this.server.on('connection', (socket) => {
            this.#sockets.add(socket);
            socket.on('close', () => this.#sockets.delete(socket));
        });
        await new Promise((resolve) => this.server.listen(this.port ?? 0, '127.0.0.1', resolve));
        this.port = this.server.address().port;
        this.url = `http://127.0.0.1:${this.port}`;
    }

    /** What came with this method to paths that begin so. */
    seen(method, path) {
        return this.calls.filter((c) => c.method === method && c.path.startsWith(path));
    }

    /** Heartbeats of this agent. */
    heartbeats(id) {
        return this.seen('POST', `/agents/${id}/heartbeat`).length;
    }

    /** How many clients of socket.io there are. */
    get clients() {
        return this.io.engine.clientsCount;
    }

    /** How many calls to paths that begin so are held. */
    holds(path = '/') {
        return this.held.filter((call) => call.path.startsWith(path)).length;
    }

    /** They go on. */
    release(path = '/') {
        const going = this.held.filter((call) => call.path.startsWith(path));
        this.held = this.held.filter((call) => !going.includes(call));
        for (const { go } of going) go();
    }

    async stop() {
        const closed = this.io.close();
        for (const socket of this.#sockets) socket.destroy();
        await closed;
    }

    #app() {
        const app = express();
        app.use((request, response, next) => {
            response.set('x-correlation-id', request.get('x-correlation-id') ?? randomUUID());
            next();
        });
        app.use(express.json());
        app.get('/health', (_, response) => response.json({ status: 'ok' }));
        app.use((request, response, next) => this.#note(request, response, next));
        app.post('/agents/:id/connect', (request, response) => this.#connect(request, response));
        app.use((request, response, next) => {
            if (claimsOf(request.get('authorization'))) next();
            else refuse(request, response, 401, 'Unauthorized');
        });
        app.use((request, response, next) => this.#obey(request, response, next));
        this.#routes(app);
        app.use((request, response) =>
            refuse(request, response, 404, `Cannot ${request.method} ${request.originalUrl}`));
        return app;
    }

    #note(request, response, next) {
        const agent = claimsOf(request.get('authorization'))?.agentId;
        this.calls.push({ method: request.method, path: request.path, agent });
        this.unanswered++;
        response.on('close', () => this.unanswered--);
        next();
    }

    #connect(request, response) {
        const { id } = request.params;
        if (request.body?.secret !== secretOf(id)) {
            refuse(request, response, 401, 'Invalid credentials');
            return;
        }
        const token = agentToken(id);
        const mcp = { type: 'http', url: this.url, headers: { Authorization: `Bearer ${token}` } };
        response.status(201).json({
            accessToken: token, expiresIn: 86400, refreshToken: null, refreshExpiresIn: 0, tokenType: 'bearer',
            mcpServers: { Builtin: mcp },
            instruction: { id: '6b0000000000000000000001', systemPrompt: 'You help.', guidelines: ['Be polite'] },
            settings: { auth_roles: ['agent'] },
        });
    }

    async #obey(request, response, next) {
        const { query } = request;
        if (query.silent !== undefined) return;
        if (query.close !== undefined) {
            request.socket.destroy();
            return;
        }
        if (query.hold !== undefined)
            await new Promise((go) => this.held.push({ path: request.path, go }));
        if (query.after_ms !== undefined) await pause(Number(query.after_ms));
        if (query.head_bytes !== undefined) response.set('x-provider', 'x'.repeat(Number(query.head_bytes)));
        if (query.unreachable !== undefined)
            response.status(502).json({
                statusCode: 502, message: 'AI provider is unreachable', error: 'BadGatewayException',
            });
        else if (query.status !== undefined) response.status(Number(query.status)).json({ ok: false });
        else if (query.error !== undefined) refuse(request, response, Number(query.error), 'Not now');
        else if (query.stream !== undefined) await stream(response, query);
        else next();
    }

    #routes(app) {
        const created = (_, response) => response.status(201).json({ success: true });
        app.post('/agents/:id/heartbeat', created);
        app.post('/agents/:id/disconnect', created);
        app.post('/agents/:id/credentials/regenerate', (request, response) =>
            response.status(201).json({ agentId: request.params.id, secret: randomUUID() }));
        app.get('/agents', (request, response) =>
            response.json({ data: [], orgId: claimsOf(request.get('authorization')).orgId }));
        app.get('/conversations/:id', (request, response) => response.json({ id: request.params.id }));
        app.get('/executions/_statistics/summary', (_, response) => response.json({ total: 0 }));
        app.all('/deployments/:id/inference/*path', (_, response) =>
            response.json({ id: 'cmpl-1', choices: [{ message: { role: 'assistant', content: 'hello' } }] }));
        app.post('/mcp', (request, response) =>
            response.json({ jsonrpc: '2.0', id: request.body?.id ?? null, result: { tools: [] } }));
        app.post('/util/generate-text', (_, response) => response.status(201).json({ text: 'hello' }));
        app.post('/conversations/:id/summary', (_, response) => response.status(201).json({ summary: 'hello' }));
        app.post('/resources/:id/exec', (_, response) => response.json({ exitCode: 0 }));
    }

    /** Namespace /ws on the default path; the token comes in the CONNECT packet. */
    #attachSockets() {
        this.io = new Server(this.server, { cors: { origin: '*', credentials: true } });
        const namespace = this.io.of('/ws');
        namespace.use((socket, next) =>
            next(claimsOf(socket.handshake.auth.token) ? undefined : new Error('Unauthorized')));
        namespace.on('connection', (socket) => socket.on('echo', (text, answer) => answer(text)));
    }
}
