/* The five plots of a campaign: of each side its first run, time from the first measured stage. */
#pragma once

#include "agents/campaign.h"
#include "agents/plot.h"

#define REPORT_PLOT_ROWS(X) X(connected) X(controller) X(percentiles) X(latency) X(rate)

enum report_plot {
#define X(name) REPORT_PLOT_##name,
    REPORT_PLOT_ROWS(X)
#undef X
        REPORT_PLOTS
};

const char *report_plot_name(enum report_plot which);
/* Appends the SVG; nothing when there is nothing to show. */
void report_plot(const struct campaign *c, enum report_plot which, struct str *out);
