/* What the bench writes: requests, progress, plots; and what it reads of others. */
#include "agents/fleet.h"
#include "agents/plot.h"
#include "agents/progress.h"
#include "agents/report_plots.h"
#include "agents/request.h"
#include "agents/watch.h"
#include "rules/wire/http.h"

#include <criterion/criterion.h>
#include <unistd.h>

/* ---- requests ---- */

static struct span built(struct str *out, enum life_call call, bool close) {
    str_init(out, 4096);
    request_build(out, &(struct request){.call = call,
                                         .prefix = "/dev/aiwm",
                                         .authority = "127.0.0.1:8443",
                                         .id = SPAN("6a0000000000000000000001"),
                                         .secret = SPAN("s\"ecret"),
                                         .token = SPAN("a.b.c"),
                                         .close = close});
    return str_span(out);
}

Test(bench_request, is_what_the_gateways_own_grammar_accepts) {
    const enum life_call calls[] = {LIFE_CONNECT, LIFE_BEAT, LIFE_DISCONNECT};
    const char *const paths[] = {"connect", "heartbeat", "disconnect"};
    for (size_t i = 0; i < 3; i++) {
        struct str out;
        struct span bytes = built(&out, calls[i], i == 1);
        struct http_scan scan = {0};
        struct http_request request;
        enum err error;
        size_t head;
        cr_assert_eq(http_scan(&scan, bytes, &head, &error), HTTP_DONE);
        cr_assert_eq(http_request_parse((struct span){bytes.ptr, head}, &request), ERR_OK);
        cr_assert_eq(request.content_length, (int64_t)(bytes.len - head));
        cr_assert_eq(request.keep_alive, i != 1);
        char path[128];
        (void)snprintf(path, sizeof path, "/dev/aiwm/agents/6a0000000000000000000001/%s", paths[i]);
        cr_assert(span_equal(request.path, span_of(path)));
        cr_assert_eq(request.fields.known[HTTP_AUTHORIZATION].len > 0, i > 0);
        str_release(&out);
    }
}

Test(bench_request, escapes_the_secret) {
    struct str out;
    struct span bytes = built(&out, LIFE_CONNECT, false);
    cr_assert_not_null(memmem(bytes.ptr, bytes.len, "{\"secret\":\"s\\\"ecret\"}", 21));
    str_release(&out);
}

Test(bench_request, finds_the_token_under_either_name) {
    struct span token;
    cr_assert(request_find_token(SPAN("{\"accessToken\":\"x.y\",\"token\":\"z\"}"), &token));
    cr_assert(span_equal(token, SPAN("x.y")));
    cr_assert(request_find_token(SPAN("{\"token\":\"z\"}"), &token));
    cr_assert_not(request_find_token(SPAN("{\"expiresIn\":1}"), &token));
    cr_assert_not(request_find_token(SPAN("<html>"), &token));
}

/* ---- memory ---- */

Test(bench_fleet, an_agent_takes_less_than_2_kib_before_tls_and_token) {
    cr_assert_leq(fleet_agent_size(), 1024);
}

/* ---- progress ---- */

Test(bench_progress, says_what_is_going_on_within_the_width) {
    struct progress p = {.side = "gateway",
                         .stage = "storm",
                         .elapsed_us = 12000000,
                         .left_us = 3000000,
                         .agents = 2000,
                         .state = {[LIFE_CONNECTED] = 1234, [LIFE_CONNECTING] = 500},
                         .rate = 512,
                         .errors = 7,
                         .p99_us = 42500};
    char memory[400];
    struct str out;
    str_init_fixed(&out, memory, sizeof memory);
    progress_line(&p, &out, 300);
    cr_assert(span_equal(str_span(&out),
                         SPAN("gateway | storm 12 s | connected 1,234/2,000 | connecting 500 | 512 "
                              "calls/s | p99 42.5 ms | errors 7 | eta 3 s")),
              "%.*s", SPAN_ARG(str_span(&out)));
    str_clear(&out);
    progress_line(&p, &out, 40);
    cr_assert_eq(out.len, 40);
}

/* ---- plots ---- */

static struct span drawn(struct str *out, size_t points, enum plot_axis axis) {
    struct plot p = {.title = "a < b & c",
                     .y_label = "y",
                     .x_axis = PLOT_LINEAR,
                     .x_unit = UNIT_TIME,
                     .y_axis = axis,
                     .y_unit = UNIT_COUNT};
    struct plot_series *s = plot_add(&p, "one", 0, points);
    for (size_t i = 0; i < points; i++)
        plot_point_add(s, (double)i * 1e6, (double)(i == points / 2 ? 777 : i % 10));
    str_init(out, 1 << 20);
    plot_svg(&p, out);
    plot_release(&p);
    return str_span(out);
}

static size_t count_of(struct span text, const char *what) {
    size_t count = 0;
    for (const char *at = text.ptr;
         (at = memmem(at, text.len - (size_t)(at - text.ptr), what, strlen(what))) != NULL; at++)
        count++;
    return count;
}

Test(bench_plot, draws_every_point_and_escapes_names) {
    struct str out;
    struct span svg = drawn(&out, 20, PLOT_LINEAR);
    cr_assert(span_starts(svg, SPAN("<svg xmlns=")));
    cr_assert_eq(count_of(svg, "a &lt; b &amp; c"), 2);
    cr_assert_eq(count_of(svg, "nan"), 0);
    cr_assert_eq(count_of(svg, "inf"), 0);
    cr_assert_geq(count_of(svg, "L"), 19);
    str_release(&out);
}

Test(bench_plot, keeps_a_mark_s_name_inside) {
    struct plot p = {
        .title = "t", .y_label = "y", .x_axis = PLOT_LINEAR, .x_unit = UNIT_TIME, .marks = 2};
    struct plot_series *s = plot_add(&p, "one", 0, 2);
    struct str out;
    plot_point_add(s, 0, 1);
    plot_point_add(s, 100e6, 1);
    p.mark[0].x = 1e6;
    p.mark[1].x = 99e6;
    (void)snprintf(p.mark[0].name, sizeof p.mark[0].name, "early");
    (void)snprintf(p.mark[1].name, sizeof p.mark[1].name, "late");
    str_init(&out, 1 << 20);
    plot_svg(&p, &out);
    cr_expect_eq(count_of(str_span(&out), "text-anchor=\"start\">early"), 1);
    cr_expect_eq(count_of(str_span(&out), "text-anchor=\"end\">late"), 1);
    plot_release(&p);
    str_release(&out);
}

Test(bench_plot, thins_long_lines_but_keeps_the_peak) {
    struct str out;
    struct span svg = drawn(&out, 100000, PLOT_LINEAR);
    cr_assert_lt(svg.len, 60000);
    /* 777 of at most 800: near the top, which is at 44. */
    cr_assert_geq(count_of(svg, " 50.4"), 1, "the peak is drawn");
    str_release(&out);
}

/* One run in which an agent is connected from a tenth of a second on until the end. */
static void one_run(struct campaign *c, int side, int64_t seconds) {
    const struct scene nothing = {.seen = {.requests = -1}};
    const struct stage stage = {.name = "storm", .kind = STAGE_CONNECT};
    struct record *r = &c->outcome[side][0].record;
    record_init(r, 0);
    record_section_begin(r, &stage, 0, &nothing);
    record_sample_add(r, 100000, 1);
    record_sample_add(r, seconds * 1000000, 1);
    record_section_end(r, seconds * 1000000, &nothing);
    c->runs[side] = 1;
}

static bool has_tick(int64_t seconds_a, int64_t seconds_b, const char *tick) {
    struct bench_options options = {.side = {"direct", "gateway"}};
    struct campaign *c = campaign_new(&options);
    struct str out;
    str_init(&out, 1 << 20);
    one_run(c, 0, seconds_a);
    one_run(c, 1, seconds_b);
    report_plot(c, REPORT_PLOT_connected, &out);
    bool found = count_of(str_span(&out), tick) > 0;
    str_release(&out);
    campaign_free(c);
    return found;
}

Test(bench_report, draws_seconds_beside_minutes_on_a_logarithm) {
    cr_assert(has_tick(900, 3, ">100 ms<"));
    cr_assert(has_tick(900, 3, ">15 min<"));
    cr_assert_not(has_tick(20, 3, ">100 ms<"));
    cr_assert(has_tick(20, 3, ">5 s<"));
}

Test(bench_plot, leaves_out_what_a_logarithm_has_no_place_for) {
    struct str out;
    struct span svg = drawn(&out, 30, PLOT_LOG);
    cr_assert_eq(count_of(svg, "nan") + count_of(svg, "inf"), 0);
    str_release(&out);
    svg = drawn(&out, 0, PLOT_LOG);
    cr_assert_eq(count_of(svg, "nan") + count_of(svg, "inf"), 0);
    str_release(&out);
}

/* ---- what others say ---- */

Test(bench_watch, finds_a_metric_by_its_whole_name) {
    struct span text = SPAN("# TYPE a gauge\na_total 5\na 17\na{x=\"1\"} 9\nb -2\nlast 3");
    cr_assert_eq(watch_metric(text, SPAN("a")), 17);
    cr_assert_eq(watch_metric(text, SPAN("a_total")), 5);
    cr_assert_eq(watch_metric(text, SPAN("last")), 3);
    cr_assert_eq(watch_metric(text, SPAN("c")), -1);
    cr_assert_eq(watch_metric(SPAN_NONE, SPAN("c")), -1);
}

Test(bench_watch, knows_its_own_cpu_and_memory_and_nothing_of_nobody) {
    struct usage self = usage_of(getpid()), nobody = usage_of(0);
    cr_assert_gt(self.memory, 1 << 20);
    cr_assert_geq(self.cpu_us, 0);
    cr_assert_eq(nobody.memory, -1);
    cr_assert_eq(nobody.cpu_us, -1);
}
