#include "app/ctl.h"

#include "app/ctl_show.h"
#include "app/options.h"
#include "base/panic.h"
#include "base/secret.h"
#include "io/files.h"
#include "io/upstream.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TARGET_MAX = 4096, ANSWER_MAX = 4 << 20, TIMEOUT_MS = 10000, ADMIN_PORT = 9901 };

/* One row each. An argument "agent=6a..." goes into the query as it is; a bare one gets the name
 * in `names`, in order. */
static const struct command {
    const char *name, *method, *path;
    const char *names[2];
    const char *arguments, *help;
} commands[] = {
    {"state", "GET", "/state", {0}, "", "how it is: controller, Redis, agents, heartbeats"},
    {"config", "GET", "/config", {0}, "", "the configuration in force, secrets masked"},
    {"agents",
     "GET",
     "/agents",
     {0},
     "[only=held|cached|refused|revoked] [prefix=] [status=] "
     "[limit=] [after=]",
     "what is known of agents, in pages"},
    {"agent", "GET", "/agents/", {"/"}, "ID", "the same of one"},
    {"explain",
     "GET",
     "/explain",
     {"method", "path"},
     "METHOD PATH",
     "what would become of a request"},
    {"purge",
     "POST",
     "/purge",
     {"agent"},
     "ID | instruction=ID | deployment=ID | organization=ID | everything=yes",
     "forget an agent's cached connect, or make others stale"},
    {"revoke", "POST", "/revoke", {"agent"}, "ID", "refuse the agent's tokens given out until now"},
    {"drain", "POST", "/drain", {0}, "", "finish what is under way and end, as TERM does"},
    {"reload", "POST", "/reload", {0}, "", "read the configuration anew, as HUP does"},
    {"log-level",
     "POST",
     "/log-level",
     {"level"},
     "error|warn|info|debug",
     "until the next reload"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

struct ctl {
    const char *host;
    int port;
    const char *token_file;
    bool json;
    const struct command *command;
    struct str target;
    struct loop loop;
    struct str answer;
    int status;
    enum err error;
};

/* ---- the command line ---- */

static void print_help(FILE *to) {
    (void)fputs("aiwm-gateway ctl [--address HOST:PORT] [--token-file FILE] [--json] COMMAND\n\n",
                to);
    for (size_t i = 0; i < COMMANDS; i++)
        (void)fprintf(to, "  %s%s%s\n      %s\n", commands[i].name,
                      commands[i].arguments[0] ? " " : "", commands[i].arguments, commands[i].help);
    (void)fputs(
        "\nThe address is admin.address and admin.port, 127.0.0.1:9901 unless configured.\n"
        "What changes something needs the token of admin.token_file; it can be given in\n"
        "AIWM_GATEWAY_ADMIN_TOKEN too. On a terminal the answer is spelled for people,\n"
        "elsewhere, or with --json, it is JSON.\n\n"
        "Examples\n"
        "  aiwm-gateway ctl state\n"
        "  aiwm-gateway ctl agents only=held limit=20\n"
        "  aiwm-gateway ctl explain POST /agents/6a1f00000000000000000001/connect\n"
        "  aiwm-gateway ctl --token-file /etc/aiwm-gateway/admin-token purge everything=yes\n",
        to);
}

static int complain(const char *what, const char *argument) {
    (void)fprintf(stderr, "aiwm-gateway ctl: %s%s; see aiwm-gateway ctl --help\n", what, argument);
    return EXIT_USAGE;
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* RFC 3986: all but unreserved characters are escaped. */
static void add_escaped(struct str *out, const char *text) {
    static const char unreserved[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789-._~";
    for (; *text; text++) {
        if (strchr(unreserved, *text))
            str_add_char(out, *text);
        else
            str_addf(out, "%%%02X", (unsigned int)(unsigned char)*text);
    }
}

static void add_argument(struct ctl *c, const char *argument, size_t place, bool *has_query) {
    const char *name = place < 2 ? c->command->names[place] : NULL;
    const char *equals = strchr(argument, '=');
    if (name && strcmp(name, "/") == 0) {
        add_escaped(&c->target, argument);
        return;
    }
    str_add_char(&c->target, *has_query ? '&' : '?');
    *has_query = true;
    if (equals && argument[0] != '/') {
        str_add(&c->target, (struct span){argument, (size_t)(equals - argument) + 1});
        add_escaped(&c->target, equals + 1);
    } else {
        str_addf(&c->target, "%s=", name ? name : "argument");
        add_escaped(&c->target, argument);
    }
}

static bool take_address(struct ctl *c, char *text) {
    char *colon = strrchr(text, ':');
    char *end = NULL;
    if (!colon || colon == text)
        return false;
    *colon = '\0';
    long port = strtol(colon + 1, &end, 10);
    size_t len = strlen(text);
    if (text[0] == '[' && text[len - 1] == ']') {
        text[len - 1] = '\0';
        text++;
    }
    c->host = text;
    c->port = (int)port;
    return *end == '\0' && port > 0 && port < 65536;
}

static int take_options(struct ctl *c, int argc, char **argv) {
    static const struct option options[] = {{"address", required_argument, NULL, 'a'},
                                            {"token-file", required_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    optind = 0;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "+:h", options, NULL)) != -1;) {
        if (option == 'a' && !take_address(c, optarg))
            return complain("--address needs HOST:PORT", "");
        if (option == 't')
            c->token_file = optarg;
        else if (option == 'j')
            c->json = true;
        else if (option == 'h')
            return -1;
        else if (option == '?' || option == ':')
            return complain("unknown or incomplete option ", argv[optind - 1]);
    }
    return 0;
}

static int parse(struct ctl *c, int argc, char **argv) {
    int code = take_options(c, argc, argv);
    if (code != 0)
        return code;
    if (optind == argc)
        return complain("no command", "");
    c->command = find_command(argv[optind]);
    if (!c->command)
        return complain("unknown command ", argv[optind]);
    str_add(&c->target, span_of(c->command->path));
    bool has_query = false;
    for (int i = optind + 1; i < argc; i++)
        add_argument(c, argv[i], (size_t)(i - optind - 1), &has_query);
    return c->target.overflow ? complain("too long", "") : 0;
}

/* ---- the call ---- */

static void on_head(void *arg, const struct http_response *head) {
    struct ctl *c = arg;
    c->status = head->status;
}

static void on_body(void *arg, struct span bytes) {
    struct ctl *c = arg;
    str_add(&c->answer, bytes);
}

static void on_done(void *arg, enum err error) {
    struct ctl *c = arg;
    c->error = error;
    loop_stop(&c->loop);
}

static const struct call_events call_events = {on_head, on_body, NULL, on_done, NULL};

/* From the file, or the environment; empty: none. The caller cleanses and frees it. */
static char *read_token(const struct ctl *c) {
    size_t len = 0;
    const char *why = "";
    const char *variable = getenv("AIWM_GATEWAY_ADMIN_TOKEN");
    if (!c->token_file)
        return must_strdup(variable ? variable : "");
    char *bytes = files_read(NULL, c->token_file, &len, &why);
    if (!bytes) {
        (void)fprintf(stderr, "aiwm-gateway ctl: %s: cannot be read: %s\n", c->token_file, why);
        return NULL;
    }
    char *token = must_zalloc(len + 1);
    memcpy(token, bytes, len);
    token[strcspn(token, "\r\n")] = '\0';
    secret_cleanse(bytes, len);
    free(bytes);
    return token;
}

static void ask(struct ctl *c, const char *token) {
    struct str head;
    str_init(&head, 2 * TARGET_MAX);
    bool numeric6 = strchr(c->host, ':') != NULL;
    str_addf(&head, "%s %.*s HTTP/1.1\r\nHost: %s%s%s:%d\r\n", c->command->method,
             SPAN_ARG(str_span(&c->target)), numeric6 ? "[" : "", c->host, numeric6 ? "]" : "",
             c->port);
    if (token[0] != '\0')
        str_addf(&head, "Authorization: Bearer %s\r\n", token);
    STR_ADD(&head, "Content-Length: 0\r\n\r\n");
    struct upstream_options options = {.host = c->host,
                                       .port = c->port,
                                       .connect_timeout_ms = TIMEOUT_MS,
                                       .response_timeout_ms = TIMEOUT_MS,
                                       .max_connections = 1};
    loop_init(&c->loop);
    struct upstream *upstream = upstream_new(&c->loop, &options);
    struct call_request request = {.head = str_span(&head), .secret = true};
    upstream_call(upstream, &request, &call_events, c);
    loop_run(&c->loop);
    upstream_free(upstream);
    loop_release(&c->loop);
    secret_cleanse(head.ptr, head.len);
    str_release(&head);
}

static int report(const struct ctl *c) {
    struct span answer = str_span(&c->answer);
    if (c->error != ERR_OK) {
        (void)fprintf(stderr,
                      "aiwm-gateway ctl: no answer from the admin port at %s:%d; is the "
                      "gateway running, and is this admin.address and admin.port?\n",
                      c->host, c->port);
        return EXIT_FAILURE;
    }
    FILE *to = c->status == 200 ? stdout : stderr;
    if (c->json || !isatty(fileno(to)) || !ctl_show(answer, to))
        (void)fprintf(to, "%.*s", SPAN_ARG(answer));
    return c->status == 200 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int ctl_run(int argc, char **argv) {
    struct ctl c = {.host = "127.0.0.1", .port = ADMIN_PORT};
    str_init(&c.target, TARGET_MAX);
    str_init(&c.answer, ANSWER_MAX);
    int code = parse(&c, argc, argv);
    if (code == -1)
        print_help(stdout);
    char *token = code == 0 ? read_token(&c) : NULL;
    if (token) {
        ask(&c, token);
        code = report(&c);
        secret_cleanse(token, strlen(token));
    } else if (code == 0) {
        code = EXIT_FAILURE;
    }
    free(token);
    str_release(&c.target);
    str_release(&c.answer);
    return code == -1 ? EXIT_SUCCESS : code;
}
