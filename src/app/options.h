/* The command line. */
#pragma once

#include <stdio.h>

enum options_action {
    OPTIONS_RUN,
    OPTIONS_CHECK_CONFIG,
    OPTIONS_PRINT_CONFIG,
    OPTIONS_HEALTH_CHECK,
    OPTIONS_HELP_CONFIG,
    OPTIONS_HELP_CONFIG_MARKDOWN,
    OPTIONS_HELP_CONFIG_SCHEMA,
    OPTIONS_DEMO,
    OPTIONS_VERSION,
    OPTIONS_HELP,
};

enum options_verdict {
    OPTIONS_FINE,
    OPTIONS_BAD, /* say `complaint` with options_print_usage and exit with EXIT_USAGE */
};

/* Where --health-check asks unless told: the default of health.port. */
#define OPTIONS_HEALTH_AT "9902"

/* What the process ends with: sysexits(3), so that supervisors can tell them apart. */
enum { EXIT_USAGE = 64, EXIT_CONFIG = 78 };

struct options {
    enum options_action action;
    const char *config_file; /* borrows argv; NULL: the environment alone */
    const char *health_at;   /* OPTIONS_HEALTH_CHECK: where to ask, see io/ask.h; borrows argv */
    char *const *argv;       /* what was parsed; borrowed */
    char complaint[160];     /* terminated; "" when fine */
};

/* Not thread safe (getopt). Does not reorder argv. */
enum options_verdict options_parse(int argc, char **argv, struct options *out);

/* One line: what is wrong with the command line and where help is. */
void options_print_usage(FILE *to, const struct options *options);
void options_print_help(FILE *to);
void options_print_version(FILE *to);
