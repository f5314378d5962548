#include "rules/redis/notice.h"

static const char *const access_names[] = {
    [NOTICE_UNCHANGED] = "unchanged",
    [NOTICE_DELETED] = "deleted",
    [NOTICE_SUSPENDED] = "suspended",
    [NOTICE_READMITTED] = "readmitted",
};

const char *notice_access_name(enum notice_access access) {
    return access_names[access];
}

/* ---- spelling ---- */

static bool has_cutoff(enum notice_access access) {
    return access == NOTICE_DELETED || access == NOTICE_SUSPENDED;
}

static void spell_agent(const struct notice *n, struct str *out) {
    char id[AGENT_ID_HEX];
    int64_t cutoff_s = has_cutoff(n->access) ? n->cutoff_s : n->asks;
    agent_id_text(&n->agent, id);
    str_addf(out, "agent %.*s %d %s %lld %lld", AGENT_ID_HEX, id, n->forget,
             access_names[n->access], (long long)cutoff_s, (long long)n->regenerated_s);
}

static void spell_tags(const struct notice *n, struct str *out) {
    STR_ADD(out, "tags ");
    for (size_t i = 0; i < n->slot_count; i++)
        str_addf(out, "%s%d", i > 0 ? "," : "", n->slots[i]);
}

void notice_spell(const struct notice *n, struct str *out) {
    if (n->kind == NOTICE_AGENT)
        spell_agent(n, out);
    else if (n->kind == NOTICE_TAGS)
        spell_tags(n, out);
    else
        STR_ADD(out, "everything");
}

/* ---- reading ---- */

/* What stands before the next `mark` or the end; *rest is what stands behind it. */
static struct span take_until(struct span *rest, char mark) {
    const char *end = rest->len > 0 ? memchr(rest->ptr, mark, rest->len) : NULL;
    struct span word = {rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};
    *rest = span_from(*rest, word.len + 1);
    return word;
}

/* Digits only, at most 12: seconds until the year 33658. */
static bool read_number(struct span text, int64_t max, int64_t *out) {
    *out = span_decimal(text, 12);
    return *out >= 0 && *out <= max;
}

static bool read_access(struct span name, enum notice_access *out) {
    for (size_t i = 0; i < sizeof access_names / sizeof access_names[0]; i++) {
        if (span_equal(name, span_of(access_names[i]))) {
            *out = (enum notice_access)i;
            return true;
        }
    }
    return false;
}

static bool read_agent(struct span rest, struct notice *n) {
    int64_t forget;
    n->kind = NOTICE_AGENT;
    n->seen = INT64_MAX;
    if (!agent_id_parse(take_until(&rest, ' '), &n->agent) ||
        !read_number(take_until(&rest, ' '), 1, &forget) ||
        !read_access(take_until(&rest, ' '), &n->access) ||
        !read_number(take_until(&rest, ' '), INT64_MAX, &n->cutoff_s) ||
        !read_number(rest, INT64_MAX, &n->regenerated_s))
        return false;
    n->forget = forget == 1;
    n->asks = !has_cutoff(n->access) && n->cutoff_s == 1;
    if (!has_cutoff(n->access))
        n->cutoff_s = 0;
    return true;
}

static bool read_tags(struct span rest, struct notice *n) {
    n->kind = NOTICE_TAGS;
    while (rest.len > 0) {
        int64_t slot;
        if (n->slot_count == NOTICE_SLOTS_MAX ||
            !read_number(take_until(&rest, ','), TAGS_SLOTS - 1, &slot))
            return false;
        n->slots[n->slot_count++] = (uint16_t)slot;
    }
    return n->slot_count > 0;
}

bool notice_read(struct span text, struct notice *out) {
    struct notice n = {0};
    struct span rest = text, kind = take_until(&rest, ' ');
    bool fine = false;
    if (span_equal(kind, SPAN("agent"))) {
        fine = read_agent(rest, &n);
    } else if (span_equal(kind, SPAN("tags"))) {
        fine = read_tags(rest, &n);
    } else if (span_equal(text, SPAN("everything"))) {
        n.kind = NOTICE_EVERYTHING;
        fine = true;
    }
    if (fine)
        *out = n;
    return fine;
}

/* ---- two about one agent ---- */

void notice_merge(struct notice *older, const struct notice *newer) {
    older->forget |= newer->forget;
    older->only_if_shared &= newer->only_if_shared;
    older->asks = newer->asks || (older->asks && newer->access == NOTICE_UNCHANGED);
    if (newer->access != NOTICE_UNCHANGED) {
        older->access = newer->access;
        older->cutoff_s = newer->cutoff_s;
        older->seen = newer->seen;
    }
    if (newer->regenerated_s > older->regenerated_s)
        older->regenerated_s = newer->regenerated_s;
}
