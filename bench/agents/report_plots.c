#include "agents/report_plots.h"

#include <math.h>
#include <stdio.h>

static const char *const names[] = {
#define X(name) #name,
    REPORT_PLOT_ROWS(X)
#undef X
};

const char *report_plot_name(enum report_plot which) {
    return names[which];
}

/* ---- time ---- */

static const struct record_section *first_measured(const struct record *r) {
    for (size_t i = 0; i < r->section_count; i++)
        if (!r->section[i].unmeasured)
            return &r->section[i];
    return NULL;
}

static int64_t zero_us(const struct record *r) {
    const struct record_section *s = first_measured(r);
    return s ? s->from_us : 0;
}

/* Stages as vertical lines, of a single side only: two sides' would be a thicket. */
static void add_marks(struct plot *p, const struct campaign *c, const struct record *r) {
    if (c->sides > 1)
        return;
    for (size_t i = 0; i < r->section_count && p->marks < PLOT_MARKS_MAX; i++) {
        const struct record_section *s = &r->section[i];
        if (s->unmeasured || (r->section_count == 1 && i == 0))
            continue;
        p->mark[p->marks].x = (double)(s->from_us - zero_us(r));
        (void)snprintf(p->mark[p->marks++].name, sizeof p->mark[0].name, "%s", s->name);
    }
}

static struct plot over_time(const char *title, const char *y_label, enum unit y_unit,
                             enum plot_axis y_axis) {
    return (struct plot){.title = title,
                         .y_label = y_label,
                         .x_axis = PLOT_LINEAR,
                         .x_unit = UNIT_TIME,
                         .y_axis = y_axis,
                         .y_unit = y_unit};
}

static void name_series(const struct campaign *c, int side, const char *what, char out[64]) {
    if (c->sides > 1)
        (void)snprintf(out, 64, "%.30s%s%.24s", c->outcome[side][0].side, *what ? ": " : "", what);
    else
        (void)snprintf(out, 64, "%.60s", *what ? what : c->outcome[side][0].side);
}

/* ---- one side's lines ---- */

static void add_connected(struct plot *p, const struct campaign *c, int side) {
    const struct record *r = &c->outcome[side][0].record;
    char name[64];
    name_series(c, side, "connected", name);
    struct plot_series *s = plot_add(p, name, side, r->sample_count + 1);
    plot_point_add(s, 0, 0);
    for (size_t i = 0; i < r->sample_count; i++)
        if (r->sample[i].at_us >= zero_us(r))
            plot_point_add(s, (double)(r->sample[i].at_us - zero_us(r)), r->sample[i].connected);
}

/* Which value of a row a line shows; -1: unknown. */
typedef double row_value(const struct record_row *row, const struct record_row *before);

static void add_rows(struct plot *p, const struct campaign *c, int side, const char *what,
                     int colour, bool dashed, row_value *value) {
    const struct record *r = &c->outcome[side][0].record;
    const struct record_row *before = NULL;
    char name[64];
    name_series(c, side, what, name);
    struct plot_series *s = plot_add(p, name, colour, r->row_count);
    if (!s)
        return;
    s->dashed = dashed;
    for (size_t i = 0; i < r->row_count; i++) {
        const struct record_row *row = &r->row[i];
        if (row->at_us >= zero_us(r) && before && row->at_us > before->at_us) {
            double y = value(row, before);
            if (y >= 0)
                plot_point_add(s, (double)(row->at_us - zero_us(r)), y);
        }
        before = row;
    }
}

static double requests_of(const struct record_row *row, const struct record_row *before) {
    (void)before;
    return (double)row->scene.seen.requests;
}

static double bcrypts_of(const struct record_row *row, const struct record_row *before) {
    (void)before;
    return (double)row->scene.seen.bcrypts;
}

static double p50_of(const struct record_row *row, const struct record_row *before) {
    (void)before;
    return (double)row->p50_us;
}

static double p99_of(const struct record_row *row, const struct record_row *before) {
    (void)before;
    return (double)row->p99_us;
}

static double per_second(int64_t now, int64_t then, const struct record_row *row,
                         const struct record_row *before) {
    return (double)(now - then) * 1e6 / (double)(row->at_us - before->at_us);
}

static double calls_of(const struct record_row *row, const struct record_row *before) {
    return per_second(tally_calls(&row->tally), tally_calls(&before->tally), row, before);
}

static double errors_of(const struct record_row *row, const struct record_row *before) {
    return per_second(tally_errors(&row->tally), tally_errors(&before->tally), row, before);
}

static void add_percentiles(struct plot *p, const struct campaign *c, int side, const char *what,
                            const struct hist *h, bool dashed) {
    char name[64];
    enum { POINTS = 200 };
    if (hist_count(h) == 0)
        return;
    name_series(c, side, what, name);
    struct plot_series *s = plot_add(p, name, side, POINTS + 1);
    if (!s)
        return;
    s->dashed = dashed;
    double last = 1.0 / (double)hist_count(h);
    for (int i = 0; i < POINTS; i++) {
        double rest = pow(0.9, i);
        if (rest >= last)
            plot_point_add(s, 1 - rest, (double)hist_quantile(h, 1 - rest));
    }
}

/* What was done before the first measured stage is not this run's work. */
static void begin_at_zero(struct plot *p) {
    for (size_t i = 0; i < p->count; i++) {
        struct plot_series *s = &p->series[i];
        double first = s->count ? s->point[0].y : 0;
        for (size_t k = 0; k < s->count; k++)
            s->point[k].y -= first;
    }
}

/* ---- the plots ---- */

static int64_t measured_us(const struct record *r) {
    return r->section_count ? r->section[r->section_count - 1].to_us - zero_us(r) : 0;
}

/* Seconds beside minutes: on one linear axis the quicker side would be a stroke on the border. */
static enum plot_axis connected_axis(const struct campaign *c) {
    enum { TOO_FAR_APART = 20 };
    if (c->sides < 2 || c->runs[0] == 0 || c->runs[1] == 0)
        return PLOT_LINEAR;
    int64_t a = measured_us(&c->outcome[0][0].record), b = measured_us(&c->outcome[1][0].record);
    return a > TOO_FAR_APART * b || b > TOO_FAR_APART * a ? PLOT_LOG : PLOT_LINEAR;
}

static struct plot make(const struct campaign *c, enum report_plot which) {
    struct plot p;
    switch (which) {
    case REPORT_PLOT_connected:
        p = over_time("Agents connected", "agents", UNIT_COUNT, PLOT_LINEAR);
        p.x_axis = connected_axis(c);
        break;
    case REPORT_PLOT_controller:
        p = over_time("Work that reached the controller, summed up", "requests, bcrypts",
                      UNIT_COUNT, PLOT_LINEAR);
        break;
    case REPORT_PLOT_percentiles:
        p = (struct plot){.title = "Latency by percentile, from when each call was due",
                          .y_label = "latency",
                          .x_axis = PLOT_PERCENTILE,
                          .y_axis = PLOT_LOG,
                          .y_unit = UNIT_TIME};
        break;
    case REPORT_PLOT_latency:
        p = over_time("Latency in each second", "p50, p99", UNIT_TIME, PLOT_LOG);
        break;
    case REPORT_PLOT_rate:
    case REPORT_PLOTS:
        p = over_time("Calls a second", "calls, errors", UNIT_COUNT, PLOT_LINEAR);
        break;
    }
    if (c->runs[0] > 0 && which != REPORT_PLOT_percentiles)
        add_marks(&p, c, &c->outcome[0][0].record);
    return p;
}

static void fill(struct plot *p, const struct campaign *c, enum report_plot which, int side) {
    const struct record *r = &c->outcome[side][0].record;
    int second = c->sides > 1 ? side : 2;
    switch (which) {
    case REPORT_PLOT_connected:
        add_connected(p, c, side);
        break;
    case REPORT_PLOT_controller:
        add_rows(p, c, side, "requests", side, false, requests_of);
        add_rows(p, c, side, "bcrypts", second, true, bcrypts_of);
        break;
    case REPORT_PLOT_percentiles:
        add_percentiles(p, c, side, "connects", r->connect, false);
        add_percentiles(p, c, side, "heartbeats", r->heartbeat, true);
        break;
    case REPORT_PLOT_latency:
        add_rows(p, c, side, "p50", side, false, p50_of);
        add_rows(p, c, side, "p99", second, true, p99_of);
        break;
    case REPORT_PLOT_rate:
    case REPORT_PLOTS:
        add_rows(p, c, side, "calls", side, false, calls_of);
        add_rows(p, c, side, "errors", second, true, errors_of);
        break;
    }
}

void report_plot(const struct campaign *c, enum report_plot which, struct str *out) {
    struct plot p = make(c, which);
    size_t points = 0;
    for (int side = 0; side < c->sides; side++)
        if (c->runs[side] > 0)
            fill(&p, c, which, side);
    if (which == REPORT_PLOT_controller)
        begin_at_zero(&p);
    for (size_t i = 0; i < p.count; i++)
        points += p.series[i].count;
    if (points > 1)
        plot_svg(&p, out);
    plot_release(&p);
}
