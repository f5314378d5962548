/* What replicas of the gateway tell each other through Redis: what a write that passed by one of
 * them makes untrue with all.
 *
 * As text, one line without its end:
 *
 *   agent <id> <forget: 0|1> <access> <cutoff> <regenerated>
 *                     where the access has no cut-off: 1 there means that nobody knows whether the
 *                     agent may go on (`asks`); replicas of version 0.1 do not look at it
 *   tags <slot>,<slot>,...
 *   everything
 *
 * The reader trusts nothing: whoever can write to Redis can make us forget, and no more. */
#pragma once

#include "base/str.h"
#include "rules/agents/agent_id.h"
#include "rules/agents/tags.h"

#include <stdint.h>

enum notice_kind {
    NOTICE_AGENT,
    NOTICE_TAGS,       /* what depends on them is stale */
    NOTICE_EVERYTHING, /* all that is cached is gone */
};

/* What becomes of the tokens that an agent has. */
enum notice_access {
    NOTICE_UNCHANGED,
    NOTICE_DELETED,   /* refused up to the cut-off */
    NOTICE_SUSPENDED, /* likewise */
    NOTICE_READMITTED,
};

enum { NOTICE_SLOTS_MAX = 32, NOTICE_TEXT_MAX = 256 };

struct notice {
    enum notice_kind kind;
    struct agent_id agent;
    bool forget; /* its cached connect */
    /* It need be told only if somebody has shared that connect: a stranger who tries ids would make
     * everybody talk. Not part of the text. */
    bool only_if_shared;
    enum notice_access access;
    bool asks; /* a write was seen, and not what became of the agent: the controller answers its
                  next heartbeat. Not together with deleted and suspended */
    int64_t cutoff_s;      /* of deleted and suspended, seconds since 1970 by the controller */
    int64_t regenerated_s; /* tokens up to then are refused for good; 0: nothing about that */
    /* A readmission that somebody concluded from a connect: not true if the agent was purged after
     * this sequence. INT64_MAX: somebody said so himself. Not part of the text. */
    int64_t seen;
    uint8_t slot_count;
    uint16_t slots[NOTICE_SLOTS_MAX]; /* of the tags written */
};

const char *notice_access_name(enum notice_access access);
/* At most NOTICE_TEXT_MAX bytes. */
void notice_spell(const struct notice *n, struct str *out);
/* False when this is no notice. */
bool notice_read(struct span text, struct notice *out);

/* Puts what the newer says upon the older, both about the same agent. */
void notice_merge(struct notice *older, const struct notice *newer);
