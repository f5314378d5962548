#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* What was read since clock_hold; 0: not yet. */
static _Thread_local struct {
    bool is_on;
    int64_t mono_us, wall_us;
} hold;

static int64_t read_us(clockid_t id, int64_t *held_us) {
    struct timespec now;
    if (hold.is_on && *held_us != 0)
        return *held_us;
    clock_gettime(id, &now);
    *held_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    return *held_us;
}

void clock_hold(void) {
    hold.is_on = true;
    hold.mono_us = hold.wall_us = 0;
}

void clock_release(void) {
    hold.is_on = false;
}

int64_t clock_exact_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_mono_us(void) {
    return read_us(CLOCK_MONOTONIC, &hold.mono_us);
}

int64_t clock_mono_ms(void) {
    return clock_mono_us() / 1000;
}

int64_t clock_wall_ms(void) {
    return read_us(CLOCK_REALTIME, &hold.wall_us) / 1000;
}

static struct tm utc(int64_t wall_ms) {
    const int64_t year_9999_end = 253402300799;
    int64_t seconds = wall_ms / 1000;
    time_t when = (time_t)(seconds < 0 ? 0 : seconds > year_9999_end ? year_9999_end : seconds);
    struct tm parts;
    gmtime_r(&when, &parts);
    return parts;
}

void clock_http(char out[CLOCK_HTTP_SIZE], int64_t wall_ms) {
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm t = utc(wall_ms);
    /* Not strftime: its names follow the locale. The masks tell the compiler the widths. */
    (void)snprintf(out, CLOCK_HTTP_SIZE, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
                   days + (t.tm_wday * 3), (unsigned)t.tm_mday % 100, months + (t.tm_mon * 3),
                   (unsigned)(t.tm_year + 1900) % 10000, (unsigned)t.tm_hour % 100,
                   (unsigned)t.tm_min % 100, (unsigned)t.tm_sec % 100);
}

static bool two_digits(const char *at, int *out) {
    *out = (at[0] - '0') * 10 + at[1] - '0';
    return at[0] >= '0' && at[0] <= '9' && at[1] >= '0' && at[1] <= '9';
}

bool clock_parse_http(const char *text, size_t len, int64_t *wall_s) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm t = {0};
    int century = 0, year = 0;
    /* "Mon, 23 Nov 2026 04:23:08 GMT": fixed columns. */
    if (len != CLOCK_HTTP_SIZE - 1 || memcmp(text + 3, ", ", 2) != 0 ||
        memcmp(text + 25, " GMT", 4) != 0 || text[19] != ':' || text[22] != ':')
        return false;
    bool fine = two_digits(text + 5, &t.tm_mday) && two_digits(text + 12, &century) &&
                two_digits(text + 14, &year) && two_digits(text + 17, &t.tm_hour) &&
                two_digits(text + 20, &t.tm_min) && two_digits(text + 23, &t.tm_sec);
    for (t.tm_mon = 0; t.tm_mon < 12 && memcmp(text + 8, months + t.tm_mon * 3, 3) != 0;)
        t.tm_mon++;
    if (!fine || t.tm_mon == 12)
        return false;
    t.tm_year = century * 100 + year - 1900;
    *wall_s = timegm(&t);
    return true;
}

static char *put_digits(char *at, int value, int digits) {
    for (int i = digits; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    return at + digits;
}

/* By hand: every error has one, and printf takes longer than the rest of it. */
static void spell_iso(char out[CLOCK_ISO_SIZE], int64_t wall_ms) {
    struct tm t = utc(wall_ms);
    const struct {
        int value, digits;
        char follower;
    } fields[] = {{t.tm_year + 1900, 4, '-'},
                  {t.tm_mon + 1, 2, '-'},
                  {t.tm_mday, 2, 'T'},
                  {t.tm_hour, 2, ':'},
                  {t.tm_min, 2, ':'},
                  {t.tm_sec, 2, '.'},
                  {(int)(wall_ms < 0 ? 0 : wall_ms % 1000), 3, 'Z'}};
    char *at = out;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        at = put_digits(at, fields[i].value, fields[i].digits);
        *at++ = fields[i].follower;
    }
    *at = '\0';
}

void clock_iso(char out[CLOCK_ISO_SIZE], int64_t wall_ms) {
    enum { MILLISECONDS = CLOCK_ISO_SIZE - 5 };
    static _Thread_local char last[CLOCK_ISO_SIZE]; /* all that a second's refusals share */
    static _Thread_local int64_t last_s = -1;
    if (wall_ms < 0 || wall_ms / 1000 != last_s) {
        spell_iso(last, wall_ms);
        last_s = wall_ms < 0 ? -1 : wall_ms / 1000;
    }
    memcpy(out, last, CLOCK_ISO_SIZE);
    (void)put_digits(out + MILLISECONDS, (int)(wall_ms < 0 ? 0 : wall_ms % 1000), 3);
}
