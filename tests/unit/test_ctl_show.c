#include "app/ctl_show.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* What a person sees of an answer; freed by the caller. NULL: it is none for people. */
static char *shown(const char *json) {
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    bool is_shown = ctl_show(span_of(json), f);
    (void)fclose(f);
    if (is_shown)
        return text;
    free(text);
    return NULL;
}

static void expect_shown(const char *json, const char *wanted) {
    char *text = shown(json);
    cr_assert(text, "%s", json);
    cr_expect_str_eq(text, wanted);
    free(text);
}

Test(ctl_show, a_figure_has_a_line_and_its_whole_name) {
    expect_shown("{\"a\":{\"held\":3,\"up\":true,\"s\":1.25},\"b\":null,\"c\":\"text\"}",
                 "a.held                    3\n"
                 "a.up                      yes\n"
                 "a.s                       1.2\n"
                 "b                         -\n"
                 "c                         text\n");
}

Test(ctl_show, a_list_is_a_table_with_the_columns_of_all_its_rows) {
    expect_shown("{\"agents\":[{\"id\":\"x\",\"held\":true},{\"id\":\"y\",\"status\":\"idle\"}]}",
                 "id                        held  status  \n"
                 "x                         yes   -       \n"
                 "y                         -     idle    \n");
}

Test(ctl_show, a_column_is_as_wide_as_its_widest_cell) {
    expect_shown("{\"l\":[{\"key\":\"limits.connect_failures_per_agent\",\"v\":5},{\"key\":\"k\","
                 "\"v\":123}]}",
                 "key                                v    \n"
                 "limits.connect_failures_per_agent  5    \n"
                 "k                                  123  \n");
}

Test(ctl_show, an_empty_list_says_so) {
    expect_shown("{\"agents\":[]}", "none\n");
}

Test(ctl_show, what_is_no_object_is_left_as_it_came) {
    cr_expect_null(shown("listen:\n  port: 1\n"));
    cr_expect_null(shown("[1]"));
    cr_expect_null(shown(""));
}
