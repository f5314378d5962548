#include "rules/redis/redis_reply.h"

static const struct redis_trouble_row rows[] = {
#define X(symbol, name, prefix, ends, text) [REDIS_##symbol] = {name, prefix, ends, text},
    REDIS_TROUBLE_ROWS(X)
#undef X
};

const struct redis_trouble_row *redis_trouble_row(enum redis_trouble t) {
    return &rows[t];
}

static bool begins_with_word(struct span text, struct span word) {
    return span_starts(text, word) && (text.len == word.len || text.ptr[word.len] == ' ');
}

static enum redis_trouble find_name(struct span text) {
    for (int t = 0; t < REDIS_TROUBLE_COUNT; t++)
        if (rows[t].prefix && begins_with_word(text, span_of(rows[t].prefix)))
            return (enum redis_trouble)t;
    return REDIS_OTHER;
}

/* "ERR Error running script (call to f_...): @user_script:1: OOM command not allowed ..." is how
 * versions before 7 spell a command's error inside a script. */
static struct span inside_script(struct span error) {
    static const char mark[] = "user_script:";
    for (size_t i = 0; i + sizeof mark - 1 <= error.len; i++) {
        if (memcmp(error.ptr + i, mark, sizeof mark - 1) != 0)
            continue;
        struct span rest =
            span_from(error, i + sizeof mark - 1); /* the line's number, then a colon */
        const char *colon = rest.len > 0 ? memchr(rest.ptr, ':', rest.len) : NULL;
        return colon ? span_trim(span_from(rest, (size_t)(colon - rest.ptr) + 1)) : SPAN_NONE;
    }
    return SPAN_NONE;
}

/* The first `mark` in `text`, and all behind it; empty: it is not there. */
static struct span from_mark(struct span text, struct span mark) {
    for (; text.len >= mark.len; text = span_from(text, 1))
        if (span_starts(text, mark))
            return text;
    return SPAN_NONE;
}

/* A command that a script may not run is no NOPERM, but a sentence: of 7.0 and before, and since.
 */
static bool is_right_in_script(struct span error) {
    return from_mark(error, SPAN("The user executing the script can't")).len > 0 ||
           from_mark(error, SPAN("ACL failure in script")).len > 0;
}

enum redis_trouble redis_error_name(struct span error) {
    enum redis_trouble found = find_name(error);
    if (found == REDIS_OTHER && span_starts(error, SPAN("ERR ")))
        found = is_right_in_script(error) ? REDIS_NOPERM : find_name(inside_script(error));
    return found;
}

/* ---- rights ---- */

enum { RIGHT_MAX = 32 };

/* Lower-case letters, and what parts a command from its subcommand. */
static struct span right_at(struct span text) {
    size_t len = 0;
    while (len < text.len && len < RIGHT_MAX &&
           ((text.ptr[len] >= 'a' && text.ptr[len] <= 'z') || text.ptr[len] == '|'))
        len++;
    return len < text.len && text.ptr[len] == '\'' ? (struct span){text.ptr, len} : SPAN_NONE;
}

struct span redis_missing_right(struct span error) {
    struct span mark = SPAN("run the '");
    struct span found = from_mark(error, mark);
    return found.len > 0 ? right_at(span_from(found, mark.len)) : SPAN_NONE;
}

static bool has_word(struct span words, struct span word) {
    for (; words.len > 0; words = span_from(words, 1))
        if (begins_with_word(words, word))
            return true;
    return false;
}

void redis_script_rights(struct span script, struct str *out) {
    struct span mark = SPAN("call('");
    while ((script = from_mark(script, mark)).len > 0) {
        char right[RIGHT_MAX + 1] = "+";
        size_t len = 0;
        script = span_from(script, mark.len);
        while (len < script.len && len + 1 < RIGHT_MAX && script.ptr[len] != '\'') {
            right[len + 1] = (char)(script.ptr[len] | 0x20);
            len++;
        }
        if (has_word(str_span(out), (struct span){right, len + 1}))
            continue;
        str_add(out, out->len > 0 ? SPAN(" ") : SPAN(""));
        str_add(out, (struct span){right, len + 1});
    }
}

/* ---- INFO ---- */

static struct span value_of(struct span text, struct span name) {
    while (text.len > 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t len = end ? (size_t)(end - text.ptr) : text.len;
        struct span line = {text.ptr, len};
        text = span_from(text, len + 1);
        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (span_starts(line, name) && line.len > name.len && line.ptr[name.len] == ':')
            return span_from(line, name.len + 1);
    }
    return SPAN_NONE;
}

static bool is_on(struct span text, struct span name) {
    return span_equal(value_of(text, name), SPAN("1"));
}

void redis_info_parse(struct span text, struct redis_info *out) {
    struct span version = value_of(text, SPAN("redis_version"));
    struct span policy = value_of(text, SPAN("maxmemory_policy"));
    struct span memory = value_of(text, SPAN("maxmemory"));
    *out = (struct redis_info){
        .cluster = is_on(text, SPAN("cluster_enabled")),
        .loading = is_on(text, SPAN("loading")),
        .persistent = is_on(text, SPAN("aof_enabled")),
        .evicts = policy.len > 0 && !span_equal(policy, SPAN("noeviction")) && memory.len > 0 &&
                  !span_equal(memory, SPAN("0")),
    };
    if (version.len > 0 && version.len < sizeof out->version)
        memcpy(out->version, version.ptr, version.len);
}
