#include "app/options.h"

#include "rules/config/config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_MAX = 5 };

struct row {
    const char *arguments[ARGUMENTS_MAX]; /* without the program's name */
    enum options_action action;
    const char *config_file;
    const char *complaint; /* NULL: fine */
};

static enum options_verdict parse(const struct row *row, struct options *out) {
    static char memory[ARGUMENTS_MAX + 1][256];
    char *argv[ARGUMENTS_MAX + 2] = {memory[0]};
    int argc = 1;
    strcpy(memory[0], "aiwm-gateway");
    for (; argc <= ARGUMENTS_MAX && row->arguments[argc - 1]; argc++) {
        (void)snprintf(memory[argc], sizeof memory[argc], "%s", row->arguments[argc - 1]);
        argv[argc] = memory[argc];
    }
    argv[argc] = NULL;
    return options_parse(argc, argv, out);
}

Test(options, understands_what_the_help_shows) {
    static const struct row rows[] = {
        {{NULL}, OPTIONS_RUN, NULL, NULL},
        {{"--config", "f.yaml"}, OPTIONS_RUN, "f.yaml", NULL},
        {{"--config=f.yaml"}, OPTIONS_RUN, "f.yaml", NULL},
        {{"--config", "f.yaml", "--check-config"}, OPTIONS_CHECK_CONFIG, "f.yaml", NULL},
        {{"--check-config", "--config", "f.yaml"}, OPTIONS_CHECK_CONFIG, "f.yaml", NULL},
        {{"--check-config"}, OPTIONS_CHECK_CONFIG, NULL, NULL},
        {{"--print-config", "--config=f.yaml"}, OPTIONS_PRINT_CONFIG, "f.yaml", NULL},
        {{"--health-check=[::1]:1"}, OPTIONS_HEALTH_CHECK, NULL, NULL},
        {{"--health-check"}, OPTIONS_HEALTH_CHECK, NULL, NULL},
        {{"--help-config"}, OPTIONS_HELP_CONFIG, NULL, NULL},
        {{"--help-config=markdown"}, OPTIONS_HELP_CONFIG_MARKDOWN, NULL, NULL},
        {{"--help-config=schema"}, OPTIONS_HELP_CONFIG_SCHEMA, NULL, NULL},
        {{"-t", "-c", "f.yaml"}, OPTIONS_CHECK_CONFIG, "f.yaml", NULL},
        {{"-tcf.yaml"}, OPTIONS_CHECK_CONFIG, "f.yaml", NULL},
        {{"-V"}, OPTIONS_VERSION, NULL, NULL},
        {{"-h"}, OPTIONS_HELP, NULL, NULL},
        {{"--demo"}, OPTIONS_DEMO, NULL, NULL},
        {{"--version"}, OPTIONS_VERSION, NULL, NULL},
        {{"--help"}, OPTIONS_HELP, NULL, NULL},
        {{"--help", "--help"}, OPTIONS_HELP, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct options o;
        cr_expect_eq(parse(&rows[i], &o), OPTIONS_FINE, "row %zu: %s", i, o.complaint);
        cr_expect_eq(o.action, rows[i].action, "row %zu", i);
        cr_expect_str_eq(o.complaint, "", "row %zu", i);
        if (rows[i].config_file)
            cr_expect_str_eq(o.config_file, rows[i].config_file, "row %zu", i);
        else
            cr_expect_null(o.config_file, "row %zu", i);
    }
}

Test(options, says_what_it_does_not_understand) {
    static const struct row rows[] = {
        {{"--conf1g", "x"}, 0, NULL, "unknown or incomplete option --conf1g"},
        {{"--help", "--what"}, 0, NULL, "unknown or incomplete option --what"},
        {{"-x"}, 0, NULL, "unknown or incomplete option -x"},
        {{"--help-config=html"}, 0, NULL, "--help-config comes as markdown or schema, not as html"},
        {{"--demo=1"}, 0, NULL, "unknown or incomplete option --demo=1"},
        {{"--config"}, 0, NULL, "this option needs a value: --config"},
        {{"-c"}, 0, NULL, "this option needs a value: -c"},
        {{"--config", ""}, 0, NULL, "--config needs the name of a file"},
        {{"--config", "a", "--config", "b"}, 0, NULL, "--config is given twice, also for b"},
        {{"f.yaml"}, 0, NULL, "unexpected argument f.yaml"},
        {{"--demo", "now"}, 0, NULL, "unexpected argument now"},
        {{"--", "--help"}, 0, NULL, "unexpected argument --help"},
        {{"--check-config", "--print-config"}, 0, NULL, "more than one thing to do"},
        {{"--config", "a", "--demo"}, 0, NULL, "--config only goes with"},
        {{"--health-check", "--config", "a"}, 0, NULL, "--config only goes with"},
        {{"--version", "--config", "a"}, 0, NULL, "--config only goes with"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct options o;
        cr_expect_eq(parse(&rows[i], &o), OPTIONS_BAD, "row %zu", i);
        cr_expect(strstr(o.complaint, rows[i].complaint), "row %zu: %s", i, o.complaint);
    }
}

Test(options, the_health_check_asks_where_it_is_told_or_at_the_default_port) {
    static const struct row told = {{"--health-check=127.0.0.2:99"}, 0, NULL, NULL};
    static const struct row not_told = {{"--health-check"}, 0, NULL, NULL};
    struct options o;
    (void)parse(&told, &o);
    cr_expect_str_eq(o.health_at, "127.0.0.2:99");
    (void)parse(&not_told, &o);
    struct str described;
    char key[64];
    str_init(&described, 262144);
    config_describe(&described);
    str_add_char(&described, '\0');
    const char *port = strstr(described.ptr, "\nhealth.port\n");
    cr_assert(port);
    (void)snprintf(key, sizeof key, "default %s\n", o.health_at);
    const char *found = strstr(port, "default ");
    cr_expect_eq(strncmp(found, key, strlen(key)), 0, "%.20s", found);
    str_release(&described);
}

Test(options, a_complaint_is_cut_and_not_overrun) {
    char text[256];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct row row = {{text}, 0, NULL, NULL};
    struct options o;
    cr_expect_eq(parse(&row, &o), OPTIONS_BAD);
    cr_expect_lt(strlen(o.complaint), sizeof o.complaint);
}

static char *printed(void (*print)(FILE *to)) {
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    print(f);
    (void)fclose(f);
    return text;
}

Test(options, help_teaches_every_option_and_exit_code) {
    static const char *const taught[] = {"--config FILE",
                                         "--check-config",
                                         "--print-config",
                                         "--help-config",
                                         "--health-check",
                                         "--demo",
                                         "--version",
                                         "--help",
                                         "AIWM_GATEWAY_JWT_SECRET",
                                         "TERM",
                                         "HUP",
                                         "0 ended",
                                         "1 failed",
                                         "64 wrong",
                                         "78 wrong"};
    char *text = printed(options_print_help);
    for (size_t i = 0; i < sizeof taught / sizeof taught[0]; i++)
        cr_expect(strstr(text, taught[i]), "%s is not taught", taught[i]);
    free(text);
}

Test(options, help_fits_a_terminal) {
    char *text = printed(options_print_help);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        cr_expect_leq(strlen(line), 90, "%s", line);
    free(text);
}

Test(options, version_is_one_line_and_names_the_openssl_that_is_there) {
    char *text = printed(options_print_version);
    static const char start[] = "aiwm-gateway " GATEWAY_VERSION " (OpenSSL 3.";
    cr_expect_eq(strncmp(text, start, sizeof start - 1), 0, "%s", text);
    cr_expect_eq(strchr(text, '\n'), text + strlen(text) - 1, "%s", text);
    free(text);
}

static void print_usage(FILE *to) {
    struct row row = {{"--what"}, 0, NULL, NULL};
    struct options o;
    (void)parse(&row, &o);
    options_print_usage(to, &o);
}

Test(options, the_usage_hint_is_one_line_that_names_the_help) {
    char *text = printed(print_usage);
    cr_expect_str_eq(text, "aiwm-gateway: unknown or incomplete option --what; see aiwm-gateway "
                           "--help\n");
    free(text);
}
