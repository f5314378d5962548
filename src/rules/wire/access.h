/* What the access log may say, and of which requests. Pure: serve/request/access.h collects and
 * writes.
 *
 * A path may hold anything a client puts there, a secret by mistake included. So it is written by
 * allow-list, too: words, versions and ids stand as they are, every other segment is a star. */
#pragma once

#include "base/str.h"

#include <stdint.h>

enum access_mode {
    ACCESS_OFF,
    ACCESS_ERRORS,  /* what failed, and what the gateway refused */
    ACCESS_SAMPLED, /* those and all others, but of good heartbeats one in so many */
    ACCESS_ALL,
};

/* How a request ended, as far as it matters for that. */
enum access_kind {
    ACCESS_GOOD_BEAT, /* a heartbeat that was acknowledged */
    ACCESS_FAILED,    /* 500 and above, cut short, or refused by the gateway itself */
    ACCESS_OTHER,
};

/* `number`: of good heartbeats seen so far, this one included; `sample` 1 or more. */
bool access_is_wanted(enum access_mode mode, enum access_kind kind, uint64_t number,
                      int64_t sample);

/* Appends the path, of at most 16 segments. A segment stands if it is a word (lower-case letters,
 * dots, hyphens, underscores, up to 32), a version (v1), or 24 hex digits of any case. */
void access_spell_path(struct str *out, struct span path);

/* Appends name=value of the parameters that `names` (separated by commas or spaces) allows, joined
 * by '&', as they were sent; values of more than 64 bytes are stars. `query` with or without its
 * '?'. */
void access_spell_query(struct str *out, struct span query, struct span names);

/* A complaint about such a list of names, or NULL. */
const char *access_names_complaint(struct span names);
