// links.mjs [FILE...]: every relative link of the project's Markdown leads to a file, and its
// #anchor to a heading there; links to other sites are left alone. Without files: all that git knows.
// A file of the project's that is named in `code` (`src/io/tls.c`, `rules/wire/http`) exists.
// links.mjs --self-test: shows that it sees each kind of broken link. One line each, exit code 1.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** What stands between fences, in `code` or in comments is no link. */
function prose(text) {
    return text
        .replace(/^(```+|~~~+)[^\n]*\n[\s\S]*?^\1[ \t]*$/gm, (block) => block.replace(/[^\n]/g, ''))
        .replace(/<!--[\s\S]*?-->/g, (comment) => comment.replace(/[^\n]/g, ''))
        .replace(/`[^`\n]*`/g, '``');
}

/** As GitHub makes them: "`A b` (c)!" is "a-b-c", the second one "a-b-c-1". */
function anchors(text) {
    const seen = new Map();
    const found = new Set();
    const headings = text.replace(/^(```+|~~~+)[^\n]*\n[\s\S]*?^\1[ \t]*$/gm, '').matchAll(/^#{1,6} +(.+?) *#*$/gm);
    for (const [, heading] of headings) {
        const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[`*]/g, '');
        const name = plain.toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '').replace(/ /g, '-');
        const times = seen.get(name) ?? 0;
        seen.set(name, times + 1);
        found.add(times ? `${name}-${times}` : name);
    }
    for (const [, id] of text.matchAll(/<a (?:id|name)="([^"]+)"/g)) found.add(id);
    return found;
}

function* links(text) {
    const lines = prose(text).split('\n');
    for (const [i, line] of lines.entries())
        for (const [, target] of line.matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/g)) yield [i + 1, target];
}

function complaint(file, target) {
    if (/^([a-z][a-z0-9+.-]*:|\/\/)/i.test(target)) return undefined;
    const [where, anchor] = target.split('#').map(decodeURIComponent);
    const place = where === '' ? file : path.resolve(path.dirname(file), where);
    if (!fs.existsSync(place)) return 'there is no such file';
    if (anchor === undefined || !place.endsWith('.md')) return undefined;
    return anchors(fs.readFileSync(place, 'utf8')).has(anchor) ? undefined : 'there is no such heading';
}

const ROOTS = /^(src|tests|deploy|conf|bench|contrib|docs)\/[\w./-]+$/;
const FLOORS = /^(base|rules|io|serve|app)\/\w+(\.[ch])?$/;

/** `code` that names a file of the project's, but there is none. */
function* missingFiles(text) {
    const plain = text.replace(/^(```+|~~~+)[^\n]*\n[\s\S]*?^\1[ \t]*$/gm, (block) => block.replace(/[^\n]/g, ''));
    for (const [i, line] of plain.split('\n').entries())
        for (const [, name] of line.matchAll(/`([^`]+)`/g)) {
            const candidates = ROOTS.test(name) ? [name]
                : FLOORS.test(name) ? ['', '.c', '.h'].map((end) => `src/${name}${end}`) : [];
            if (candidates.length && !candidates.some((one) => fs.existsSync(path.join(root, one)))) yield [i + 1, name];
        }
}

export function broken(files) {
    const out = [];
    for (const file of files)
        for (const [line, target] of links(fs.readFileSync(file, 'utf8'))) {
            const why = complaint(file, target);
            if (why) out.push(`${file}:${line}: ${target}: ${why}`);
        }
    // contrib/ speaks of AIWM's own files.
    for (const file of files.filter((one) => !one.startsWith('contrib/')))
        for (const [line, name] of missingFiles(fs.readFileSync(file, 'utf8')))
            out.push(`${file}:${line}: ${name}: there is no such file`);
    return out;
}

function selfTest() {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-gateway-links-'));
    const file = path.join(dir, 'a.md');
    const cases = [
        [0, '[a](a.md)'], [0, '[a](#the-head-of-it)'], [0, '[a](https://example.com/x#y)'],
        [0, '[a](a.md#the-head-of-it-1)'], [0, '`[a](b.md)`'], [0, '```\n[a](b.md)\n```'],
        [1, '[a](b.md)'], [1, '![a](b.svg)'], [1, '[a](#the-tail)'], [1, '[a](a.md#the-tail)'],
        [0, '`rules/wire/http` `src/main.c` `base/err.h`'], [1, '`rules/htp`'], [1, '`src/mane.c`'],
        [1, '```\n# The tail\n```\n[a](#the-tail)'], [2, '[a](b.md) [a](c.md)'],
    ];
    let failed = 0;
    for (const [expected, text] of cases) {
        fs.writeFileSync(file, `# The \`head\`, of it!\n\n# The head of it\n\n${text}\n`);
        const found = broken([file]).length;
        if (found === expected) continue;
        console.log(`links.mjs: ${JSON.stringify(text)}: ${found} broken, not ${expected}`);
        failed = 1;
    }
    fs.rmSync(dir, { recursive: true });
    return failed;
}

const args = process.argv.slice(2);
if (args[0] === '--self-test') process.exit(selfTest());
const files = args.length ? args
    : execFileSync('git', ['ls-files', '-co', '--exclude-standard', '*.md'], { encoding: 'utf8' }).split('\n').filter(Boolean);
const complaints = broken(files);
for (const line of complaints) console.log(line);
process.exit(complaints.length ? 1 : 0);
