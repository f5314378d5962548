// Agents that are connected and beat twice a second each, in a process of its own: what they wait is
// the gateway's doing and the machine's, not that of a client that is busy with a storm. Started by
// storm.mjs; a message 'begin' forgets what was so far, 'end' is answered with { waits, failed } (ms).
import http from 'node:http';
import { agentToken } from '../e2e/support/jwt.mjs';
import { agentId } from '../e2e/support/stub.mjs';

const EVERY_MS = 500;
const [port, first, count] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true });
let waits = [];
let failed = 0;

function beat(path, token) {
    const body = '{"status":"online"}';
    const headers = {
        'Content-Type': 'application/json', 'Content-Length': body.length, Authorization: `Bearer ${token}`,
    };
    const start = performance.now();
    const request = http.request({ host: '127.0.0.1', port, method: 'POST', path, headers, agent, timeout: 10000 });
    request.on('response', (response) => {
        response.resume();
        response.on('end', () => {
            if (response.statusCode === 201) waits.push(performance.now() - start);
            else failed++;
        });
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', () => failed++);
    request.end(body);
}

for (let i = 0; i < count; i++) {
    const id = agentId(first + i);
    const token = agentToken(id);
    setTimeout(() => setInterval(() => beat(`/agents/${id}/heartbeat`, token), EVERY_MS), (EVERY_MS * i) / count);
}

process.on('message', (what) => {
    if (what === 'end') process.send({ waits, failed }, () => process.exit(0));
    waits = [];
    failed = 0;
});
process.on('disconnect', () => process.exit(0));
