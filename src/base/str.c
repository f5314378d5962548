#include "base/str.h"

#include "base/bytes16.h"
#include "base/panic.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void str_init(struct str *s, size_t max) {
    *s = (struct str){.max = max};
}

void str_init_fixed(struct str *s, char *memory, size_t size) {
    *s = (struct str){.ptr = memory, .cap = size, .max = size, .fixed = true};
}

void str_release(struct str *s) {
    if (!s->fixed)
        free(s->ptr);
    *s = (struct str){.max = s->max};
}

void str_clear(struct str *s) {
    s->len = 0;
    s->overflow = false;
}

char *str_reserve(struct str *s, size_t more) {
    if (s->overflow || more > s->max - s->len) {
        s->overflow = true;
        return NULL;
    }
    size_t need = s->len + more;
    if (need > s->cap) {
        size_t cap = s->cap ? s->cap : 64;
        while (cap < need)
            cap *= 2;
        if (cap > s->max)
            cap = s->max;
        s->ptr = must_realloc(s->ptr, cap);
        s->cap = cap;
    }
    return s->ptr + s->len;
}

void str_grow(struct str *s, size_t written) {
    s->len += written;
}

void str_add_char(struct str *s, char c) {
    str_add(s, (struct span){&c, 1});
}

/* Two digits a division. */
struct span str_decimal(int64_t value, char memory[STR_DECIMAL]) {
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char *end = memory + STR_DECIMAL, *at = end;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    for (; rest >= 10; rest /= 100) {
        at -= 2;
        memcpy(at, pairs + 2 * (rest % 100), 2);
    }
    if (rest > 0 || at == end)
        *--at = (char)('0' + rest);
    if (value < 0)
        *--at = '-';
    return (struct span){at, (size_t)(end - at)};
}

void str_add_int(struct str *s, int64_t value) {
    char digits[STR_DECIMAL];
    str_add(s, str_decimal(value, digits));
}

void str_addf(struct str *s, const char *format, ...) {
    va_list args;
    char small[512];
    va_start(args, format);
    int len = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (len < 0) {
        s->overflow = true;
        return;
    }
    if ((size_t)len < sizeof small) {
        str_add(s, (struct span){small, (size_t)len});
        return;
    }
    char *large = must_alloc((size_t)len + 1);
    va_start(args, format);
    (void)vsnprintf(large, (size_t)len + 1, format, args);
    va_end(args);
    str_add(s, (struct span){large, (size_t)len});
    free(large);
}

/* Length of the valid UTF-8 sequence at the start of `s`, 0 if there is none (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF). */
static size_t utf8_sequence(struct span s) {
    const unsigned char *p = (const unsigned char *)s.ptr;
    size_t need = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (need == 0 || p[0] > 0xf4 || need > s.len)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
               (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : need;
}

static void add_json_ascii(struct str *s, char c) {
    switch (c) {
    case '"':
        STR_ADD(s, "\\\"");
        break;
    case '\\':
        STR_ADD(s, "\\\\");
        break;
    case '\n':
        STR_ADD(s, "\\n");
        break;
    case '\r':
        STR_ADD(s, "\\r");
        break;
    case '\t':
        STR_ADD(s, "\\t");
        break;
    default:
        if ((unsigned char)c < 0x20 || c == 0x7f)
            str_addf(s, "\\u%04x", (unsigned char)c);
        else
            str_add_char(s, c);
    }
}

/* How much of `s` stands for itself between quotes. */
static size_t plain_json(struct span s) {
    return s.len ? (size_t)(plain_end(s.ptr, s.ptr + s.len) - s.ptr) : 0;
}

void str_add_json(struct str *s, struct span text) {
    str_add_char(s, '"');
    for (size_t i = 0; i < text.len;) {
        size_t plain = plain_json(span_from(text, i));
        str_add(s, (struct span){text.ptr + i, plain});
        i += plain;
        if (i == text.len)
            break;
        size_t step = utf8_sequence((struct span){text.ptr + i, text.len - i});
        if (step == 1)
            add_json_ascii(s, text.ptr[i]);
        else if (step == 0)
            STR_ADD(s, "\xef\xbf\xbd");
        else
            str_add(s, (struct span){text.ptr + i, step});
        i += step ? step : 1;
    }
    str_add_char(s, '"');
}
