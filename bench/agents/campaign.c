#include "agents/campaign.h"

#include "base/panic.h"
#include "io/files.h"

#include <math.h>
#include <stdlib.h>

/* ---- runs ---- */

static bool load_ca(const struct bench_options *o, char **pem, size_t *len, char why[RUN_WHY]) {
    const char *problem;
    *pem = NULL;
    *len = 0;
    if (!o->ca_file)
        return true;
    *pem = files_read(NULL, o->ca_file, len, &problem);
    if (!*pem)
        (void)snprintf(why, RUN_WHY, "--ca %.120s: %s", o->ca_file, problem);
    return *pem != NULL;
}

static enum run_end run_all(struct campaign *c, const struct identities *identities, struct span ca,
                            char why[RUN_WHY]) {
    for (int run = 0; run < (int)c->options->runs && !c->partial; run++)
        for (int side = 0; side < c->sides && !c->partial; side++) {
            struct run_options options;
            struct outcome *out = &c->outcome[side][c->runs[side]];
            bench_options_run(c->options, c->side[side], identities, ca, &options);
            enum run_end end = run_once(&options, out, why);
            if (end != RUN_DONE)
                return end;
            c->runs[side]++;
            c->partial = out->partial;
        }
    return RUN_DONE;
}

enum run_end campaign_run(struct campaign *c, char why[RUN_WHY]) {
    const struct bench_options *o = c->options;
    char *pem;
    size_t pem_len;
    if (!load_ca(o, &pem, &pem_len, why))
        return RUN_REFUSED;
    char problem[IDENTITY_WHY] = "";
    struct identities *identities = identities_new((size_t)o->agents, o->agents_file, problem);
    enum run_end end = RUN_REFUSED;
    if (!identities) {
        (void)snprintf(why, RUN_WHY, "--agents-file %.120s: %.120s", o->agents_file, problem);
    } else {
        end = run_all(c, identities, (struct span){pem, pem_len}, why);
        identities_free(identities);
    }
    free(pem);
    return end;
}

struct campaign *campaign_new(const struct bench_options *options) {
    struct campaign *c = must_zalloc(sizeof *c);
    c->options = options;
    c->sides = options->side[0] ? 2 : 1;
    c->side[0] = options->side[0];
    c->side[1] = options->side[1];
    return c;
}

void campaign_free(struct campaign *c) {
    for (int side = 0; side < c->sides; side++)
        for (size_t i = 0; i < c->runs[side]; i++)
            outcome_release(&c->outcome[side][i]);
    origin_release(&c->origin);
    free(c);
}

/* ---- over all runs ---- */

void campaign_figure(const struct campaign *c, enum figure f, struct campaign_figure *out) {
    double values[BENCH_RUNS_MAX];
    *out = (struct campaign_figure){.compared = false};
    for (int side = 0; side < c->sides; side++) {
        for (size_t i = 0; i < c->runs[side]; i++)
            values[i] = c->outcome[side][i].figure[f];
        out->sample[side] = stats_of(values, c->runs[side]);
    }
    out->compared =
        c->sides == 2 && stats_compare(&out->sample[0], &out->sample[1], &out->difference);
}

/* ---- verdict ---- */

static bool broke(const struct campaign *c, const struct threshold *t, const struct outcome *o,
                  FILE *out) {
    char memory[256];
    struct str text;
    if (!threshold_failed(t, o->figure))
        return false;
    str_init_fixed(&text, memory, sizeof memory);
    threshold_print(t, &text);
    STR_ADD(&text, ": it is ");
    units_print(&text, figure_row(t->figure)->unit, o->figure[t->figure]);
    fprintf(out, "FAILED %s: %.*s\n", c->sides == 2 ? o->side : "limit", SPAN_ARG(str_span(&text)));
    return true;
}

bool campaign_failed(const struct campaign *c, FILE *out) {
    bool failed = c->partial;
    int judged = c->sides - 1;
    if (c->partial)
        fputs("PARTIAL: interrupted; figures are of what was done so far\n", out);
    for (int side = 0; side < c->sides; side++)
        for (size_t i = 0; i < c->runs[side]; i++)
            if (c->outcome[side][i].invalid) {
                fprintf(out, "INVALID %s, run %zu: %s\n", c->outcome[side][i].side, i + 1,
                        c->outcome[side][i].invalid);
                failed = true;
            }
    for (size_t i = 0; i < c->runs[judged]; i++)
        for (size_t t = 0; t < c->options->threshold_count; t++)
            failed |= broke(c, &c->options->threshold[t], &c->outcome[judged][i], out);
    return failed;
}

/* ---- for people ---- */

static void print_number(FILE *out, enum unit unit, double value, int width) {
    char memory[64];
    struct str text;
    str_init_fixed(&text, memory, sizeof memory);
    units_print(&text, unit, value);
    fprintf(out, "%*.*s", width, SPAN_ARG(str_span(&text)));
}

static void print_figure(const struct campaign *c, enum figure f, FILE *out) {
    const struct figure_row *row = figure_row(f);
    struct campaign_figure figure;
    campaign_figure(c, f, &figure);
    bool known = figure.sample[0].count > 0 || figure.sample[1].count > 0;
    if (!known)
        return;
    fprintf(out, "  %-27s", row->name);
    for (int side = 0; side < c->sides; side++)
        print_number(out, row->unit, figure.sample[side].mean, 14);
    if (figure.compared) {
        fputs("   ", out);
        print_number(out, row->unit, figure.difference.low, 11);
        fputs(" ..", out);
        print_number(out, row->unit, figure.difference.high, 11);
        fputs(figure.difference.differs ? "  *" : "", out);
    }
    fputc('\n', out);
}

static void print_section(const struct record_section *s, FILE *out) {
    fprintf(out, "  %-27.27s", s->name);
    if (s->skipped) {
        fputs("  skipped\n", out);
        return;
    }
    print_number(out, UNIT_TIME, (double)(s->to_us - s->from_us), 10);
    print_number(out, UNIT_COUNT, (double)tally_calls(&s->tally), 10);
    print_number(out, UNIT_COUNT, (double)tally_errors(&s->tally), 8);
    for (int i = 0; i < 2; i++) {
        const struct hist *h = i ? s->heartbeat : s->connect;
        print_number(out, UNIT_TIME, hist_count(h) ? (double)hist_quantile(h, 0.5) : NAN, 10);
        print_number(out, UNIT_TIME, hist_count(h) ? (double)hist_quantile(h, 0.99) : NAN, 10);
    }
    fputs(s->unmeasured ? "  (preparation)\n" : "\n", out);
}

static void print_run(const struct outcome *o, FILE *out) {
    unsigned int sources = o->sources ? o->sources : 1;
    fprintf(out, "\n%s: %s, %zu agents from %u address%s\n", o->side, o->url, o->agents, sources,
            sources == 1 ? "" : "es");
    fprintf(out, "  %-27s%10s%10s%8s%20s%20s\n", "stage", "time", "calls", "errors",
            "connect p50, p99", "heartbeat p50, p99");
    for (size_t i = 0; i < o->record.section_count; i++)
        print_section(&o->record.section[i], out);
    if (o->notes.len > 0)
        fprintf(out, "  note: %.*s", SPAN_ARG(str_span(&o->notes)));
}

void campaign_print(const struct campaign *c, FILE *out) {
    for (int side = 0; side < c->sides; side++)
        if (c->runs[side] > 0)
            print_run(&c->outcome[side][0], out);
    fprintf(out, "\n  %-27s", c->options->runs > 1 ? "mean of the runs" : "figure");
    for (int side = 0; side < c->sides; side++)
        fprintf(out, "%14s", c->runs[side] ? c->outcome[side][0].side : "-");
    fputs(c->sides == 2 && c->runs[1] > 1 ? "   difference, 95 %\n" : "\n", out);
    for (int f = 0; f < FIGURE_COUNT; f++)
        print_figure(c, (enum figure)f, out);
}
