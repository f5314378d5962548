// The keep-alive race: a Node server closes connections that were idle for 5 s, and we may be
// writing on one just then. 100,000 GETs in bursts, with pauses around those 5 s: how many fail?
//
//   node tests/proof/keepalive.mjs [REQUESTS]        (about three minutes)
import http from 'node:http';
import { startGateway } from '../e2e/support/gateway.mjs';
import { sleep } from '../e2e/support/child.mjs';

const TOTAL = Number(process.argv[2] ?? 100000);
const ROUNDS = 25;
const CONNECTIONS = 64;

const server = http.createServer((request, response) => {
    request.resume();
    request.on('end', () => response.end('{"ok":true}'));
});
server.keepAliveTimeout = 5000;
let connections = 0;
server.on('connection', () => connections++);
await new Promise((done) => server.listen(0, '127.0.0.1', done));

const gateway = await startGateway({ port: server.address().port, url: `http://127.0.0.1:${server.address().port}` },
    { config: { tls: { enabled: false } } });
const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
const statuses = {};

const get = () => new Promise((done) => {
    const note = (what) => { statuses[what] = (statuses[what] ?? 0) + 1; done(); };
    http.get({ host: '127.0.0.1', port: gateway.target.port, path: '/things', agent }, (response) => {
        response.resume();
        response.on('end', () => note(response.statusCode));
    }).on('error', (error) => note(error.code));
});

for (let round = 0; round < ROUNDS; round++) {
    let left = TOTAL / ROUNDS;
    await Promise.all(Array.from({ length: CONNECTIONS }, async () => { while (left-- > 0) await get(); }));
    // Node closes after 5.0 to 6.0 s; the gateway gives connections up after 4.
    if (round + 1 < ROUNDS) await sleep(3500 + (round % 5) * 600);
}
const retried = await gateway.metric('upstream_retried_total');
console.log(JSON.stringify({ requests: TOTAL, statuses, upstreamConnections: connections, retried }));
agent.destroy();
await gateway.stop();
server.closeAllConnections();
server.close();
process.exitCode = statuses[200] === TOTAL ? 0 : 1;
