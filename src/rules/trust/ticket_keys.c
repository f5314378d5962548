#include "rules/trust/ticket_keys.h"

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

_Static_assert(sizeof(struct ticket_key) == 80, "read as one run of bytes");

static bool parse_line(struct span line, struct ticket_key *out) {
    uint8_t *bytes = (uint8_t *)out;
    if (line.len != 2 * sizeof *out)
        return false;
    for (size_t i = 0; i < sizeof *out; i++) {
        int high = digit(line.ptr[2 * i]), low = digit(line.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static struct span next_line(struct span *text) {
    const char *end = memchr(text->ptr, '\n', text->len);
    struct span line = {text->ptr, end ? (size_t)(end - text->ptr) : text->len};
    *text = span_from(*text, line.len + 1);
    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    return span_trim(line);
}

size_t ticket_keys_parse(struct span text, struct ticket_key out[TICKET_KEYS_MAX]) {
    size_t count = 0;
    while (text.len > 0) {
        struct span line = next_line(&text);
        if (line.len == 0)
            continue;
        if (count == TICKET_KEYS_MAX || !parse_line(line, &out[count]))
            return 0;
        count++;
    }
    return count;
}
