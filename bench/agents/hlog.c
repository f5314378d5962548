#include "agents/hlog.h"

#include "base/clock.h"
#include "base/panic.h"

#include <openssl/evp.h>
#include <stdlib.h>

/* Cookies of the V2 encodings with counts as ZigZag LEB128. */
enum { COOKIE = 0x1c849313, COOKIE_COMPRESSED = 0x1c849314, COUNT_MAX = 9, HEAD = 40 };

void hlog_begin(struct str *out, int64_t start_ms) {
    char date[CLOCK_HTTP_SIZE];
    clock_http(date, start_ms);
    str_addf(out,
             "#[Histogram log format version 1.3]\n"
             "#[StartTime: %.3f (seconds since epoch), %s]\n"
             "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
             "\"Interval_Compressed_Histogram\"\n",
             (double)start_ms / 1000, date);
}

static void add_big_endian(struct str *out, uint64_t value, int bytes) {
    while (bytes-- > 0)
        str_add_char(out, (char)(value >> (8 * bytes)));
}

/* Seven bits a byte, the ninth takes eight. */
static void add_zigzag(struct str *out, int64_t value) {
    uint64_t left = (uint64_t)value << 1;
    if (value < 0)
        left = ~left;
    for (int i = 1; i < COUNT_MAX && left > 0x7f; i++) {
        str_add_char(out, (char)(left | 0x80));
        left >>= 7;
    }
    str_add_char(out, (char)left);
}

/* A run of empty slots is one negative number. */
static void add_counts(struct str *out, const struct hist *h) {
    size_t slots = hist_slots(h);
    for (size_t i = 0; i < slots;) {
        size_t start = i;
        while (i < slots && hist_slot_count(h, i) == 0)
            i++;
        if (i > start)
            add_zigzag(out, -(int64_t)(i - start));
        else
            add_zigzag(out, hist_slot_count(h, i++));
    }
}

static void add_encoded(struct str *out, const struct hist *h) {
    struct str counts;
    str_init(&counts, HLOG_LINE_MAX);
    add_counts(&counts, h);
    double ratio = 1;
    uint64_t ratio_bits;
    memcpy(&ratio_bits, &ratio, sizeof ratio_bits);
    add_big_endian(out, COOKIE, 4);
    add_big_endian(out, counts.len, 4);
    add_big_endian(out, 0, 4); /* normalizing index offset */
    add_big_endian(out, HIST_DIGITS, 4);
    add_big_endian(out, HIST_MIN_US, 8);
    add_big_endian(out, HIST_MAX_US, 8);
    add_big_endian(out, ratio_bits, 8);
    str_add(out, str_span(&counts));
    str_release(&counts);
}

static uint32_t adler32(struct span bytes) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        a = (a + (unsigned char)bytes.ptr[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* A zlib stream (RFC 1950) of stored blocks (RFC 1951 section 3.2.4): the runs above have already
 * taken out what there was to compress, and no library is needed. */
static void add_zlib(struct str *out, struct span bytes) {
    enum { BLOCK_MAX = 65535 };
    struct span rest = bytes;
    STR_ADD(out, "\x78\x01");
    do {
        size_t n = rest.len < BLOCK_MAX ? rest.len : BLOCK_MAX;
        bool last = n == rest.len;
        const char head[5] = {(char)last, (char)(n & 0xff), (char)(n >> 8), (char)(~n & 0xff),
                              (char)(~n >> 8)};
        str_add(out, (struct span){head, sizeof head});
        str_add(out, (struct span){rest.ptr, n});
        rest = span_from(rest, n);
    } while (rest.len > 0);
    add_big_endian(out, adler32(bytes), 4);
}

static void add_base64(struct str *out, struct span bytes) {
    char *text = str_reserve(out, (bytes.len + 2) / 3 * 4 + 1);
    if (text)
        str_grow(out, (size_t)EVP_EncodeBlock((unsigned char *)text,
                                              (const unsigned char *)bytes.ptr, (int)bytes.len));
}

void hlog_add(struct str *out, const char *tag, int64_t from_us, int64_t length_us,
              const struct hist *h) {
    struct str encoded, packed;
    str_init(&encoded, HLOG_LINE_MAX);
    str_init(&packed, HLOG_LINE_MAX);
    add_encoded(&encoded, h);
    add_big_endian(&packed, COOKIE_COMPRESSED, 4);
    size_t length_at = packed.len;
    add_big_endian(&packed, 0, 4);
    add_zlib(&packed, str_span(&encoded));
    uint32_t length = (uint32_t)(packed.len - length_at - 4);
    for (int i = 0; i < 4; i++)
        packed.ptr[length_at + (size_t)i] = (char)(length >> (8 * (3 - i)));
    str_addf(out, "Tag=%s,%.3f,%.3f,%.3f,", tag, (double)from_us / 1e6, (double)length_us / 1e6,
             (double)hist_max(h) / 1e3);
    add_base64(out, str_span(&packed));
    str_add_char(out, '\n');
    str_release(&encoded);
    str_release(&packed);
}
