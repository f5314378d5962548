#include "agents/report_files.h"

#include "base/clock.h"

#include <math.h>

/* Members are written with a comma behind them; the last one's is taken back. */
static void begin(struct str *out, const char *name, char bracket) {
    if (name)
        str_addf(out, "\"%s\":", name);
    str_add_char(out, bracket);
}

static void end(struct str *out, char bracket) {
    if (out->len > 0 && out->ptr[out->len - 1] == ',')
        out->len--;
    str_add_char(out, bracket);
    str_add_char(out, ',');
}

static void add_text(struct str *out, const char *name, struct span text) {
    str_addf(out, "\"%s\":", name);
    str_add_json(out, text);
    str_add_char(out, ',');
}

static void add_number(struct str *out, const char *name, double value) {
    str_addf(out, "\"%s\":", name);
    if (isfinite(value))
        str_addf(out, "%.15g,", value);
    else
        STR_ADD(out, "null,");
}

static void add_integer(struct str *out, const char *name, int64_t value) {
    add_number(out, name, value < 0 ? NAN : (double)value);
}

static void add_bool(struct str *out, const char *name, bool value) {
    str_addf(out, "\"%s\":%s,", name, value ? "true" : "false");
}

/* ---- pieces ---- */

static void add_origin(struct str *out, const struct origin *o) {
    char date[CLOCK_ISO_SIZE];
    clock_iso(date, o->wall_ms);
    add_text(out, "started", span_of(date));
    add_text(out, "command", str_span(&o->command));
    add_text(out, "version", span_of(o->version));
    add_text(out, "commit", span_of(o->commit));
    add_text(out, "machine", span_of(o->machine));
    add_integer(out, "processors", o->processors);
    add_integer(out, "memory", o->memory);
    add_number(out, "load_before", o->load);
    add_text(out, "settings_sha256", span_of(o->config_hash));
}

static void add_tally(struct str *out, const struct tally *t) {
    begin(out, "counts", '{');
#define X(name) add_integer(out, #name, t->name);
    TALLY_ROWS(X)
#undef X
    end(out, '}');
}

static void add_seen(struct str *out, const struct seen *s) {
    begin(out, "controller", '{');
#define X(name) add_integer(out, #name, s->name);
    SEEN_ROWS(X)
#undef X
    end(out, '}');
}

static void add_hist(struct str *out, const char *name, const struct hist *h) {
    static const struct {
        const char *name;
        double quantile;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
    begin(out, name, '{');
    add_integer(out, "count", hist_count(h));
    add_integer(out, "mean", hist_mean(h));
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        add_integer(out, quantiles[i].name, hist_quantile(h, quantiles[i].quantile));
    add_integer(out, "max", hist_max(h));
    end(out, '}');
}

static void add_section(struct str *out, const struct record_section *s) {
    begin(out, NULL, '{');
    add_text(out, "name", span_of(s->name));
    add_bool(out, "measured", !s->unmeasured);
    add_bool(out, "skipped", s->skipped);
    add_integer(out, "from_us", s->from_us);
    add_integer(out, "to_us", s->to_us);
    if (s->is_connect)
        add_integer(out, "all_connected_us", s->all_connected_us);
    add_tally(out, &s->tally);
    add_seen(out, &s->scene.seen);
    add_integer(out, "gateway_cpu_us", s->scene.gateway.cpu_us);
    add_hist(out, "connect_us", s->connect);
    add_hist(out, "heartbeat_us", s->heartbeat);
    end(out, '}');
}

static void add_run(struct str *out, const struct outcome *o) {
    begin(out, NULL, '{');
    add_bool(out, "valid", !o->invalid);
    add_text(out, "invalid_because", span_of(o->invalid ? o->invalid : ""));
    add_bool(out, "partial", o->partial);
    add_text(out, "url", span_of(o->url));
    add_integer(out, "agents", (int64_t)o->agents);
    add_integer(out, "connections_limit", (int64_t)o->max_open);
    add_integer(out, "source_addresses", o->sources);
    add_integer(out, "agent_struct_bytes", (int64_t)o->agent_bytes);
    add_text(out, "notes", str_span(&o->notes));
    begin(out, "figures", '{');
    for (int f = 0; f < FIGURE_COUNT; f++)
        add_number(out, figure_row((enum figure)f)->name, o->figure[f]);
    end(out, '}');
    begin(out, "stages", '[');
    for (size_t i = 0; i < o->record.section_count; i++)
        add_section(out, &o->record.section[i]);
    end(out, ']');
    end(out, '}');
}

static void add_comparison(struct str *out, const struct campaign *c, enum figure f) {
    struct campaign_figure figure;
    campaign_figure(c, f, &figure);
    begin(out, figure_row(f)->name, '{');
    for (int side = 0; side < c->sides; side++) {
        begin(out, side ? "b" : "a", '{');
        add_integer(out, "runs", (int64_t)figure.sample[side].count);
        add_number(out, "mean", figure.sample[side].mean);
        add_number(out, "deviation", figure.sample[side].deviation);
        end(out, '}');
    }
    if (figure.compared) {
        begin(out, "b_minus_a_95_percent", '[');
        str_addf(out, "%.15g,%.15g", figure.difference.low, figure.difference.high);
        end(out, ']');
        add_bool(out, "differs", figure.difference.differs);
    }
    end(out, '}');
}

static void add_limits(struct str *out, const struct campaign *c) {
    begin(out, "limits", '[');
    for (size_t t = 0; t < c->options->threshold_count; t++) {
        const struct threshold *limit = &c->options->threshold[t];
        bool failed = false;
        for (size_t i = 0; i < c->runs[c->sides - 1]; i++)
            failed |= threshold_failed(limit, c->outcome[c->sides - 1][i].figure);
        char memory[128];
        struct str text;
        str_init_fixed(&text, memory, sizeof memory);
        threshold_print(limit, &text);
        begin(out, NULL, '{');
        add_text(out, "fail_if", str_span(&text));
        add_bool(out, "failed", failed);
        end(out, '}');
    }
    end(out, ']');
}

void report_json(const struct campaign *c, struct str *out) {
    begin(out, NULL, '{');
    add_origin(out, &c->origin);
    add_text(out, "scenario", span_of(c->options->scenario.name));
    add_bool(out, "partial", c->partial);
    add_limits(out, c);
    begin(out, "sides", '[');
    for (int side = 0; side < c->sides; side++) {
        begin(out, NULL, '{');
        add_text(out, "name", span_of(c->runs[side] ? c->outcome[side][0].side : ""));
        begin(out, "runs", '[');
        for (size_t i = 0; i < c->runs[side]; i++)
            add_run(out, &c->outcome[side][i]);
        end(out, ']');
        end(out, '}');
    }
    end(out, ']');
    if (c->sides == 2) {
        begin(out, "comparison", '{');
        for (int f = 0; f < FIGURE_COUNT; f++)
            add_comparison(out, c, (enum figure)f);
        end(out, '}');
    }
    end(out, '}');
    out->ptr[out->len - 1] = '\n';
}
