// What was promised, held against what the controller saw.
import { readEntry } from './agents.mjs';

const RETURN_MS = 4000; // until all replicas have told what happened meanwhile

/** The controller's journal by agent, in order of arrival. */
export function seenByAgent(journal) {
    const byAgent = new Map();
    const inOrder = [...journal].sort((a, b) => a.life - b.life || a.seq - b.seq);
    for (const entry of inOrder) {
        const read = readEntry(entry);
        if (!read) continue;
        if (!byAgent.has(read.agent)) byAgent.set(read.agent, []);
        byAgent.get(read.agent).push({ ...read, life: entry.life, seq: entry.seq, ms: entry.mono_ms });
    }
    return byAgent;
}

/** Was this kept in the memory of a replica that was killed since? Then it may be lost. */
const mayBeLost = ({ memory, by, at }) => memory && by.kills.some((killed) => killed >= at);

/** The newest mark that was promised to reach the controller, by itself or a newer one. */
function promised(agent) {
    return Math.max(0, ...agent.acknowledged.filter((a) => !mayBeLost(a)).map((a) => a.mark));
}

/** Agents whose newest promise is not kept (yet). */
export function lost(agents, seen) {
    return agents.filter((agent) => {
        const newest = Math.max(0, ...(seen.get(agent.id) ?? []).map((e) => e.mark));
        return newest < promised(agent);
    });
}

/** Was the newer one delivered by a replica that could not tell the others, Redis being away? No one
 * can then keep them in order, if the older one is another's, or he who knew was killed before he
 * could tell. `absences` are spans of monotonic ms; `wallTo` is their end as Date.now() has it. */
function couldNotKnow(agent, before, after, absences) {
    const of = (mark) => agent.acknowledged.find((a) => a.mark === mark);
    const [older, newer] = [of(after.mark), of(before.mark)];
    if (!older || !newer) return false;
    return absences.some(({ from, to, wallTo }) => {
        const apart = older.memory && older.by !== newer.by &&
            after.ms >= from && after.ms <= to + RETURN_MS;
        const forgotten = before.ms >= from && before.ms <= to + RETURN_MS &&
            newer.by.kills.some((k) => k >= newer.at && k <= wallTo + RETURN_MS);
        return apart || forgotten;
    });
}

/** An entry with how it was acknowledged. */
const told = (agent, entry) => ({ ...entry, ack: agent.acknowledged.find((a) => a.mark === entry.mark) });

/** Where something older came after something newer: { agent, before, after }. */
export function overtaken(agents, seen, absences) {
    const found = [];
    const byId = new Map(agents.map((agent) => [agent.id, agent]));
    for (const [agent, entries] of seen)
        for (const [i, after] of entries.entries())
            if (i > 0 && after.mark < entries[i - 1].mark &&
                !couldNotKnow(byId.get(agent), entries[i - 1], after, absences))
                found.push({ agent, before: told(byId.get(agent), entries[i - 1]), after: told(byId.get(agent), after) });
    return found;
}
