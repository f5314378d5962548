/* Where figures come from: machine, versions, commit, settings. Without it a figure is a rumour. */
#pragma once

#include "base/str.h"

struct origin {
    char version[32], commit[64];
    char machine[256]; /* processor and system */
    int processors;
    double load;    /* of the last minute, before the run */
    int64_t memory; /* bytes */
    int64_t wall_ms;
    char config_hash[65]; /* SHA-256 of the settings in their canonical spelling, hex */
    struct str command;   /* as it was called; values of --gateway-env are left out */
};

void origin_fill(struct origin *o, int argc, char **argv, struct span canonical);
void origin_release(struct origin *o);
