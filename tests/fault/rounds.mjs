// Kills -9 under load, round after round:
//
//   BUILD=build/tsan node tests/fault/rounds.mjs [--rounds 20] [--seed N] [--seconds 8] [--agents 40]
//
// Fails when an acknowledged heartbeat was lost, when the controller saw an older one after a newer,
// or when a request failed that need not have. What is done depends on the seed alone, and a round
// has the seed that it prints; how it interleaves depends on the machine.
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Dice } from '../e2e/support/dice.mjs';
import { complaint, round } from './round.mjs';

const { values } = parseArgs({ options: {
    rounds: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
    seconds: { type: 'string', default: '8' },
    agents: { type: 'string', default: '40' },
} });

const KINDS = [['gateway'], ['redis'], ['stub'], ['gateway', 'redis'], ['gateway', 'stub'], ['redis', 'stub'],
    ['gateway', 'redis', 'stub'], ['pause'], ['pause', 'gateway'], ['pause', 'stub']];

let wrong = 0;
for (let n = 0; n < Number(values.rounds); n++) {
    const seed = Number(values.seed) + n;
    const dice = new Dice(seed);
    const options = {
        faults: KINDS[seed % KINDS.length], replicas: dice.between(1, 3), secure: dice.oneIn(3),
        workers: dice.between(1, 2), bulk: dice.oneIn(3),
        seconds: Number(values.seconds), agents: Number(values.agents),
    };
    const result = await round(options, dice);
    const problem = complaint(result);
    wrong += problem ? 1 : 0;
    console.log(`round ${n + 1}, seed ${seed}: ${options.replicas} replicas, ${options.bulk ? 'bulk, ' : ''}` +
        `${JSON.stringify(result.happened)} ${JSON.stringify(result.figures)}, settled in ` +
        `${result.settledMs} ms: ${problem ?? 'nothing lost, nothing overtaken, nothing failed'}`);
}
console.log(`${values.rounds} rounds, ${wrong} with something wrong (seed ${values.seed})`);
process.exitCode = wrong ? 1 : 0;
