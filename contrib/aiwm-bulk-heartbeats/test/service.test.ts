import 'reflect-metadata';
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Schema } from 'mongoose';
import { of } from 'rxjs';
import { ServiceTokenGuard } from '../src/guard';
import { BulkHeartbeatsService } from '../src/service';
import { FakeAgents, agentId, bulkWriteError } from './support';

const now = new Date('2026-11-23T04:23:11.613Z');
const earlier = '2026-11-23T04:22:00.000Z';
const later = '2026-11-23T04:23:00.000Z';
const beat = (n: number, at = later, over: object = {}) => ({
  agentId: agentId(n),
  status: 'online',
  at,
  ...over,
});

let agents: FakeAgents;
let service: BulkHeartbeatsService;
beforeEach(() => {
  agents = new FakeAgents(10);
  service = new BulkHeartbeatsService(agents.model);
});
const lastBeat = (n: number) => agents.stored.get(agentId(n))?.lastHeartbeatAt?.toISOString();
const statuses = async (items: object[]) =>
  (await service.record(items, now)).map((result) => result.status);

test('records the time each beat was received, in one read and one write', async () => {
  assert.deepEqual(await service.record([beat(2, later), beat(1, earlier)], now), [
    { agentId: agentId(2), status: 200 },
    { agentId: agentId(1), status: 200 },
  ]);
  assert.deepEqual([lastBeat(1), lastBeat(2)], [earlier, later]);
  assert.equal(agents.finds.length, 1);
  assert.equal(agents.writes.length, 1);
});

test('writes unordered, only to agents that are not deleted, and marks them updated as the controller does', async () => {
  await service.record([beat(3)], now);
  const [{ operations, options }] = agents.writes as [(typeof agents.writes)[0]];
  assert.equal((options as { ordered: boolean }).ordered, false);
  assert.equal(operations[0]!.updateOne.filter.isDeleted, false);
  assert.equal(operations[0]!.updateOne.filter._id.toHexString(), agentId(3));
  assert.deepEqual(operations[0]!.updateOne.update.$max, { lastHeartbeatAt: new Date(later) });
  assert.ok(operations[0]!.updateOne.update.$set?.updatedAt instanceof Date);
});

test('never moves the last heartbeat back', async () => {
  await service.record([beat(4, later)], now);
  assert.deepEqual(await statuses([beat(4, earlier), beat(4, earlier)]), [200, 200]);
  assert.equal(lastBeat(4), later);
});

test('takes a time ahead of the controller for now', async () => {
  await service.record([beat(5, '2030-01-01T00:00:00Z')], now);
  assert.equal(lastBeat(5), now.toISOString());
});

test('says of unknown and deleted agents what the controller says', async () => {
  agents.stored.get(agentId(7))!.isDeleted = true;
  const results = await service.record([beat(6), beat(7), beat(99)], now);
  assert.deepEqual(
    results.map((result) => result.status),
    [200, 404, 404],
  );
  assert.equal(results[1]!.message, `Agent with ID ${agentId(7)} not found`);
  assert.equal(agents.writes[0]!.operations.length, 1);
});

test('finds an id in upper case, and echoes it as spelled', async () => {
  const spelled = agentId(8).toUpperCase();
  assert.deepEqual(await service.record([beat(8, later, { agentId: spelled })], now), [
    { agentId: spelled, status: 200 },
  ]);
  assert.equal(lastBeat(8), later);
});

test('asks again only for the beats that were not written', async () => {
  agents.failing = [1];
  const results = await service.record([beat(99), beat(1), beat(2), beat(3)], now);
  assert.deepEqual(
    results.map((result) => result.status),
    [404, 200, 500, 200],
  );
  assert.deepEqual([lastBeat(1), lastBeat(2), lastBeat(3)], [later, undefined, later]);
});

test('fails as a whole when the database does', async () => {
  for (const error of [new Error('connection lost'), bulkWriteError([])]) {
    agents.failing = error;
    await assert.rejects(service.record([beat(1)], now), error);
  }
});

test('fails rather than leaving out what mongoose cannot cast', async () => {
  const strange = new FakeAgents(1, Schema.Types.ObjectId);
  await assert.rejects(new BulkHeartbeatsService(strange.model).record([beat(0)], now));
});

test('refuses a bad item and records the others', async () => {
  const bad: [string, unknown][] = [
    ['agentId', 'zzz'],
    ['agentId', undefined],
    ['agentId', 7],
    ['agentId', agentId(1) + '0'],
    ['status', 'offline'],
    ['status', undefined],
    ['status', ['online']],
    ['metrics', 5],
    ['metrics', [1]],
    ['at', undefined],
    ['at', 5],
    ['at', 'now'],
    ['at', '2026-11-23'],
    ['at', '2026-02-30T00:00:00Z'],
    ['at', '2026-11-23T04:22:00+01:00'],
    ['at', '2026-W01-1T00:00:00Z'],
    ['at', '2026-11-23T25:00:00Z'],
  ];
  for (const [name, value] of bad) {
    const results = await service.record(
      [beat(1), beat(2, later, { [name]: value }), beat(3)],
      now,
    );
    assert.deepEqual(
      results.map((result) => result.status),
      [200, 400, 200],
      `${name}: ${value}`,
    );
    assert.equal(results[1]!.message, 'Validation failed');
    assert.match(results[1]!.errors![0]!, new RegExp(`^${name} must be`), `${name}: ${value}`);
  }
});

test('takes metrics that are absent, null or an object, and ignores what it does not know', async () => {
  const items = [
    {},
    { metrics: null },
    { metrics: { cpu: 0.1, deep: { er: [1] } } },
    { token: 'x', $where: 1 },
  ];
  assert.deepEqual(
    await statuses(items.map((over, n) => beat(n, later, over))),
    [200, 200, 200, 200],
  );
});

test('asks the database nothing when there is nothing to ask', async () => {
  assert.deepEqual(await service.record([], now), []);
  assert.deepEqual(await statuses([{}]), [400]);
  assert.deepEqual([agents.finds.length, agents.writes.length], [0, 0]);
});

test("lets nobody in whom the controller's guard does not, whichever way that says it", async () => {
  const user = { type: 'service', roles: ['service.heartbeats'] };
  const context = { switchToHttp: () => ({ getRequest: () => ({ user }) }) } as never;
  for (const genuine of [true, false])
    for (const verdict of [genuine, Promise.resolve(genuine), of(genuine)])
      assert.equal(
        await new ServiceTokenGuard({ canActivate: () => verdict }).canActivate(context),
        genuine,
      );
});
