// Ports for servers that must be told theirs, and that come back on the same one after a crash.
import net from 'node:net';

// Below the range the kernel takes outgoing connections' ports from: while the server is down
// nobody gets its port by chance. 10,000 above each must be free as well (the Cluster bus).
const LOWEST = 11000;
const HIGHEST = 22000;

const given = new Set();

function canListen(port) {
    return new Promise((resolve) => {
        const server = net.createServer();
        server.once('error', () => resolve(false));
        server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
}

/** A loopback port nobody listens on, not given before in this process. */
export async function freePort() {
    for (let tries = 0; tries < 1000; tries++) {
        const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));
        if (given.has(port) || !(await canListen(port))) continue;
        given.add(port);
        return port;
    }
    throw new Error('no free port');
}
