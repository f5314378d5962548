/* Replies, read: the second half of io/redis.h. */
#include "io/redis.h"

#include <hiredis/hiredis.h>

static const struct redisReply *inside(const struct redis_reply *reply) {
    return (const struct redisReply *)reply;
}

bool redis_is_nil(const struct redis_reply *reply) {
    return !reply || inside(reply)->type == REDIS_REPLY_NIL;
}

struct span redis_text(const struct redis_reply *reply) {
    const struct redisReply *in = inside(reply);
    bool is_text = in && (in->type == REDIS_REPLY_STRING || in->type == REDIS_REPLY_STATUS);
    return is_text ? (struct span){in->str, in->len} : SPAN_NONE;
}

/* What Lua calls a number comes as an integer; what a hash holds as its digits. */
static int64_t parse_digits(struct span text) {
    enum { DIGITS_MAX = 18 };
    bool negative = text.len > 0 && text.ptr[0] == '-';
    int64_t value = span_decimal(span_from(text, negative), DIGITS_MAX);
    if (value < 0)
        return 0;
    return negative ? -value : value;
}

int64_t redis_integer(const struct redis_reply *reply) {
    if (reply && inside(reply)->type == REDIS_REPLY_INTEGER)
        return inside(reply)->integer;
    return parse_digits(redis_text(reply));
}

size_t redis_count(const struct redis_reply *reply) {
    return reply && inside(reply)->type == REDIS_REPLY_ARRAY ? inside(reply)->elements : 0;
}

const struct redis_reply *redis_at(const struct redis_reply *reply, size_t i) {
    return i < redis_count(reply) ? (const struct redis_reply *)inside(reply)->element[i] : NULL;
}
