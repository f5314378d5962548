/* What runs inside Redis: one row each. A script is one step that no other replica can come
 * between. Time is passed in (redis_now_us), never asked for there; keys are passed as KEYS.
 *   symbol, the text's name in scripts.c */
#pragma once

#include "io/redis.h"

#define SCRIPT_ROWS(X) X(PRESENCE, presence)

enum script {
#define X(symbol, text) SCRIPT_##symbol,
    SCRIPT_ROWS(X)
#undef X
        SCRIPT_COUNT
};

extern const struct redis_script serve_scripts[SCRIPT_COUNT];
