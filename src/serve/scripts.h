/* What runs inside Redis: one row each. A script is one step that no other replica can come
 * between. Time is passed in (redis_now_us), never asked for there; keys are passed as KEYS.
 *   symbol, the text's name in scripts.c */
#pragma once

#include "io/redis.h"

#define SCRIPT_ROWS(X)                                                                             \
    X(PRESENCE, presence)                                                                          \
    X(BEAT_STORE, beat_store)                                                                      \
    X(BEAT_CLAIM, beat_claim)                                                                      \
    X(BEAT_DONE, beat_done)                                                                        \
    X(BEAT_TAKE, beat_take)                                                                        \
    X(BEAT_TELL, beat_tell)                                                                        \
    X(BEAT_HELLO, beat_hello)                                                                      \
    X(BEAT_LIFT, beat_lift)

enum script {
#define X(symbol, text) SCRIPT_##symbol,
    SCRIPT_ROWS(X)
#undef X
        SCRIPT_COUNT
};

extern const struct redis_script serve_scripts[SCRIPT_COUNT];
