// What a gateway needs: memory at rest and with agents that hold their TLS connections, in the
// process (PSS) and in its cgroup, which counts what the kernel holds for it too; CPU of a fleet that
// beats once a minute; and what the same agents take in Redis. docs/sizing.md has the figures.
// Root, and cgroups for memory; without them that column is missing.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Child, build, eventually, sleep } from '../e2e/support/child.mjs';
import { Gateway, testCertificate } from '../e2e/support/gateway.mjs';
import { agentToken } from '../e2e/support/jwt.mjs';
import { Redis } from '../e2e/support/redis.mjs';
import { Stub, agentId, agentSecret } from '../e2e/support/stub.mjs';
import { Lines, cpuSeconds, each, numbers } from './support.mjs';

const FLEETS = (process.env.FLEETS ?? '1000 10000').split(' ').map(Number);
const HOLD_S = 60; // each agent beats once in it
const MIB = 2 ** 20;

// ---- a cgroup of its own ----

class Cgroup {
    constructor() {
        const v1 = '/sys/fs/cgroup/memory';
        this.v1 = fs.existsSync(`${v1}/memory.usage_in_bytes`);
        this.dir = path.join(this.v1 ? v1 : '/sys/fs/cgroup', `aiwm-gateway-sizing-${process.pid}`);
        try {
            fs.mkdirSync(this.dir);
            this.wrapper = path.join(os.tmpdir(), `aiwm-gateway-sizing-${process.pid}.sh`);
            fs.writeFileSync(this.wrapper, `#!/bin/sh\necho $$ >${this.dir}/cgroup.procs\nexec "$@"\n`, { mode: 0o755 });
        } catch {
            this.dir = undefined;
        }
    }

    #read(v1, v2) {
        return Number(fs.readFileSync(path.join(this.dir, this.v1 ? v1 : v2), 'utf8'));
    }

    /** What a pod's limit is about; undefined where there is no cgroup. */
    all() {
        return this.dir && this.#read('memory.usage_in_bytes', 'memory.current');
    }

    remove() {
        if (this.wrapper) fs.rmSync(this.wrapper, { force: true });
        if (this.dir) fs.rmdirSync(this.dir);
    }
}

const pss = (pid) => Number(/^Pss:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) * 1024;
const mib = (bytes) => (bytes === undefined ? '-' : (bytes / MIB).toFixed(1)).padStart(8);

// ---- agents ----

function fleet(gateway, agents) {
    const { certificateFile } = testCertificate();
    return new Child(path.join(build, 'aiwm-bench'), ['steady', '--target', `https://127.0.0.1:${gateway.port}`,
        '--ca', certificateFile, '--agents', agents, '--within', `${Math.ceil(agents / 200)}s`, '--beat', `${HOLD_S}s`,
        '--phase', 'spread', '--for', `${3 * HOLD_S}s`, '--max-lag', '10s'].map(String));
}

/** Everybody has connected and beaten at least once; then a minute of calm. */
async function look(gateway, cgroup, agents) {
    const pid = gateway.child.pid;
    const bench = fleet(gateway, agents);
    try {
        const received = await gateway.metric('heartbeats_received_total');
        await eventually(`${agents} connected`, async () => (await gateway.metric('connections')) >= agents, 300000);
        await eventually('beaten', async () => (await gateway.metric('heartbeats_received_total')) - received >= agents, 200000);
        const [cpu, from] = [cpuSeconds(pid), await gateway.metric('heartbeats_received_total')];
        await sleep(HOLD_S * 1000);
        const beats = (await gateway.metric('heartbeats_received_total')) - from;
        const used = cpuSeconds(pid) - cpu;
        console.log(`  ${String(agents).padEnd(10)} ${mib(pss(pid))} ${mib(cgroup.all())}   ` +
            `${(100 * used / HOLD_S).toFixed(2)} % of a processor for ${Math.round(beats / HOLD_S)} heartbeats a second`);
        return { pss: pss(pid), all: cgroup.all() };
    } finally {
        bench.signal('SIGINT');
        await bench.exited;
    }
}

async function memory(stub) {
    const cgroup = new Cgroup();
    if (cgroup.wrapper) process.env.GATEWAY_WRAPPER = cgroup.wrapper;
    console.log(`  agents     PSS, MiB  cgroup's, MiB`);
    try {
        for (const agents of FLEETS) {
            const gateway = await Gateway.start(stub, { config: { workers: 2, log: { level: 'info' } } });
            try {
                await sleep(1000);
                const rest = { pss: pss(gateway.child.pid), all: cgroup.all() };
                console.log(`  ${'at rest'.padEnd(10)} ${mib(rest.pss)} ${mib(rest.all)}`);
                const full = await look(gateway, cgroup, agents);
                const perAgent = (what) => ((full[what] - rest[what]) / agents / 1024).toFixed(1);
                console.log(`  an agent   ${perAgent('pss')} KiB PSS, ${cgroup.dir ? `${perAgent('all')} KiB in all` : ''}`);
            } finally {
                await gateway.stop({ ms: 60000 });
            }
        }
    } finally {
        delete process.env.GATEWAY_WRAPPER;
        cgroup.remove();
    }
}

// ---- Redis ----

/** What an agent costs Redis: its connect that is shared, then its heartbeat as well. */
async function inRedis(stub) {
    const agents = Math.max(...FLEETS);
    const redis = await Redis.start({ appendonly: true });
    const used = async () => Number(/^used_memory:(\d+)/m.exec(await redis.call('INFO', 'memory'))[1]);
    const gateway = await Gateway.start(stub, {
        config: { workers: 2, tls: { enabled: false }, redis: { url: redis.url }, log: { level: 'info' } },
    });
    try {
        await eventually('Redis', async () => (await gateway.metric('redis_up')) === 1, 10000);
        const lines = await Lines.open(gateway.target, 32);
        const empty = await used();
        await each(numbers(agents), 32, (n) => lines.post(`/agents/${agentId(n)}/connect`, { body: { secret: agentSecret(n) } }));
        const known = await used();
        const beat = (n) => lines.post(`/agents/${agentId(n)}/heartbeat`,
            { token: agentToken(agentId(n)), body: { status: 'online', metrics: { cpu: 45, memory: 60 } } });
        await each(numbers(agents), 32, beat);
        await each(numbers(agents), 32, beat);
        const beating = await used();
        const [shared, held] = [await gateway.metric('connect_shared_kept_total'), await gateway.metric('heartbeats_held_shared')];
        console.log(`  Redis, ${agents} agents: ${(empty / MIB).toFixed(1)} MiB before; a shared connect ` +
            `${Math.round((known - empty) / agents)} bytes (${shared} kept), a heartbeat ${Math.round((beating - known) / agents)} (${held} held)`);
        lines.close();
    } finally {
        await gateway.stop({ ms: 60000 });
        await redis.discard();
    }
}

const stub = await Stub.start({ transcripts: false, agents: Math.max(...FLEETS) });
os.setPriority(stub.child.pid, 10);
console.log(`Sizing (${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)}, ${execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim()})`);
try {
    testCertificate();
    await inRedis(stub);
    await memory(stub);
} finally {
    await stub.stop();
}
