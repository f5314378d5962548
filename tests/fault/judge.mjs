// What was promised, held against what the controller saw.
import { readEntry } from './agents.mjs';

/** The controller's journal by agent, in order of arrival. */
export function seenByAgent(journal) {
    const byAgent = new Map();
    const inOrder = [...journal].sort((a, b) => a.life - b.life || a.seq - b.seq);
    for (const entry of inOrder) {
        const read = readEntry(entry);
        if (!read) continue;
        if (!byAgent.has(read.agent)) byAgent.set(read.agent, []);
        byAgent.get(read.agent).push({ ...read, life: entry.life, seq: entry.seq });
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

/** Where something older came after something newer: { agent, before, after }. */
export function overtaken(seen) {
    const found = [];
    for (const [agent, entries] of seen)
        for (const [i, after] of entries.entries())
            if (i > 0 && after.mark < entries[i - 1].mark)
                found.push({ agent, before: entries[i - 1], after });
    return found;
}
