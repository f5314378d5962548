#include "agents/report.h"

#include "agents/report_files.h"
#include "agents/report_plots.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 256 << 20, PATH_MAX_ = 512 };

/* Takes the text: it is released. */
static bool write_file(const char *directory, const char *name, struct str *text) {
    char path[PATH_MAX_];
    (void)snprintf(path, sizeof path, "%.380s/%.100s", directory, name);
    FILE *file = text->overflow ? NULL : fopen(path, "we");
    bool fine = file && fwrite(text->ptr, 1, text->len, file) == text->len;
    if (file && fclose(file) != 0)
        fine = false;
    if (!fine)
        fprintf(stderr, "aiwm-bench: %s cannot be written: %s\n", path,
                text->overflow ? "it is too large" : strerror(errno));
    str_release(text);
    return fine;
}

/* "gateway-1": what stands in a file's name of a URL is its host. */
static void name_run(const struct campaign *c, int side, size_t run, const char *suffix,
                     char out[128]) {
    char name[64] = "";
    size_t len = 0;
    for (const char *at = c->outcome[side][run].side; *at && len + 1 < sizeof name; at++)
        name[len++] =
            (*at >= '0' && *at <= '9') || ((*at | 0x20) >= 'a' && (*at | 0x20) <= 'z') ? *at : '-';
    name[len] = '\0';
    (void)snprintf(out, 128, "%s-%zu.%s", name, run + 1, suffix);
}

static bool write_run(const struct campaign *c, const char *directory, int side, size_t run) {
    char name[128];
    struct str text;
    const struct record *r = &c->outcome[side][run].record;
    str_init(&text, FILE_MAX);
    report_csv(r, &text);
    name_run(c, side, run, "csv", name);
    bool fine = write_file(directory, name, &text);
    str_init(&text, RECORD_HLOG_MAX);
    str_add(&text, str_span(&r->hlog));
    name_run(c, side, run, "hlog", name);
    return write_file(directory, name, &text) && fine;
}

static bool write_plots(const struct campaign *c, const char *directory) {
    bool fine = true;
    for (int which = 0; which < REPORT_PLOTS; which++) {
        char name[64];
        struct str text;
        str_init(&text, FILE_MAX);
        report_plot(c, (enum report_plot)which, &text);
        (void)snprintf(name, sizeof name, "%s.svg", report_plot_name((enum report_plot)which));
        if (text.len > 0)
            fine &= write_file(directory, name, &text);
        else
            str_release(&text);
    }
    return fine;
}

bool report_prepare(const char *directory) {
    bool made = mkdir(directory, 0777) == 0 || errno == EEXIST;
    if (made && access(directory, W_OK | X_OK) == 0)
        return true;
    fprintf(stderr, "aiwm-bench: --out %s: %s\n", directory, strerror(errno));
    return false;
}

bool report_write(const struct campaign *c, const char *directory) {
    struct str text;
    str_init(&text, FILE_MAX);
    report_json(c, &text);
    bool fine = write_file(directory, "report.json", &text);
    str_init(&text, FILE_MAX);
    report_html(c, &text);
    fine &= write_file(directory, "report.html", &text);
    for (int side = 0; side < c->sides; side++)
        for (size_t run = 0; run < c->runs[side]; run++)
            fine &= write_run(c, directory, side, run);
    return write_plots(c, directory) && fine;
}
