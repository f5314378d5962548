#include "agents/bench_options.h"

#include "agents/units.h"
#include "base/panic.h"
#include "io/files.h"

#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>

enum kind { FLAG, TEXT, NUMBER, THRESHOLD, ENV, COMPARE };

struct row {
    const char *name, *value; /* value NULL: a flag */
    enum kind kind;
    enum unit unit;
    size_t at;
    double preset, min, max;
    const char *help;
};

#define AT(member) offsetof(struct bench_options, member)
#define HEADING(text)                                                                              \
    { .help = (text) }
#define FLAG_ROW(name, member, help)                                                               \
    { name, NULL, FLAG, 0, AT(member), 0, 0, 0, help }
#define TEXT_ROW(name, value, member, help)                                                        \
    { name, value, TEXT, 0, AT(member), 0, 0, 0, help }
#define TIME_ROW(name, member, preset, max, help)                                                  \
    { name, "T", NUMBER, UNIT_TIME, AT(member), preset, 0, max, help }
#define COUNT_ROW(name, member, preset, min, max, help)                                            \
    { name, "N", NUMBER, UNIT_COUNT, AT(member), preset, min, max, help }

#define SECOND 1e6
#define DAY    (86400 * SECOND)
enum { AGENTS_MAX = 50000, PID_MAX = 4194304, PORT_MAX = 65535, UNSET = -1 };

static const struct row rows[] = {
    HEADING("Against whom"),
    TEXT_ROW("target", "URL", target, "https://host:port[/prefix]: a gateway or a controller"),
    FLAG_ROW("direct", direct, "a controller stub of its own, without a gateway"),
    FLAG_ROW("with-gateway", with_gateway, "a gateway of its own in front of a stub of its own"),
    {"compare", "A B", COMPARE, 0, 0, 0, 0, 0,
     "two of: direct, gateway, a URL; --runs of each, in turn"},
    COUNT_ROW("runs", runs, UNSET, 1, BENCH_RUNS_MAX, "how often (1; 3 with --compare)"),
    FLAG_ROW("plain", plain, "the gateway that is started speaks plain HTTP"),
    TEXT_ROW("ca", "FILE", ca_file, "PEM of the authority that signed the target's certificate"),
    FLAG_ROW("insecure", insecure, "takes any certificate"),
    FLAG_ROW("i-own-this-target", own_target, "the target is another machine, and yours to load"),
    HEADING("What happens"),
    COUNT_ROW("agents", agents, 1000, 1, AGENTS_MAX, "how many (1000)"),
    TIME_ROW("within", within_us, 2 * SECOND, DAY, "they all connect within this time (2s)"),
    TIME_ROW("for", for_us, UNSET, DAY, "length of each stage after that (the scenario's own)"),
    {"percent", "P", NUMBER, UNIT_PERCENT, AT(percent), 10, 0.001, 6000,
     "rolling: so many restart in a minute (10%)"},
    COUNT_ROW("rate", rate, 100, 0.001, 100000, "attack: strangers a second (100)"),
    FLAG_ROW("warm", warm, "all were connected before and said goodbye: a restart"),
    TIME_ROW("warm-within", warm_us, 20 * SECOND, DAY, "that first connect takes this long (20s)"),
    TIME_ROW("rest", rest_us, 0, DAY, "and this long nothing happens before the storm (0s)"),
    TIME_ROW("give-up", give_up_us, 900 * SECOND, DAY, "waits so long for all to connect (15m)"),
    HEADING("The agents"),
    TEXT_ROW("agents-file", "FILE", agents_file, "an id and a secret on each line (the stub's)"),
    TIME_ROW("beat", beat_us, 60 * SECOND, DAY, "heartbeat interval; 0: none (60s)"),
    TEXT_ROW("phase", "HOW", phase,
             "first heartbeat: connect (an interval after it, as documented), spread or together"),
    {"jitter", "P", NUMBER, UNIT_PERCENT, AT(jitter), 0, 0, 90, "of each interval, both ways (0%)"},
    TIME_ROW("timeout", timeout_us, 10 * SECOND, 110 * SECOND,
             "their patience for an answer (10s)"),
    TIME_ROW("reconnect", reconnect_us, 23 * 3600 * SECOND, DAY, "they connect again after (23h)"),
    TIME_ROW("local", local_us, 300 * SECOND, DAY, "and after failing four times (5m)"),
    FLAG_ROW("obey-retry-after", obey_retry_after, "429 and 503: come back when told"),
    TEXT_ROW("connections", "HOW", connections, "keep (one each) or new (one a call) (keep)"),
    FLAG_ROW("no-resume", no_resume, "each TLS handshake is a full one"),
    COUNT_ROW("sources", sources, UNSET, 0, 250,
              "addresses of 127/8 they come from; 0: the kernel's choice (one per 10,000 agents)"),
    HEADING("What is started, and what is watched"),
    COUNT_ROW("connect-cost-ms", connect_cost, 57, 0, 10000,
              "CPU that a connect costs the stub, as bcrypt does AIWM (57)"),
    COUNT_ROW(
        "controller-processors", processors, 0, 0, 4,
        "that CPU is not burnt here but waited for, on so many processors of the stub's own (0)"),
    FLAG_ROW("with-redis", redis, "the gateway that is started has a Redis of its own"),
    FLAG_ROW("bulk", bulk, "the stub takes heartbeats in bulk"),
    {"gateway-env", "NAME=VALUE", ENV, 0, 0, 0, 0, 0,
     "a setting of the gateway that is started; may be repeated"},
    COUNT_ROW("gateway-pid", gateway_pid, 0, 1, PID_MAX, "CPU and memory of a gateway of yours"),
    COUNT_ROW("controller-pid", controller_pid, 0, 1, PID_MAX, "CPU of a controller of yours"),
    COUNT_ROW("redis-pid", redis_pid, 0, 1, PID_MAX, "a Redis that stages may pause"),
    COUNT_ROW("control-port", control_port, 0, 1, PORT_MAX, "of a stub of yours on this machine"),
    COUNT_ROW("health-port", health_port, 0, 1, PORT_MAX, "of a gateway of yours on this machine"),
    HEADING("What comes of it"),
    TEXT_ROW("out", "DIR", out_dir, "report.html, report.json, CSV, .hlog and SVG go there"),
    {"fail-if", "LIMIT", THRESHOLD, 0, 0, 0, 0, 0,
     "'p99>50ms', 'lost>0': exit code 1; may be repeated"},
    TIME_ROW("max-lag", max_lag_us, 1000, DAY,
             "the generator may itself be this late at 99.9 %, or the run is not valid (1ms)"),
    FLAG_ROW("version", version, "says which version this is"),
    FLAG_ROW("help", help, "this text"),
};
enum { ROWS = sizeof rows / sizeof *rows };
_Static_assert(ROWS <= 64, "see bench_options.h, given");

static bool complain(char why[SCENARIO_WHY], const char *what, const char *about) {
    (void)snprintf(why, SCENARIO_WHY, "%s%.120s", what, about);
    return false;
}

static void *member(struct bench_options *o, const struct row *row) {
    return (char *)o + row->at;
}

/* ---- one option ---- */

static bool set_number(struct bench_options *o, const struct row *row, const char *value,
                       char why[SCENARIO_WHY]) {
    double number;
    if (!units_parse(row->unit, span_of(value), &number)) {
        (void)snprintf(why, SCENARIO_WHY, "--%s: not a number%s: %.80s", row->name,
                       row->unit == UNIT_TIME ? " with its unit (10s, 250ms)" : "", value);
        return false;
    }
    if (number < row->min || (row->max > 0 && number > row->max)) {
        struct str text;
        char memory[SCENARIO_WHY];
        str_init_fixed(&text, memory, sizeof memory);
        units_print(&text, row->unit, row->min);
        STR_ADD(&text, " to ");
        units_print(&text, row->unit, row->max);
        (void)snprintf(why, SCENARIO_WHY, "--%s: from %.*s", row->name, SPAN_ARG(str_span(&text)));
        return false;
    }
    *(double *)member(o, row) = number;
    return true;
}

static bool add_threshold(struct bench_options *o, const char *value, char why[SCENARIO_WHY]) {
    if (o->threshold_count >= BENCH_THRESHOLDS_MAX)
        return complain(why, "too many limits", "");
    return threshold_parse(value, &o->threshold[o->threshold_count], why) &&
           ++o->threshold_count > 0;
}

static bool add_env(struct bench_options *o, const char *value, char why[SCENARIO_WHY]) {
    if (strncmp(value, "AIWM_GATEWAY_", 13) != 0 || !strchr(value, '='))
        return complain(why, "--gateway-env: AIWM_GATEWAY_...=VALUE, not ", value);
    if (o->env_count + 1 >= RIG_ENV_MAX)
        return complain(why, "too many settings of the gateway", "");
    o->env[o->env_count++] = value;
    return true;
}

/* One word of --compare; the second one is what stands behind the option's value. */
static bool add_side(struct bench_options *o, const char *value, char why[SCENARIO_WHY]) {
    if (o->side[1])
        return complain(why, "--compare takes two, and this is a third: ", value);
    o->side[o->side[0] ? 1 : 0] = value;
    return true;
}

static bool set(struct bench_options *o, const struct row *row, const char *value,
                char why[SCENARIO_WHY]) {
    switch (row->kind) {
    case FLAG:
        *(bool *)member(o, row) = true;
        return true;
    case TEXT:
        *(const char **)member(o, row) = value;
        return true;
    case NUMBER:
        return set_number(o, row, value, why);
    case THRESHOLD:
        return add_threshold(o, value, why);
    case ENV:
        return add_env(o, value, why);
    case COMPARE:
        return add_side(o, value, why);
    }
    return false;
}

/* ---- all of them ---- */

static void set_presets(struct bench_options *o) {
    *o = (struct bench_options){.phase = "connect", .connections = "keep"};
    for (int i = 0; i < ROWS; i++)
        if (rows[i].name && rows[i].kind == NUMBER)
            *(double *)member(o, &rows[i]) = rows[i].preset;
}

static void fill_long_options(struct option *out) {
    for (int i = 0; i < ROWS; i++)
        if (rows[i].name)
            *out++ = (struct option){rows[i].name,
                                     rows[i].kind == FLAG ? no_argument : required_argument, NULL,
                                     256 + i};
    *out = (struct option){NULL, 0, NULL, 0};
}

static bool take_arguments(struct bench_options *o, int argc, char **argv, char why[SCENARIO_WHY]) {
    struct option long_options[ROWS + 1];
    fill_long_options(long_options);
    optind = 0;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "-:h", long_options, NULL)) != -1;) {
        if (option == 'h') {
            o->help = true;
            continue;
        }
        if (option == ':' || option == '?')
            return complain(
                why, option == ':' ? "a value is missing: " : "unknown option: ", argv[optind - 1]);
        if (option == 1 && o->side[0] && !o->side[1])
            o->side[1] = optarg;
        else if (option == 1 && o->scenario_text)
            return complain(why, "one scenario at a time, and this is a second: ", optarg);
        else if (option == 1)
            o->scenario_text = optarg;
        else if (!set(o, &rows[option - 256], optarg, why))
            return false;
        else
            o->given[option - 256] = true;
    }
    return true;
}

static bool option_of_file(void *arg, const char *name, const char *value, char why[SCENARIO_WHY]) {
    struct bench_options *o = arg;
    for (int i = 0; i < ROWS; i++) {
        if (!rows[i].name || strcmp(rows[i].name, name) != 0)
            continue;
        if (o->given[i])
            return true;
        if (rows[i].kind == FLAG && strcmp(value, "true") != 0)
            return strcmp(value, "false") == 0 || complain(why, "true or false, not ", value);
        if (o->kept_count == BENCH_KEPT_MAX)
            return complain(why, "too many options", "");
        return set(o, &rows[i], o->kept[o->kept_count++] = must_strdup(value), why);
    }
    return complain(why, "there is no such option: ", name);
}

/* ---- the scenario ---- */

static double default_length(const char *name) {
    static const struct {
        const char *name;
        double seconds;
    } lengths[] = {{"storm", 0},   {"steady", 120}, {"rolling", 60},
                   {"soak", 3600}, {"chaos", 10},   {"attack", 15}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (strcmp(lengths[i].name, name) == 0)
            return lengths[i].seconds * SECOND;
    return 0;
}

static bool read_scenario(struct bench_options *o, char why[SCENARIO_WHY]) {
    size_t len;
    const char *problem, *name = o->scenario_text;
    struct scenario_wishes wishes = {.within_us = o->within_us,
                                     .for_us = o->for_us >= 0 ? o->for_us : default_length(name),
                                     .percent = o->percent,
                                     .rate = o->rate,
                                     .warm = o->warm,
                                     .warm_us = o->warm_us,
                                     .rest_us = o->rest_us,
                                     .redis = o->redis};
    if (scenario_preset(name, &wishes, &o->scenario))
        return true;
    char *text = files_read(NULL, name, &len, &problem);
    if (!text) {
        (void)snprintf(why, SCENARIO_WHY, "%.100s is no scenario and no file: %s", name, problem);
        return false;
    }
    bool fine = scenario_read((struct span){text, len}, &o->scenario, option_of_file, o, why);
    free(text);
    return fine;
}

/* ---- what fits together ---- */

static bool one_of(const char *text, const char *a, const char *b, const char *c) {
    return strcmp(text, a) == 0 || strcmp(text, b) == 0 || (c && strcmp(text, c) == 0);
}

static const char *contradiction(const struct bench_options *o) {
    int targets = (o->target != NULL) + o->direct + o->with_gateway + (o->side[0] != NULL);
    if (targets != 1)
        return "against whom? one of --target, --direct, --with-gateway, --compare";
    if (o->side[0] && !o->side[1])
        return "--compare takes two: direct, gateway or a URL";
    if (!one_of(o->phase, "connect", "spread", "together"))
        return "--phase is connect, spread or together";
    if (!one_of(o->connections, "keep", "new", NULL))
        return "--connections is keep or new";
    if (o->agents_file && !o->target)
        return "--agents-file is for --target: the stub has its own agents";
    return NULL;
}

bool bench_options_parse(int argc, char **argv, struct bench_options *out, char why[SCENARIO_WHY]) {
    set_presets(out);
    if (!take_arguments(out, argc, argv, why))
        return false;
    if (out->help || out->version)
        return true;
    if (!out->scenario_text)
        return complain(
            why, "which scenario? storm, steady, rolling, soak, chaos, attack or a file", "");
    if (!read_scenario(out, why))
        return false;
    const char *problem = contradiction(out);
    if (out->runs < 0)
        out->runs = out->side[0] ? 3 : 1;
    return !problem || complain(why, problem, "");
}

void bench_options_release(struct bench_options *o) {
    for (size_t i = 0; i < o->kept_count; i++)
        free(o->kept[i]);
}

/* ---- help ---- */

static const char introduction[] =
    "Usage: aiwm-bench SCENARIO AGAINST-WHOM [options]\n"
    "A fleet of agents in one process, to see what a gateway or a controller can bear.\n"
    "\n"
    "  aiwm-bench storm --with-gateway --agents 2000          everything of its own, one command\n"
    "  aiwm-bench storm --compare direct gateway --warm       is it worth it?\n"
    "  aiwm-bench steady --target https://127.0.0.1:8443 --ca cert.pem --beat 10s --fail-if "
    "'p99>50ms'\n"
    "\n"
    "Scenarios\n"
    "  storm     all connect within --within\n"
    "  steady    they connect, then beat\n"
    "  rolling   they connect, then --percent restart in a minute\n"
    "  soak      steady, for an hour\n"
    "  chaos     the controller hangs, refuses, is slow, fails; the gateway dies and comes back\n"
    "  attack    forged tokens, wrong secrets, slow clients at a --rate, beside the agents\n"
    "  FILE      your own stages in YAML: docs/bench.md\n";

static void print_row(FILE *out, const struct row *row) {
    char left[48];
    if (!row->name) {
        fprintf(out, "\n%s\n", row->help);
        return;
    }
    (void)snprintf(left, sizeof left, "--%s%s%s", row->name, row->value ? " " : "",
                   row->value ? row->value : "");
    fprintf(out, "  %-22s  %s\n", left, row->help);
}

void bench_options_print_help(FILE *out) {
    fputs(introduction, out);
    for (int i = 0; i < ROWS; i++)
        print_row(out, &rows[i]);
    fputs("\nFigures for --fail-if (times from when each call was due)\n", out);
    for (int f = 0; f < FIGURE_COUNT; f++)
        fprintf(out, "  %-26s  %s\n", figure_row((enum figure)f)->name,
                figure_row((enum figure)f)->help);
    fputs(
        "\nExit code: 0; 1: a limit was broken, the figures are not valid (the generator was late\n"
        "itself), the run was interrupted or could not be made; 64: the command line.\n",
        out);
}

/* ---- what follows ---- */

static enum life_phase phase_of(const char *text) {
    return strcmp(text, "spread") == 0     ? LIFE_SPREAD
           : strcmp(text, "together") == 0 ? LIFE_IN_PHASE
                                           : LIFE_AFTER_CONNECT;
}

static struct life_rules rules_of(const struct bench_options *o) {
    struct life_rules rules = life_documented();
    rules.timeout_us = (int64_t)o->timeout_us;
    rules.local_us = (int64_t)o->local_us;
    rules.beat_us = (int64_t)o->beat_us;
    rules.reconnect_us = (int64_t)o->reconnect_us;
    rules.jitter_percent = (int)o->jitter;
    rules.phase = phase_of(o->phase);
    rules.obey_retry_after = o->obey_retry_after;
    return rules;
}

static void choose_side(const struct bench_options *o, const char *side, struct run_options *out) {
    bool gateway = side ? strcmp(side, "gateway") == 0 : o->with_gateway;
    bool direct = side ? strcmp(side, "direct") == 0 : o->direct;
    out->url = gateway || direct ? NULL : side ? side : o->target;
    out->rig.stub = gateway || direct;
    out->rig.gateway = gateway;
    out->rig.redis = gateway && o->redis;
    (void)snprintf(out->side, sizeof out->side, "%.60s",
                   gateway  ? "gateway"
                   : direct ? "direct"
                            : out->url);
}

void bench_options_run(const struct bench_options *o, const char *side,
                       const struct identities *identities, struct span ca_pem,
                       struct run_options *out) {
    *out = (struct run_options){.rig = {.tls = !o->plain,
                                        .agents = (size_t)o->agents,
                                        .connect_cost_ms = (int)o->connect_cost,
                                        .processors = (int)o->processors,
                                        .bulk = o->bulk,
                                        .gateway_pid = (pid_t)o->gateway_pid,
                                        .controller_pid = (pid_t)o->controller_pid,
                                        .redis_pid = (pid_t)o->redis_pid},
                                .control_port = (int)o->control_port,
                                .health_port = (int)o->health_port,
                                .ca_pem = ca_pem,
                                .insecure = o->insecure,
                                .own_target = o->own_target,
                                .scenario = &o->scenario,
                                .identities = identities,
                                .agents = (size_t)o->agents,
                                .rules = rules_of(o),
                                .keep = strcmp(o->connections, "keep") == 0,
                                .resume = !o->no_resume,
                                .sources = (int)o->sources,
                                .give_up_us = (int64_t)o->give_up_us,
                                .max_lag_us = o->max_lag_us};
    memcpy(out->rig.env, o->env, sizeof o->env);
    choose_side(o, side, out);
}

static void print_value(const struct bench_options *o, const struct row *row, struct str *out) {
    const char *at = (const char *)o + row->at;
    if (row->kind == FLAG)
        str_addf(out, "%s: %s\n", row->name, *(const bool *)at ? "true" : "false");
    else if (row->kind == NUMBER)
        str_addf(out, "%s: %.10g\n", row->name, *(const double *)(const void *)at);
    else if (row->kind == TEXT && *(const char *const *)(const void *)at)
        str_addf(out, "%s: %s\n", row->name, *(const char *const *)(const void *)at);
}

void bench_options_print_canonical(const struct bench_options *o, struct str *out) {
    for (int i = 0; i < ROWS; i++)
        if (rows[i].name && strcmp(rows[i].name, "out") != 0)
            print_value(o, &rows[i], out);
    for (size_t i = 0; i < o->env_count; i++)
        str_addf(out, "gateway-env: %s\n", o->env[i]);
    scenario_print(&o->scenario, out);
}
