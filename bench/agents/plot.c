#include "agents/plot.h"

#include "base/panic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 760, HEIGHT = 320, LEFT = 78, RIGHT = 20, TOP = 44, BOTTOM = 52 };
enum { LETTER = 7 /* of a mark's name, a wide one */ };

/* Where a value is on an axis of the length 1. */
struct scale {
    enum plot_axis axis;
    double low, high;
};

struct plot_series *plot_add(struct plot *p, const char *name, int colour, size_t room) {
    if (p->count == PLOT_SERIES_MAX)
        return NULL;
    struct plot_series *s = &p->series[p->count++];
    *s = (struct plot_series){.colour = colour, .point = must_alloc((room + 1) * sizeof *s->point)};
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

void plot_point_add(struct plot_series *s, double x, double y) {
    if (s && isfinite(x) && isfinite(y))
        s->point[s->count++] = (struct plot_point){x, y};
}

void plot_release(struct plot *p) {
    for (size_t i = 0; i < p->count; i++)
        free(p->series[i].point);
}

void plot_escape(struct str *out, const char *text) {
    for (; *text; text++) {
        if (*text == '<')
            STR_ADD(out, "&lt;");
        else if (*text == '&')
            STR_ADD(out, "&amp;");
        else if (*text == '"')
            STR_ADD(out, "&quot;");
        else
            str_add_char(out, *text);
    }
}

/* ---- scales ---- */

static double bend(enum plot_axis axis, double value) {
    if (axis == PLOT_LOG)
        return log10(value);
    return axis == PLOT_PERCENTILE ? -log10(1 - value) : value;
}

static double place(const struct scale *s, double value) {
    double low = bend(s->axis, s->low), high = bend(s->axis, s->high);
    return high > low ? (bend(s->axis, value) - low) / (high - low) : 0;
}

static bool fits(const struct scale *s, double value) {
    return s->axis == PLOT_LINEAR || (s->axis == PLOT_LOG ? value > 0 : value >= 0 && value < 1);
}

/* 1, 2 or 5 times a power of ten. */
static double nice_step(double range, int wanted) {
    double rough = range / wanted, power = pow(10, floor(log10(rough)));
    double digit = rough / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

static void widen(struct scale *s, double value) {
    if (!fits(s, value))
        return;
    s->high = value > s->high ? value : s->high;
    if (s->axis == PLOT_LOG)
        s->low = value < s->low ? value : s->low;
}

/* To where ticks stand. */
static void round_up(struct scale *s, bool is_x) {
    if (s->axis == PLOT_LOG) {
        s->low = isfinite(s->low) ? pow(10, floor(log10(s->low))) : 1;
        double high = is_x ? s->high : pow(10, ceil(log10(s->high)));
        s->high = s->high > s->low ? high : s->low * 10;
    } else if (s->axis == PLOT_PERCENTILE) {
        s->high = s->high > 0 ? s->high : 0.99;
    } else {
        s->high = s->high > 0 ? s->high : 1;
        if (!is_x)
            s->high = ceil(s->high / nice_step(s->high, 5)) * nice_step(s->high, 5);
    }
}

static struct scale fit(const struct plot *p, enum plot_axis axis, bool is_x) {
    struct scale s = {.axis = axis, .low = axis == PLOT_LOG ? HUGE_VAL : 0};
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = 0; k < p->series[i].count; k++)
            widen(&s, is_x ? p->series[i].point[k].x : p->series[i].point[k].y);
    round_up(&s, is_x);
    return s;
}

/* ---- pieces ---- */

struct frame {
    const struct plot *plot;
    struct scale x, y;
};

static double pixel_x(const struct frame *f, double value) {
    return LEFT + place(&f->x, value) * (WIDTH - LEFT - RIGHT);
}

static double pixel_y(const struct frame *f, double value) {
    return HEIGHT - BOTTOM - place(&f->y, value) * (HEIGHT - TOP - BOTTOM);
}

static void add_begin(struct str *out, const struct plot *p) {
    str_addf(out,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" "
             "font-family=\"system-ui,sans-serif\" font-size=\"12\"><title>",
             WIDTH, HEIGHT);
    plot_escape(out, p->title);
    STR_ADD(out,
            "</title><style>.bg{fill:#fff}.t{fill:#222}.m{fill:#666}.g{stroke:#ddd}.l{fill:none;"
            "stroke-width:2}.c0{stroke:#d9480f}.c1{stroke:#1c7ed6}.c2{stroke:#2b8a3e}.c3{stroke:"
            "#9c36b5}.c4{stroke:#e8a200}.c5{stroke:#868e96}.d{stroke-dasharray:5 4}"
            "@media(prefers-color-scheme:dark){.bg{fill:#16181d}.t{fill:#eee}.m{fill:#aaa}.g{"
            "stroke:#333}}</style>");
    str_addf(out, "<rect class=\"bg\" width=\"%d\" height=\"%d\"/>", WIDTH, HEIGHT);
    str_addf(out, "<text class=\"t\" x=\"%d\" y=\"18\" font-size=\"14\" font-weight=\"600\">",
             LEFT);
    plot_escape(out, p->title);
    STR_ADD(out, "</text>");
}

static void add_label(struct str *out, double x, double y, const char *anchor, const char *text) {
    str_addf(out, "<text class=\"m\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    plot_escape(out, text);
    STR_ADD(out, "</text>");
}

static void add_tick(struct str *out, const struct frame *f, bool is_x, double value) {
    char memory[64];
    struct str text;
    enum plot_axis axis = is_x ? f->x.axis : f->y.axis;
    str_init_fixed(&text, memory, sizeof memory - 1);
    if (axis == PLOT_PERCENTILE)
        str_addf(&text, "%.6g %%", value * 100);
    else
        units_print(&text, is_x ? f->plot->x_unit : f->plot->y_unit, value);
    memory[text.len] = '\0';
    if (is_x) {
        double x = pixel_x(f, value);
        str_addf(out, "<path class=\"g\" d=\"M%.1f %dV%d\"/>", x, TOP, HEIGHT - BOTTOM);
        bool is_last = x > WIDTH - RIGHT - 1; /* and would not fit otherwise */
        add_label(out, is_last ? WIDTH : x, HEIGHT - BOTTOM + 16, is_last ? "end" : "middle",
                  memory);
    } else {
        double y = pixel_y(f, value);
        str_addf(out, "<path class=\"g\" d=\"M%d %.1fH%d\"/>", LEFT, y, WIDTH - RIGHT);
        add_label(out, LEFT - 6, y + 4, "end", memory);
    }
}

/* Times tick in whole seconds, minutes or hours. */
static double time_step(double range) {
    static const double steps[] = {1,    2,     5,     10,    20,     50,     100,    200,
                                   500,  1e3,   2e3,   5e3,   1e4,    2e4,    5e4,    1e5,
                                   2e5,  5e5,   1e6,   2e6,   5e6,    10e6,   20e6,   30e6,
                                   60e6, 120e6, 300e6, 600e6, 1800e6, 3600e6, 7200e6, 14400e6};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (range / steps[i] <= 8)
            return steps[i];
    return range / 8;
}

static void add_axis(struct str *out, const struct frame *f, bool is_x) {
    const struct scale *s = is_x ? &f->x : &f->y;
    static const double percentiles[] = {0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999};
    if (s->axis == PLOT_PERCENTILE) {
        for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++)
            if (percentiles[i] <= s->high)
                add_tick(out, f, is_x, percentiles[i]);
    } else if (s->axis == PLOT_LOG) {
        int decades = (int)floor(log10(s->high * 1.001 / s->low));
        for (int i = 0; i <= decades; i++)
            add_tick(out, f, is_x, s->low * pow(10, i));
        if (s->high > 2 * s->low * pow(10, decades)) /* not too near the last decade */
            add_tick(out, f, is_x, s->high);
    } else {
        enum unit unit = is_x ? f->plot->x_unit : f->plot->y_unit;
        double step = unit == UNIT_TIME ? time_step(s->high) : nice_step(s->high, 5);
        for (int i = 0; i * step <= s->high * 1.001; i++)
            add_tick(out, f, is_x, i * step);
    }
}

static void add_marks(struct str *out, const struct frame *f) {
    for (size_t i = 0; i < f->plot->marks; i++) {
        double x = pixel_x(f, f->plot->mark[i].x);
        bool fits = x + LETTER * (double)strlen(f->plot->mark[i].name) < WIDTH;
        str_addf(out, "<path class=\"g d\" d=\"M%.1f %dV%d\"/>", x, TOP - 6, HEIGHT - BOTTOM);
        str_addf(out, "<text class=\"m\" x=\"%.1f\" y=\"%d\" font-size=\"10\" text-anchor=\"%s\">",
                 fits ? x + 2 : x - 2, TOP - 1 - (int)(i % 2) * 10, fits ? "start" : "end");
        plot_escape(out, f->plot->mark[i].name);
        STR_ADD(out, "</text>");
    }
}

/* Of each stretch of `every` points the highest: what peaks is what matters. */
static struct plot_point highest(const struct plot_series *s, size_t from, size_t every) {
    struct plot_point best = s->point[from];
    for (size_t i = from; i < from + every && i < s->count; i++)
        if (s->point[i].y > best.y)
            best = s->point[i];
    return best;
}

static void add_line(struct str *out, const struct frame *f, const struct plot_series *s) {
    size_t every = s->count / PLOT_POINTS_MAX + 1;
    bool pen = false;
    str_addf(out, "<path class=\"l c%d%s\" d=\"", s->colour, s->dashed ? " d" : "");
    for (size_t i = 0; i < s->count; i += every) {
        struct plot_point at = highest(s, i, every);
        bool seen = fits(&f->x, at.x) && fits(&f->y, at.y);
        if (seen)
            str_addf(out, "%c%.1f %.1f", pen ? 'L' : 'M', pixel_x(f, at.x), pixel_y(f, at.y));
        pen = seen;
    }
    STR_ADD(out, "\"/>");
}

static void add_legend(struct str *out, const struct plot *p) {
    double x = LEFT;
    for (size_t i = 0; i < p->count; i++) {
        const struct plot_series *s = &p->series[i];
        str_addf(out, "<path class=\"l c%d%s\" d=\"M%.1f %dh22\"/>", s->colour,
                 s->dashed ? " d" : "", x, HEIGHT - 10);
        add_label(out, x + 27, HEIGHT - 6, "start", s->name);
        x += 48 + 7.0 * (double)strlen(s->name);
    }
    add_label(out, WIDTH - RIGHT, 18, "end", p->y_label);
}

void plot_svg(const struct plot *p, struct str *out) {
    struct frame f = {p, fit(p, p->x_axis, true), fit(p, p->y_axis, false)};
    add_begin(out, p);
    add_axis(out, &f, true);
    add_axis(out, &f, false);
    add_marks(out, &f);
    for (size_t i = 0; i < p->count; i++)
        add_line(out, &f, &p->series[i]);
    add_legend(out, p);
    STR_ADD(out, "</svg>\n");
}
