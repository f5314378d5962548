#include "base/panic.h"
#include "rules/tags.h"

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
