/* From presets, file and environment to one judged configuration:
 *
 *   presets -> file (config_yaml) -> environment -> contents of *_file keys -> config_judge
 *
 * Nothing stops at the first complaint: every step notes what it dislikes and goes on. */
#include "rules/config/config.h"

#include "base/panic.h"
#include "rules/config/config_reading.h"
#include "rules/config/config_values.h"
#include "rules/config/config_yaml.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WHY_MAX = 512,
    FILE_MAX = 1048576, /* bytes; the example with every comment has 5,000 */
};

/* ---- complaints ---- */

struct config_origin *config_origin(struct config_reading *r, const struct config_row *row) {
    return &r->origin[row - config_rows];
}

/* Where the row's value was written, or could be: "gateway.yaml:3:5: listen.port". */
static void add_place(struct config_reading *r, const struct config_row *row, struct str *out) {
    const struct config_origin *o = config_origin(r, row);
    char variable[CONFIG_VARIABLE_MAX];
    if (o->content_was_given)
        config_row_content_variable(row, variable);
    else
        config_row_variable(row, variable);
    if (o->kind == CONFIG_FROM_FILE)
        str_addf(out, "%s:%zu:%zu: %s", r->sources->file_name, o->line, o->column, row->key);
    else if (o->kind == CONFIG_FROM_PRESET && r->sources->file_name)
        str_addf(out, "%s: %s", r->sources->file_name, row->key);
    else
        str_addf(out, "environment: %s", variable);
}

void config_warn(struct config_reading *r, const struct config_row *row, const char *what) {
    add_place(r, row, r->warnings);
    str_addf(r->warnings, ": %s\n", what);
}

void config_complain(struct config_reading *r, const struct config_row *row, const char *what) {
    r->complained = true;
    config_origin(r, row)->is_faulty = true;
    add_place(r, row, r->complaints);
    str_addf(r->complaints, ": %s\n", what);
}

/* The row's origin is already noted. */
static void set_value(struct config_reading *r, const struct config_row *row, struct span text) {
    char memory[WHY_MAX];
    struct str why;
    str_init_fixed(&why, memory, sizeof memory - 1);
    if (config_value_set(r->config, row, text, &why))
        return;
    memory[why.len] = '\0';
    config_complain(r, row, memory);
}

static void set_presets(struct config_reading *r) {
    for (config_row_each(row)) {
        struct str nothing;
        str_init(&nothing, 0);
        bool fine = config_value_set(r->config, row, span_of(row->preset), &nothing);
        invariant(fine); /* the table is ours */
    }
}

/* ---- the file ---- */

/* `named` is a key that the text ends with, or empty. */
static void complain_of_entry(struct config_reading *r, const struct config_entry *e,
                              const char *what, struct span named) {
    r->complained = true;
    str_addf(r->complaints, "%s:%zu:%zu: %s: %s%.*s\n", r->sources->file_name, e->line, e->column,
             e->key, what, SPAN_ARG(named));
}

static void complain_of_unknown(struct config_reading *r, const struct config_entry *e) {
    char file_key[sizeof e->key + sizeof "_file"];
    (void)snprintf(file_key, sizeof file_key, "%s_file", e->key);
    const struct config_row *row = config_row_find(span_of(file_key));
    struct span nearest = config_nearest(span_of(e->key));
    if (row)
        complain_of_entry(r, e, "is not written in this file; give its path as ",
                          span_of(row->key));
    else if (nearest.len > 0)
        complain_of_entry(r, e, "is no key; did you mean ", nearest);
    else
        complain_of_entry(r, e, "is no key; --help-config lists them all", SPAN_NONE);
}

static bool is_null(const struct config_entry *e) {
    static const char *const spellings[] = {"", "~", "null", "Null", "NULL"};
    struct span text = {e->text, e->text_len};
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++)
        if (!e->is_quoted && span_equal(text, span_of(spellings[i])))
            return true;
    return false;
}

static void read_row(struct config_reading *r, const struct config_row *row,
                     const struct config_entry *e) {
    struct config_origin *o = config_origin(r, row);
    o->kind = CONFIG_FROM_FILE;
    o->line = e->line;
    o->column = e->column;
    if (e->is_section)
        config_complain(r, row, "is a mapping; write a single value");
    else if (is_null(e))
        config_complain(r, row, "has no value; give one or remove the key");
    else if (e->is_quoted && (row->type == CONFIG_INTEGER || row->type == CONFIG_BOOL))
        config_complain(r, row, "is a text; write it without quotes");
    else
        set_value(r, row, (struct span){e->text, e->text_len});
}

/* Has the section that this entry stands in been complained about? Then once is enough. */
static bool is_in_unknown_section(const struct config_entry *e) {
    const char *dot = strrchr(e->key, '.');
    return e->is_nested && dot && !config_is_section((struct span){e->key, (size_t)(dot - e->key)});
}

static void read_entry(struct config_reading *r, const struct config_entry *e) {
    struct span key = span_of(e->key);
    const struct config_row *row = config_row_find(key);
    if (row)
        read_row(r, row, e);
    else if (config_is_section(key)) {
        /* A section whose keys are all commented out is null. */
        if (!e->is_section && !is_null(e))
            complain_of_entry(r, e, "is a section; write its keys on the next lines, indented",
                              SPAN_NONE);
    } else if (!is_in_unknown_section(e)) {
        complain_of_unknown(r, e);
    }
}

static void read_file(struct config_reading *r) {
    const struct config_sources *s = r->sources;
    if (!s->file_name)
        return;
    if (s->file.len > FILE_MAX) {
        r->complained = r->broken = true;
        str_addf(r->complaints, "%s: is larger than 1 MiB; is this the right file?\n",
                 s->file_name);
        return;
    }
    struct list entries;
    list_init(&entries);
    if (!config_yaml_read(s->file_name, s->file, &entries, r->complaints, &r->broken))
        r->complained = true;
    list_each (at, &entries) {
        read_entry(r, container_of(at, struct config_entry, link));
    }
    config_entries_free(&entries);
}

/* ---- the environment ---- */

static const struct config_row *find_variable(struct span name, bool *is_content) {
    char variable[CONFIG_VARIABLE_MAX];
    for (config_row_each(row)) {
        config_row_variable(row, variable);
        *is_content = false;
        if (span_equal(span_of(variable), name))
            return row;
        if (row->type != CONFIG_FILE)
            continue;
        config_row_content_variable(row, variable);
        *is_content = true;
        if (span_equal(span_of(variable), name))
            return row;
    }
    return NULL;
}

/* Kubernetes tells every pod of a Service named aiwm-gateway where that is. */
static bool is_service_link(struct span name) {
    struct span rest = span_from(name, strlen("AIWM_GATEWAY_"));
    return span_starts(rest, SPAN("SERVICE_")) || span_equal(rest, SPAN("PORT")) ||
           span_starts(rest, SPAN("PORT_"));
}

static void warn_of_unknown_variable(struct config_reading *r, struct span name) {
    struct span shown = {name.ptr, name.len > CONFIG_VARIABLE_MAX ? CONFIG_VARIABLE_MAX : name.len};
    STR_ADD(r->warnings, "environment: ");
    str_add_json(r->warnings, shown);
    STR_ADD(r->warnings, ": no key has this name; --help-config lists them all\n");
}

/* Editors and `echo` end a file with a newline that is no part of a secret. */
static void drop_newline(struct config_secret *content) {
    if (content->len == 0 || content->bytes[content->len - 1] != '\n')
        return;
    content->len--;
    if (content->len > 0 && content->bytes[content->len - 1] == '\r')
        content->len--;
}

/* Takes `bytes`. */
static void set_content(struct config_reading *r, const struct config_row *row, char *bytes,
                        size_t len) {
    struct config_secret *content = config_value_content(r->config, row);
    *content = (struct config_secret){bytes, len};
    drop_newline(content);
    if (content->len == 0)
        config_complain(r, row, "is empty; give it a content or remove it");
}

/* The value in the environment wins over a path in the file, which is then not read. */
static void read_content_variable(struct config_reading *r, const struct config_row *row,
                                  struct span value) {
    struct config_origin *o = config_origin(r, row);
    bool has_both = o->kind == CONFIG_FROM_ENVIRONMENT && !o->content_was_given;
    if (has_both)
        config_complain(r, row, "is given both as a path and as a value; keep one");
    if (has_both || o->content_was_given)
        return;
    o->kind = CONFIG_FROM_ENVIRONMENT;
    o->content_was_given = true;
    o->is_faulty = false;
    set_value(r, row, SPAN(""));
    set_content(r, row, must_copy(value.ptr, value.len), value.len);
}

static void read_plain_variable(struct config_reading *r, const struct config_row *row,
                                struct span value) {
    struct config_origin *o = config_origin(r, row);
    if (o->content_was_given) {
        config_complain(r, row, "is given both as a path and as a value; keep one");
        return;
    }
    o->kind = CONFIG_FROM_ENVIRONMENT;
    o->is_faulty = false;
    set_value(r, row, value);
}

static void read_variable(struct config_reading *r, const char *variable) {
    const char *equals = strchr(variable, '=');
    if (!equals || strncmp(variable, "AIWM_GATEWAY_", strlen("AIWM_GATEWAY_")) != 0)
        return;
    struct span name = {variable, (size_t)(equals - variable)};
    struct span value = span_of(equals + 1);
    bool is_content;
    const struct config_row *row = find_variable(name, &is_content);
    if (row && is_content)
        read_content_variable(r, row, value);
    else if (row)
        read_plain_variable(r, row, value);
    else if (!is_service_link(name))
        warn_of_unknown_variable(r, name);
}

static void read_environment(struct config_reading *r) {
    for (char *const *at = r->sources->environ; at && *at; at++)
        read_variable(r, *at);
}

/* ---- what stands in the *_file keys ---- */

/* Where a path belongs somebody may have written what the file should hold. */
static bool looks_like_path(const char *path) {
    return path[0] == '/' || path[0] == '.';
}

static void read_content(struct config_reading *r, const struct config_row *row) {
    const char *path = config_value_text(r->config, row);
    if (config_origin(r, row)->is_faulty || *path == '\0')
        return;
    size_t len = 0;
    const char *why = "unknown";
    char *bytes = r->sources->read_file(r->sources->arg, path, &len, &why);
    if (bytes) {
        set_content(r, row, bytes, len);
        return;
    }
    char what[WHY_MAX];
    (void)snprintf(what, sizeof what, "cannot read %.256s: %s; check path and permissions",
                   looks_like_path(path) ? path : "what it names (not shown: is it the secret?)",
                   why);
    config_complain(r, row, what);
}

static void read_contents(struct config_reading *r) {
    for (config_row_each(row))
        if (row->type == CONFIG_FILE)
            read_content(r, row);
}

/* ---- the whole ---- */

struct config *config_read(const struct config_sources *sources, struct str *complaints,
                           struct str *warnings) {
    struct config_reading r = {.sources = sources, .complaints = complaints, .warnings = warnings};
    r.config = must_zalloc(sizeof *r.config);
    set_presets(&r);
    read_file(&r);
    read_environment(&r);
    read_contents(&r);
    config_judge(&r);
    if (!r.complained)
        return r.config;
    config_free(r.config);
    return NULL;
}

static void free_content(struct config_secret *content) {
    if (content->bytes)
        explicit_bzero(content->bytes, content->len);
    free(content->bytes);
}

void config_free(struct config *config) {
    if (!config)
        return;
    for (config_row_each(row)) {
        config_value_free(config, row);
        if (row->type == CONFIG_FILE)
            free_content(config_value_content(config, row));
    }
    free(config);
}
