#include "agents/report_files.h"

#include "agents/report_plots.h"
#include "base/clock.h"

#include <math.h>

static const char style[] =
    "<style>:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:960px;"
    "margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem "
    "0 "
    ".5rem}.sub{color:#777}.tiles{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem "
    "0}.tile{flex:1 "
    "1 170px;border:1px solid #8884;border-radius:8px;padding:.6rem .8rem}.tile b{display:block;"
    "font-size:1.25rem}.tile small{color:#777}table{border-collapse:collapse;width:100%;font-size:"
    "13px}td,th{padding:.25rem .5rem;border-bottom:1px solid #8883;text-align:right}td:first-child,"
    "th:first-child{text-align:left}td:last-child.help{text-align:left;color:#777}svg{width:100%;"
    "height:auto;border:1px solid #8883;border-radius:8px;margin:.5rem 0}.bad{background:#d9480f;"
    "color:#fff;padding:.5rem .8rem;border-radius:8px;margin:.5rem 0}code{font-size:13px;"
    "overflow-wrap:anywhere}.scroll{overflow-x:auto}</style>";

static void add_span(struct str *out, struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        char one[2] = {text.ptr[i], '\0'};
        plot_escape(out, one);
    }
}

/* ---- the top ---- */

static void add_verdicts(struct str *out, const struct campaign *c) {
    if (c->partial)
        STR_ADD(out, "<p class=bad>Interrupted: figures are of what was done so far.</p>");
    for (int side = 0; side < c->sides; side++)
        for (size_t i = 0; i < c->runs[side]; i++)
            if (c->outcome[side][i].invalid)
                str_addf(out, "<p class=bad>Not valid: %s, run %zu: %s.</p>",
                         c->outcome[side][i].side, i + 1, c->outcome[side][i].invalid);
    for (size_t t = 0; t < c->options->threshold_count; t++)
        for (size_t i = 0; i < c->runs[c->sides - 1]; i++)
            if (threshold_failed(&c->options->threshold[t], c->outcome[c->sides - 1][i].figure)) {
                str_addf(out, "<p class=bad>Run %zu broke a limit: ", i + 1);
                threshold_print(&c->options->threshold[t], out);
                STR_ADD(out, "</p>");
            }
}

static void add_tile(struct str *out, const struct campaign *c, enum figure f, const char *name) {
    struct campaign_figure figure;
    campaign_figure(c, f, &figure);
    if (figure.sample[0].count + figure.sample[1].count == 0)
        return;
    str_addf(out, "<div class=tile><small>%s</small>", name);
    for (int side = 0; side < c->sides; side++) {
        STR_ADD(out, "<b>");
        units_print(out, figure_row(f)->unit, figure.sample[side].mean);
        if (c->sides > 1 && c->runs[side] > 0) {
            STR_ADD(out, " <small>");
            plot_escape(out, c->outcome[side][0].side);
            STR_ADD(out, "</small>");
        }
        STR_ADD(out, "</b>");
    }
    STR_ADD(out, "</div>");
}

static void add_tiles(struct str *out, const struct campaign *c) {
    static const struct {
        enum figure figure;
        const char *name;
    } tiles[] = {{FIGURE_all_connected, "until all are connected"},
                 {FIGURE_unconnected, "not connected at the end"},
                 {FIGURE_controller_bcrypts, "bcrypts at the controller"},
                 {FIGURE_controller_requests, "requests at the controller"},
                 {FIGURE_lost, "acknowledged but lost"},
                 {FIGURE_p50, "p50"},
                 {FIGURE_p99, "p99"},
                 {FIGURE_p999, "p99.9"},
                 {FIGURE_errors, "errors seen by agents"},
                 {FIGURE_gateway_cpu, "CPU of the gateway"},
                 {FIGURE_gateway_memory_per_agent, "memory of the gateway, per agent"}};
    STR_ADD(out, "<div class=tiles>");
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
        add_tile(out, c, tiles[i].figure, tiles[i].name);
    STR_ADD(out, "</div>");
}

/* ---- tables ---- */

static void add_figure(struct str *out, const struct campaign *c, enum figure f) {
    const struct figure_row *row = figure_row(f);
    struct campaign_figure figure;
    campaign_figure(c, f, &figure);
    if (figure.sample[0].count + figure.sample[1].count == 0)
        return;
    str_addf(out, "<tr><td>%s", row->name);
    for (int side = 0; side < c->sides; side++) {
        STR_ADD(out, "<td>");
        units_print(out, row->unit, figure.sample[side].mean);
        if (figure.sample[side].count > 1) {
            STR_ADD(out, " &plusmn; ");
            units_print(out, row->unit, figure.sample[side].deviation);
        }
    }
    if (c->sides == 2) {
        STR_ADD(out, "<td>");
        if (figure.compared) {
            units_print(out, row->unit, figure.difference.low);
            STR_ADD(out, " to ");
            units_print(out, row->unit, figure.difference.high);
            str_add(out, figure.difference.differs ? SPAN("") : SPAN(" (chance)"));
        }
    }
    str_addf(out, "<td class=help>%s</tr>\n", row->help);
}

static void add_figures(struct str *out, const struct campaign *c) {
    STR_ADD(out, "<h2>Figures</h2><div class=scroll><table><tr><th>figure");
    for (int side = 0; side < c->sides; side++) {
        STR_ADD(out, "<th>");
        plot_escape(out, c->runs[side] ? c->outcome[side][0].side : "-");
    }
    str_add(out, c->sides == 2 ? SPAN("<th>second - first, 95 %<th></tr>") : SPAN("<th></tr>"));
    for (int f = 0; f < FIGURE_COUNT; f++)
        add_figure(out, c, (enum figure)f);
    STR_ADD(out, "</table></div>");
}

static void add_quantile(struct str *out, const struct hist *h, double quantile) {
    STR_ADD(out, "<td>");
    units_print(out, UNIT_TIME, hist_count(h) ? (double)hist_quantile(h, quantile) : NAN);
}

static void add_stage(struct str *out, const struct record_section *s) {
    STR_ADD(out, "<tr><td>");
    plot_escape(out, s->name);
    str_add(out, span_of(s->skipped ? " (skipped)" : s->unmeasured ? " (preparation)" : ""));
    STR_ADD(out, "<td>");
    units_print(out, UNIT_TIME, (double)(s->to_us - s->from_us));
    const int64_t counts[] = {tally_calls(&s->tally), tally_errors(&s->tally),
                              s->scene.seen.requests, s->scene.seen.bcrypts};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        STR_ADD(out, "<td>");
        units_print(out, UNIT_COUNT, counts[i] < 0 ? NAN : (double)counts[i]);
    }
    add_quantile(out, s->connect, 0.5);
    add_quantile(out, s->connect, 0.99);
    add_quantile(out, s->heartbeat, 0.5);
    add_quantile(out, s->heartbeat, 0.99);
    STR_ADD(out, "</tr>\n");
}

static void add_stages(struct str *out, const struct outcome *o) {
    STR_ADD(out, "<h2>Stages: ");
    plot_escape(out, o->side);
    STR_ADD(out,
            "</h2><div class=scroll><table><tr><th>stage<th>time<th>calls<th>errors<th>"
            "controller requests<th>bcrypts<th>connect p50<th>p99<th>heartbeat p50<th>p99</tr>");
    for (size_t i = 0; i < o->record.section_count; i++)
        add_stage(out, &o->record.section[i]);
    STR_ADD(out, "</table></div><p class=sub>");
    add_span(out, str_span(&o->notes));
    STR_ADD(out, "</p>");
}

static void add_origin(struct str *out, const struct origin *o) {
    char date[CLOCK_ISO_SIZE];
    clock_iso(date, o->wall_ms);
    STR_ADD(out, "<h2>Where this comes from</h2><p><code>");
    add_span(out, str_span(&o->command));
    str_addf(out, "</code></p><p class=sub>%s, version %s, commit %s<br>", date, o->version,
             o->commit);
    plot_escape(out, o->machine);
    str_addf(out, ", %d processors, ", o->processors);
    units_print(out, UNIT_BYTES, (double)o->memory);
    str_addf(out, ", load before %.1f<br>settings %s</p>", o->load, o->config_hash);
}

void report_html(const struct campaign *c, struct str *out) {
    const char *scenario = c->options->scenario.name;
    STR_ADD(out, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
                 "content=\"width=device-width\"><title>aiwm-bench: ");
    plot_escape(out, scenario);
    STR_ADD(out, "</title>");
    str_add(out, span_of(style));
    STR_ADD(out, "<h1>");
    plot_escape(out, scenario);
    str_addf(out, ", %.0f agents</h1><p class=sub>", c->options->agents);
    for (int side = 0; side < c->sides; side++) {
        str_add(out, side ? SPAN(" against ") : SPAN(""));
        plot_escape(out, c->runs[side] ? c->outcome[side][0].side : "nothing");
        str_addf(out, ", %zu run%s", c->runs[side], c->runs[side] == 1 ? "" : "s");
    }
    STR_ADD(out, ". Latency counts from when a call was due, not from when it was sent.</p>");
    add_verdicts(out, c);
    add_tiles(out, c);
    for (int which = 0; which < REPORT_PLOTS; which++)
        report_plot(c, (enum report_plot)which, out);
    add_figures(out, c);
    for (int side = 0; side < c->sides; side++)
        if (c->runs[side] > 0)
            add_stages(out, &c->outcome[side][0]);
    add_origin(out, &c->origin);
    STR_ADD(out, "</html>\n");
}
