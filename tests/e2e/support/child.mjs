// Child processes: started by path, watched line by line, ended by their own pid, never left behind.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
export const build = path.resolve(root, process.env.BUILD ?? 'build');

const alive = new Set();
process.on('exit', () => {
    for (const child of alive) child.kill('SIGKILL');
});
// node --test ends a file that runs too long with SIGTERM: then, too, nothing stays behind.
process.on('SIGTERM', () => process.exit(143));

const COMPLAINTS = /ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:/;

const delay = monitorEventLoopDelay({ resolution: 10 });
delay.enable();

/** Milliseconds that anything may take longer here than it should: a machine that let our own timers
 * wait lets others wait, too. Add it to every upper bound; on a quiet machine it is next to nothing. */
export const slack = () => Math.min(10 * Math.max(0, delay.max / 1e6 - 15), 10000);

/** Rejects with `what` when `promise` takes longer than `ms`, and slack(). */
export function within(ms, what, promise) {
    let timer;
    const start = performance.now();
    const late = new Promise((_, reject) => {
        const look = () => {
            const left = start + ms + slack() - performance.now();
            if (left > 0) timer = setTimeout(look, left + 1);
            else reject(new Error(`${what}: not within ${ms} ms`));
        };
        timer = setTimeout(look, ms);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks `question` until it answers something true; fails after `ms`, and slack(). */
export async function eventually(what, question, ms = 5000) {
    const end = Date.now() + ms;
    for (;;) {
        const answer = await question();
        if (answer) return answer;
        if (Date.now() > end + slack()) throw new Error(`${what}: not within ${ms} ms`);
        await sleep(10);
    }
}

export class Child {
    lines = [];
    stderr = '';
    #seen = [];
    #rest = '';

    constructor(command, args, { env = {}, cwd = root } = {}) {
        this.name = path.basename(command);
        this.process = spawn(command, args, {
            cwd,
            env: { ...process.env, ...env },
            stdio: ['ignore', 'pipe', 'pipe'],
        });
        alive.add(this.process);
        this.exited = new Promise((resolve) => {
            this.process.on('error', (error) => resolve({ error }));
            this.process.on('close', (code, signal) => resolve({ code, signal }));
        }).then((end) => {
            alive.delete(this.process);
            this.ended = end;
            for (const check of this.#seen.splice(0)) check();
            return end;
        });
        this.process.stdout.setEncoding('utf8').on('data', (text) => this.#read(text));
        this.process.stderr.setEncoding('utf8').on('data', (text) => {
            this.stderr += text;
        });
    }

    get pid() {
        return this.process.pid;
    }

    #read(text) {
        const parts = (this.#rest + text).split('\n');
        this.#rest = parts.pop();
        this.lines.push(...parts);
        for (const check of this.#seen.splice(0)) check();
    }

    /** The first `count` lines for which `matches` holds, past or future. */
    async waitForLines(what, matches, count = 1, ms = 10000) {
        const search = async () => {
            for (;;) {
                const found = this.lines.filter(matches);
                if (found.length >= count) return found.slice(0, count);
                if (this.ended)
                    throw new Error(`${this.name} ended (${JSON.stringify(this.ended)}) before ${what}\n` +
                        this.lines.join('\n') + this.stderr);
                await new Promise((resolve) => this.#seen.push(resolve));
            }
        };
        return within(ms, `${this.name}: ${what}`, search());
    }

    signal(name) {
        this.process.kill(name);
    }

    /** SIGTERM, then exit code 0 and no sanitizer's complaint. */
    async stop({ ms = 10000, code = 0 } = {}) {
        if (!this.ended) this.signal('SIGTERM');
        let end;
        try {
            end = await within(ms, `${this.name} to end after SIGTERM`, this.exited);
        } catch (late) {
            this.signal('SIGKILL');
            throw late;
        }
        if (end.code !== code || COMPLAINTS.test(this.stderr))
            throw new Error(`${this.name} ended with ${JSON.stringify(end)}\n${this.stderr}`);
    }

    /** kill -9, as a machine that loses power. */
    async kill() {
        this.signal('SIGKILL');
        await within(5000, `${this.name} to die`, this.exited);
    }
}
