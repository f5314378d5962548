/* JSON for people: one line per value, a table for a list. */
#pragma once

#include "base/span.h"

#include <stdio.h>

/* False, and nothing written: it is no JSON object. */
bool ctl_show(struct span json, FILE *to);
