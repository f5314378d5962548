#include "app/options.h"

#include "io/tls.h"

#include <getopt.h>
#include <stdbool.h>
#include <string.h>

/* Values of getopt_long: an option's letter, or an action above every character. */
enum { ACTION = 256 };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"check-config", no_argument, NULL, 't'},
    {"print-config", no_argument, NULL, ACTION + OPTIONS_PRINT_CONFIG},
    {"health-check", optional_argument, NULL, ACTION + OPTIONS_HEALTH_CHECK},
    {"help-config", optional_argument, NULL, ACTION + OPTIONS_HELP_CONFIG},
    {"demo", no_argument, NULL, ACTION + OPTIONS_DEMO},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static enum options_verdict refuse(struct options *o, const char *what, const char *argument) {
    (void)snprintf(o->complaint, sizeof o->complaint, "%s%.100s", what, argument);
    return OPTIONS_BAD;
}

static enum options_verdict take_action(struct options *o, enum options_action action) {
    if (o->action != OPTIONS_RUN && o->action != action)
        return refuse(o, "more than one thing to do: give one of these options", "");
    o->action = action;
    return OPTIONS_FINE;
}

static enum options_verdict take_file(struct options *o, const char *path) {
    if (o->config_file)
        return refuse(o, "--config is given twice, also for ", path);
    if (*path == '\0')
        return refuse(o, "--config needs the name of a file", "");
    o->config_file = path;
    return OPTIONS_FINE;
}

static enum options_verdict take_help_config(struct options *o, const char *format) {
    if (!format)
        return take_action(o, OPTIONS_HELP_CONFIG);
    if (strcmp(format, "markdown") == 0)
        return take_action(o, OPTIONS_HELP_CONFIG_MARKDOWN);
    if (strcmp(format, "schema") == 0)
        return take_action(o, OPTIONS_HELP_CONFIG_SCHEMA);
    return refuse(o, "--help-config comes as markdown or schema, not as ", format);
}

static enum options_verdict take_health_check(struct options *o, const char *where) {
    o->health_at = where ? where : OPTIONS_HEALTH_AT;
    return take_action(o, OPTIONS_HEALTH_CHECK);
}

/* The letters are those that operators of other proxies type. */
static enum options_verdict take_letter(struct options *o, int letter, const char *argument) {
    switch (letter) {
    case 'c':
        return take_file(o, optarg);
    case 't':
        return take_action(o, OPTIONS_CHECK_CONFIG);
    case 'h':
        return take_action(o, OPTIONS_HELP);
    case 'V':
        return take_action(o, OPTIONS_VERSION);
    case ':':
        return refuse(o, "this option needs a value: ", argument);
    default:
        return refuse(o, "unknown or incomplete option ", argument);
    }
}

static enum options_verdict take(struct options *o, int option, const char *argument) {
    if (option == ACTION + OPTIONS_HELP_CONFIG)
        return take_help_config(o, optarg);
    if (option == ACTION + OPTIONS_HEALTH_CHECK)
        return take_health_check(o, optarg);
    if (option < ACTION)
        return take_letter(o, option, argument);
    return take_action(o, (enum options_action)(option - ACTION));
}

static bool reads_config(enum options_action action) {
    return action == OPTIONS_RUN || action == OPTIONS_CHECK_CONFIG ||
           action == OPTIONS_PRINT_CONFIG;
}

enum options_verdict options_parse(int argc, char **argv, struct options *out) {
    *out = (struct options){.action = OPTIONS_RUN, .argv = argv};
    optind = 0; /* glibc: forget an earlier run */
    opterr = 0;
    for (;;) {
        int at = optind > 0 ? optind : 1;
        int option = getopt_long(argc, argv, "+:c:thV", long_options, NULL);
        if (option == -1)
            break;
        if (take(out, option, argv[at]) == OPTIONS_BAD)
            return OPTIONS_BAD;
    }
    if (optind < argc)
        return refuse(out, "unexpected argument ", argv[optind]);
    if (out->config_file && !reads_config(out->action))
        return refuse(out, "--config only goes with running, --check-config or --print-config", "");
    return OPTIONS_FINE;
}

void options_print_usage(FILE *to, const struct options *options) {
    (void)fprintf(to, "aiwm-gateway: %s; see aiwm-gateway --help\n", options->complaint);
}

void options_print_version(FILE *to) {
    (void)fprintf(to, "aiwm-gateway " GATEWAY_VERSION " (OpenSSL %s)\n", tls_library_version());
}

void options_print_help(FILE *to) {
    (void)fputs(
        "aiwm-gateway: a gateway in front of AIWM, the controller of a fleet of agents.\n"
        "Agents change nothing but their base URL.\n"
        "\n"
        "  aiwm-gateway --config FILE                 run\n"
        "  aiwm-gateway --config FILE --check-config  say everything that is wrong with it\n"
        "  aiwm-gateway --config FILE --print-config  the effective configuration as YAML\n"
        "  aiwm-gateway --health-check                ask the one that runs whether it is ready\n"
        "               --health-check=[ADDRESS:]PORT   where health.port is not 9902\n"
        "  aiwm-gateway --help-config                 every key: meaning, range, default\n"
        "               --help-config=markdown|schema   the same as docs, as a JSON schema\n"
        "  aiwm-gateway ctl COMMAND                   ask and tell a running one; ctl --help\n"
        "  aiwm-gateway --demo                        try it, with a controller of its own\n"
        "  aiwm-gateway --version\n"
        "  aiwm-gateway --help\n"
        "\n"
        "Every key of the file can be set in the environment too, and there it wins:\n"
        "upstream.url is AIWM_GATEWAY_UPSTREAM_URL. What a key ending in _file points to can be\n"
        "given itself: AIWM_GATEWAY_JWT_SECRET instead of jwt.secret_file. Without --config the\n"
        "environment alone is used. -c, -t, -V and -h stand for --config, --check-config, "
        "--version\n"
        "and --help.\n"
        "\n"
        "Examples\n"
        "  AIWM_GATEWAY_UPSTREAM_URL=http://127.0.0.1:3000 \\\n"
        "  AIWM_GATEWAY_JWT_SECRET=\"$JWT_SECRET\" \\\n"
        "  AIWM_GATEWAY_TLS_ENABLED=false aiwm-gateway\n"
        "      beside a controller on the same machine, without TLS\n"
        "  aiwm-gateway -t -c /etc/aiwm-gateway/aiwm-gateway.yaml && kill -HUP \"$PID\"\n"
        "      check a changed file, then have it read\n"
        "\n"
        "Signals: TERM, INT and QUIT drain and end; the second one ends at once. HUP reads the\n"
        "configuration again. USR2 starts the binary anew, which takes over the ports.\n"
        "Exit codes: 0 ended as told, 1 failed while running or not ready, 64 wrong command line,\n"
        "78 wrong configuration.\n",
        to);
}
