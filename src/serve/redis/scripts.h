/* What runs inside Redis: one row each. A script is one step that no other replica can come
 * between; keys are passed as KEYS. The texts stand with what they are for: peers_scripts.c,
 * beat_scripts.c, sharing_script.c.
 *   symbol, its text */
#pragma once

#include "io/redis.h"

#define SCRIPT_ROWS(X)                                                                             \
    X(LOOK, peers_look)                                                                            \
    X(KEEP, peers_keep)                                                                            \
    X(TELL_AGENT, peers_tell_agent)                                                                \
    X(TELL_ALL, peers_tell_all)                                                                    \
    X(ATTEND, peers_attend)                                                                        \
    X(SHARE_LIMITS, sharing_script)                                                                \
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
