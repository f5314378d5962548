/* What a cached connect answer depends on, and when that was last written.
 *
 * An answer carries a few tags (its instruction, its deployment, its organization, ...). A write
 * that passes by stamps its tag with the purge sequence; an answer that was learnt before a stamp
 * on one of its tags is stale. Nobody walks the cache: staleness is seen when the entry is used.
 *
 * Tags are hashed into a fixed table. Two that collide make an answer stale without need, which
 * costs one question to the controller; memory is bounded whatever is written. Thread safe. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum { TAGS_SLOTS = 4096, TAGS_PER_ANSWER = 6 };

enum tag_kind {
    TAG_INSTRUCTION,  /* by id */
    TAG_DEPLOYMENT,   /* by id */
    TAG_MANAGED,      /* every answer with a deployment: models may change any of them */
    TAG_ORGANIZATION, /* by id: configuration */
    TAG_EVERYTHING,   /* configuration of an organization we cannot name */
    TAG_AGENT,        /* by id: a write on the agent itself whose outcome nobody knows */
};

struct tag {
    uint16_t slot;
};

struct tag_set {
    uint8_t count;
    struct tag at[TAGS_PER_ANSWER];
};

struct tags {
    _Atomic uint64_t written[TAGS_SLOTS]; /* the sequence of the last write */
    _Atomic uint64_t latest;              /* of them all */
};

/* `name` is compared without regard to case, as the controller's database does with ids; empty for
 * kinds that have none. */
struct tag tag_of(enum tag_kind kind, struct span name);
/* Beyond TAGS_PER_ANSWER nothing is added: there are only so many kinds. */
void tag_set_add(struct tag_set *set, struct tag tag);

bool tag_set_has(const struct tag_set *set, struct tag tag);

/* A write with this purge sequence. Never moves a stamp back. */
void tags_write(struct tags *tags, struct tag tag, uint64_t sequence);
/* Was anything in the set written after `sequence`? */
bool tags_written_since(const struct tags *tags, const struct tag_set *set, uint64_t sequence);
/* The sequence of the last write on anything. */
uint64_t tags_latest(const struct tags *tags);
