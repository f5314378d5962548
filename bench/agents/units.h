/* Numbers as people write them: "2s", "250ms", "10000", "64MiB", "5%". */
#pragma once

#include "base/str.h"

enum unit {
    UNIT_COUNT,   /* as it stands; thousands may be set apart by commas or underscores */
    UNIT_TIME,    /* microseconds; written with us, ms, s, m, h */
    UNIT_BYTES,   /* written with B, KiB, MiB, GiB or nothing */
    UNIT_PERCENT, /* written with % or nothing */
};

/* False for anything that is not one finite number, 0 or more, with a fitting unit. A time other
 * than 0 needs its unit. Nothing is written then. */
bool units_parse(enum unit unit, struct span text, double *out);

/* As short as it is read: "1.24 s", "850 us", "12,345", "46.1 MiB", "1.6 %"; "-" for NaN. */
void units_print(struct str *out, enum unit unit, double value);
