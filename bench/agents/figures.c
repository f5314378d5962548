#include "agents/figures.h"

#include <math.h>
#include <stdio.h>

static const struct figure_row rows[] = {
#define X(name, unit, better, help) {#name, UNIT_##unit, better, help},
    FIGURE_ROWS(X)
#undef X
};

const struct figure_row *figure_row(enum figure f) {
    return &rows[f];
}

enum figure figure_find(struct span name) {
    static const struct {
        const char *alias;
        enum figure figure;
    } aliases[] = {{"p99.9", FIGURE_p999},
                   {"connect_p99.9", FIGURE_connect_p999},
                   {"heartbeat_p99.9", FIGURE_heartbeat_p999}};
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (span_equal(span_of(aliases[i].alias), name))
            return aliases[i].figure;
    for (int f = 0; f < FIGURE_COUNT; f++)
        if (span_equal(span_of(rows[f].name), name))
            return (enum figure)f;
    return FIGURE_COUNT;
}

/* ---- from what was recorded ---- */

struct sums {
    struct tally tally;
    struct scene scene;
    double length_us;
    double all_connected_us; /* NaN: never, or there was no connect stage */
};

/* One unknown makes the sum unknown. */
static int64_t plus(int64_t a, int64_t b) {
    return a < 0 || b < 0 ? -1 : a + b;
}

static void add_section(struct sums *s, const struct record_section *section) {
#define X(name) s->tally.name += section->tally.name;
    TALLY_ROWS(X)
#undef X
#define X(name) s->scene.seen.name = plus(s->scene.seen.name, section->scene.seen.name);
    SEEN_ROWS(X)
#undef X
    s->scene.gateway.cpu_us = plus(s->scene.gateway.cpu_us, section->scene.gateway.cpu_us);
    s->scene.controller.cpu_us = plus(s->scene.controller.cpu_us, section->scene.controller.cpu_us);
    s->scene.self.cpu_us = plus(s->scene.self.cpu_us, section->scene.self.cpu_us);
    s->length_us += (double)(section->to_us - section->from_us);
    if (section->is_connect)
        s->all_connected_us =
            section->all_connected_us < 0 ? NAN : (double)section->all_connected_us;
}

static struct sums sum_up(const struct record *r) {
    struct sums s = {.all_connected_us = NAN};
    for (size_t i = 0; i < r->section_count; i++)
        if (!r->section[i].unmeasured && r->section[i].to_us >= 0)
            add_section(&s, &r->section[i]);
    return s;
}

static double known(int64_t value) {
    return value < 0 ? NAN : (double)value;
}

static double per(double value, double count) {
    return count > 0 ? value / count : NAN;
}

static double quantile(const struct hist *h, double q) {
    return hist_count(h) ? (double)hist_quantile(h, q) : NAN;
}

static double most_memory(const struct record *r) {
    int64_t most = -1;
    for (size_t i = 0; i < r->row_count; i++)
        if (r->row[i].scene.gateway.memory > most)
            most = r->row[i].scene.gateway.memory;
    return known(most);
}

static void fill_latencies(const struct record *r, double out[FIGURE_COUNT]) {
    out[FIGURE_connected_p50] = RECORD_CONNECTED_US * quantile(r->connected, 0.5);
    out[FIGURE_connected_p99] = RECORD_CONNECTED_US * quantile(r->connected, 0.99);
    out[FIGURE_connected_max] = RECORD_CONNECTED_US * quantile(r->connected, 1);
    out[FIGURE_p50] = quantile(r->calls, 0.5);
    out[FIGURE_p99] = quantile(r->calls, 0.99);
    out[FIGURE_p999] = quantile(r->calls, 0.999);
    out[FIGURE_max] = quantile(r->calls, 1);
    out[FIGURE_connect_p50] = quantile(r->connect, 0.5);
    out[FIGURE_connect_p99] = quantile(r->connect, 0.99);
    out[FIGURE_connect_p999] = quantile(r->connect, 0.999);
    out[FIGURE_heartbeat_p50] = quantile(r->heartbeat, 0.5);
    out[FIGURE_heartbeat_p99] = quantile(r->heartbeat, 0.99);
    out[FIGURE_heartbeat_p999] = quantile(r->heartbeat, 0.999);
    out[FIGURE_generator_lag_p999] = quantile(r->lag, 0.999);
    out[FIGURE_generator_lag_max] = quantile(r->lag, 1);
}

static void fill_counts(const struct sums *s, double out[FIGURE_COUNT]) {
    const struct seen *seen = &s->scene.seen;
    double calls = (double)tally_calls(&s->tally), errors = (double)tally_errors(&s->tally);
    out[FIGURE_calls] = calls;
    out[FIGURE_rate] = per(calls, s->length_us / 1e6);
    out[FIGURE_errors] = errors;
    out[FIGURE_error_percent] = per(100 * errors, calls);
    out[FIGURE_timeouts] = (double)s->tally.timeouts;
    out[FIGURE_attack_let_in] = (double)s->tally.attack_let_in;
    out[FIGURE_controller_requests] = known(seen->requests);
    out[FIGURE_controller_bcrypts] = known(seen->bcrypts);
    out[FIGURE_controller_heartbeats] = known(plus(seen->heartbeats, seen->bulk_beats));
    out[FIGURE_bcrypt_percent] = per(100 * known(seen->bcrypts), (double)s->tally.connects_ok);
    out[FIGURE_requests_per_heartbeat] =
        per(known(plus(seen->heartbeats, seen->bulk_requests)), (double)s->tally.heartbeats_ok);
}

static void fill_costs(const struct figures_input *in, const struct sums *s,
                       double out[FIGURE_COUNT]) {
    double memory = most_memory(in->record);
    out[FIGURE_gateway_cpu] = known(s->scene.gateway.cpu_us);
    out[FIGURE_gateway_cpu_per_call] =
        per(known(s->scene.gateway.cpu_us), (double)tally_calls(&s->tally));
    out[FIGURE_gateway_memory] = memory;
    out[FIGURE_gateway_memory_per_agent] =
        per(memory - known(in->gateway_memory_before), (double)in->agents);
    out[FIGURE_controller_cpu] = known(s->scene.controller.cpu_us);
    out[FIGURE_generator_cpu] = per(100 * known(s->scene.self.cpu_us), s->length_us);
    out[FIGURE_generator_memory_per_agent] = known(in->generator_memory_per_agent);
    out[FIGURE_connections] = known(in->connections);
}

void figures_fill(const struct figures_input *in, double out[FIGURE_COUNT]) {
    struct sums s = sum_up(in->record);
    for (int f = 0; f < FIGURE_COUNT; f++)
        out[f] = NAN;
    out[FIGURE_all_connected] = s.all_connected_us;
    out[FIGURE_unconnected] = known(in->unconnected);
    out[FIGURE_lost] = known(in->lost);
    out[FIGURE_expired] = known(in->expired);
    fill_latencies(in->record, out);
    fill_counts(&s, out);
    fill_costs(in, &s, out);
}

/* ---- thresholds ---- */

bool threshold_parse(const char *text, struct threshold *out, char why[SCENARIO_WHY]) {
    size_t len = strcspn(text, "<>");
    enum figure f = figure_find(span_trim((struct span){text, len}));
    if (text[len] == '\0' || f == FIGURE_COUNT) {
        (void)snprintf(why, SCENARIO_WHY, "not a figure and a limit like p99>50ms: %.80s", text);
        return false;
    }
    const char *value = text + len + 1;
    *out = (struct threshold){.figure = f, .above = text[len] == '>', .or_equal = *value == '='};
    if (units_parse(rows[f].unit, span_of(value + out->or_equal), &out->value))
        return true;
    (void)snprintf(why, SCENARIO_WHY, "the limit of %s is no number with its unit: %.80s",
                   rows[f].name, text);
    return false;
}

bool threshold_failed(const struct threshold *t, const double figures[FIGURE_COUNT]) {
    double value = figures[t->figure];
    if (isnan(value) || (t->or_equal && value == t->value))
        return true;
    return t->above ? value > t->value : value < t->value;
}

void threshold_print(const struct threshold *t, struct str *out) {
    str_addf(out, "%s %c%s ", rows[t->figure].name, t->above ? '>' : '<', t->or_equal ? "=" : "");
    units_print(out, rows[t->figure].unit, t->value);
}

const char *figures_invalid(const struct record *record, const double figures[FIGURE_COUNT],
                            double max_lag_us) {
    const double part = 0.05;
    double lag = figures[FIGURE_generator_lag_p999], latency = figures[FIGURE_p999];
    if (record->tally.no_descriptor > 0)
        return "the generator ran out of ports or descriptors";
    if (lag > max_lag_us && !(lag <= part * latency))
        return "the generator itself was late, by more than --max-lag and a twentieth of the "
               "latency, at 99.9 %";
    return NULL;
}
