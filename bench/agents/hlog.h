/* Histograms as HdrHistogram's tools read them: the interval log, format 1.3, encoding V2.
 * Pure: the caller passes the times. */
#pragma once

#include "base/hist.h"
#include "base/str.h"

enum {
    HLOG_LINE_MAX = 128 * 1024, /* bytes of one histogram that uses every slot, and some */
};

/* The lines at the top. `start_ms`: wall clock. */
void hlog_begin(struct str *out, int64_t start_ms);
/* One interval's histogram. `tag`: letters, digits, - and _. Times in microseconds since the start;
 * the column for the maximum is in milliseconds. */
void hlog_add(struct str *out, const char *tag, int64_t from_us, int64_t length_us,
              const struct hist *h);
