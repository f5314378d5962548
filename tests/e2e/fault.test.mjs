// A short look at what `make fault` does at length: kills -9 under load, nothing promised is lost.
// FAULT_SEED=N for another run than the one that once found something; `make fault` chooses its own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { complaint, round } from '../fault/round.mjs';
import { Dice } from './support/dice.mjs';

const seed = Number(process.env.FAULT_SEED ?? 1753815889);
const rounds = [
    { faults: ['redis', 'stub'], replicas: 1 },
    { faults: ['gateway', 'redis', 'stub'], replicas: 2 },
    { faults: ['gateway'], replicas: 3, bulk: true },
    { faults: ['pause', 'gateway'], replicas: 2 },
];

for (const [n, options] of rounds.entries()) {
    const name = `${options.faults.join(', ')} killed or stopped under load, ${options.replicas} replicas (seed ${seed})`;
    test(name, { timeout: 120000 }, async (t) => {
        const result = await round({ seconds: 4, agents: 20, ...options }, new Dice(seed + n));
        t.diagnostic(JSON.stringify({ ...result.happened, ...result.figures, settledMs: result.settledMs }));
        assert.equal(complaint(result), undefined);
    });
}
