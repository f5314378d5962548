// A real Prometheus scrapes a real gateway: what agents do can be asked for in PromQL, every series
// is taken, and the alerts and the dashboard's queries are evaluated on them. Prints what is wrong;
// exit code 1 then. Needs prometheus and redis-server; node tests/prometheus/scrape.mjs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Child, eventually, root } from '../e2e/support/child.mjs';
import { connect, path as ofAgent } from '../e2e/support/connecting.mjs';
import { Gateway } from '../e2e/support/gateway.mjs';
import { Redis } from '../e2e/support/redis.mjs';
import { Stub } from '../e2e/support/stub.mjs';
import { call } from '../e2e/support/wire.mjs';

const SERIES_MAX = 500;

function freePort() {
    return new Promise((resolve) => {
        const server = net.createServer();
        server.listen(0, '127.0.0.1', () => {
            const { port } = server.address();
            server.close(() => resolve(port));
        });
    });
}

class Prometheus {
    static async start(dir, target) {
        const prometheus = new Prometheus();
        prometheus.port = await freePort();
        const config = path.join(dir, 'prometheus.json');
        fs.writeFileSync(config, JSON.stringify({
            global: { scrape_interval: '1s', evaluation_interval: '1s' },
            rule_files: [path.join(root, 'deploy/prometheus/rules.yaml')],
            scrape_configs: [{ job_name: 'aiwm-gateway', static_configs: [{ targets: [target] }] }],
        }));
        prometheus.child = new Child('prometheus', [`--config.file=${config}`,
            `--storage.tsdb.path=${path.join(dir, 'data')}`, `--web.listen-address=127.0.0.1:${prometheus.port}`]);
        return prometheus;
    }

    async api(target) {
        const response = await fetch(`http://127.0.0.1:${this.port}/api/v1/${target}`);
        const answer = await response.json();
        assert.equal(answer.status, 'success', `${target}: ${answer.error}`);
        return answer.data;
    }

    /** The value of a query that gives one; undefined: none (yet). */
    async value(query) {
        const { result } = await this.api(`query?query=${encodeURIComponent(query)}`);
        return result.length === 1 ? Number(result[0].value[1]) : undefined;
    }

    /** Until the query gives that. */
    async expect(query, wanted) {
        await eventually(`${query} = ${wanted}`, async () => (await this.value(query).catch(() => undefined)) === wanted, 20000);
    }
}

/** Every query of the dashboard, with the variables that Grafana fills in. */
function dashboardQueries() {
    const dashboard = JSON.parse(fs.readFileSync(path.join(root, 'deploy/prometheus/dashboard.json'), 'utf8'));
    return dashboard.panels.flatMap((panel) => panel.targets ?? []).map(({ expr }) => expr.replaceAll('$__rate_interval', '1m'));
}

async function check(prometheus, gateway) {
    await prometheus.expect('up{job="aiwm-gateway"}', 1);
    const { json } = await connect(gateway, 1);
    for (let i = 0; i < 5; i++)
        assert.equal((await call(gateway.target, 'POST', ofAgent(1, 'heartbeat'), { token: json.accessToken, body: { status: 'online' } })).status, 201);
    await prometheus.expect('aiwm_gateway_requests_total{route="heartbeat"}', 5);
    await prometheus.expect('aiwm_gateway_request_duration_seconds_count{route="heartbeat"}', 5);
    await prometheus.expect('aiwm_gateway_heartbeat_forward_lag_seconds_count', 1);
    await prometheus.expect('aiwm_gateway_controller_duration_seconds_count{class="connect"}', 1);
    const taken = await prometheus.value('scrape_samples_scraped');
    assert.ok(taken > 100 && taken <= SERIES_MAX, `${taken} series`);
    assert.equal(await prometheus.value('scrape_samples_post_metric_relabeling'), taken, 'all are taken');
    for (const query of dashboardQueries()) {
        const { result } = await prometheus.api(`query?query=${encodeURIComponent(query)}`);
        assert.ok(result.length > 0, `the dashboard asks for nothing: ${query}`);
    }
    await eventually('the alerts are evaluated', async () => {
        const rules = (await prometheus.api('rules')).groups.flatMap((group) => group.rules);
        return rules.length > 0 && rules.every((rule) => rule.health === 'ok');
    });
    console.log(`${taken} series`);
}

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aiwm-gateway-prometheus-'));
let stub, redis, gateway, prometheus;
try {
    stub = await Stub.start({ transcripts: false });
    redis = await Redis.start({ appendonly: true });
    gateway = await Gateway.start(stub, { config: { redis: { url: redis.url } } });
    prometheus = await Prometheus.start(dir, `127.0.0.1:${gateway.healthPort}`);
    await check(prometheus, gateway);
} catch (error) {
    console.error(error.message, prometheus?.child.stderr.split('\n').slice(-5).join('\n') ?? '');
    process.exitCode = 1;
} finally {
    await prometheus?.child.kill();
    await gateway?.discard();
    await redis?.discard();
    await stub?.stop();
    fs.rmSync(dir, { recursive: true, force: true });
}
