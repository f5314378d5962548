/* Paths as Express reads them. */
#include "stub/parts.h"

#include <string.h>

int stub_segments(struct span path, struct span *out, int max) {
    int count = 0;
    if (path.len == 0 || path.ptr[0] != '/')
        return -1;
    path = span_from(path, 1);
    if (path.len > 0 && path.ptr[path.len - 1] == '/')
        path.len--;
    while (path.len > 0) {
        const char *slash = memchr(path.ptr, '/', path.len);
        size_t len = slash ? (size_t)(slash - path.ptr) : path.len;
        if (count == max || len == 0)
            return -1;
        out[count++] = (struct span){path.ptr, len};
        path = slash ? span_from(path, len + 1) : SPAN_NONE;
    }
    return count;
}

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | ((c >= 'A' && c <= 'F') ? 0x20 : 0)) : NULL;
    return at ? (int)(at - digits) : -1;
}

bool stub_decode(struct span text, char *out, size_t size) {
    size_t len = 0;
    for (size_t i = 0; i < text.len && len + 1 < size; i++) {
        int value = (unsigned char)text.ptr[i];
        if (value == '%') {
            int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text.ptr[i + 2]) : -1;
            if (low < 0)
                return false;
            value = high * 16 + low;
            i += 2;
        }
        out[len++] = (char)value;
    }
    out[len] = '\0';
    return true;
}
