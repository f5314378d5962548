#include "rules/redis/journal.h"
#include "rules/redis/notice.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct agent_id id_of(unsigned n) {
    char text[25];
    struct agent_id id;
    (void)snprintf(text, sizeof text, "6a0000000000000000%06x", n);
    cr_assert(agent_id_parse(span_of(text), &id));
    return id;
}

static struct notice forget(unsigned n) {
    return (struct notice){
        .kind = NOTICE_AGENT, .agent = id_of(n), .forget = true, .seen = INT64_MAX};
}

static const char *spelled(const struct notice *n) {
    static char memory[NOTICE_TEXT_MAX + 1];
    struct str s;
    str_init_fixed(&s, memory, sizeof memory);
    notice_spell(n, &s);
    str_add_char(&s, '\0');
    cr_assert_not(s.overflow);
    return memory;
}

/* ---- text ---- */

Test(notice, reads_what_it_spells) {
    static const char *const texts[] = {
        "agent 6a0000000000000000000abc 1 unchanged 0 0",
        "agent 6a0000000000000000000abc 1 deleted 1795494188 0",
        "agent 6a0000000000000000000abc 0 suspended 1795494188 1795494187",
        "agent 6a0000000000000000000abc 0 readmitted 0 0",
        "tags 0",
        "tags 4095,17,0",
        "everything",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct notice n;
        cr_assert(notice_read(span_of(texts[i]), &n), "%s", texts[i]);
        cr_expect_str_eq(spelled(&n), texts[i]);
        cr_expect(n.kind != NOTICE_AGENT || n.seen == INT64_MAX);
    }
}

Test(notice, spells_as_many_tags_as_it_holds) {
    struct notice n = {.kind = NOTICE_TAGS, .slot_count = NOTICE_SLOTS_MAX}, again;
    for (size_t i = 0; i < NOTICE_SLOTS_MAX; i++)
        n.slots[i] = (uint16_t)(TAGS_SLOTS - 1 - i);
    cr_assert(notice_read(span_of(spelled(&n)), &again));
    cr_expect_arr_eq(again.slots, n.slots, sizeof n.slots);
}

Test(notice, reads_nothing_else) {
    static const char *const texts[] = {
        "",
        "agent",
        "agent ",
        "everything ",
        "everything now",
        "Everything",
        "tags",
        "tags ",
        "tags 4096",
        "tags 1,,2",
        "tags 1 2",
        "tags -1",
        "tags 0x1",
        "tags 1,99999999999999999999",
        "tags 0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
        "agent 6a0000000000000000000abc",
        "agent 6a0000000000000000000abc 1 unchanged 0",
        "agent 6a0000000000000000000abc 2 unchanged 0 0",
        "agent 6a0000000000000000000abc 1 unchanged 0 0 ",
        "agent 6a0000000000000000000abc 1 unchanged 0 0 0",
        "agent 6a0000000000000000000abc 1  0 0",
        "agent 6a0000000000000000000abc 1 banished 0 0",
        "agent 6a0000000000000000000abc 1 deleted -5 0",
        "agent 6a0000000000000000000abc 1 deleted 1795494188000 0",
        "agent 6a0000000000000000000ab 1 unchanged 0 0",
        "agent 6a0000000000000000000abg 1 unchanged 0 0",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct notice n = {.kind = NOTICE_EVERYTHING, .cutoff_s = 5};
        cr_expect_not(notice_read(span_of(texts[i]), &n), "%s", texts[i]);
        cr_expect(n.kind == NOTICE_EVERYTHING && n.cutoff_s == 5, "untouched: %s", texts[i]);
    }
}

Test(notice, merges_so_that_the_newer_has_the_last_word) {
    struct notice older = forget(1), newer = forget(1);
    older.access = NOTICE_SUSPENDED;
    older.cutoff_s = 100;
    older.regenerated_s = 90;
    older.only_if_shared = true;
    newer.forget = false;
    notice_merge(&older, &newer);
    cr_expect_str_eq(spelled(&older), "agent 6a0000000000000000000001 1 suspended 100 90");
    cr_expect_not(older.only_if_shared);
    newer.access = NOTICE_READMITTED;
    newer.seen = 7;
    newer.regenerated_s = 80;
    notice_merge(&older, &newer);
    cr_expect_str_eq(spelled(&older), "agent 6a0000000000000000000001 1 readmitted 0 90");
    cr_expect_eq(older.seen, 7);
}

/* ---- journal ---- */

static const char *next(struct journal *j) {
    struct notice n;
    if (!journal_next(j, &n))
        return "nothing";
    return spelled(&n);
}

Test(journal, tells_one_at_a_time_in_order) {
    struct journal *j = journal_new(8);
    cr_expect(journal_is_empty(j));
    for (unsigned n = 1; n <= 3; n++) {
        struct notice f = forget(n);
        journal_add(j, &f);
    }
    cr_expect_str_eq(next(j), "agent 6a0000000000000000000001 1 unchanged 0 0");
    cr_expect_str_eq(next(j), "nothing", "one is being told");
    journal_told(j, true);
    cr_expect_str_eq(next(j), "agent 6a0000000000000000000002 1 unchanged 0 0");
    journal_told(j, true);
    cr_expect_str_eq(next(j), "agent 6a0000000000000000000003 1 unchanged 0 0");
    cr_expect_not(journal_is_empty(j), "the last is not told yet");
    journal_told(j, true);
    cr_expect(journal_is_empty(j));
    cr_expect_str_eq(next(j), "nothing");
    journal_free(j);
}

Test(journal, tells_again_what_was_not_heard_merged_with_what_came_meanwhile) {
    struct journal *j = journal_new(8);
    struct notice older = forget(1), newer = forget(1), other = forget(2);
    older.access = NOTICE_SUSPENDED;
    older.cutoff_s = 100;
    newer.access = NOTICE_READMITTED;
    newer.forget = false;
    journal_add(j, &older);
    (void)next(j);
    journal_add(j, &other);
    journal_told(j, false);
    cr_expect_str_eq(next(j), "agent 6a0000000000000000000002 1 unchanged 0 0");
    journal_told(j, true);
    cr_expect_str_eq(next(j), "agent 6a0000000000000000000001 1 suspended 100 0");
    journal_add(j, &newer);
    journal_told(j, false);
    cr_expect_str_eq(next(j), "agent 6a0000000000000000000001 1 readmitted 0 0");
    journal_told(j, true);
    cr_expect(journal_is_empty(j));
    journal_free(j);
}

Test(journal, keeps_tags_as_a_set_however_often_they_are_written) {
    struct journal *j = journal_new(1);
    for (int times = 0; times < 3; times++) {
        for (size_t slot = 0; slot < TAGS_SLOTS; slot++) {
            struct notice n = {.kind = NOTICE_TAGS, .slot_count = 1, .slots = {(uint16_t)slot}};
            journal_add(j, &n);
        }
    }
    struct notice n;
    size_t told = 0;
    cr_assert(journal_next(j, &n));
    journal_told(j, false);
    while (journal_next(j, &n)) {
        cr_expect(n.kind == NOTICE_TAGS);
        told += n.slot_count;
        journal_told(j, true);
    }
    cr_expect_eq(told, TAGS_SLOTS);
    journal_free(j);
}

Test(journal, that_overflows_makes_everything_gone_once) {
    struct journal *j = journal_new(4);
    struct notice tags = {.kind = NOTICE_TAGS, .slot_count = 1, .slots = {9}};
    journal_add(j, &tags);
    for (unsigned n = 0; n < 5; n++) {
        struct notice f = forget(n % 4);
        journal_add(j, &f);
    }
    struct notice fifth = forget(5);
    journal_add(j, &fifth);
    cr_expect_str_eq(next(j), "everything");
    journal_told(j, false);
    cr_expect_str_eq(next(j), "everything", "until it is heard");
    journal_told(j, true);
    cr_expect_str_eq(next(j), "tags 9");
    journal_told(j, true);
    cr_expect(journal_is_empty(j));
    journal_free(j);
}

Test(notice,
     that_nobody_knows_whether_an_agent_may_go_on_is_told_where_older_replicas_do_not_look) {
    struct notice n = forget(1), again;
    n.asks = true;
    cr_expect_str_eq(spelled(&n), "agent 6a0000000000000000000001 1 unchanged 1 0");
    cr_assert(notice_read(span_of(spelled(&n)), &again));
    cr_expect(again.asks);
    cr_expect_eq(again.cutoff_s, 0);
    n.access = NOTICE_SUSPENDED;
    n.cutoff_s = 1;
    cr_assert(notice_read(span_of(spelled(&n)), &again));
    cr_expect_not(again.asks, "that is a cut-off");
}

Test(notice, what_is_known_later_of_an_agent_ends_the_doubt) {
    struct notice older = forget(1), newer = forget(1);
    older.asks = true;
    notice_merge(&older, &newer);
    cr_expect(older.asks, "nothing was said");
    newer.access = NOTICE_READMITTED;
    notice_merge(&older, &newer);
    cr_expect_not(older.asks);
}
