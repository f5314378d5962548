#include "rules/redis/resp.h"

enum { HEAD_MAX = 1 + 20 + 2, END = 2 }; /* "$18446744073709551615\r\n", "\r\n" */

size_t resp_command_max(const struct span *words, size_t count) {
    size_t sum = HEAD_MAX;
    for (size_t i = 0; i < count; i++)
        sum += HEAD_MAX + words[i].len + END;
    return sum;
}

/* Most words are shorter than ten bytes. */
static char *put_head(char *at, char kind, size_t number) {
    *at++ = kind;
    if (number < 10) {
        *at++ = (char)('0' + number);
    } else {
        char memory[STR_DECIMAL];
        struct span digits = str_decimal((int64_t)number, memory);
        memcpy(at, digits.ptr, digits.len);
        at += digits.len;
    }
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static char *put_word(char *at, struct span word) {
    at = put_head(at, '$', word.len);
    if (word.len > 0)
        memcpy(at, word.ptr, word.len);
    at += word.len;
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

void resp_add_command(struct str *out, const struct span *words, size_t count) {
    char *start = str_reserve(out, resp_command_max(words, count));
    if (!start)
        return;
    char *at = put_head(start, '*', count);
    for (size_t i = 0; i < count; i++)
        at = put_word(at, words[i]);
    str_grow(out, (size_t)(at - start));
}
