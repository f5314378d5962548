#include "base/metric.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 8, ROUNDS = 10000, LINE_MAX_BYTES = 256 };

static void *count(void *unused) {
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        metric_add(METRIC_BEATS_RECEIVED, 1);
        metric_add(METRIC_CONNECTIONS, i % 2 ? -3 : 3);
    }
    metric_add(METRIC_CONNECTIONS, 2);
    return NULL;
}

static void run_threads(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, count, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
}

Test(metric, reads_zero_before_anything_was_counted) {
    for (enum metric m = 0; m < METRIC_COUNT; m++)
        cr_expect_eq(metric_read(m), 0, "metric %d", (int)m);
}

Test(metric, sums_over_all_threads_and_keeps_what_ended_threads_counted) {
    metric_add(METRIC_BEATS_RECEIVED, 5);
    run_threads();
    cr_expect_eq(metric_read(METRIC_BEATS_RECEIVED), 5 + THREADS * ROUNDS);
    cr_expect_eq(metric_read(METRIC_CONNECTIONS), THREADS * 2);
    cr_expect_eq(metric_read(METRIC_BEATS_HELD), 0);
}

/* What one thread adds and another takes away is gone from the sum. */
Test(metric, a_gauge_may_go_down_in_another_thread) {
    metric_add(METRIC_CONNECTIONS, THREADS * -2);
    run_threads();
    cr_expect_eq(metric_read(METRIC_CONNECTIONS), 0);
}

/* ---- the text format ---- */

/* The rendered text, terminated; the caller frees it. */
static char *rendered(void) {
    struct str s;
    str_init(&s, 1048576);
    metric_render(&s);
    cr_assert_not(s.overflow);
    str_add_char(&s, '\0');
    return s.ptr;
}

/* Moves *text past a name of the format 0.0.4: [a-zA-Z_][a-zA-Z0-9_]*. */
static bool skip_name(const char **text) {
    const char *at = *text;
    if (!isalpha((unsigned char)*at) && *at != '_')
        return false;
    while (isalnum((unsigned char)*at) || *at == '_')
        at++;
    *text = at;
    return true;
}

/* {name="value",...} or nothing. */
static bool skip_labels(const char **text) {
    if (**text != '{')
        return true;
    do {
        (*text)++;
        if (!skip_name(text) || strncmp(*text, "=\"", 2) != 0)
            return false;
        *text += 2 + strcspn(*text + 2, "\"\\\n");
        if (*(*text)++ != '"')
            return false;
    } while (**text == ',');
    return *(*text)++ == '}';
}

static bool is_sample(const char *line) {
    if (!skip_name(&line) || !skip_labels(&line) || *line++ != ' ')
        return false;
    line += *line == '-';
    size_t digits = strspn(line, "0123456789.");
    return digits > 0 && line[digits] == '\0';
}

struct reading {
    char family[LINE_MAX_BYTES]; /* of the last TYPE line */
    char families[65536];        /* all of them so far, each between spaces */
    bool had_help, is_histogram;
    size_t samples;
};

static void check_help(struct reading *r, const char *line) {
    const char *end = line;
    cr_assert(skip_name(&end) && *end == ' ' && end[1], "HELP without text: %s", line);
    cr_expect_not(r->had_help, "HELP without TYPE before %s", line);
    r->had_help = true;
    (void)snprintf(r->family, sizeof r->family, "%.*s", (int)(end - line), line);
    char name[LINE_MAX_BYTES + 2];
    (void)snprintf(name, sizeof name, " %s ", r->family);
    cr_expect_not(strstr(r->families, name), "%s is no single group", r->family);
    strcat(r->families, name);
}

static void check_type(struct reading *r, const char *line) {
    size_t len = strlen(r->family);
    cr_expect(r->had_help && strncmp(line, r->family, len) == 0, "TYPE without HELP: %s", line);
    const char *kind = line + len + 1;
    r->is_histogram = strcmp(kind, "histogram") == 0;
    cr_expect(r->is_histogram || strcmp(kind, "counter") == 0 || strcmp(kind, "gauge") == 0, "%s",
              line);
    bool ends_in_total = len > 6 && strcmp(r->family + len - 6, "_total") == 0;
    cr_expect_eq(ends_in_total, strcmp(kind, "counter") == 0, "promtool would object to %s", line);
    r->had_help = false;
}

static void check_sample(struct reading *r, const char *line) {
    size_t len = strlen(r->family);
    cr_expect(is_sample(line), "no sample: %s", line);
    const char *rest = line + len;
    cr_expect(len && strncmp(line, r->family, len) == 0, "not of family %s: %s", r->family, line);
    if (r->is_histogram)
        rest += strncmp(rest, "_bucket", 7) == 0  ? 7
                : strncmp(rest, "_count", 6) == 0 ? 6
                : strncmp(rest, "_sum", 4) == 0   ? 4
                                                  : 0;
    cr_expect(strchr("{ ", *rest), "not of family %s: %s", r->family, line);
    cr_expect(strncmp(line, "aiwm_gateway_", 13) == 0, "%s", line);
    cr_expect_not(strstr(line, "agent_id"), "%s", line);
    r->samples += !r->is_histogram;
}

Test(metric, times_fall_into_rising_buckets_that_end_with_all_of_them) {
    metric_time(METRIC_TIME_CALL_API, 90);
    metric_time(METRIC_TIME_CALL_API, 100);
    metric_time(METRIC_TIME_CALL_API, 101);
    metric_time(METRIC_TIME_CALL_API, 500000000);
    metric_time(METRIC_TIME_CALL_API, -5);
    cr_expect_eq(metric_time_count(METRIC_TIME_CALL_API), 5);
    cr_expect_eq(metric_time_count(METRIC_TIME_CALL_CONNECT), 0);
    char *text = rendered();
    static const char *const expected[] = {
        "_bucket{class=\"api\",le=\"0.0001\"} 3\n", "_bucket{class=\"api\",le=\"0.00025\"} 4\n",
        "_bucket{class=\"api\",le=\"120\"} 4\n",    "_bucket{class=\"api\",le=\"+Inf\"} 5\n",
        "_sum{class=\"api\"} 500.000291\n",         "_count{class=\"api\"} 5\n"};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        cr_expect(strstr(text, expected[i]), "%s", expected[i]);
    free(text);
}

Test(metric, renders_what_a_scraper_takes_without_complaint) {
    static struct reading r;
    char *text = rendered();
    cr_expect_eq(text[strlen(text) - 1], '\n');
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        cr_assert_lt(strlen(line), LINE_MAX_BYTES);
        if (strncmp(line, "# HELP ", 7) == 0)
            check_help(&r, line + 7);
        else if (strncmp(line, "# TYPE ", 7) == 0)
            check_type(&r, line + 7);
        else
            check_sample(&r, line);
    }
    cr_expect_eq(r.samples, METRIC_COUNT);
    free(text);
}

Test(metric, renders_every_series_once) {
    char *text = rendered();
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        size_t name_len = strcspn(line, " \n");
        if (*line == '#' || name_len == 0)
            continue;
        char name[LINE_MAX_BYTES];
        (void)snprintf(name, sizeof name, "\n%.*s ", (int)name_len, line);
        char *first = strstr(text, name);
        cr_expect(!first || !strstr(first + 1, name), "%s stands twice", name);
    }
    free(text);
}

Test(metric, leaves_out_what_is_omitted_with_its_family) {
    metric_omit(METRIC_REDIS_UP);
    char *text = rendered();
    cr_expect_not(strstr(text, "redis_up"), "%s", text);
    cr_expect(strstr(text, "\naiwm_gateway_redis_connections 0\n"));
    free(text);
}

Test(metric, renders_the_values_that_were_counted) {
    metric_add(METRIC_CONNECTIONS, -1);
    metric_add(METRIC_REFUSED_LIMIT, 7);
    char *text = rendered();
    cr_expect(strstr(text, "# HELP aiwm_gateway_connections Open client connections.\n"
                           "# TYPE aiwm_gateway_connections gauge\n"
                           "aiwm_gateway_connections -1\n"),
              "%s", text);
    cr_expect(strstr(text, "\naiwm_gateway_connections_refused_total{reason=\"limit\"} 7\n"));
    cr_expect(strstr(text, "\naiwm_gateway_connections_refused_total{reason=\"descriptors\"} 0\n"));
    free(text);
}
