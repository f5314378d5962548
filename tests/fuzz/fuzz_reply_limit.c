/* Replies of Redis: the first byte says how the rest is cut. What reply_limit lets through, hiredis
 * either parses as the same replies or refuses, and it costs no more than was charged. */
#include "rules/redis/reply_limit.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool condition) {
    if (!condition)
        abort();
}

/* As src/rules/redis/reply_limit.h charges it, all but the element itself. */
static uint64_t cost_inside(const struct redisReply *reply) {
    bool has_text = reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS ||
                    reply->type == REDIS_REPLY_ERROR;
    uint64_t cost = has_text ? reply->len : 0;
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
        cost += REPLY_ELEMENT_COST + cost_inside(reply->element[i]);
    return cost;
}

/* How many replies hiredis has found; -1: it refused what came. */
static int parse_all(redisReader *reader) {
    int replies = 0;
    void *reply = NULL;
    while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) {
        must(REPLY_ELEMENT_COST + cost_inside(reply) <= REPLY_COST_MAX);
        freeReplyObject(reply);
        replies++;
    }
    return reader->err == 0 ? replies : -1;
}

/* How many replies end in `bytes`, taken one by one; -1: they are refused. */
static int count(struct reply_limit *l, struct span bytes) {
    int replies = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        if (reply_limit_take(l, (struct span){bytes.ptr + i, 1}) != REDIS_NONE)
            return -1;
        replies += l->state == 0 && l->depth == 0;
    }
    return replies;
}

struct sides {
    struct reply_limit whole, cut;
    redisReader *reader;
};

static bool take(struct sides *s, struct span bytes) {
    int replies = count(&s->cut, bytes);
    must((reply_limit_take(&s->whole, bytes) == REDIS_NONE) == (replies >= 0));
    if (replies < 0 || redisReaderFeed(s->reader, bytes.ptr, bytes.len) != REDIS_OK)
        return false;
    int parsed = parse_all(s->reader);
    must(parsed == replies || parsed < 0);
    return parsed >= 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size == 0)
        return 0;
    struct sides s = {.reader = redisReaderCreate()};
    size_t step = bytes[0] > 0 ? bytes[0] : size;
    struct span rest = {(const char *)bytes + 1, size - 1};
    bool fine = true;
    while (fine && rest.len > 0) {
        size_t len = rest.len < step ? rest.len : step;
        fine = take(&s, (struct span){rest.ptr, len});
        rest = span_from(rest, len);
    }
    redisReaderFree(s.reader);
    return 0;
}
