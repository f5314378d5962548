/* Files of a campaign: report.html, report.json, and for each run its timeline (CSV), its
 * histograms
 * (.hlog) and its plots (SVG). */
#pragma once

#include "agents/campaign.h"

/* Makes the directory if it is not there. False, said on standard error, when nothing could be
 * written there: to be asked before a run that takes an hour. */
bool report_prepare(const char *directory);

/* False, said on standard error, when something cannot be written. */
bool report_write(const struct campaign *c, const char *directory);
