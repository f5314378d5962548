/* The controller's own stream of what happened to agents, read: the queue "agents.queue" as BullMQ
 * keeps it in the controller's Redis. Pure, and wary: whoever may write there is not asked for a
 * token. All that can come of an entry is that one agent is asked for again.
 *
 *   bull:agents.queue:events    a stream; what we look at: event "added", jobId, name (the job's)
 *   bull:agents.queue:<jobId>   a hash; what we look at: name and data (JSON, the agent's document)
 *
 * Jobs are named agent.created, agent.updated and agent.deleted. The agent's id is the document's
 * `_id`, `id` or `agentId`, at the top or one level down in `agent` or `data`. */
#pragma once

#include "base/span.h"
#include "rules/agents/agent_id.h"

enum {
    AIWM_EVENT_FIELDS_MAX = 16,   /* words of one entry that are looked at, names and values */
    AIWM_EVENT_JOB_MAX = 128,     /* bytes of a job's id */
    AIWM_EVENT_DATA_MAX = 262144, /* bytes of a job's data */
};

enum aiwm_event_kind {
    AIWM_EVENT_OTHER, /* nothing that matters here: a new agent, another name */
    AIWM_EVENT_UPDATED,
    AIWM_EVENT_DELETED,
};

/* By the job's name. */
enum aiwm_event_kind aiwm_event_kind(struct span name);

/* One entry, its `count` words being names and values in turn: the id of a job that may matter and
 * must be looked at. False for every other entry. Older BullMQ tell no name: those may matter.
 * `job` borrows the words; printable ASCII without blanks, at most AIWM_EVENT_JOB_MAX bytes. */
bool aiwm_event_job(const struct span *words, size_t count, struct span *job);

/* A job's data: whose document it is. False, and nothing written, when no id can be read. */
bool aiwm_event_agent(struct span data, struct agent_id *out);
