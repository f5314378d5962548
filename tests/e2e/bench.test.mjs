// The bench as a program: against stub and gateway, its reports, its verdicts, its manners.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Child, build, eventually, root, within } from './support/child.mjs';
import { startGateway, testCertificate } from './support/gateway.mjs';
import { Stub, agentId, agentSecret } from './support/stub.mjs';

const program = path.join(build, 'aiwm-bench');

let stub;
let dir;
before(async () => {
    stub = await Stub.start({ agents: 500, transcripts: false });
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-bench-'));
});
after(async () => {
    fs.rmSync(dir, { recursive: true, force: true });
    await stub?.stop();
});

/** Runs to its end: { code, stdout, stderr }. The machine is shared: how late the bench itself is
 * does not decide about these tests. */
function bench(...args) {
    const more = args.some((arg) => /^(--help|--version)$/.test(arg)) ? [] : ['--max-lag', '1h'];
    return new Promise((resolve) => {
        execFile(program, [...args.map(String), ...more], { timeout: 60000, maxBuffer: 1 << 24 },
            (error, stdout, stderr) => resolve({ code: error ? error.code : 0, stdout, stderr }));
    });
}

let outs = 0;
/** The same, with what it wrote: { code, report, dir, read(file) }. */
async function benchReport(...args) {
    const out = path.join(dir, `out-${outs++}`);
    const end = await bench(...args, '--out', out);
    const read = (file) => fs.readFileSync(path.join(out, file), 'utf8');
    assert.ok(fs.existsSync(path.join(out, 'report.json')), end.stdout + end.stderr);
    return { ...end, dir: out, read, report: JSON.parse(read('report.json')) };
}

const controlled = () => ['--target', stub.url, '--control-port', stub.controlPort];
const onlyRun = ({ report }) => report.sides[0].runs[0];

// ---- what agents do ----

test('connects all agents and counts what the controller saw', async () => {
    await stub.reset();
    const run = onlyRun(await benchReport('storm', ...controlled(), '--agents', 200, '--within', '200ms'));
    const { connects, connects_ok: ok } = await stub.counts();
    assert.equal(connects, 200);
    assert.equal(ok, 200);
    assert.equal(run.figures.controller_bcrypts, 200);
    assert.equal(run.figures.errors, 0);
    assert.equal(run.figures.unconnected, 0);
    assert.ok(run.figures.all_connected > 150e3, 'not before they were due');
    assert.equal(run.stages[0].connect_us.count, 200);
});

test('beats at its interval, each agent with its own token', async () => {
    await stub.reset();
    const run = onlyRun(await benchReport('steady', ...controlled(), '--agents', 50, '--within', '100ms',
        '--beat', '200ms', '--for', '2s'));
    const beats = (await stub.requests()).filter((r) => r.target.endsWith('/heartbeat'));
    assert.ok(beats.length >= 50 * 8 && beats.length <= 50 * 11, `${beats.length} heartbeats`);
    assert.ok(beats.every((r) => r.status === 201));
    assert.equal(run.figures.errors, 0);
    assert.ok(run.stages[1].heartbeat_us.count > 0);
});

test('keeps one connection per agent, or makes one per call', async () => {
    const args = ['steady', ...controlled(), '--agents', 20, '--within', '100ms', '--beat', '250ms', '--for', '1s'];
    const kept = onlyRun(await benchReport(...args));
    const made = onlyRun(await benchReport(...args, '--connections', 'new'));
    const sum = (run, name) => run.stages.reduce((all, stage) => all + stage.counts[name], 0);
    assert.equal(sum(kept, 'opened'), 20);
    assert.ok(sum(made, 'opened') > 60);
    assert.equal(sum(made, 'opened'), sum(made, 'connects') + sum(made, 'heartbeats'));
});

test('reads agents from a file', async () => {
    await stub.reset();
    const file = path.join(dir, 'agents');
    const lines = [7, 400].map((n) => `${agentId(n)} ${agentSecret(n)}`);
    fs.writeFileSync(file, `# two of them\n${lines.join('\n')}\n`);
    const end = await bench('storm', ...controlled(), '--agents', 2, '--agents-file', file, '--within', '10ms');
    assert.equal(end.code, 0, end.stdout + end.stderr);
    const agents = (await stub.requests()).map((r) => r.agent).sort();
    assert.deepEqual(agents, [agentId(7), agentId(400)]);
    const short = await bench('storm', ...controlled(), '--agents', 3, '--agents-file', file);
    assert.equal(short.code, 64);
    assert.match(short.stderr, /only 2 agents/);
    assert.doesNotMatch(short.stderr + end.stdout + end.stderr, /agent-secret/);
});

test('stops agents whose secret is refused, and says that not all are connected', async () => {
    const file = path.join(dir, 'wrong');
    fs.writeFileSync(file, `${agentId(1)} ${agentSecret(1)}\n${agentId(2)} wrong\n`);
    const end = await benchReport('storm', ...controlled(), '--agents', 2, '--agents-file', file,
        '--within', '10ms', '--fail-if', 'unconnected>0');
    assert.equal(end.code, 1);
    assert.equal(onlyRun(end).figures.unconnected, 1);
    assert.equal(onlyRun(end).figures.all_connected, null);
    assert.equal(onlyRun(end).stages[0].counts.answers_401, 1);
});

test('works through the gateway over TLS, resumes sessions, and nothing is lost', async () => {
    await stub.reset();
    const gateway = await startGateway(stub);
    const { certificateFile } = testCertificate();
    try {
        const run = onlyRun(await benchReport('steady', ...controlled(), '--agents', 30,
            '--target', `https://127.0.0.1:${gateway.port}`, '--ca', certificateFile,
            '--health-port', gateway.healthPort, '--gateway-pid', gateway.child.pid,
            '--within', '200ms', '--beat', '400ms', '--for', '2s', '--connections', 'new'));
        assert.equal(run.figures.errors, 0);
        assert.equal(run.figures.lost, 0);
        assert.ok(run.figures.gateway_memory > 0);
        assert.ok(run.stages[1].counts.resumptions > 0);
        assert.ok(run.figures.controller_requests < run.figures.calls);
    } finally {
        await gateway.stop();
    }
});

test('refuses a certificate that it was not told to trust', async () => {
    const gateway = await startGateway(stub);
    const args = ['storm', '--target', `https://127.0.0.1:${gateway.port}`, '--agents', 2, '--within', '10ms',
        '--give-up', '300ms'];
    try {
        const wary = onlyRun(await benchReport(...args));
        assert.equal(wary.figures.unconnected, 2);
        assert.ok(wary.stages[0].counts.tls_failed >= 2);
        const blind = onlyRun(await benchReport(...args, '--insecure'));
        assert.equal(blind.figures.unconnected, 0);
    } finally {
        await gateway.stop();
    }
});

// ---- coordinated omission ----

test('counts latency from when a call was due: a stall is seen by all who were due in it', async () => {
    await stub.reset();
    const file = path.join(dir, 'stall.yaml');
    fs.writeFileSync(file, `
stages:
  - {do: connect, within: 100ms}
  - {do: controller, delay: 1s, for: 2500ms, name: stall}
`);
    const run = onlyRun(await benchReport(file, ...controlled(), '--agents', 10, '--beat', '100ms', '--phase', 'spread'));
    await stub.set({ delay_ms: 0 });
    const stall = run.stages[1].heartbeat_us;
    assert.ok(stall.p50 > 900e3, `p50 ${stall.p50}`);
    // One second per answer, ten due in each: whoever is measured from its sending would see 1 s.
    assert.ok(stall.max > 1500e3, `max ${stall.max}`);
});

// ---- HdrHistogram's tools ----

/** The library in a directory of its own, or why it cannot be had. */
async function hdrHistogram() {
    const from = path.join(root, 'tests/e2e/support/hdr-histogram');
    const to = path.join(dir, 'hdr-histogram');
    fs.cpSync(from, to, { recursive: true });
    try {
        execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'],
            { cwd: to, timeout: 40000, stdio: 'pipe' });
    } catch (error) {
        return { why: `npm cannot get hdr-histogram-js: ${String(error.stderr || error.message).split('\n')[0]}` };
    }
    const reader = path.join(to, 'node_modules/hdr-histogram-js/dist/index.js');
    return { hdr: (await import(pathToFileURL(reader))).default };
}

test('writes histograms that HdrHistogram reads', async (t) => {
    const { hdr, why } = await hdrHistogram();
    if (!hdr) {
        t.skip(why);
        return;
    }
    const end = await benchReport('steady', ...controlled(), '--agents', 50, '--within', '200ms',
        '--beat', '200ms', '--for', '2s');
    const read = { connect: hdr.build(), heartbeat: hdr.build() };
    const lines = end.read(fs.readdirSync(end.dir).find((file) => file.endsWith('.hlog')));
    for (const line of lines.split('\n').filter((l) => l.startsWith('Tag='))) {
        const [tag, start, length, max, histogram] = line.split(',');
        const one = hdr.decodeFromCompressedBase64(histogram);
        assert.ok(Number(start) >= 0 && Number(length) > 0);
        assert.ok(Math.abs(one.maxValue / 1000 - Number(max)) <= Number(max) / 1000 + 0.001);
        read[tag.slice(4)].add(one);
    }
    const near = (a, b) => assert.ok(Math.abs(a - b) <= b / 500, `${a} for ${b}`);
    const run = onlyRun(end);
    for (const kind of ['connect', 'heartbeat']) {
        const stages = run.stages.map((stage) => stage[`${kind}_us`]).filter((h) => h.count > 0);
        const count = stages.reduce((sum, h) => sum + h.count, 0);
        // A heartbeat may end after its stage and before its second does.
        assert.ok(read[kind].totalCount >= count && read[kind].totalCount <= count + 50, kind);
    }
    near(read.connect.getValueAtPercentile(99), run.figures.connect_p99);
    near(read.connect.getValueAtPercentile(50), run.figures.connect_p50);
});

// ---- processes of its own ----

test('starts a stub and a gateway of its own, compares both, and leaves nothing behind', async () => {
    const end = await benchReport('storm', '--compare', 'direct', 'gateway', '--runs', 2, '--agents', 40,
        '--within', '200ms', '--connect-cost-ms', 5, '--warm', '--warm-within', '300ms');
    assert.equal(end.code, 0, end.stdout + end.stderr);
    const [direct, gateway] = end.report.sides;
    assert.deepEqual([direct.name, gateway.name], ['direct', 'gateway']);
    assert.equal(direct.runs.length, 2);
    assert.equal(gateway.runs.length, 2);
    assert.equal(direct.runs[1].figures.controller_bcrypts, 40);
    assert.ok(gateway.runs[1].figures.controller_bcrypts < 40, 'known agents are answered from cache');
    const { controller_bcrypts: bcrypts } = end.report.comparison;
    assert.equal(bcrypts.a.runs, 2);
    assert.ok(bcrypts.b_minus_a_95_percent[0] < 0);
    for (const side of ['direct', 'gateway']) {
        const url = new URL(end.report.sides.find((s) => s.name === side).runs[0].url);
        await assert.rejects(fetch(`http://127.0.0.1:${url.port}/`), 'its port is closed again');
    }
    assert.match(end.read('report.html'), /direct[\s\S]*<svg[\s\S]*gateway/);
    assert.doesNotMatch(end.read('report.html'), /(src|href)=|@import|url\(/, 'needs nothing else');
});

test('survives chaos: the controller hangs, refuses, fails; the gateway dies and comes back', async () => {
    const file = path.join(dir, 'chaos.yaml');
    fs.writeFileSync(file, `
with-gateway: true
connect-cost-ms: 1
agents: 30
beat: 200ms
stages:
  - {do: connect, within: 200ms}
  - {do: controller, state: hang, for: 500ms}
  - {do: controller, state: up, for: 300ms}
  - {do: controller, state: refuse, for: 500ms}
  - {do: controller, state: up, fail: 5, for: 500ms}
  - {do: gateway, state: kill, for: 400ms}
  - {do: gateway, state: start, for: 800ms}
  - {do: run, command: 'exit 3', name: a command}
  - {do: redis, state: pause}
`);
    const end = await benchReport(file);
    const run = onlyRun(end);
    const by = (name) => run.stages.find((stage) => stage.name === name);
    assert.equal(by('controller hang').counts.answers_5xx, 0, 'agents do not notice');
    assert.ok(by('gateway kill').counts.refused + by('gateway kill').counts.closed > 0, 'this they do');
    assert.ok(by('gateway start').counts.heartbeats_ok > 0);
    assert.equal(run.figures.lost, null, 'what a killed gateway held cannot be counted');
    assert.equal(by('redis pause').skipped, true);
    assert.match(run.notes, /redis pause: skipped/);
});

test('has a Redis of its own for the gateway, stops and starts it, and leaves nothing behind', async () => {
    const file = path.join(dir, 'redis.yaml');
    fs.writeFileSync(file, `
with-gateway: true
with-redis: true
connect-cost-ms: 1
agents: 20
beat: 200ms
stages:
  - {do: connect, within: 200ms}
  - {do: redis, state: pause, for: 300ms}
  - {do: redis, state: resume, for: 300ms}
  - {do: redis, state: kill, for: 300ms}
  - {do: redis, state: start, for: 500ms}
  - {do: run, command: 'cat /proc/$PPID/task/$PPID/children > ${dir}/children'}
`);
    const own = fs.mkdtempSync(path.join(dir, 'tmp-'));
    const out = path.join(dir, 'redis');
    const child = new Child(program, [file, '--out', out, '--max-lag', '1h'], { env: { TMPDIR: own } });
    await eventually('its directory', () => fs.readdirSync(own).length === 1);
    assert.equal((await within(60000, 'the bench to end', child.exited)).code, 0);
    const [{ runs: [run] }] = JSON.parse(fs.readFileSync(path.join(out, 'report.json'), 'utf8')).sides;
    assert.deepEqual(run.stages.filter(({ skipped }) => skipped), []);
    assert.equal(run.figures.errors, 0, 'agents do not notice');
    assert.deepEqual(fs.readdirSync(own), []);
    const pids = fs.readFileSync(path.join(dir, 'children'), 'utf8').trim().split(' ').map(Number);
    assert.ok(pids.length >= 3, 'stub, gateway, Redis');
    for (const pid of pids) assert.ok(gone(pid), String(pid));
});

test('attacks: nobody gets in, and agents go on', async () => {
    const end = await benchReport('attack', '--with-gateway', '--agents', 20, '--within', '100ms', '--for', '1s',
        '--rate', 50, '--beat', '200ms', '--connect-cost-ms', 0, '--fail-if', 'attack_let_in>0');
    assert.equal(end.code, 0, end.stdout + end.stderr);
    const run = onlyRun(end);
    const by = (name) => run.stages.find((stage) => stage.name === name);
    for (const kind of ['forged', 'wrong-secret']) {
        assert.ok(by(`attack: ${kind}`).counts.attack_refused > 20, kind);
        assert.ok(by(`attack: ${kind}`).counts.heartbeats_ok > 0, kind);
    }
    assert.ok(by('attack: slow').counts.attack_calls > 20);
    assert.equal(run.figures.errors, 0);
});

test('rolls: agents say goodbye and come back', async () => {
    const run = onlyRun(await benchReport('rolling', ...controlled(), '--agents', 20, '--within', '100ms',
        '--percent', '1000%', '--for', '2s', '--beat', 0));
    const { counts } = run.stages[1];
    assert.ok(counts.disconnects_ok >= 5, `${counts.disconnects_ok} restarts`);
    assert.equal(counts.connects_ok, counts.disconnects_ok);
    assert.equal(run.figures.unconnected, 0);
});

// ---- verdicts and manners ----

test('fails when a limit is broken, and says which', async () => {
    const end = await bench('storm', ...controlled(), '--agents', 5, '--within', '10ms', '--fail-if', 'p99>1us',
        '--fail-if', 'errors>0');
    assert.equal(end.code, 1);
    assert.match(end.stdout, /FAILED limit: p99 > 1 us: it is /);
    assert.doesNotMatch(end.stdout, /errors > 0: it is/);
});

test('says that a run is not valid when it was late itself', async () => {
    await stub.reset();
    const child = new Child(program, ['steady', ...controlled(), '--agents', 20, '--within', '50ms',
        '--beat', '50ms', '--for', '3s', '--max-lag', '50ms'].map(String));
    try {
        await eventually('beats', async () => (await stub.counts()).heartbeats > 20);
        child.signal('SIGSTOP');
        await new Promise((resolve) => setTimeout(resolve, 400)); // how late it is then
        child.signal('SIGCONT');
        const { code } = await within(30000, 'the bench to end', child.exited);
        assert.equal(code, 1);
        assert.match(child.lines.join('\n'), /INVALID/);
    } finally {
        if (!child.ended) await child.kill();
    }
});

test('keeps away from other machines unless told that they are ours', async () => {
    const end = await bench('storm', '--target', 'http://192.0.2.1:80', '--agents', 1, '--give-up', '100ms');
    assert.equal(end.code, 64);
    assert.match(end.stderr, /--i-own-this-target/);
});

test('explains itself, and what is wrong with a command line', async () => {
    const help = await bench('--help');
    assert.equal(help.code, 0);
    assert.equal((await bench('-h')).stdout, help.stdout);
    for (const word of ['storm', '--with-gateway', '--fail-if', 'all_connected', 'Exit code'])
        assert.ok(help.stdout.includes(word), word);
    for (const [args, why] of [
        [[], /which scenario/],
        [['storm'], /against whom/],
        [['storm', '--direct', '--with-gateway'], /against whom/],
        [['storm', '--direct', '--agents', '0'], /--agents: from 1 to 50,000/],
        [['storm', '--direct', '--within', '5'], /--within: not a number with its unit/],
        [['storm', '--direct', '--fail-if', 'speed>3'], /not a figure/],
        [['storm', '--compare', 'direct'], /takes two/],
        [['calm', '--direct'], /no scenario and no file/],
        [['storm', '--direct', '--nonsense'], /unknown option/],
        [['storm', '--target', 'ftp://x'], /not a URL/],
        [['storm', '--target', 'http://127.0.0.1:1', '--agents-file', '/no/such'], /--agents-file \/no\/such: No such file/],
    ]) {
        const end = await bench(...args);
        assert.equal(end.code, 64, args.join(' '));
        assert.match(end.stderr, why);
    }
});

test('says before the run that the report has no place to go to', async () => {
    const end = await bench('storm', '--direct', '--agents', 1, '--out', '/no/such/place');
    assert.equal(end.code, 1);
    assert.match(end.stderr, /--out \/no\/such\/place: No such file/);
    assert.doesNotMatch(end.stdout, /storm/);
});

test('names the line of a scenario that is wrong', async () => {
    const file = path.join(dir, 'wrong.yaml');
    for (const [text, why] of [
        ['stages:\n  - {do: hold}\n', /line 2: hold needs `for`/],
        ['stages:\n  - {do: fly}\n', /line 2: no stage does that: fly/],
        ['stages: []\n', /there is no stage/],
        ['agents: 3\nspeed: 9\nstages:\n  - {do: hold, for: 1s}\n', /line 2: there is no such option: speed/],
        ['- a\n', /a scenario is a mapping/],
        ['stages: [', /this is not YAML/],
    ]) {
        fs.writeFileSync(file, text);
        const end = await bench(file, '--direct');
        assert.equal(end.code, 64, text);
        assert.match(end.stderr, why);
    }
});

test('ends at Ctrl-C with what it has, and its children end, too', async () => {
    const out = path.join(dir, 'partial');
    const child = new Child(program, ['steady', '--with-gateway', '--agents', '10', '--for', '1h', '--beat', '100ms',
        '--connect-cost-ms', '0', '--within', '50ms', '--max-lag', '1h', '--out', out]);
    const children = () => fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
    await eventually('both to run', () => children().length === 2);
    const pids = children();
    await new Promise((resolve) => setTimeout(resolve, 1000)); // it may be anywhere in its run
    child.signal('SIGINT');
    const { code } = await within(20000, 'the bench to end', child.exited);
    assert.equal(code, 1);
    assert.match(child.lines.join('\n'), /PARTIAL/);
    assert.equal(JSON.parse(fs.readFileSync(path.join(out, 'report.json'), 'utf8')).partial, true);
    for (const pid of pids) assert.throws(() => process.kill(Number(pid), 0), { code: 'ESRCH' });
});

test('its children end even when it is killed', async () => {
    const child = new Child(program, ['steady', '--with-gateway', '--agents', '5', '--for', '1h']);
    const children = () => fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
    await eventually('both to run', () => children().length === 2);
    const pids = children();
    await child.kill();
    for (const pid of pids) await eventually(`${pid} to end`, () => gone(Number(pid)));
});

function gone(pid) {
    try {
        process.kill(pid, 0);
        // Nobody may have waited for it: a zombie is gone, too.
        return /\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
    } catch {
        return true;
    }
}
