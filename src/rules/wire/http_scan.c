/* Where a head ends, over bytes as they arrive. */
#include "rules/wire/http.h"

#include "rules/wire/http_chars.h"

/* Method, two spaces, target and "HTTP/1.1". */
enum { REQUEST_LINE_MAX = HTTP_METHOD_MAX + 1 + HTTP_TARGET_MAX + 1 + 8 };

enum scan_state {
    SCAN_BEGIN, /* before the first line */
    SCAN_LEADING_CR,
    SCAN_FIRST_LINE,
    SCAN_FIRST_CR,
    SCAN_LINE_START,
    SCAN_LINE,
    SCAN_LINE_CR,
    SCAN_LAST_CR,
    SCAN_DONE,
    SCAN_BAD,
};

/* The state after a byte that is not text: only CR and LF have a place, one each. */
static enum scan_state scan_control(struct http_scan *scan, char c) {
    bool cr = c == '\r';
    bool lf = c == '\n';
    switch ((enum scan_state)scan->state) {
    case SCAN_BEGIN:
        return cr && scan->start == 0 ? SCAN_LEADING_CR : SCAN_BAD;
    case SCAN_LEADING_CR:
        scan->start = 2;
        return lf ? SCAN_BEGIN : SCAN_BAD;
    case SCAN_FIRST_LINE:
        return cr ? SCAN_FIRST_CR : SCAN_BAD;
    case SCAN_LINE_START:
        return cr ? SCAN_LAST_CR : SCAN_BAD;
    case SCAN_LINE:
        return cr ? SCAN_LINE_CR : SCAN_BAD;
    case SCAN_FIRST_CR:
    case SCAN_LINE_CR:
        return lf ? SCAN_LINE_START : SCAN_BAD;
    case SCAN_LAST_CR:
        return lf ? SCAN_DONE : SCAN_BAD;
    case SCAN_DONE:
    case SCAN_BAD:
        break;
    }
    return SCAN_BAD;
}

/* The state after a run of text. */
static enum scan_state scan_text(enum scan_state state) {
    switch (state) {
    case SCAN_BEGIN:
    case SCAN_FIRST_LINE:
        return SCAN_FIRST_LINE;
    case SCAN_LINE_START:
    case SCAN_LINE:
        return SCAN_LINE;
    default:
        return SCAN_BAD; /* behind a CR */
    }
}

static enum http_step scan_refused(struct http_scan *scan, enum err *error, enum err why) {
    scan->state = SCAN_BAD;
    *error = why;
    return HTTP_BAD;
}

/* Both bytes of a line's end at once, where they are there and within the limit: the usual case. */
static bool take_line_end(struct http_scan *scan, struct span bytes) {
    bool in_line = scan->state == SCAN_FIRST_LINE || scan->state == SCAN_LINE;
    size_t at = scan->seen;
    if (!in_line || bytes.len - at < 2 || at + 2 > scan->start + HTTP_HEAD_MAX ||
        bytes.ptr[at] != '\r' || bytes.ptr[at + 1] != '\n')
        return false;
    scan->state = SCAN_LINE_START;
    scan->seen += 2;
    return true;
}

/* Every limit is bound to a byte's position, never to how many came at once: the verdict does not
 * depend on how the network cut the stream. */
enum http_step http_scan(struct http_scan *scan, struct span bytes, size_t *head_len,
                         enum err *error) {
    while (scan->seen < bytes.len && scan->seen < scan->start + HTTP_HEAD_MAX) {
        bool first = scan->state == SCAN_BEGIN || scan->state == SCAN_FIRST_LINE;
        size_t limit = scan->start + (first ? REQUEST_LINE_MAX + 1 : HTTP_HEAD_MAX);
        const char *at = bytes.ptr + scan->seen;
        const char *stop = text_end(at, bytes.ptr + (bytes.len < limit ? bytes.len : limit));
        if (stop > at) {
            scan->state = (uint8_t)scan_text((enum scan_state)scan->state);
            scan->seen = (uint32_t)(stop - bytes.ptr);
        } else if (!take_line_end(scan, bytes)) {
            scan->state = (uint8_t)scan_control(scan, *at);
            scan->seen++;
        }
        if (scan->state == SCAN_BAD)
            return scan_refused(scan, error, ERR_BAD_REQUEST);
        if (scan->state == SCAN_FIRST_LINE && scan->seen - scan->start > REQUEST_LINE_MAX)
            return scan_refused(scan, error, ERR_TARGET_TOO_LONG);
        if (scan->state == SCAN_DONE) {
            *head_len = scan->seen;
            return HTTP_DONE;
        }
    }
    if (scan->seen == scan->start + HTTP_HEAD_MAX)
        return scan_refused(scan, error, ERR_HEAD_TOO_LARGE);
    return HTTP_MORE;
}
