#include "rules/redis/journal.h"

#include "base/panic.h"

#include <stdlib.h>

struct journal {
    struct notice telling;
    bool is_telling;
    bool everything;
    uint8_t tags[TAGS_SLOTS / 8]; /* a bit a slot */
    size_t tag_count;
    size_t max, first, count;
    struct notice agents[]; /* a ring, oldest at `first` */
};

struct journal *journal_new(size_t max) {
    invariant(max > 0);
    struct journal *j = must_zalloc(sizeof *j + max * sizeof j->agents[0]);
    j->max = max;
    return j;
}

void journal_free(struct journal *j) {
    free(j);
}

bool journal_is_empty(const struct journal *j) {
    return !j->is_telling && !j->everything && j->tag_count == 0 && j->count == 0;
}

size_t journal_agents(const struct journal *j) {
    return j->count;
}

/* ---- in ---- */

static void add_tags(struct journal *j, const struct notice *n) {
    for (size_t i = 0; i < n->slot_count; i++) {
        uint8_t *byte = &j->tags[n->slots[i] / 8], bit = (uint8_t)(1 << n->slots[i] % 8);
        j->tag_count += (*byte & bit) == 0;
        *byte |= bit;
    }
}

static struct notice *find(struct journal *j, const struct agent_id *id) {
    for (size_t i = 0; i < j->count; i++) {
        struct notice *n = &j->agents[(j->first + i) % j->max];
        if (agent_id_equal(&n->agent, id))
            return n;
    }
    return NULL;
}

static void add_agent(struct journal *j, const struct notice *n) {
    struct notice *known = find(j, &n->agent);
    if (known) {
        notice_merge(known, n);
    } else if (j->count < j->max) {
        j->agents[(j->first + j->count++) % j->max] = *n;
    } else {
        j->count = 0;
        j->everything = true;
    }
}

void journal_add(struct journal *j, const struct notice *n) {
    if (n->kind == NOTICE_TAGS)
        add_tags(j, n);
    else if (n->kind == NOTICE_AGENT)
        add_agent(j, n);
    else
        j->everything = true;
}

/* ---- out ---- */

static void take_tags(struct journal *j, struct notice *out) {
    *out = (struct notice){.kind = NOTICE_TAGS};
    for (size_t slot = 0; slot < TAGS_SLOTS && out->slot_count < NOTICE_SLOTS_MAX; slot++) {
        uint8_t *byte = &j->tags[slot / 8], bit = (uint8_t)(1 << slot % 8);
        if ((*byte & bit) == 0)
            continue;
        *byte &= (uint8_t)~bit;
        j->tag_count--;
        out->slots[out->slot_count++] = (uint16_t)slot;
    }
}

bool journal_next(struct journal *j, struct notice *out) {
    if (j->is_telling || journal_is_empty(j))
        return false;
    if (j->everything) {
        j->telling = (struct notice){.kind = NOTICE_EVERYTHING};
        j->everything = false;
    } else if (j->tag_count > 0) {
        take_tags(j, &j->telling);
    } else {
        j->telling = j->agents[j->first];
        j->first = (j->first + 1) % j->max;
        j->count--;
    }
    j->is_telling = true;
    *out = j->telling;
    return true;
}

/* What came meanwhile is newer. */
static void take_back(struct journal *j) {
    struct notice *newer = j->telling.kind == NOTICE_AGENT ? find(j, &j->telling.agent) : NULL;
    if (!newer) {
        journal_add(j, &j->telling);
        return;
    }
    notice_merge(&j->telling, newer);
    *newer = j->telling;
}

void journal_told(struct journal *j, bool well) {
    invariant(j->is_telling);
    j->is_telling = false;
    if (!well)
        take_back(j);
}
