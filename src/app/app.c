#include "app/app.h"

#include "app/demo.h"
#include "app/process.h"
#include "io/ask.h"

#include <stdio.h>
#include <stdlib.h>

/* Reads the configuration, or says on standard error what is wrong with it. */
static bool prepare(struct process_parts *parts, const char *config_file,
                    char *const *environment) {
    enum { COMPLAINTS_MAX = 65536 };
    struct str complaints;
    *parts = (struct process_parts){.config_file = config_file, .environment = environment};
    str_init(&complaints, COMPLAINTS_MAX);
    parts->first = generation_read(config_file, environment, NULL, &complaints);
    (void)fprintf(stderr, "%.*s", SPAN_ARG(str_span(&complaints)));
    str_release(&complaints);
    parts->tickets = parts->first ? tickets_new() : NULL;
    return parts->first != NULL;
}

static void dismiss(const struct process_parts *parts) {
    generation_free(parts->first);
    tickets_free(parts->tickets);
}

struct showing {
    const struct demo *demo;
    bool tls;
};

static void on_demo_up(void *arg, int port) {
    const struct showing *showing = arg;
    demo_print_welcome(showing->demo, showing->tls, port);
}

static int run_demo(char *const *environment, const char *config_file) {
    struct process_parts parts;
    const char *why = "";
    struct demo *demo = demo_start(environment, &why);
    if (!demo) {
        (void)fprintf(stderr, "the demo cannot start: %s\n", why);
        return EXIT_FAILURE;
    }
    int code = EXIT_CONFIG;
    if (prepare(&parts, config_file, demo_environ(demo))) {
        struct showing showing = {demo, parts.first->setup.config->tls.enabled};
        parts.on_up = on_demo_up;
        parts.arg = &showing;
        code = process_run(&parts);
        demo_print_farewell(demo);
        dismiss(&parts);
    }
    demo_stop(demo);
    return code;
}

static int run_gateway(char *const *environment, const struct options *options) {
    struct process_parts parts;
    if (!prepare(&parts, options->config_file, environment))
        return EXIT_CONFIG;
    int code = EXIT_SUCCESS;
    parts.argv = options->argv;
    if (options->action == OPTIONS_RUN)
        code = process_run(&parts);
    else
        (void)fprintf(stderr, "%.*sconfiguration is fine\n",
                      SPAN_ARG(str_span(&parts.first->setup.warnings)));
    dismiss(&parts);
    return code;
}

static int print_config(char *const *environment, const char *config_file) {
    struct process_parts parts;
    enum { PRINT_MAX = 65536 };
    if (!prepare(&parts, config_file, environment))
        return EXIT_CONFIG;
    struct str out;
    str_init(&out, PRINT_MAX);
    config_print(parts.first->setup.config, &out);
    printf("%.*s", SPAN_ARG(str_span(&out)));
    str_release(&out);
    dismiss(&parts);
    return EXIT_SUCCESS;
}

/* For images, which have no other tool. The configuration is not read: whether it could be read now
 * says nothing of the one that runs. */
static int check_health(const char *where) {
    enum { TIMEOUT_MS = 2000 };
    const char *why = "it is not ready";
    int status = ask_status(where, "/readyz", TIMEOUT_MS, &why);
    if (status != 200)
        (void)fprintf(stderr, "aiwm-gateway: health port %s: %s\n", where, why);
    return status == 200 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int describe_config(void (*describe)(struct str *out)) {
    struct str out;
    enum { DESCRIBE_MAX = 262144 };
    str_init(&out, DESCRIBE_MAX);
    describe(&out);
    printf("%.*s", SPAN_ARG(str_span(&out)));
    str_release(&out);
    return EXIT_SUCCESS;
}

int app_run(const struct options *options, char *const *environment) {
    switch (options->action) {
    case OPTIONS_HELP:
        options_print_help(stdout);
        return EXIT_SUCCESS;
    case OPTIONS_VERSION:
        options_print_version(stdout);
        return EXIT_SUCCESS;
    case OPTIONS_HELP_CONFIG:
        return describe_config(config_describe);
    case OPTIONS_HELP_CONFIG_MARKDOWN:
        return describe_config(config_markdown);
    case OPTIONS_HELP_CONFIG_SCHEMA:
        return describe_config(config_schema);
    case OPTIONS_PRINT_CONFIG:
        return print_config(environment, options->config_file);
    case OPTIONS_HEALTH_CHECK:
        return check_health(options->health_at);
    case OPTIONS_DEMO:
        return run_demo(environment, options->config_file);
    default:
        return run_gateway(environment, options);
    }
}
