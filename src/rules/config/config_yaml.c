/* Read from libyaml's events and not from its document tree: the tree has already followed
 * aliases and forgotten anchors and which tags were written, and those are to be refused. */
#include "rules/config/config_yaml.h"

#include "base/panic.h"

#include <stdlib.h>
#include <yaml.h>

struct walk {
    yaml_parser_t parser;
    const char *file_name;
    struct span text;
    struct list *entries;
    size_t entry_count;
    struct str *complaints;
    bool complained;
    bool broken; /* no more events will come */
};

/* ---- complaints ---- */

static void complain_at(struct walk *w, size_t line, size_t column, const char *key,
                        const char *what) {
    w->complained = true;
    str_addf(w->complaints, "%s:%zu:%zu: %s%s%s\n", w->file_name, line, column, key,
             *key ? ": " : "", what);
}

static void complain(struct walk *w, yaml_mark_t mark, const char *key, const char *what) {
    complain_at(w, mark.line + 1, mark.column + 1, key, what);
}

/* libyaml says only the byte offset of characters that are no text at all. */
static yaml_mark_t mark_of_offset(struct span text, size_t offset) {
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset && i < text.len; i++) {
        mark.column++;
        if (text.ptr[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return mark;
}

static void complain_of_syntax(struct walk *w) {
    char what[256];
    const yaml_parser_t *p = &w->parser;
    yaml_mark_t mark = p->error == YAML_READER_ERROR ? mark_of_offset(w->text, p->problem_offset)
                                                     : p->problem_mark;
    (void)snprintf(
        what, sizeof what, "is not valid YAML: %s%s%s; check %s", p->context ? p->context : "",
        p->context ? ", " : "", p->problem ? p->problem : "unreadable",
        p->error == YAML_READER_ERROR ? "that it is UTF-8 text" : "indentation, colons and quotes");
    complain(w, mark, "", what);
    w->broken = true;
}

/* ---- events ---- */

static void refuse_fancy(struct walk *w, const yaml_event_t *event) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    }
    if (anchor || event->type == YAML_ALIAS_EVENT)
        complain(w, event->start_mark, "", "anchors and aliases are not taken; repeat the value");
    if (tag)
        complain(w, event->start_mark, "", "tags are not taken; write the value without one");
}

/* False at the end of what can be read. An event that was given is to be deleted. */
static bool next_event(struct walk *w, yaml_event_t *event) {
    if (w->broken)
        return false;
    if (!yaml_parser_parse(&w->parser, event)) {
        complain_of_syntax(w);
        return false;
    }
    refuse_fancy(w, event);
    return true;
}

/* Takes and deletes `event` and, if it starts something, everything up to its end. */
static void skip_node(struct walk *w, yaml_event_t *event) {
    size_t depth = 0;
    do {
        yaml_event_type_t type = event->type;
        yaml_event_delete(event);
        if (type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT)
            depth++;
        else if (type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT)
            depth--;
    } while (depth > 0 && next_event(w, event));
}

/* ---- entries ---- */

static const struct config_entry *find_entry(const struct walk *w, const char *key) {
    list_each (at, w->entries) {
        const struct config_entry *e = container_of(at, struct config_entry, link);
        if (strcmp(e->key, key) == 0)
            return e;
    }
    return NULL;
}

static void complain_of_duplicate(struct walk *w, yaml_mark_t mark,
                                  const struct config_entry *first) {
    char what[96];
    (void)snprintf(what, sizeof what, "is given twice, first on line %zu; keep one", first->line);
    complain(w, mark, first->key, what);
}

/* Everything that could spoil a line of complaints becomes '?', and no key holds that. */
static void add_name(struct str *key, struct span name) {
    for (size_t i = 0; i < name.len && i < CONFIG_NAME_MAX; i++)
        str_add_char(key, name.ptr[i] > ' ' && name.ptr[i] <= '~' ? name.ptr[i] : '?');
}

/* The entry is in the list, or NULL: a duplicate, or one too many. */
static struct config_entry *add_entry(struct walk *w, const char *key, yaml_mark_t mark) {
    const struct config_entry *first = find_entry(w, key);
    if (first) {
        complain_of_duplicate(w, mark, first);
        return NULL;
    }
    if (w->entry_count == CONFIG_ENTRIES_MAX) {
        complain(w, mark, key, "is one key too many; there are not 1000 of them");
        w->broken = true;
        return NULL;
    }
    struct config_entry *e = must_zalloc(sizeof *e);
    memcpy(e->key, key, strlen(key) + 1);
    e->line = mark.line + 1;
    e->column = mark.column + 1;
    list_push_back(w->entries, &e->link);
    w->entry_count++;
    return e;
}

static void set_text(struct config_entry *e, const yaml_event_t *event) {
    e->is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    e->text_len = event->data.scalar.length;
    e->text = must_copy(event->data.scalar.value, e->text_len);
}

void config_entries_free(struct list *entries) {
    list_each_safe (at, entries) {
        struct config_entry *e = container_of(at, struct config_entry, link);
        list_remove(&e->link);
        free(e->text);
        free(e);
    }
}

/* ---- the walk ---- */

static void read_mapping(struct walk *w, const char *section);

/* Takes `event`, the value that belongs to `key`. */
static void read_value(struct walk *w, const char *key, const char *section, yaml_mark_t mark,
                       yaml_event_t *event) {
    bool is_deep = strchr(section, '.') != NULL;
    bool is_mapping = event->type == YAML_MAPPING_START_EVENT;
    if (event->type == YAML_SEQUENCE_START_EVENT)
        complain(w, event->start_mark, key, "is a list; write a single value");
    else if (is_mapping && is_deep)
        complain(w, event->start_mark, key, "is nested too deeply; write a single value");
    if ((event->type != YAML_SCALAR_EVENT && !is_mapping) || (is_mapping && is_deep)) {
        skip_node(w, event);
        return;
    }
    struct config_entry *e = add_entry(w, key, mark);
    if (e) {
        e->is_section = is_mapping;
        e->is_nested = *section != '\0';
        if (!is_mapping)
            set_text(e, event);
    }
    yaml_event_delete(event);
    /* A section given twice is read twice: what is wrong in it is said in the same run. */
    if (is_mapping)
        read_mapping(w, key);
}

/* Takes `event`, the key; reads its value. */
static void read_pair(struct walk *w, const char *section, yaml_event_t *event) {
    char key[sizeof((struct config_entry *)0)->key] = "";
    yaml_mark_t mark = event->start_mark;
    bool is_name = event->type == YAML_SCALAR_EVENT;
    if (is_name) {
        struct str text;
        str_init_fixed(&text, key, sizeof key - 1);
        if (*section) {
            str_add(&text, span_of(section));
            str_add_char(&text, '.');
        }
        add_name(&text,
                 (struct span){(const char *)event->data.scalar.value, event->data.scalar.length});
        key[text.len] = '\0';
    } else if (event->type != YAML_ALIAS_EVENT) {
        complain(w, mark, section, "has a key that is no name; write name: value");
    }
    skip_node(w, event);
    if (!next_event(w, event))
        return;
    if (is_name)
        read_value(w, key, section, mark, event);
    else
        skip_node(w, event);
}

/* From behind the start of a mapping to its end. `section` is "" at the top. */
static void read_mapping(struct walk *w, const char *section) {
    yaml_event_t event;
    while (next_event(w, &event)) {
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return;
        }
        read_pair(w, section, &event);
    }
}

/* Takes `event`, the whole content of the document. Only comments make an empty plain scalar. */
static void read_top(struct walk *w, yaml_event_t *event) {
    bool is_mapping = event->type == YAML_MAPPING_START_EVENT;
    bool is_empty = event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0;
    if (!is_mapping && !is_empty)
        complain(w, event->start_mark, "",
                 "the file must hold keys and values; begin with a line such as `upstream:`");
    if (!is_mapping) {
        skip_node(w, event);
        return;
    }
    yaml_event_delete(event);
    read_mapping(w, "");
}

static void read_stream(struct walk *w) {
    yaml_event_t event;
    size_t documents = 0;
    while (next_event(w, &event)) {
        yaml_event_type_t type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT && ++documents > 1) {
            complain(w, event.start_mark, "",
                     "a second document begins here; keep one, without `---` inside");
            w->broken = true;
        }
        if (type == YAML_SCALAR_EVENT || type == YAML_MAPPING_START_EVENT ||
            type == YAML_SEQUENCE_START_EVENT)
            read_top(w, &event);
        else
            yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            return;
    }
}

bool config_yaml_read(const char *file_name, struct span text, struct list *entries,
                      struct str *complaints, bool *broken) {
    struct walk w = {
        .file_name = file_name, .text = text, .entries = entries, .complaints = complaints};
    invariant(yaml_parser_initialize(&w.parser)); /* fails only without memory */
    /* libyaml asserts that there is a pointer. */
    const char *bytes = text.ptr ? text.ptr : "";
    yaml_parser_set_input_string(&w.parser, (const unsigned char *)bytes, text.len);
    read_stream(&w);
    yaml_parser_delete(&w.parser);
    *broken = w.broken;
    return !w.complained;
}
