/* A YAML document flattened to "section.key" entries with the places where they stand.
 * Private to rules/config/config*.c and its tests; config_yaml.c is the only file that includes
 * yaml.h.
 *
 * Knows nothing of the option rows. Takes the plain subset that a configuration needs: one
 * document, a mapping of values and of sections that hold values, or sections of values. Refused
 * are anchors, aliases, tags, lists, a second document, duplicate keys and deeper nesting. */
#pragma once

#include "base/list.h"
#include "base/str.h"

enum {
    CONFIG_ENTRIES_MAX = 1000,
    CONFIG_NAME_MAX = 64, /* bytes of a section's or key's name; longer ones are cut */
};

struct config_entry {
    struct list link;
    char key[3 * CONFIG_NAME_MAX + 3]; /* "listen.port", printable ASCII, terminated */
    bool is_section;                   /* no text: its keys are entries of their own */
    bool is_nested;                    /* stands in a section */
    bool is_quoted;
    size_t line, column; /* of the key, from 1 */
    char *text;          /* as decoded by YAML; may hold any byte */
    size_t text_len;
};

/* Appends the entries to `entries` (initialised; the caller frees them, config_entries_free) and
 * complaints, "name:line:column: ...", one per line, to `complaints`. False if there was any; when
 * the text is no YAML at all, *broken is set and the entries end before that place. */
bool config_yaml_read(const char *file_name, struct span text, struct list *entries,
                      struct str *complaints, bool *broken);
void config_entries_free(struct list *entries);
