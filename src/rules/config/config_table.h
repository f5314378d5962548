/* The option rows: THE place where a configuration key is added (and struct config its member).
 * Private to rules/config/config*.c and its tests; everybody else includes rules/config/config.h.
 */
#pragma once

#include "base/span.h"
#include "rules/config/config.h"

enum config_type {
    CONFIG_BOOL,     /* bool */
    CONFIG_INTEGER,  /* int64_t */
    CONFIG_DURATION, /* int64_t, milliseconds */
    CONFIG_SIZE,     /* int64_t, bytes */
    CONFIG_CHOICE,   /* int64_t, index into choices */
    CONFIG_TEXT,     /* char * */
    CONFIG_FILE,     /* char *, a path; what stands in the file goes to a struct config_secret */
};

struct config_row {
    const char *key; /* "listen.port", "forward.cors.origins"; rows of one section stand together */
    enum config_type type;
    bool required;
    bool reloadable;   /* else a change needs a restart */
    size_t at;         /* offset of the member in struct config */
    size_t content_at; /* CONFIG_FILE: offset of the struct config_secret */
    /* Written as a user would write them, so that table, help and parser cannot disagree. */
    const char *preset;
    const char *min, *max;      /* numbers of any unit; NULL otherwise */
    const char *const *choices; /* CONFIG_CHOICE: NULL ends the list */
    /* CONFIG_TEXT: what is wrong with a value, or NULL. */
    const char *(*complaint)(struct span text);
    const char *help;
};

enum { CONFIG_ROWS_MAX = 128, CONFIG_KEY_MAX = 64, CONFIG_VARIABLE_MAX = 96 };

extern const struct config_row config_rows[];
size_t config_row_count(void);
/* For `for (config_row_each(row))`. */
#define config_row_each(row)                                                                       \
    const struct config_row *row = config_rows;                                                    \
    row < config_rows + config_row_count();                                                        \
    row++

/* NULL when there is none. */
const struct config_row *config_row_find(struct span key);
/* Does a key begin with `name` and a dot? */
bool config_is_section(struct span name);
/* The key or section nearest in spelling; empty when nothing comes near. */
struct span config_nearest(struct span name);

/* The part of a key before its last dot; empty for a key without one. And the part behind it. A
 * section in a section ("forward.cors") comes right behind the keys of the outer one. */
struct span config_row_section(const struct config_row *row);
struct span config_row_name(const struct config_row *row);

/* "AIWM_GATEWAY_LISTEN_PORT", terminated. */
void config_row_variable(const struct config_row *row, char out[CONFIG_VARIABLE_MAX]);
/* CONFIG_FILE only: "AIWM_GATEWAY_JWT_SECRET", whose value is what would stand in the file. */
void config_row_content_variable(const struct config_row *row, char out[CONFIG_VARIABLE_MAX]);
