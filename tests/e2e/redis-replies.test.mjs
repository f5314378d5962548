// Replies that no Redis of ours gives: of too many elements, too large, without an end. The connection
// is given up before they cost memory, agents notice nothing, and all is well when they stop.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { before, describe, test } from 'node:test';
import { eventually } from './support/child.mjs';
import { Impostor } from './support/impostor.mjs';
import { Redis } from './support/redis.mjs';
import { changes, isCounted, isUp, unnoticed, withRedis } from './support/troubles.mjs';

const SUITE = { timeout: 120000, concurrency: 1 };
const sanitized = (process.env.BUILD ?? '').match(/asan|tsan/); // their own memory is not ours to bound
const MIB = 1024;

/* Two connections (a worker's, the one between replicas) with 8 MiB each of a reply, and as much of
 * its bytes while they come: 32 MiB. Without a bound eight million integers cost 550 MiB. */
const MORE_MAX = 40 * MIB;

const peak = (gateway) =>
    Number(/^VmHWM:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${gateway.child.pid}/status`, 'utf8'))[1]);

const repeated = (text, times) => Buffer.from(text.repeat(times));
const zeros = (bytes) => ({ piece: Buffer.alloc(1e6), times: bytes / 1e6 });

/** Each is up to 100 MB of bytes on the wire. */
const ATTACKS = {
    'eight million integers': { head: '*8000000\r\n', piece: repeated(':1\r\n', 100000), times: 80 },
    'an array that is announced and does not come': { head: '*2000000000\r\n', piece: '', times: 0 },
    'arrays of arrays': { head: '*1000\r\n', piece: repeated(`*1000\r\n${':1\r\n'.repeat(1000)}`, 10), times: 100 },
    'arrays in arrays without end': { head: '', piece: repeated('*1\r\n', 100000), times: 100 },
    'a text that is announced and does not come': { head: '$536870912\r\n', piece: '', times: 0 },
    'a text of 100 MB': { head: '$100000000\r\n', ...zeros(100e6) },
    'many texts, none of them large': {
        head: '*1000\r\n', piece: Buffer.concat([Buffer.from('$100000\r\n'), Buffer.alloc(100000), Buffer.from('\r\n')]),
        times: 1000,
    },
    'a status that does not end': { head: '+', ...zeros(100e6) },
    'an error that does not end': { head: '-ERR ', ...zeros(100e6) },
};

async function withImpostor(setup, body) {
    const redis = await Redis.start({ appendonly: true });
    const impostor = await Impostor.start(redis.port);
    try {
        await withRedis({ redis, settings: () => ({ url: `redis://127.0.0.1:${impostor.port}` }), ...setup },
            (gateway, _, stub) => body(gateway, impostor, stub));
    } finally {
        await impostor.stop();
        await redis.discard();
    }
}

/** What it costs the gateway (kB) that those who ask with `word` get `answer`, for `times` times. */
async function suffered(gateway, impostor, stub, word, answer, times = 4) {
    await isUp(gateway);
    await unnoticed(gateway, async () => {});
    const before = peak(gateway);
    const delivered = (await stub.counts()).heartbeats;
    await unnoticed(gateway, async () => {
        impostor.answers(word, answer);
        await eventually('it gives up the connection, again and again', () =>
            impostor.given.filter(({ closed }) => closed).length >= times, 20000);
        impostor.passes();
        await isUp(gateway);
    });
    assert.ok((await stub.counts()).heartbeats > delivered, 'heartbeats went on to the controller');
    return peak(gateway) - before;
}

describe('a reply of Redis', SUITE, () => {
    let control;
    before(() => withImpostor({}, async (gateway, impostor, stub) => {
        control = await suffered(gateway, impostor, stub, 'EVALSHA', 'reset');
    }));

    for (const [name, answer] of Object.entries(ATTACKS))
        test(`${name}: the connection is given up, memory is bounded`, () =>
            withImpostor({}, async (gateway, impostor, stub) => {
                const more = await suffered(gateway, impostor, stub, 'EVALSHA', answer) - control;
                assert.ok(more < MORE_MAX || sanitized, `${more} kB beside ${control} kB of the control`);
                await isCounted(gateway, 'oversized');
                await eventually('it is well', () => changes(gateway).at(-1) === 'well');
                assert.ok(changes(gateway).every((word, i) => word === (i % 2 ? 'well' : 'oversized')),
                    changes(gateway).join());
            }));

    test('that is no RESP is refused by its name', () => withImpostor({}, async (gateway, impostor, stub) => {
        await suffered(gateway, impostor, stub, 'EVALSHA', { head: '%1\r\n', piece: '', times: 0 });
        await isCounted(gateway, 'protocol');
    }));

    test('to what follows a stream: the same, and it is said once', () =>
        withImpostor({}, async (gateway, impostor, stub) => {
            const answer = ATTACKS['eight million integers'];
            const more = await suffered(gateway, impostor, stub, 'XREAD', answer) - control;
            assert.ok(more < MORE_MAX || sanitized, `${more} kB beside ${control} kB of the control`);
            await isCounted(gateway, 'oversized');
            const said = gateway.log.filter(({ message }) => /^redis answered a stream read/.test(message));
            assert.deepEqual(said.map(({ name, reason }) => [name, reason]), [['redis', 'oversized']]);
            assert.deepEqual(changes(gateway), [], 'the others are well');
            await eventually('the stream is read again', async () => (await gateway.metric('purge_channel_up')) === 1);
        }));

    test('to what follows the controller\'s events: the same', async () => {
        const redis = await Redis.start();
        const impostor = await Impostor.start(redis.port);
        try {
            await withRedis({
                redis, settings: () => ({ url: redis.url }),
                config: { aiwm_events: { redis_url: `redis://127.0.0.1:${impostor.port}` } },
            }, async (gateway, _, stub) => {
                const more = await suffered(gateway, impostor, stub, 'XREAD', ATTACKS['arrays of arrays']) - control;
                assert.ok(more < MORE_MAX || sanitized, `${more} kB beside ${control} kB of the control`);
                const said = await gateway.logged('redis answered a stream read with too large a reply: connection closed');
                assert.equal(said.reason, 'oversized');
                await eventually('they are read again', async () => (await gateway.metric('aiwm_events_up')) === 1);
            });
        } finally {
            await impostor.stop();
            await redis.discard();
        }
    });

    test('of a sentinel: the same', async () => {
        const impostor = await Impostor.start();
        const redis = await Redis.start();
        try {
            await withRedis({
                redis, settings: () => ({ url: `redis+sentinel://127.0.0.1:${impostor.port}/fleet` }),
            }, async (gateway, _, stub) => {
                const before = peak(gateway);
                await unnoticed(gateway, async () => {
                    impostor.answers('SENTINEL', ATTACKS['eight million integers']);
                    await eventually('it gives up the connection, again and again', () =>
                        impostor.given.filter(({ closed }) => closed).length >= 4, 20000);
                });
                const more = peak(gateway) - before - control;
                assert.ok(more < MORE_MAX || sanitized, `${more} kB beside ${control} kB of the control`);
                assert.ok((await stub.counts()).heartbeats > 0);
                await isCounted(gateway, 'oversized');
                // Before it was told what to answer it said nothing.
                assert.match(changes(gateway).join(), /^(oversized|timeout)$/);
            });
        } finally {
            await impostor.stop();
            await redis.discard();
        }
    });
});
