#include "rules/wire/json_scan.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static const char *row_text(const char *text) {
    return text ? text : "(nothing)";
}

Test(json_scan, takes_what_rfc_8259_allows) {
    static const char *const rows[] = {
        "{}",
        " [ ] ",
        "0",
        "-0",
        "-12.5e+3",
        "1E9",
        "\"\"",
        "\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "true",
        "null",
        "{\"a\":[1,{\"b\":null}],\"c\":\"}\"}",
        "\t{\r\n\"a\" : 1 , \"b\" : [ ] }\n",
        "{\"a\":1,\"a\":2}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_fault fault = {0};
        cr_expect(json_scan_text(span_of(rows[i]), &fault), "%s: %s", rows[i],
                  row_text(fault.what));
    }
}

Test(json_scan, says_what_is_wrong_and_where_as_node_does) {
    static const struct {
        const char *text, *what;
        size_t at;
    } rows[] = {
        {"", "Unexpected end of JSON input", 0},
        {"{", "Expected property name or '}' in JSON", 1},
        {"{1:2}", "Expected property name or '}' in JSON", 1},
        {"{\"secret\": \"x\"", "Expected ',' or '}' after property value in JSON", 14},
        {"{\"a\"}", "Expected ':' after property name in JSON", 4},
        {"{\"a\":1,}", "Expected double-quoted property name in JSON", 7},
        {"{\"a\":}", "Unexpected token in JSON", 5},
        {"[1", "Expected ',' or ']' after array element in JSON", 2},
        {"[1,]", "Unexpected token in JSON", 3},
        {"[1 2]", "Expected ',' or ']' after array element in JSON", 3},
        {"{} x", "Unexpected non-whitespace character after JSON", 3},
        {"01", "Unexpected non-whitespace character after JSON", 1},
        {"-", "No number after minus sign in JSON", 1},
        {"+1", "Unexpected token in JSON", 0},
        {".5", "Unexpected token in JSON", 0},
        {"1.", "Unterminated fractional number in JSON", 2},
        {"1e", "Exponent part is missing a number in JSON", 2},
        {"NaN", "Unexpected token in JSON", 0},
        {"Infinity", "Unexpected token in JSON", 0},
        {"nul", "Unexpected token in JSON", 0},
        {"True", "Unexpected token in JSON", 0},
        {"'a'", "Unexpected token in JSON", 0},
        {"\"a", "Unterminated string in JSON", 2},
        {"\"a\\", "Unterminated string in JSON", 3},
        {"\"\\x\"", "Bad escaped character in JSON", 2},
        {"\"\\u12g4\"", "Bad Unicode escape in JSON", 5},
        {"\"a\nb\"", "Bad control character in string literal in JSON", 2},
        {"\xef\xbb\xbf{}", "Unexpected token in JSON", 0},
        {"/**/{}", "Unexpected token in JSON", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_fault fault = {0};
        cr_expect_not(json_scan_text(span_of(rows[i].text), &fault), "%s", rows[i].text);
        cr_expect_str_eq(row_text(fault.what), rows[i].what, "%s: %s", rows[i].text,
                         row_text(fault.what));
        cr_expect_eq(fault.at, rows[i].at, "%s: at %zu", rows[i].text, fault.at);
    }
}

Test(json_scan, refuses_a_nul_byte_everywhere) {
    static const struct span rows[] = {
        {"{}\0", 3}, {"\0{}", 3}, {"{\"a\0\":1}", 8}, {"\"\\\0\"", 4}, {"1\0", 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_fault fault;
        cr_expect_not(json_scan_text(rows[i], &fault), "row %zu", i);
    }
}

Test(json_scan, refuses_every_bare_control_character_in_a_string) {
    for (int c = 0; c <= 0x20; c++) {
        struct json_fault fault;
        char text[] = {'"', (char)c, '"'};
        cr_expect_eq(json_scan_text((struct span){text, sizeof text}, &fault), c == 0x20, "%#x", c);
    }
}

Test(json_scan, goes_64_levels_deep_and_no_further) {
    static const char *const shapes[][2] = {{"[", "]"}, {"{\"a\":", "}"}};
    for (size_t shape = 0; shape < 2; shape++)
        for (size_t depth = 63; depth <= 65; depth++) {
            char text[1024] = "";
            struct json_fault fault = {0};
            for (size_t i = 0; i < depth; i++)
                strcat(text, shapes[shape][0]);
            strcat(text, shape ? "1" : "");
            for (size_t i = 0; i < depth; i++)
                strcat(text, shapes[shape][1]);
            cr_expect_eq(json_scan_text(span_of(text), &fault), depth <= 64, "shape %zu depth %zu",
                         shape, depth);
        }
}

Test(json_scan, survives_a_hundred_thousand_brackets) {
    enum { COUNT = 100000 };
    char *text = malloc(COUNT);
    struct json_fault fault;
    memset(text, '[', COUNT);
    cr_expect_not(json_scan_text((struct span){text, COUNT}, &fault));
    cr_expect_eq(fault.at, 64);
    free(text);
}

Test(json_scan, refuses_every_prefix_of_an_object) {
    struct span whole = SPAN("{\"a\":[1,-2.5e3,\"\\u00e9\",true,{}],\"b\":{\"c\":null}}");
    for (size_t len = 0; len < whole.len; len++) {
        /* A copy of exactly that size, so that a sanitizer sees a read behind the end. */
        char *copy = malloc(len ? len : 1);
        struct json_fault fault;
        memcpy(copy, whole.ptr, len);
        cr_expect_not(json_scan_text((struct span){copy, len}, &fault), "prefix of %zu", len);
        free(copy);
    }
}

Test(json_scan, gives_members_with_their_place_and_kind) {
    struct span text =
        SPAN(" {\"a\" : -12 ,\"b\":\"x y\",\"c\":{\"a\":[1]},\"d\":[],\"e\":1.5,\"f\":null} ");
    static const struct {
        const char *name, *value;
        enum json_kind kind;
    } rows[] = {
        {"a", "-12", JSON_KIND_INTEGER},        {"b", "\"x y\"", JSON_KIND_STRING},
        {"c", "{\"a\":[1]}", JSON_KIND_OBJECT}, {"d", "[]", JSON_KIND_ARRAY},
        {"e", "1.5", JSON_KIND_FRACTION},       {"f", "null", JSON_KIND_LITERAL},
    };
    struct json_members members;
    cr_assert(json_scan_object(text, &members));
    cr_assert_eq(members.count, sizeof rows / sizeof rows[0]);
    for (size_t i = 0; i < members.count; i++) {
        const struct json_member *m = json_member_find(&members, span_of(rows[i].name));
        cr_assert_eq(m, &members.at[i], "%s", rows[i].name);
        cr_expect(span_equal(m->value, span_of(rows[i].value)), "%s", rows[i].name);
        cr_expect_eq(m->kind, rows[i].kind, "%s", rows[i].name);
    }
    cr_expect_null(json_member_find(&members, SPAN("g")));
    cr_expect_eq(members.at[0].value.ptr, text.ptr + 8);
}

Test(json_scan, refuses_objects_whose_names_are_not_told_apart) {
    static const char *const rows[] = {
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"b\":2,\"a\":3}",
        "{\"exp\":1,\"e\\u0078p\":2}",
        "{\"\\u0061\":1}",
        "{\"\":1,\"\":2}",
        "[]",
        "\"a\"",
        "1",
        "{}{}",
        "",
    };
    struct json_members members;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_not(json_scan_object(span_of(rows[i]), &members), "%s", rows[i]);
    cr_expect(json_scan_object(SPAN("{\"a\":{\"a\":1},\"A\":{\"a\":1}}"), &members));
    cr_expect_eq(members.count, 2);
}

Test(json_scan, reads_64_members_and_no_more) {
    for (size_t count = 63; count <= 65; count++) {
        char text[2048] = "{";
        struct json_members members;
        for (size_t i = 0; i < count; i++)
            sprintf(text + strlen(text), "%s\"n%zu\":%zu", i ? "," : "", i, i);
        strcat(text, "}");
        cr_expect_eq(json_scan_object(span_of(text), &members), count <= 64, "%zu members", count);
    }
}

Test(json_scan, reads_integers_of_64_bits_and_nothing_else_as_integer) {
    static const struct {
        const char *text;
        bool fine;
        int64_t value;
    } rows[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"1795494188", true, 1795494188},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999999999", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {"\"1\"", false, 0},
        {"true", false, 0},
        {"null", false, 0},
        {"[1]", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[64];
        struct json_members members;
        int64_t value = 77;
        snprintf(text, sizeof text, "{\"n\":%s}", rows[i].text);
        cr_assert(json_scan_object(span_of(text), &members), "%s", text);
        cr_expect_eq(json_member_integer(&members.at[0], &value), rows[i].fine, "%s", text);
        cr_expect_eq(value, rows[i].fine ? rows[i].value : 77, "%s", text);
    }
    int64_t value;
    cr_expect_not(json_member_integer(NULL, &value));
}

Test(json_scan, reads_plain_strings_only) {
    struct json_members members;
    struct span text;
    cr_assert(
        json_scan_object(SPAN("{\"a\":\"x\",\"b\":\"\\u0078\",\"c\":1,\"d\":\"\"}"), &members));
    cr_expect(json_member_string(&members.at[0], &text) && span_equal(text, SPAN("x")));
    cr_expect_not(json_member_string(&members.at[1], &text));
    cr_expect_not(json_member_string(&members.at[2], &text));
    cr_expect(json_member_string(&members.at[3], &text) && text.len == 0);
    cr_expect_not(json_member_string(NULL, &text));
}

/* ---- plain ones ---- */

Test(json_scan, reads_a_plain_object_as_the_strict_reader_does) {
    static const char *const rows[] = {
        "{}",
        " { } ",
        "{\"status\":\"online\",\"metrics\":{\"cpu\":45,\"memory\":60.5,\"activeConnections\":-3}}",
        "\t{\r\n\"a\" : [ ] , \"b\" : [ 1 , [ 0 ] , { } ] }\n",
        "{\"a\":true,\"b\":false,\"c\":null,\"d\":\"\",\"e\":-0,\"f\":0.25,\"g\":123456789012345}",
        "{\"a\":{\"a\":{\"a\":{\"a\":1}}}}",
        "{\"\":1}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_members plain, strict;
        cr_assert(json_scan_plain(span_of(rows[i]), &plain), "%s", rows[i]);
        cr_assert(json_scan_object(span_of(rows[i]), &strict), "%s", rows[i]);
        cr_assert_eq(plain.count, strict.count, "%s", rows[i]);
        for (size_t m = 0; m < plain.count; m++) {
            cr_expect(span_equal(plain.at[m].name, strict.at[m].name), "%s", rows[i]);
            cr_expect(span_equal(plain.at[m].value, strict.at[m].value), "%s", rows[i]);
            cr_expect_eq(plain.at[m].kind, strict.at[m].kind, "%s", rows[i]);
        }
    }
}

Test(json_scan, leaves_what_is_not_plain_to_others) {
    static const char *const rows[] = {
        "",
        " ",
        "[]",
        "1",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1}x",
        "{\"a\":1}{}",
        "{\"a\" 1}",
        "{a:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":[1}",
        "{\"a\":[1,]}",
        "{\"a\":[",
        "{\"a\":\"x}",
        "{\"a\":\"\\u0041\"}",
        "{\"\\u0061\":1}",
        "{\"a\":\"\xc3\xa9\"}",
        "{\"a\":\"\x7f\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":1e3}",
        "{\"a\":1234567890123456}",
        "{\"a\":nul}",
        "{\"a\":NaN}",
        "{\"a\":1,\"a\":2}",
        "{\"b\":{\"a\":1,\"a\":2}}",
        "{\"b\":[{\"a\":1,\"a\":2}]}",
        "{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}",
        "{\"a\":[[[[1]]]]}",
        "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,"
        "\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1}",
    };
    struct json_members members;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_not(json_scan_plain(span_of(rows[i]), &members), "%s", rows[i]);
    cr_expect_not(json_scan_plain(SPAN("{}\0"), &members));
    cr_expect_not(json_scan_plain(SPAN_NONE, &members));
}
