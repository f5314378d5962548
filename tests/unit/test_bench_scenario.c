/* The bench's scenarios, figures and limits. */
#include "agents/figures.h"
#include "agents/scenario.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

static const struct scenario_wishes wishes = {
    .within_us = 2e6, .for_us = 10e6, .percent = 10, .rate = 100, .warm_us = 20e6, .rest_us = 5e6};

static struct scenario preset(const char *name, bool warm) {
    struct scenario_wishes w = wishes;
    struct scenario s;
    w.warm = warm;
    cr_assert(scenario_preset(name, &w, &s), "%s", name);
    return s;
}

Test(bench_scenario, a_storm_is_one_connect_and_what_comes_after) {
    struct scenario s = preset("storm", false);
    cr_assert_eq(s.count, 2);
    cr_assert_eq(s.at[0].kind, STAGE_CONNECT);
    cr_assert_eq(s.at[0].within_us, 2e6);
    cr_assert_eq(s.at[1].kind, STAGE_HOLD);
}

Test(bench_scenario, a_warm_one_prepares_without_measuring) {
    struct scenario s = preset("storm", true);
    cr_assert_eq(s.count, 5);
    const enum stage_kind kinds[] = {STAGE_CONNECT, STAGE_LEAVE, STAGE_HOLD, STAGE_CONNECT};
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(s.at[i].kind, kinds[i]);
        cr_assert_eq(s.at[i].unmeasured, i < 3);
    }
}

Test(bench_scenario, every_preset_has_only_complete_stages) {
    char names[128], why[SCENARIO_WHY];
    struct str out;
    str_init_fixed(&out, names, sizeof names);
    scenario_preset_names(&out);
    str_add_char(&out, '\0');
    for (char *name = strtok(names, ", "); name; name = strtok(NULL, ", ")) {
        struct scenario s = preset(name, true);
        for (size_t i = 0; i < s.count; i++)
            cr_assert(stage_finish(&s.at[i], why), "%s: %s", s.at[i].name, why);
    }
    struct scenario none;
    cr_assert_not(scenario_preset("calm", &wishes, &none));
}

/* ---- files ---- */

static char told[256];

static bool note_option(void *arg, const char *name, const char *value, char why[SCENARIO_WHY]) {
    (void)arg;
    (void)snprintf(told + strlen(told), sizeof told - strlen(told), "%s=%s ", name, value);
    (void)snprintf(why, SCENARIO_WHY, "not taken");
    return strcmp(name, "bad") != 0;
}

static bool read_text(const char *text, struct scenario *s, char why[SCENARIO_WHY]) {
    *told = '\0';
    return scenario_read(span_of(text), s, note_option, NULL, why);
}

Test(bench_scenario, reads_options_and_stages) {
    struct scenario s;
    char why[SCENARIO_WHY] = "";
    cr_assert(read_text("agents: 20\nbeat: 1s\nstages:\n"
                        "  - {do: connect, within: 500ms, measured: false}\n"
                        "  - do: controller\n    state: hang\n    delay: 0\n    for: 2s\n"
                        "  - {do: attack, kind: wrong-secret, rate: 50, for: 1s}\n",
                        &s, why),
              "%s", why);
    cr_assert_str_eq(told, "agents=20 beat=1s ");
    cr_assert_eq(s.count, 3);
    cr_assert(s.at[0].unmeasured);
    cr_assert_eq(s.at[0].within_us, 500e3);
    cr_assert_eq(s.at[1].state, STATE_HANG);
    cr_assert_eq(s.at[1].delay_us, 0);
    cr_assert_eq(s.at[1].fail, -1);
    cr_assert_str_eq(s.at[1].name, "controller hang");
    cr_assert_eq(s.at[2].attack, ATTACK_WRONG_SECRET);
}

Test(bench_scenario, what_it_prints_it_reads_again) {
    struct scenario s = preset("chaos", true), again;
    char why[SCENARIO_WHY] = "";
    struct str first, second;
    str_init(&first, 65536);
    str_init(&second, 65536);
    STR_ADD(&first, "stages:\n");
    STR_ADD(&second, "stages:\n");
    scenario_print(&s, &first);
    cr_assert(scenario_read(str_span(&first), &again, note_option, NULL, why), "%s\n%.*s", why,
              SPAN_ARG(str_span(&first)));
    scenario_print(&again, &second);
    cr_assert(span_equal(str_span(&first), str_span(&second)), "%.*s", SPAN_ARG(str_span(&second)));
    str_release(&first);
    str_release(&second);
}

Test(bench_scenario, complains_with_the_line) {
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"stages:\n  - {do: hold}\n", "line 2: hold needs `for`"},
        {"stages:\n  - {do: restart, for: 1s}\n", "line 2: restart needs `percent` and `for`"},
        {"stages:\n  - {do: gateway}\n", "line 2: gateway and redis need `state`"},
        {"stages:\n  - {for: 1s}\n", "line 2: a stage needs `do`: what it does"},
        {"stages:\n  - {do: hold, for: 3}\n", "line 2: not a number with its unit (2s, 5%): 3"},
        {"stages:\n  - {do: hold, of: 3s}\n", "line 2: a stage has no such key: of"},
        {"bad: 1\nstages: []\n", "line 1: not taken"},
        {"stages:\n  - hold\n", "line 2: a stage is a mapping: {do: hold, for: 10s}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scenario s;
        char why[SCENARIO_WHY] = "";
        cr_assert_not(read_text(cases[i].text, &s, why));
        cr_assert_str_eq(why, cases[i].why);
    }
}

Test(bench_scenario, takes_64_stages_and_no_more) {
    struct scenario s;
    struct str text;
    char why[SCENARIO_WHY];
    str_init(&text, 65536);
    STR_ADD(&text, "stages:\n");
    for (int i = 0; i < SCENARIO_STAGES_MAX; i++)
        STR_ADD(&text, "  - {do: hold, for: 1s}\n");
    cr_assert(scenario_read(str_span(&text), &s, note_option, NULL, why));
    STR_ADD(&text, "  - {do: hold, for: 1s}\n");
    cr_assert_not(scenario_read(str_span(&text), &s, note_option, NULL, why));
    str_release(&text);
}

/* ---- figures ---- */

static const struct scene nothing_seen = {.gateway = {-1, -1}, .controller = {-1, -1}};

static struct stage stage_named(enum stage_kind kind, bool unmeasured) {
    struct stage s;
    stage_init(&s);
    s.kind = kind;
    s.unmeasured = unmeasured;
    return s;
}

/* A preparation with a slow call, then a second with a thousand quick ones. */
static void record_something(struct record *r) {
    struct stage before = stage_named(STAGE_CONNECT, true),
                 after = stage_named(STAGE_CONNECT, false);
    struct scene scene = nothing_seen;
    record_init(r, 1700000000000);
    record_section_begin(r, &before, 0, &scene);
    record_call(r, LIFE_CONNECT, 5000000);
    r->tally.connects = r->tally.connects_ok = 1;
    scene.seen.bcrypts = 1;
    record_section_end(r, 1000000, &scene);
    record_section_begin(r, &after, 1000000, &scene);
    for (int i = 1; i <= 1000; i++) {
        record_call(r, LIFE_CONNECT, i);
        record_lag(r, 10);
    }
    r->tally.connects += 1000;
    r->tally.connects_ok += 990;
    r->tally.timeouts += 10;
    scene.seen.bcrypts = 101;
    r->section[1].all_connected_us = 900000;
    record_section_end(r, 2000000, &scene);
}

Test(bench_figures, are_those_of_measured_stages_only) {
    struct record r;
    double figure[FIGURE_COUNT];
    record_something(&r);
    figures_fill(&(struct figures_input){.record = &r, .agents = 10, .lost = 0, .expired = -1},
                 figure);
    cr_assert_eq(figure[FIGURE_calls], 1000);
    cr_assert_eq(figure[FIGURE_rate], 1000);
    cr_assert_eq(figure[FIGURE_connect_p50], 500);
    cr_assert_eq(figure[FIGURE_max], 1000);
    cr_assert_eq(figure[FIGURE_errors], 10);
    cr_assert_eq(figure[FIGURE_error_percent], 1);
    cr_assert_eq(figure[FIGURE_controller_bcrypts], 100);
    cr_assert_eq(figure[FIGURE_all_connected], 900000);
    cr_assert_eq(figure[FIGURE_lost], 0);
    cr_assert(isnan(figure[FIGURE_expired]));
    cr_assert(isnan(figure[FIGURE_gateway_cpu]), "there was none");
    cr_assert(isnan(figure[FIGURE_heartbeat_p99]), "there were none");
    record_release(&r);
}

Test(bench_figures, know_of_an_agent_that_stayed_away_for_five_minutes) {
    struct record r;
    struct scene scene = nothing_seen;
    double figure[FIGURE_COUNT];
    record_something(&r);
    struct stage more = stage_named(STAGE_CONNECT, false);
    record_section_begin(&r, &more, 2000000, &scene);
    for (int i = 0; i < 99; i++)
        record_connected(&r, 1900);
    record_connected(&r, 301000000);
    record_section_end(&r, 400000000, &scene);
    figures_fill(&(struct figures_input){.record = &r, .agents = 100}, figure);
    cr_expect_eq(figure[FIGURE_connected_p50], 1900);
    cr_expect_eq(figure[FIGURE_connected_max], 301000000);
    record_release(&r);
}

Test(bench_figures, are_valid_unless_the_generator_was_late_itself) {
    struct record r;
    double figure[FIGURE_COUNT];
    record_something(&r);
    figures_fill(&(struct figures_input){.record = &r, .agents = 10}, figure);
    cr_assert_null(figures_invalid(&r, figure, 1000));
    figure[FIGURE_generator_lag_p999] = 1500;
    cr_assert_not_null(figures_invalid(&r, figure, 1000));
    cr_assert_null(figures_invalid(&r, figure, 2000), "as late as was allowed");
    figure[FIGURE_p999] = 40000;
    cr_assert_null(figures_invalid(&r, figure, 1000), "a twentieth of what was measured");
    r.tally.no_descriptor = 1;
    cr_assert_not_null(figures_invalid(&r, figure, 1000));
    record_release(&r);
}

/* ---- limits ---- */

Test(bench_limits, are_read_with_their_units) {
    struct threshold t;
    char why[SCENARIO_WHY];
    cr_assert(threshold_parse("p99>50ms", &t, why));
    cr_assert_eq(t.figure, FIGURE_p99);
    cr_assert_eq(t.value, 50000);
    cr_assert(t.above);
    cr_assert(threshold_parse("connect_p99.9 >= 1s", &t, why));
    cr_assert_eq(t.figure, FIGURE_connect_p999);
    cr_assert(t.or_equal);
    cr_assert(threshold_parse("bcrypt_percent>5%", &t, why));
    cr_assert(threshold_parse("rate<1,000", &t, why));
    cr_assert_not(t.above);
    const char *const wrong[] = {"p99", "p99>", "p99>50", "speed>1", "p99=5ms", ">5ms", "lost>1ms"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_not(threshold_parse(wrong[i], &t, why), "%s", wrong[i]);
}

Test(bench_limits, fail_beyond_and_for_what_is_unknown) {
    double figure[FIGURE_COUNT] = {0};
    struct threshold t;
    char why[SCENARIO_WHY];
    cr_assert(threshold_parse("lost>0", &t, why));
    cr_assert_not(threshold_failed(&t, figure));
    figure[FIGURE_lost] = 1;
    cr_assert(threshold_failed(&t, figure));
    figure[FIGURE_lost] = NAN;
    cr_assert(threshold_failed(&t, figure));
    cr_assert(threshold_parse("rate<=10", &t, why));
    figure[FIGURE_rate] = 10;
    cr_assert(threshold_failed(&t, figure));
    figure[FIGURE_rate] = 11;
    cr_assert_not(threshold_failed(&t, figure));
}
