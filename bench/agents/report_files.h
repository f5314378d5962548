/* The texts of a report. Pure: they are built from what was recorded. */
#pragma once

#include "agents/campaign.h"

/* Everything, for programs. Times in microseconds, memory in bytes, unknown figures null. */
void report_json(const struct campaign *c, struct str *out);
/* A row each second; counters since the run's start. */
void report_csv(const struct record *r, struct str *out);
/* One page that needs nothing else. */
void report_html(const struct campaign *c, struct str *out);
