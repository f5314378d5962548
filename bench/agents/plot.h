/* Plots as SVG text: lines over time or over percentiles, linear or logarithmic. Pure. The SVG
 * stands by itself (light and dark) and inside a page. */
#pragma once

#include "agents/units.h"

enum { PLOT_SERIES_MAX = 6, PLOT_POINTS_MAX = 1200, PLOT_MARKS_MAX = 32 };

struct plot_point {
    double x, y;
};

struct plot_series {
    char name[64];
    int colour; /* 0 to 5 */
    bool dashed;
    size_t count;
    struct plot_point *point; /* x rising; the caller's */
};

enum plot_axis {
    PLOT_LINEAR,     /* from 0 */
    PLOT_LOG,        /* decades; what is not above 0 is left out */
    PLOT_PERCENTILE, /* x is a quantile from 0 to below 1, drawn by its distance from 1 */
};

struct plot {
    const char *title, *y_label;
    enum plot_axis x_axis, y_axis;
    enum unit x_unit, y_unit;
    size_t count;
    struct plot_series series[PLOT_SERIES_MAX];
    size_t marks; /* vertical lines with a name */
    struct {
        double x;
        char name[64];
    } mark[PLOT_MARKS_MAX];
};

/* Appends the <svg> element. Lines with more points than PLOT_POINTS_MAX are thinned, keeping each
 * stretch's highest. */
void plot_svg(const struct plot *p, struct str *out);
/* A new, empty series; NULL when there are too many. `room` points are the caller's to free. */
struct plot_series *plot_add(struct plot *p, const char *name, int colour, size_t room);
void plot_point_add(struct plot_series *s, double x, double y);
void plot_release(struct plot *p);
/* For text in SVG and HTML. */
void plot_escape(struct str *out, const char *text);
