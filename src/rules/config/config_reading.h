/* A configuration while it is being read: what config.c and config_judge.c share.
 * Private to rules/config/config*.c. */
#pragma once

#include "rules/config/config_table.h"

struct config_origin {
    enum { CONFIG_FROM_PRESET, CONFIG_FROM_FILE, CONFIG_FROM_ENVIRONMENT } kind;
    size_t line, column;    /* CONFIG_FROM_FILE */
    bool content_was_given; /* CONFIG_FILE: the environment held what would be in the file */
    bool is_faulty;         /* was complained about: its value means nothing */
};

struct config_reading {
    const struct config_sources *sources;
    struct config *config;
    struct config_origin origin[CONFIG_ROWS_MAX]; /* by row */
    struct str *complaints;
    struct str *warnings;
    bool complained;
    bool broken; /* the file could not be read to its end: what is missing may stand there */
};

struct config_origin *config_origin(struct config_reading *r, const struct config_row *row);
/* A line about the row, at the place its value comes from. A complaint makes the row faulty. */
void config_complain(struct config_reading *r, const struct config_row *row, const char *what);
void config_warn(struct config_reading *r, const struct config_row *row, const char *what);

/* Rules that need more than one key, or the contents of files. */
void config_judge(struct config_reading *r);
