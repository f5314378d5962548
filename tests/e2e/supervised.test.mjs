// What supervisors are told: systemd by NOTIFY_SOCKET, a container engine by --health-check.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Child, build, eventually } from './support/child.mjs';
import { direct, startGateway } from './support/gateway.mjs';
import { Stub } from './support/stub.mjs';

// Node has no datagrams in the file system; perl is part of every Debian.
const MANAGER = `
use IO::Socket::UNIX; $| = 1;
my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die $!;
print "listening\\n";
for (;;) { $s->recv(my $told, 4096); $told =~ s/\\n/ /g; print "told: $told\\n"; }
`;

let stub;
let dir;
before(async () => {
    stub = await Stub.start();
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-gateway-supervised-'));
});
after(async () => {
    fs.rmSync(dir, { recursive: true, force: true });
    await stub?.stop();
});

test('a service manager hears when it serves and when it ends', { skip: direct }, async () => {
    const socket = path.join(dir, 'notify');
    const manager = new Child('perl', ['-e', MANAGER, socket]);
    let gateway;
    try {
        await manager.waitForLines('its socket', (line) => line === 'listening');
        gateway = await startGateway(stub, { env: { NOTIFY_SOCKET: socket } });
        const [ready] = await manager.waitForLines('READY', (line) => line.startsWith('told: '));
        assert.equal(ready, 'told: READY=1 STATUS=Serving');
        await gateway.stop();
        gateway = undefined;
        const told = await manager.waitForLines('STOPPING', (line) => line.startsWith('told: '), 2);
        assert.equal(told[1], 'told: STOPPING=1 STATUS=Draining');
    } finally {
        await gateway?.child.kill();
        await manager.kill();
    }
});

test('a service manager that does not listen is a warning and no more', { skip: direct }, async () => {
    const gateway = await startGateway(stub, { env: { NOTIFY_SOCKET: path.join(dir, 'nobody') } });
    try {
        await gateway.logged('whoever started this could not be told: see NOTIFY_SOCKET');
        assert.equal((await gateway.health('/readyz')).status, 200);
    } finally {
        await gateway.stop();
    }
});

const healthCheck = (where) => spawnSync(path.join(build, 'aiwm-gateway'),
    [`--health-check=${where}`], { encoding: 'utf8', timeout: 10000 });

test('--health-check says whether the one that runs is ready', { skip: direct }, async () => {
    const gateway = await startGateway(stub, { config: { drain: { delay: '1m' } } });
    const port = gateway.healthPort;
    try {
        const ready = healthCheck(port);
        assert.deepEqual([ready.status, ready.stdout, ready.stderr], [0, '', '']);
        assert.equal(healthCheck(`127.0.0.1:${port}`).status, 0);

        gateway.child.signal('SIGTERM'); // it serves on for drain.delay, but is not ready
        await eventually('draining', async () => (await gateway.health('/readyz')).status === 503);
        const draining = healthCheck(port);
        assert.equal(draining.status, 1);
        assert.match(draining.stderr, /it is not ready/);
    } finally {
        await gateway.child.kill();
        await gateway.stop({ code: null });
    }
    const gone = healthCheck(port);
    assert.equal(gone.status, 1);
    assert.match(gone.stderr, /nobody listens there/);
    for (const wrong of ['', '0', 'localhost:80', '::1', '127.0.0.1', '70000', '1'.repeat(90)]) {
        const refused = healthCheck(wrong);
        assert.equal(refused.status, 1, wrong);
        assert.match(refused.stderr, /no address and port/, wrong);
    }
});
