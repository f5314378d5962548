#include "agents/units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct suffix {
    enum unit unit;
    const char *text;
    double factor;
};

static const struct suffix suffixes[] = {
    {UNIT_COUNT, "", 1},          {UNIT_TIME, "us", 1},         {UNIT_TIME, "ms", 1e3},
    {UNIT_TIME, "s", 1e6},        {UNIT_TIME, "m", 60e6},       {UNIT_TIME, "h", 3600e6},
    {UNIT_BYTES, "", 1},          {UNIT_BYTES, "B", 1},         {UNIT_BYTES, "KiB", 1024},
    {UNIT_BYTES, "MiB", 1048576}, {UNIT_BYTES, "GiB", 1 << 30}, {UNIT_PERCENT, "%", 1},
    {UNIT_PERCENT, "", 1},
};

static double factor_of(enum unit unit, const char *text, double number) {
    while (*text == ' ')
        text++;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (suffixes[i].unit == unit && strcmp(suffixes[i].text, text) == 0)
            return suffixes[i].factor;
    return number == 0 && *text == '\0' ? 1 : NAN;
}

/* Without what sets thousands apart; false when that is not digits, or too long to be a number. */
static bool clean(struct span text, char *out, size_t size) {
    size_t len = 0;
    if (text.len == 0 || text.len >= size || text.ptr[0] < '0' || text.ptr[0] > '9')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\0' || text.ptr[i] == 'x' || text.ptr[i] == 'X')
            return false;
        if (text.ptr[i] != ',' && text.ptr[i] != '_')
            out[len++] = text.ptr[i];
    }
    out[len] = '\0';
    return true;
}

bool units_parse(enum unit unit, struct span text, double *out) {
    char copy[64], *end;
    if (!clean(span_trim(text), copy, sizeof copy))
        return false;
    double number = strtod(copy, &end);
    double value = number * factor_of(unit, end, number);
    if (!isfinite(value))
        return false;
    *out = value;
    return true;
}

/* Three digits that count. */
static void print_scaled(struct str *out, double value, const char *suffix) {
    int decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
    if (value == floor(value) && value < 1000)
        decimals = 0;
    str_addf(out, "%.*f%s", decimals, value, suffix);
}

static void print_count(struct str *out, double value) {
    char digits[32];
    if (value != floor(value) && value < 1000) {
        print_scaled(out, value, "");
        return;
    }
    int len = snprintf(digits, sizeof digits, "%.0f", value);
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            str_add_char(out, ',');
        str_add_char(out, digits[i]);
    }
}

static void print_time(struct str *out, double us) {
    if (us == 0)
        STR_ADD(out, "0 s");
    else if (us < 1000)
        print_scaled(out, us, " us");
    else if (us < 1e6)
        print_scaled(out, us / 1e3, " ms");
    else if (us < 600e6)
        print_scaled(out, us / 1e6, " s");
    else
        print_scaled(out, us / 60e6, " min");
}

static void print_bytes(struct str *out, double bytes) {
    if (bytes < 10240)
        print_scaled(out, floor(bytes), " B");
    else if (bytes < 10485760)
        print_scaled(out, bytes / 1024, " KiB");
    else
        print_scaled(out, bytes / 1048576, " MiB");
}

void units_print(struct str *out, enum unit unit, double value) {
    if (!isfinite(value)) {
        STR_ADD(out, "-");
        return;
    }
    if (value < 0) {
        STR_ADD(out, "-");
        value = -value;
    }
    if (unit == UNIT_TIME)
        print_time(out, value);
    else if (unit == UNIT_BYTES)
        print_bytes(out, value);
    else if (unit == UNIT_PERCENT)
        print_scaled(out, value, " %");
    else
        print_count(out, value);
}
