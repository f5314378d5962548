// A page of documentation as a script: its fenced blocks are run, and what they print is compared.
//
//   ```sh              commands, in one shell for the whole page
//   ```sh serves       the last command goes on serving; ended by Ctrl-C before the next one
//   ```sh yours        values of the reader's own: those of the test instead
//   ```text            lines that the block before it prints, in this order; … is anything
//   ```text at the end what the serving one prints when it is ended; ends it
import { spawn } from 'node:child_process';

/** [{ kind: 'sh', how: 'serves', text, line }] */
export function fencedBlocks(page) {
    const lines = page.split('\n');
    const blocks = [];
    for (let i = 0; i < lines.length; i++) {
        const [, kind, how] = /^```(sh|text)(?: (.*))?$/.exec(lines[i]) ?? [];
        if (!kind) continue;
        const from = i + 1;
        while (lines[++i] !== '```') if (i >= lines.length) throw new Error(`line ${from}: no end`);
        blocks.push({ kind, how: how ?? '', text: lines.slice(from, i).join('\n'), line: from });
    }
    return blocks;
}

const MARK = '--- walkthrough: block';
const END_SERVER = `
if [ -n "$SERVER" ]; then kill -INT -- -$SERVER; wait $SERVER; fi
SERVER=`;

/** One script; each block's output stands after "MARK line". `ready`: a command that waits until
 * the serving one serves. */
export function scriptOf(blocks, { yours, ready }) {
    const parts = ['exec 2>&1', 'set -m', 'SERVER=', 'trap \'[ -z "$SERVER" ] || kill -KILL -- -$SERVER\' EXIT'];
    for (const { kind, how, text, line } of blocks) {
        if (kind === 'text' && how !== 'at the end') continue;
        if (kind === 'text') parts.push('echo', END_SERVER, `echo; echo "${MARK} ${line}"`, 'cat server.log', ': >server.log');
        else if (how === 'yours') parts.push(yours);
        else if (how === 'serves') parts.push(END_SERVER, `( ${text}\n) >server.log 2>&1 &`, 'SERVER=$!', `${ready} || { cat server.log; exit 1; }`);
        else parts.push(`echo; echo "${MARK} ${line}"`, `{ ${text}\n} || { echo "line ${line}: failed"; exit 1; }`);
    }
    parts.push(END_SERVER, `echo; echo "${MARK} 0"`);
    return parts.join('\n');
}

/** Runs it in `cwd`: { code, output: Map of a block's line to what it printed, all }. */
export function runScript(script, { cwd, env, ms }) {
    return new Promise((resolve) => {
        const child = spawn('bash', ['-s'], { cwd, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
        const end = () => child.kill('SIGTERM'); // its trap ends what it started
        process.on('exit', end);
        let all = '';
        for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (all += text));
        const timer = setTimeout(end, ms);
        child.on('close', (code) => {
            clearTimeout(timer);
            process.off('exit', end);
            const output = new Map(all.split(`\n${MARK} `).slice(1).map((part) => {
                const end = part.indexOf('\n');
                return [Number(part.slice(0, end)), part.slice(end + 1)];
            }));
            resolve({ code, output, all });
        });
        child.stdin.end(script);
    });
}

const pattern = (line) => new RegExp(`^${line.split('…').map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}\\s*$`);

/** The first expected line that does not follow in what was printed, or undefined. */
export function missingLine(expected, printed) {
    const rest = printed.split('\n');
    for (const line of expected.split('\n')) {
        const at = rest.findIndex((candidate) => pattern(line).test(candidate));
        if (at < 0) return line;
        rest.splice(0, at + 1);
    }
    return undefined;
}
