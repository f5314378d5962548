// What the proofs share: processes, figures with their targets, many requests at a time.
import fs from 'node:fs';
import os from 'node:os';
import { Gateway } from '../e2e/support/gateway.mjs';
import { Stub } from '../e2e/support/stub.mjs';
import { Wire, request } from '../e2e/support/wire.mjs';

/** Runs `body(gateway, stub, figure)`; the exit code says whether all figures met their targets. */
export async function prove(title, { stubOptions, config = {}, env = {} }, body) {
    const stub = await Stub.start({ transcripts: false, ...stubOptions });
    const gateway = await Gateway.start(stub, { config: { log: { level: 'info' }, ...config }, env });
    // The controller is another machine's load: it shall not take time from the gateway here.
    os.setPriority(stub.child.pid, 10);
    console.log(`${title} (${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)})`);
    await body(gateway, stub, figure);
    await gateway.stop();
    await stub.stop();
}

/** Prints a figure; `within` says whether it meets its target. */
function figure(name, value, target = '', within = true) {
    const text = typeof value === 'number' ? Number(value.toPrecision(3)) : value;
    console.log(`  ${name.padEnd(52)} ${String(text).padStart(10)}  ${target}${within ? '' : '  MISSED'}`);
    if (!within) process.exitCode = 1;
}

export const numbers = (count) => Array.from({ length: count }, (_, n) => n);

/** `work(item)` for each item, `width` at a time. */
export async function each(items, width, work) {
    const rest = items[Symbol.iterator]();
    const run = async () => {
        for (const item of rest) await work(item);
    };
    await Promise.all(Array.from({ length: width }, run));
}

/** A fixed number of connections, kept open; requests take turns on them, so that none is idle for
 * long. */
export class Lines {
    #free = [];
    #waiting = [];

    static async open(target, count) {
        const lines = new Lines();
        for (let i = 0; i < count; i++) lines.#free.push(await Wire.open(target));
        return lines;
    }

    async post(path, { token, body }) {
        const wire = this.#free.shift() ?? await new Promise((resolve) => this.#waiting.push(resolve));
        const headers = { 'Content-Type': 'application/json' };
        if (token) headers.Authorization = `Bearer ${token}`;
        wire.send(request('POST', path, { headers, body }));
        const answer = await wire.answer();
        const next = this.#waiting.shift();
        if (next) next(wire);
        else this.#free.push(wire);
        return answer;
    }

    close() {
        for (const wire of this.#free) wire.close();
    }
}

/** A process's resident memory, bytes. */
export function resident(pid) {
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number(kib[1]) * 1024;
}

/** What a process has used so far, in seconds. */
export function cpuSeconds(pid) {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100; // USER_HZ
}

export function quantile(values, q) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

/** What became of the heartbeats, as the gateway counts them; `lost` must be 0 when all is quiet. */
export async function fates(gateway) {
    const { body } = await gateway.health('/metrics');
    const of = (name) => Number(new RegExp(`^aiwm_gateway_heartbeats_${name} (\\d+)$`, 'm').exec(body)[1]);
    const fate = {
        received: of('received_total'), delivered: of('delivered_total'),
        superseded: of('superseded_total'), expired: of('expired_total'), held: of('held'),
    };
    fate.lost = fate.received - fate.delivered - fate.superseded - fate.expired - fate.held;
    return fate;
}
