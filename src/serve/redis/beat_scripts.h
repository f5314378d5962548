/* The scripts of heartbeats that live in Redis; serve/beats/durable.c runs them and reads their
 * replies.
 *
 *   <prefix>1:beat:<id>       what is known of an agent, MessagePack: the newest beat (stamp,
 *                             status, sealed, since), what the controller has (settled,
 *                             sent_status, sent_ms), who is at it (lease, under_way), after a
 *                             failure (retry, failures), the controller's no (no)
 *   <prefix>1:beats:due       agents with a beat, by when it is due (ms); PARKED while somebody
 *                             has the agent
 *   <prefix>1:beats:sending   agents whose beat is under way, by the end of the lease
 *   <prefix>1:beats:turns     agents that a disconnect or a forwarded beat has, likewise
 *   <prefix>1:beats:settle    there while replicas that were cut off may still have to tell
 *   <prefix>1:beats:settling  when the first of those came back, so that it comes to an end
 *   <prefix>1:beats:seen      when a replica last looked for beats that are due (ms)
 *
 * A beat counts as held while its agent is in `due` or in `sending`; an agent with a newer beat
 * behind the one under way is in both, and holds two. */
#pragma once

extern const char beat_store[], beat_claim[], beat_done[], beat_take[], beat_tell[], beat_hello[],
    beat_lift[];
