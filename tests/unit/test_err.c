#include "base/err.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <string.h>

static bool is_public_code(const char *code) {
    if (strncmp(code, "GATEWAY_", 8) != 0)
        return false;
    for (; *code; code++)
        if (!isupper((unsigned char)*code) && *code != '_')
            return false;
    return true;
}

Test(err, rows_stand_where_their_symbols_say) {
    cr_expect_str_eq(err_row(ERR_OK)->symbol, "OK");
    cr_expect_str_eq(err_row(ERR_BAD_REQUEST)->symbol, "BAD_REQUEST");
    cr_expect_str_eq(err_row(ERR_CANCELLED)->symbol, "CANCELLED");
    cr_expect_eq(err_row(ERR_UPSTREAM_TIMEOUT)->status, 504);
}

Test(err, every_failure_has_an_error_status_and_a_message_fit_for_clients) {
    for (enum err e = ERR_OK + 1; e < ERR_COUNT; e++) {
        const struct err_row *row = err_row(e);
        cr_expect(row->status >= 400 && row->status <= 599, "%s", row->symbol);
        cr_expect(*row->message, "%s", row->symbol);
        for (const char *c = row->message; *c; c++)
            cr_expect(*c >= ' ' && *c <= '~' && *c != '"' && *c != '\\', "%s", row->symbol);
    }
}

Test(err, public_codes_are_well_formed_and_unique) {
    for (enum err e = ERR_OK + 1; e < ERR_COUNT; e++) {
        const char *code = err_row(e)->code;
        cr_expect(!code || is_public_code(code), "%s", code);
        for (enum err other = ERR_OK + 1; other < e; other++)
            cr_expect(!code || !err_row(other)->code || strcmp(code, err_row(other)->code) != 0,
                      "%s stands twice", code);
    }
}

Test(err, what_mirrors_the_controller_has_its_words_and_no_code_of_ours) {
    cr_expect_null(err_row(ERR_UNAUTHORIZED)->code);
    cr_expect_eq(err_row(ERR_UNAUTHORIZED)->status, 401);
    cr_expect_str_eq(err_row(ERR_UNAUTHORIZED)->message, "Unauthorized");
    cr_expect_null(err_row(ERR_TOKEN_PAYLOAD)->code);
    cr_expect_str_eq(err_row(ERR_TOKEN_PAYLOAD)->message, "Invalid token payload");
}

Test(err, a_malformed_request_is_never_worth_a_retry_and_an_overload_is) {
    for (enum err e = ERR_OK + 1; e < ERR_COUNT; e++) {
        const struct err_row *row = err_row(e);
        if (row->status == 400 || row->status == 401 || row->status == 403 || row->status == 501)
            cr_expect_not(row->retryable, "%s", row->symbol);
        if (row->status == 429 || row->status == 503 || row->status == 504)
            cr_expect(row->retryable, "%s", row->symbol);
    }
}
