/* Chunked bodies, one byte a step but for the data itself (RFC 9112 section 7.1):
 *
 *     SIZE [BLANK] [EXTENSION] CR SIZE_LF -> DATA DATA_CR DATA_LF -> SIZE ...
 *                                  size 0 -> LINE_START (NAME VALUE VALUE_LF LINE_START)* LAST_LF
 *
 * Whoever reads this body and whoever forwards it must agree on every byte, so there is one
 * spelling of everything but the extensions, which nobody uses and which are skipped. */
#include "rules/wire/http.h"

#include "rules/wire/http_chars.h"

enum { SIZE_DIGITS = 15 }; /* 60 bits: sums of sizes stay far from overflow */

enum state {
    SIZE, /* zero: how a body starts */
    BLANK,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    LINE_START,
    NAME,
    VALUE,
    VALUE_LF,
    LAST_LF,
    FINISHED,
    BROKEN,
};

static unsigned hex_value(char c) {
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

static enum state expect(char c, char expected, enum state then) {
    return c == expected ? then : BROKEN;
}

static enum state size_digit(struct http_chunks *chunks, char c) {
    if (chunks->digits == SIZE_DIGITS)
        return BROKEN;
    chunks->digits++;
    chunks->left = chunks->left << 4 | hex_value(c);
    return SIZE;
}

/* Blanks may stand before an extension (BWS), not at the end of the line. */
static enum state size_byte(struct http_chunks *chunks, char c) {
    if (chunks->state == SIZE && char_is(c, CHAR_HEX))
        return size_digit(chunks, c);
    if (chunks->digits == 0)
        return BROKEN;
    if (c == ';')
        return EXTENSION;
    if (c == ' ' || c == '\t')
        return BLANK;
    return chunks->state == SIZE ? expect(c, '\r', SIZE_LF) : BROKEN;
}

static enum state extension_byte(char c) {
    return char_is(c, CHAR_TEXT) ? EXTENSION : expect(c, '\r', SIZE_LF);
}

static enum state size_line_byte(struct http_chunks *chunks, char c) {
    if (c != '\r' && ++chunks->line > HTTP_CHUNK_LINE_MAX)
        return BROKEN;
    return chunks->state == EXTENSION ? extension_byte(c) : size_byte(chunks, c);
}

static enum state size_end(struct http_chunks *chunks, char c) {
    chunks->line = 0;
    chunks->digits = 0;
    return expect(c, '\n', chunks->left > 0 ? DATA : LINE_START);
}

static enum state trailer_byte(enum state state, char c) {
    if (state == LINE_START && c == '\r')
        return LAST_LF;
    if (state == VALUE)
        return char_is(c, CHAR_TEXT) ? VALUE : expect(c, '\r', VALUE_LF);
    if (char_is(c, CHAR_TOKEN))
        return NAME;
    return state == NAME ? expect(c, ':', VALUE) : BROKEN;
}

static enum state next_state(struct http_chunks *chunks, char c) {
    enum state state = (enum state)chunks->state;
    switch (state) {
    case SIZE:
    case BLANK:
    case EXTENSION:
        return size_line_byte(chunks, c);
    case SIZE_LF:
        return size_end(chunks, c);
    case DATA_CR:
        return expect(c, '\r', DATA_LF);
    case DATA_LF:
        return expect(c, '\n', SIZE);
    case LINE_START:
    case NAME:
    case VALUE:
        return ++chunks->line > HTTP_TRAILERS_MAX ? BROKEN : trailer_byte(state, c);
    case VALUE_LF:
        return expect(c, '\n', LINE_START);
    case LAST_LF:
        return expect(c, '\n', FINISHED);
    case DATA:
    case FINISHED:
    case BROKEN:
        break;
    }
    return BROKEN;
}

static struct span take_data(struct http_chunks *chunks, struct span bytes) {
    struct span data = {bytes.ptr, chunks->left < bytes.len ? (size_t)chunks->left : bytes.len};
    chunks->left -= data.len;
    if (chunks->left == 0)
        chunks->state = DATA_CR;
    return data;
}

enum http_step http_chunks_next(struct http_chunks *chunks, struct span bytes, size_t *used,
                                struct span *data) {
    *data = SPAN_NONE;
    size_t at = 0;
    while (at < bytes.len && chunks->state < FINISHED && chunks->state != DATA)
        chunks->state = (uint8_t)next_state(chunks, bytes.ptr[at++]);
    if (at < bytes.len && chunks->state == DATA) {
        *data = take_data(chunks, (struct span){bytes.ptr + at, bytes.len - at});
        at += data->len;
    }
    *used = at;
    if (chunks->state == BROKEN)
        return HTTP_BAD;
    return chunks->state == FINISHED ? HTTP_DONE : HTTP_MORE;
}
