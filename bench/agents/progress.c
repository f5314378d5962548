#include "agents/progress.h"

#include "agents/units.h"

#include <math.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LINE_MAX_ = 400, WIDTH = 120 };

static void add_count(struct str *out, const char *name, double value) {
    if (value == 0)
        return;
    str_addf(out, " | %s ", name);
    units_print(out, UNIT_COUNT, value);
}

void progress_line(const struct progress *p, struct str *out, size_t width) {
    size_t start = out->len;
    str_addf(out, "%s | %s %.0f s | connected ", p->side, p->stage, (double)p->elapsed_us / 1e6);
    units_print(out, UNIT_COUNT, p->state[LIFE_CONNECTED]);
    STR_ADD(out, "/");
    units_print(out, UNIT_COUNT, (double)p->agents);
    add_count(out, "connecting", p->state[LIFE_CONNECTING]);
    add_count(out, "local", p->state[LIFE_LOCAL]);
    add_count(out, "stopped", p->state[LIFE_STOPPED]);
    str_addf(out, " | %.0f calls/s", p->rate);
    STR_ADD(out, " | p99 ");
    units_print(out, UNIT_TIME, p->p99_us);
    add_count(out, "errors", (double)p->errors);
    if (p->left_us >= 0) {
        STR_ADD(out, " | eta ");
        units_print(out, UNIT_TIME, floor((double)p->left_us / 1e6) * 1e6);
    }
    if (out->len > start + width)
        out->len = start + width;
}

static size_t terminal_width(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
        return size.ws_col - (size_t)1;
    return WIDTH;
}

void progress_show(const struct progress *p) {
    char memory[LINE_MAX_];
    struct str out;
    if (!isatty(STDERR_FILENO))
        return;
    str_init_fixed(&out, memory, sizeof memory);
    progress_line(p, &out, terminal_width());
    fprintf(stderr, "\r\033[K%.*s", (int)out.len, out.ptr);
}

void progress_clear(void) {
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}
