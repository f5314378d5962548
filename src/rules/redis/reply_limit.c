#include "rules/redis/reply_limit.h"

enum state {
    AT_TYPE,
    IN_NUMBER,   /* behind ':', '$', '*' */
    IN_LINE,     /* behind '+', '-' */
    AT_LINE_END, /* the CR was there */
    IN_TEXT,
    AT_TEXT_CR,
    AT_TEXT_LF,
};

enum { DIGITS_MAX = 20 }; /* an int64_t with its sign */

static enum redis_trouble charge(struct reply_limit *l, uint64_t cost) {
    l->cost += cost;
    return l->cost <= REPLY_COST_MAX ? REDIS_NONE : REDIS_OVERSIZED;
}

/* An element is complete, and with it the arrays whose last one it was. */
static void end_element(struct reply_limit *l) {
    while (l->depth > 0 && --l->left[l->depth - 1] == 0)
        l->depth--;
    l->state = AT_TYPE;
}

static enum redis_trouble take_type(struct reply_limit *l, char c) {
    if (l->depth == 0) /* another reply; in an array the elements are paid for */
        l->cost = REPLY_ELEMENT_COST;
    l->type = (uint8_t)c;
    l->line = 0;
    l->number = 0;
    l->negative = false;
    if (c == '+' || c == '-')
        l->state = IN_LINE;
    else if (c == ':' || c == '$' || c == '*')
        l->state = IN_NUMBER;
    else
        return REDIS_PROTOCOL;
    return REDIS_NONE;
}

static enum redis_trouble take_in_line(struct reply_limit *l, char c) {
    if (c == '\r') {
        l->state = AT_LINE_END;
        return REDIS_NONE;
    }
    if (c == '\n')
        return REDIS_PROTOCOL;
    return ++l->line <= REPLY_LINE_MAX ? charge(l, 1) : REDIS_OVERSIZED;
}

/* A number that is too large to be paid for stays so: it cannot overflow. */
static enum redis_trouble take_in_number(struct reply_limit *l, char c) {
    bool any_digit = l->line > l->negative;
    if (c == '\r') {
        l->state = AT_LINE_END;
        return any_digit ? REDIS_NONE : REDIS_PROTOCOL;
    }
    if (++l->line > DIGITS_MAX)
        return REDIS_PROTOCOL;
    if (c == '-' && l->line == 1) {
        l->negative = true;
        return REDIS_NONE;
    }
    if (c < '0' || c > '9')
        return REDIS_PROTOCOL;
    if (l->number <= REPLY_COST_MAX)
        l->number = l->number * 10 + (uint64_t)(c - '0');
    return REDIS_NONE;
}

static enum redis_trouble begin_text(struct reply_limit *l) {
    l->state = l->number > 0 ? IN_TEXT : AT_TEXT_CR;
    return charge(l, l->number);
}

static enum redis_trouble begin_array(struct reply_limit *l) {
    if (l->number == 0) {
        end_element(l);
        return REDIS_NONE;
    }
    if (l->depth == REPLY_DEPTH_MAX || charge(l, l->number * REPLY_ELEMENT_COST) != REDIS_NONE)
        return REDIS_OVERSIZED;
    l->left[l->depth++] = (uint32_t)l->number;
    l->state = AT_TYPE;
    return REDIS_NONE;
}

static enum redis_trouble take_line_end(struct reply_limit *l, char c) {
    bool has_length = l->type == '$' || l->type == '*';
    if (c != '\n')
        return REDIS_PROTOCOL;
    if (has_length && !l->negative)
        return l->type == '$' ? begin_text(l) : begin_array(l);
    if (has_length && l->number != 1) /* -1 is nil */
        return REDIS_PROTOCOL;
    end_element(l);
    return REDIS_NONE;
}

static enum redis_trouble take_byte(struct reply_limit *l, char c) {
    switch ((enum state)l->state) {
    case AT_TYPE:
        return take_type(l, c);
    case IN_NUMBER:
        return take_in_number(l, c);
    case IN_LINE:
        return take_in_line(l, c);
    case AT_LINE_END:
        return take_line_end(l, c);
    case AT_TEXT_CR:
        l->state = AT_TEXT_LF;
        return c == '\r' ? REDIS_NONE : REDIS_PROTOCOL;
    case AT_TEXT_LF:
        end_element(l);
        return c == '\n' ? REDIS_NONE : REDIS_PROTOCOL;
    case IN_TEXT:
        break;
    }
    return REDIS_PROTOCOL;
}

/* How many bytes of a text are in `bytes`. */
static size_t take_text(struct reply_limit *l, struct span bytes) {
    size_t taken = bytes.len < l->number ? bytes.len : (size_t)l->number;
    l->number -= taken;
    if (l->number == 0)
        l->state = AT_TEXT_CR;
    return taken;
}

enum redis_trouble reply_limit_take(struct reply_limit *l, struct span bytes) {
    while (bytes.len > 0) {
        if (l->state == IN_TEXT) {
            bytes = span_from(bytes, take_text(l, bytes));
            continue;
        }
        enum redis_trouble t = take_byte(l, bytes.ptr[0]);
        if (t != REDIS_NONE)
            return t;
        bytes = span_from(bytes, 1);
    }
    return REDIS_NONE;
}
