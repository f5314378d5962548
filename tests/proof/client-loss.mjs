// How soon does the controller's side notice that a client has left while its call is pending?
//
//   node tests/proof/client-loss.mjs [ROUNDS]
import http from 'node:http';
import tls from 'node:tls';
import { startGateway } from '../e2e/support/gateway.mjs';
import { sleep } from '../e2e/support/child.mjs';

const ROUNDS = Number(process.argv[2] ?? 50);
let onClose;
const server = http.createServer((request) => {
    request.socket.on('close', () => onClose?.());
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const gateway = await startGateway({ url: `http://127.0.0.1:${server.address().port}`, port: server.address().port });
const took = [];
for (let i = 0; i < ROUNDS; i++) {
    const socket = tls.connect({ host: '127.0.0.1', port: gateway.target.port, rejectUnauthorized: false });
    await new Promise((done) => socket.once('secureConnect', done));
    socket.on('error', () => {});
    socket.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n');
    await sleep(30);
    const closed = new Promise((done) => { onClose = done; });
    const start = process.hrtime.bigint();
    socket.destroy();
    await closed;
    took.push(Number(process.hrtime.bigint() - start) / 1e6);
}
took.sort((a, b) => a - b);
console.log(JSON.stringify({ rounds: ROUNDS, median_ms: took[ROUNDS >> 1], max_ms: took.at(-1) }));
await gateway.stop();
server.closeAllConnections();
server.close();
