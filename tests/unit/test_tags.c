#include "base/panic.h"
#include "rules/agents/tags.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(tags, a_write_makes_older_answers_of_its_tag_stale_and_no_other) {
    struct tags *tags = must_zalloc(sizeof *tags);
    struct tag_set mine = {0}, other = {0};
    tag_set_add(&mine, tag_of(TAG_INSTRUCTION, SPAN("6b0000000000000000000001")));
    tag_set_add(&mine, tag_of(TAG_MANAGED, SPAN("")));
    tag_set_add(&other, tag_of(TAG_INSTRUCTION, SPAN("6b0000000000000000000002")));
    cr_assert_not(tags_written_since(tags, &mine, 0));
    tags_write(tags, tag_of(TAG_INSTRUCTION, SPAN("6b0000000000000000000001")), 7);
    cr_assert(tags_written_since(tags, &mine, 6));
    cr_assert_not(tags_written_since(tags, &mine, 7), "learnt after the write");
    cr_assert_not(tags_written_since(tags, &other, 6));
    free(tags);
}

Test(tags, the_same_name_under_another_kind_is_another_tag) {
    struct span id = SPAN("691eb9e6517f917943ae1f9d");
    cr_assert_neq(tag_of(TAG_INSTRUCTION, id).slot, tag_of(TAG_ORGANIZATION, id).slot);
    cr_assert_neq(tag_of(TAG_MANAGED, SPAN("")).slot, tag_of(TAG_EVERYTHING, SPAN("")).slot);
}

Test(tags, a_late_stamp_never_moves_back) {
    struct tags *tags = must_zalloc(sizeof *tags);
    struct tag tag = tag_of(TAG_DEPLOYMENT, SPAN("x"));
    struct tag_set set = {0};
    tag_set_add(&set, tag);
    tags_write(tags, tag, 9);
    tags_write(tags, tag, 4);
    cr_assert(tags_written_since(tags, &set, 8));
    free(tags);
}

Test(tags, a_set_holds_so_many_and_no_more) {
    struct tag_set set = {0};
    for (int i = 0; i < 100; i++)
        tag_set_add(&set, (struct tag){(uint16_t)i});
    cr_assert_eq(set.count, TAGS_PER_ANSWER);
}

Test(tags, a_name_is_the_same_in_any_case) {
    struct tag lower = tag_of(TAG_INSTRUCTION, SPAN("6b000000000000000000000a"));
    struct tag upper = tag_of(TAG_INSTRUCTION, SPAN("6B000000000000000000000A"));
    struct tag other = tag_of(TAG_INSTRUCTION, SPAN("6b000000000000000000000b"));
    cr_assert_eq(lower.slot, upper.slot);
    cr_assert_neq(lower.slot, other.slot);
}

Test(tags, the_latest_write_is_known_whatever_it_was_on) {
    struct tags *tags = must_zalloc(sizeof *tags);
    cr_assert_eq(tags_latest(tags), 0);
    tags_write(tags, tag_of(TAG_INSTRUCTION, SPAN("a")), 9);
    tags_write(tags, tag_of(TAG_MANAGED, SPAN("")), 4);
    cr_assert_eq(tags_latest(tags), 9);
    free(tags);
}
