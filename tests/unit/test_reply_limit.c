#include "rules/redis/reply_limit.h"

#include <criterion/criterion.h>
#include <hiredis/hiredis.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

/* All of it at once, and byte by byte: the result is the same. */
static enum redis_trouble taken(struct span bytes) {
    struct reply_limit whole = {0}, cut = {0};
    enum redis_trouble t = reply_limit_take(&whole, bytes), last = REDIS_NONE;
    for (size_t i = 0; i < bytes.len && last == REDIS_NONE; i++)
        last = reply_limit_take(&cut, (struct span){bytes.ptr + i, 1});
    cr_expect_eq(t, last, "%.*s", (int)(bytes.len < 60 ? bytes.len : 60), bytes.ptr);
    return t;
}

#define TAKEN(literal) taken(SPAN(literal))

/* `head`, then `piece` again and again; the caller frees. */
static struct span repeated(const char *head, const char *piece, size_t times) {
    size_t head_len = strlen(head), len = strlen(piece);
    char *text = malloc(head_len + len * times);
    cr_assert(text);
    memcpy(text, head, head_len);
    for (size_t i = 0; i < times; i++)
        memcpy(text + head_len + i * len, piece, len);
    return (struct span){text, head_len + len * times};
}

static enum redis_trouble taken_of(const char *head, const char *piece, size_t times) {
    struct span text = repeated(head, piece, times);
    enum redis_trouble t = taken(text);
    free((void *)(uintptr_t)text.ptr);
    return t;
}

Test(reply_limit, takes_what_redis_says) {
    const struct span replies[] = {
        SPAN("+OK\r\n"),
        SPAN("+\r\n"),
        SPAN("-NOPERM this user has no permissions\r\n"),
        SPAN(":0\r\n"),
        SPAN(":-9223372036854775808\r\n"),
        SPAN("$-1\r\n"),
        SPAN("$0\r\n\r\n"),
        SPAN("$4\r\n\r\n+x\r\n"),
        SPAN("*-1\r\n"),
        SPAN("*0\r\n"),
        SPAN("*1\r\n*0\r\n"),
        SPAN("*2\r\n$1\r\na\r\n*2\r\n:1\r\n*-1\r\n"),
        SPAN("*1\r\n*2\r\n$3\r\nkey\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        struct reply_limit l = {0};
        cr_expect_eq(taken(replies[i]), REDIS_NONE, "row %zu", i);
        cr_expect_eq(reply_limit_take(&l, replies[i]), REDIS_NONE);
        cr_expect(l.state == 0 && l.depth == 0, "row %zu is complete", i);
        (void)reply_limit_take(&l, (struct span){replies[i].ptr, replies[i].len - 1});
        cr_expect(l.state != 0 || l.depth != 0, "row %zu is not", i);
    }
}

Test(reply_limit, refuses_what_is_no_resp2) {
    const struct span wrong[] = {
        SPAN("HTTP/1.1 400 Bad Request\r\n"),
        SPAN("\r\n"),
        SPAN("%1\r\n"),
        SPAN("~1\r\n"),
        SPAN(",1.5\r\n"),
        SPAN("_\r\n"),
        SPAN(">1\r\n"),
        SPAN("+a\nb\r\n"),
        SPAN("+a\rb\r\n"),
        SPAN(":\r\n"),
        SPAN(":-\r\n"),
        SPAN(":1-\r\n"),
        SPAN(":+1\r\n"),
        SPAN(":1 \r\n"),
        SPAN(":123456789012345678901\r\n"),
        SPAN("$-2\r\n"),
        SPAN("*-0\r\n"),
        SPAN("$1\r\nab\r\n"),
        SPAN("$1\r\na\n\r"),
        SPAN("*1\n:1\r\n"),
        SPAN("*1\r\n\r\n"),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_eq(taken(wrong[i]), REDIS_PROTOCOL, "row %zu", i);
}

Test(reply_limit, refuses_an_array_when_its_length_is_announced) {
    enum { MOST = REPLY_COST_MAX / REPLY_ELEMENT_COST - 1 };
    char text[32];
    snprintf(text, sizeof text, "*%d\r\n", MOST);
    cr_expect_eq(taken_of(text, ":1\r\n", MOST), REDIS_NONE);
    snprintf(text, sizeof text, "*%d\r\n", MOST + 1);
    cr_expect_eq(taken(span_of(text)), REDIS_OVERSIZED);
    cr_expect_eq(TAKEN("*2000000000\r\n"), REDIS_OVERSIZED);
    cr_expect_eq(TAKEN("*18446744073709551\r\n"), REDIS_OVERSIZED, "32 bits do not cut it");
    cr_expect_eq(TAKEN("*99999999999999999999\r\n"), REDIS_OVERSIZED);
}

Test(reply_limit, refuses_a_text_when_its_length_is_announced) {
    char text[32];
    snprintf(text, sizeof text, "$%d\r\n", REPLY_COST_MAX - REPLY_ELEMENT_COST);
    cr_expect_eq(taken(span_of(text)), REDIS_NONE);
    snprintf(text, sizeof text, "$%d\r\n", REPLY_COST_MAX - REPLY_ELEMENT_COST + 1);
    cr_expect_eq(taken(span_of(text)), REDIS_OVERSIZED);
    cr_expect_eq(TAKEN("$536870912\r\n"), REDIS_OVERSIZED);
    cr_expect_eq(TAKEN("$99999999999999999999\r\n"), REDIS_OVERSIZED);
}

Test(reply_limit, counts_elements_and_texts_of_all_depths_together) {
    cr_expect_eq(taken_of("*1000\r\n", "*1000\r\n", 1), REDIS_NONE);
    cr_expect_eq(taken_of("*7\r\n", "*60000\r\n", 2), REDIS_OVERSIZED);
    char *piece = malloc(100001);
    int head = snprintf(piece, 100001, "$99980\r\n");
    memset(piece + head, 'x', 99980);
    snprintf(piece + head + 99980, 3, "\r\n");
    cr_expect_eq(taken_of("*80\r\n", piece, 80), REDIS_NONE);
    cr_expect_eq(taken_of("*90\r\n", piece, 84), REDIS_OVERSIZED);
    free(piece);
}

Test(reply_limit, bounds_how_deep_arrays_are_nested) {
    cr_expect_eq(taken_of("", "*1\r\n", REPLY_DEPTH_MAX), REDIS_NONE);
    cr_expect_eq(taken_of("", "*1\r\n", REPLY_DEPTH_MAX + 1), REDIS_OVERSIZED);
}

Test(reply_limit, bounds_a_line_without_an_end) {
    cr_expect_eq(taken_of("+", "x", REPLY_LINE_MAX), REDIS_NONE);
    cr_expect_eq(taken_of("+", "x", REPLY_LINE_MAX + 1), REDIS_OVERSIZED);
    cr_expect_eq(taken_of("-", "ERR ", REPLY_LINE_MAX), REDIS_OVERSIZED);
    char line[REPLY_LINE_MAX + 4];
    snprintf(line, sizeof line, "+%*s\r\n", REPLY_LINE_MAX, "");
    cr_expect_eq(taken_of("*1000\r\n", line, 1000), REDIS_OVERSIZED, "lines cost what they hold");
}

Test(reply_limit, is_of_each_reply_alone) {
    char *one = malloc(1 << 20);
    snprintf(one, 1 << 20, "*1\r\n$1000000\r\n%*s\r\n", 1000000, "");
    cr_expect_eq(taken_of("", one, 20), REDIS_NONE, "20 MB of replies, 1 MB each");
    cr_expect_eq(taken_of("", ":1\r\n", 200000), REDIS_NONE);
    free(one);
}

/* What is charged is enough: hiredis, as it is linked, does not need more for the replies that cost
 * it most. The bytes of one that is not complete are its own, beside that. */
static void expect_paid(struct span text, size_t more) {
    struct reply_limit l = {0};
    cr_assert_eq(reply_limit_take(&l, text), REDIS_NONE);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    redisReader *reader = redisReaderCreate();
    void *reply = NULL;
    cr_expect_eq(redisReaderFeed(reader, text.ptr, text.len), REDIS_OK);
    cr_expect_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
    size_t grown = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    cr_expect_leq(grown, REPLY_COST_MAX + more, "%zu bytes", grown);
    cr_expect_eq(reply != NULL, l.state == 0 && l.depth == 0);
    freeReplyObject(reply);
    redisReaderFree(reader);
}

Test(reply_limit, charges_what_hiredis_allocates) {
    static const struct {
        const char *head, *piece;
        size_t times;
    } rows[] = {
        {"*65535\r\n", ":1\r\n", 65535},        {"*65535\r\n", "$-1\r\n", 65535},
        {"*65535\r\n", "$0\r\n\r\n", 65535},    {"*65535\r\n", "*0\r\n", 65535},
        {"*61000\r\n", "+12345678\r\n", 61000}, {"*60000\r\n", "$9\r\n123456789\r\n", 60000},
        {"*32767\r\n", "*1\r\n:1\r\n", 32767},  {"*65535\r\n", ":1\r\n", 65534},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span text = repeated(rows[i].head, rows[i].piece, rows[i].times);
        expect_paid(text, text.len + 65536);
        free((void *)(uintptr_t)text.ptr);
    }
}
