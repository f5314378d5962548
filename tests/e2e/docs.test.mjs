// The documentation is true: the commands of docs/start.md run as they stand there, every alert and
// every error code has its entry, and what the pages name (ctl, keys, metrics) exists.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { build, root } from './support/child.mjs';
import { startGateway } from './support/gateway.mjs';
import { freePort } from './support/ports.mjs';
import { JWT_SECRET, Stub, agentId, agentSecret } from './support/stub.mjs';
import { fencedBlocks, missingLine, runScript, scriptOf } from './support/walkthrough.mjs';
import { call } from './support/wire.mjs';

const read = (file) => fs.readFileSync(path.join(root, file), 'utf8');

/** Runs a program to its end: { code, all }. */
function run(command, args, env = {}) {
    return new Promise((resolve) => {
        const child = spawn(command, args, { cwd: root, env: { ...process.env, ...env }, timeout: 10000 });
        let all = '';
        for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (all += text));
        child.on('close', (code) => resolve({ code, all }));
    });
}

// ---- docs/start.md ----

/** The page's ports are everybody's; the test has some of its own. `make run` would build and
 * install: what it starts at the end is started instead (make chroot-check runs it whole). */
function forHere(text, ports) {
    return text.replaceAll('127.0.0.1:8443', `127.0.0.1:${ports.data}`)
        .replaceAll('127.0.0.1:9902', `127.0.0.1:${ports.health}`)
        .replaceAll('aiwm-gateway ctl ', `aiwm-gateway ctl --address 127.0.0.1:${ports.admin} `)
        .replaceAll('make run', 'build/aiwm-gateway --demo');
}

async function walk(page, stub, dir) {
    const ports = { data: await freePort(), health: await freePort(), admin: await freePort() };
    const blocks = fencedBlocks(page).map((block) => ({ ...block, text: forHere(block.text, ports) }));
    const script = scriptOf(blocks, {
        yours: `CONTROLLER=${stub.url}\nJWT_SECRET=${JWT_SECRET}\nAGENT=${agentId(7)}\nSECRET=${agentSecret(7)}`,
        ready: `curl -s -o /dev/null --retry 100 --retry-delay 0 --retry-max-time 10 --retry-connrefused ` +
            `http://127.0.0.1:${ports.health}/readyz`,
    });
    const env = {
        AIWM_GATEWAY_LISTEN_PORT: String(ports.data), AIWM_GATEWAY_HEALTH_PORT: String(ports.health),
        AIWM_GATEWAY_ADMIN_PORT: String(ports.admin),
    };
    fs.mkdirSync(path.join(dir, 'build'));
    fs.symlinkSync(path.join(build, 'aiwm-gateway'), path.join(dir, 'build/aiwm-gateway'));
    return { blocks, ...await runScript(script, { cwd: dir, env, ms: 90000 }) };
}

test('every command of docs/start.md works, and prints what the page says', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-gateway-docs-'));
    const stub = await Stub.start();
    try {
        const { blocks, code, output, all } = await walk(read('docs/start.md'), stub, dir);
        assert.equal(code, 0, all);
        let printed = '';
        for (const block of blocks) {
            printed = output.get(block.line) ?? (block.kind === 'text' ? printed : '');
            if (block.kind !== 'text') continue;
            assert.equal(missingLine(block.text, printed), undefined, `start.md:${block.line}, printed:\n${printed}`);
        }
        assert.ok(blocks.filter(({ kind }) => kind === 'text').length >= 8);
    } finally {
        await stub.stop();
        fs.rmSync(dir, { recursive: true, force: true });
    }
});

test('a page that says what is not printed is found out', () => {
    assert.equal(missingLine('a…\nb', 'abc\nx\nb'), undefined);
    assert.equal(missingLine('a…\nb', 'b\nabc'), 'b');
    assert.equal(missingLine('a.c', 'abc'), 'a.c');
});

// ---- every alert, every code ----

const headings = (page) => [...read(page).matchAll(/^#{2,4} +(.+)$/gm)].map(([, text]) => text.replace(/`/g, ''));

test('every alert has a section in docs/operate.md, and leads there', () => {
    const rules = read('deploy/prometheus/rules.yaml');
    const alerts = [...rules.matchAll(/- alert: (\S+)/g)].map(([, name]) => name);
    assert.ok(alerts.length >= 7);
    const sections = headings('docs/operate.md').filter((text) => /^AiwmGateway\w+$/.test(text));
    assert.deepEqual(sections.sort(), alerts.slice().sort());
    const anchors = [...rules.matchAll(/runbook: docs\/operate\.md#(\S+)/g)].map(([, anchor]) => anchor);
    assert.deepEqual(anchors, alerts.map((name) => name.toLowerCase()));
});

test('every error code of src/base/err.h has an entry in docs/troubleshooting.md, with its status', () => {
    const rows = [...read('src/base/err.h').matchAll(/^ *X\((\w+), (\d+), "(GATEWAY_\w+)"/gm)];
    assert.ok(rows.length >= 30);
    const expected = rows.map(([, , status, code]) => `${status} ${code}`).sort();
    const entries = [...read('docs/troubleshooting.md').matchAll(/^\| (\d{3}) \| `(GATEWAY_\w+)` \| \S/gm)];
    assert.deepEqual(entries.map(([, status, code]) => `${status} ${code}`).sort(), expected);
});

test('the index leads to every page', () => {
    const index = read('docs/README.md');
    const missing = fs.readdirSync(path.join(root, 'docs'), { withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name !== 'README.md' && !index.includes(`(${entry.name})`));
    assert.deepEqual(missing.map(({ name }) => name), []);
});

// ---- what the pages name exists ----

const pages = fs.readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`);

/** ["docs/x.md: name"] of all that `pattern`'s first group finds. */
const named = (pattern) => [...pages, 'README.md'].flatMap((page) =>
    [...read(page).matchAll(pattern)].map(([, name]) => ({ page, name: name.trim() })));

test('every ctl command that the pages name works', async () => {
    const stub = await Stub.start();
    const adminToken = 'an-admin-token-of-the-test';
    const gateway = await startGateway(stub, { env: { AIWM_GATEWAY_ADMIN_TOKEN: adminToken } });
    try {
        const commands = [...new Set(named(/(?:^|`|\/)(?:aiwm-gateway )?ctl ([a-z][^`#|$\n]*)/gm).map(({ name }) => name))];
        assert.ok(commands.length >= 10, String(commands));
        // Whoever drains ends it.
        for (const command of commands.sort((a, b) => a.startsWith('drain') - b.startsWith('drain'))) {
            const words = command.replaceAll('ID', agentId(0)).split(/\s+/);
            if (command === 'agent') words.push(agentId(0)); // its id was a variable of the shell
            if (words[0] === 'agent') await call(gateway.target, 'POST', `/agents/${agentId(0)}/connect`, { body: { secret: agentSecret(0) } });
            const said = await run(path.join(build, 'aiwm-gateway'),
                ['ctl', '--address', `127.0.0.1:${gateway.adminPort}`, ...words], { AIWM_GATEWAY_ADMIN_TOKEN: adminToken });
            assert.equal(said.code, 0, `ctl ${words.join(' ')}\n${said.all}`);
        }
        await gateway.child.exited;
    } finally {
        await gateway.discard();
        await stub.stop();
    }
});

test('every configuration key that the pages name exists', async () => {
    const { all } = await run(path.join(build, 'aiwm-gateway'), ['--help-config']);
    const keys = new Set([...all.matchAll(/^([a-z_]+(?:\.[a-z_]+)*)\b/gm)].map(([, key]) => key));
    const sections = new Set([...keys].map((key) => key.split('.')[0]));
    assert.ok(keys.has('heartbeat.max_hold') && sections.size > 8);
    const missing = named(/`([a-z_]+\.[a-z_.]+)(?=[:`])/g).filter(({ name }) =>
        sections.has(name.split('.')[0]) && !keys.has(name) && !/^tls\.(crt|key)$/.test(name)); // a Secret's
    assert.deepEqual(missing, []);
    const variables = new Set([...all.matchAll(/AIWM_GATEWAY_[A-Z0-9_]+/g)].map(([name]) => name));
    assert.deepEqual(named(/\b(AIWM_GATEWAY_[A-Z0-9_]+)/g).filter(({ name }) =>
        !variables.has(name) && name !== 'AIWM_GATEWAY_SERVICE_HOST'), []);
});

test('every metric that the pages name exists', async () => {
    const stub = await Stub.start();
    const gateway = await startGateway(stub, { config: { redis: { url: 'redis://127.0.0.1:1' } } });
    try {
        const { body } = await gateway.health('/metrics');
        const families = new Set([...body.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name));
        assert.ok(families.size > 40);
        const exists = (name) => families.has(name) || families.has(name.replace(/_(bucket|sum|count)$/, ''));
        assert.deepEqual(named(/\b(aiwm_gateway_[a-z0-9_]+[a-z0-9])/g).filter(({ name }) => !exists(name)), []);
        assert.deepEqual(named(/`((?!aiwm_gateway_)[a-z0-9_]+_total)[`{]/g).filter(({ name }) => !exists(`aiwm_gateway_${name}`)), []);
    } finally {
        await gateway.stop();
        await stub.stop();
    }
});
