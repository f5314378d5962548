#include "rules/agents/agent_id.h"

#include <criterion/criterion.h>

Test(agent_id, takes_24_hex_digits_of_any_case_and_spells_them_in_lower_case) {
    static const char *const rows[] = {
        "6a0000000000000000000abc",
        "6A0000000000000000000ABC",
        "6a0000000000000000000AbC",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct agent_id id;
        char text[AGENT_ID_HEX];
        cr_assert(agent_id_parse(span_of(rows[i]), &id), "%s", rows[i]);
        agent_id_text(&id, text);
        cr_expect_arr_eq(text, "6a0000000000000000000abc", AGENT_ID_HEX, "%s", rows[i]);
    }
}

Test(agent_id, refuses_everything_else_and_leaves_the_result_alone) {
    static const char *const rows[] = {
        "",
        "6a000000000000000000000",
        "6a00000000000000000000000",
        "6a000000000000000000000g",
        "6a00000000000000000000 0",
        " 6a0000000000000000000000",
        "6a0000000000000000000000\n",
        "0x0000000000000000000000",
        "+a0000000000000000000000",
        "6a000000000000000000%3000",
        "6a0000000000000000000\xc3\xa9",
        "abcdefghijkl",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct agent_id id = {{7}};
        cr_expect_not(agent_id_parse(span_of(rows[i]), &id), "%s", rows[i]);
        cr_expect_eq(id.bytes[0], 7, "%s", rows[i]);
    }
    struct agent_id id;
    cr_expect_not(agent_id_parse((struct span){"6a0000000000\0000000000000", 24}, &id));
    cr_expect_not(agent_id_parse(SPAN_NONE, &id));
}

Test(agent_id, tells_ids_apart_by_every_digit) {
    char text[AGENT_ID_HEX + 1] = "000000000000000000000000";
    struct agent_id zero, other;
    cr_assert(agent_id_parse(span_of(text), &zero));
    cr_expect(agent_id_equal(&zero, &zero));
    for (size_t i = 0; i < AGENT_ID_HEX; i++) {
        text[i] = '1';
        cr_assert(agent_id_parse(span_of(text), &other));
        cr_expect_not(agent_id_equal(&zero, &other), "digit %zu", i);
        text[i] = '0';
    }
}
