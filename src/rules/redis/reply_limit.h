/* What one reply of Redis may cost us, checked on its bytes before hiredis parses them. Pure.
 *
 * hiredis bounds neither elements nor bytes (0.14; since 1.0 elements, by a limit that is off). It
 * allocates an array when its length arrives, and keeps every byte of a line or a text that has no
 * end. A peer that can write into a connection to Redis could use up our memory. So a reply is
 * walked here first (RESP2, strict), and the connection is given up before the reply gets
 * expensive.
 *
 * A reply costs REPLY_ELEMENT_COST for each element, however deep it is nested, and its bytes of
 * text. Elements are charged when their array is announced, texts when their length is. */
#pragma once

#include "rules/redis/redis_reply.h"

enum {
    /* One element in memory: hiredis' object (64 bytes at most), its pointer in the array, the
     * terminator of its text, and what malloc adds to the object and to the text. */
    REPLY_ELEMENT_COST = 128,
    /* Bytes a reply may cost; so it has 65,535 elements at most. The largest that we ask for: 64
     * claimed heartbeats of 16 KiB, sealed (1.1 MiB, 260 elements); 256 entries of a stream (11,000
     * elements with 20 fields each; fewer entries are asked for after one page was too large); a
     * page of 500 revocations (1,000 elements; up to twice that while Redis rehashes). */
    REPLY_COST_MAX = 8 << 20,
    REPLY_DEPTH_MAX = 8,    /* arrays in arrays: as hiredis 0.14; XREAD needs four */
    REPLY_LINE_MAX = 16384, /* a status or an error; Redis' longest error has a few hundred bytes */
};

/* How far the reply at hand was read, and what it has cost. Zero it to start. Between two replies
 * `state` and `depth` are 0 again. */
struct reply_limit {
    uint8_t state, type, depth;
    bool negative;
    uint32_t line;                  /* bytes of the line at hand, without its type */
    uint64_t number;                /* that the line spells; bytes missing of a text */
    uint64_t cost;                  /* of the reply at hand */
    uint32_t left[REPLY_DEPTH_MAX]; /* elements missing of each open array */
};

/* Takes the next bytes of a connection, of one reply or of many. The result does not depend on how
 * the bytes were cut into calls. REDIS_NONE: all of them may be parsed. REDIS_OVERSIZED,
 * REDIS_PROTOCOL (not RESP2): none of them; the connection ends, and nothing is taken after it. */
enum redis_trouble reply_limit_take(struct reply_limit *l, struct span bytes);
