/* Cross-origin requests of browsers (Fetch standard, "CORS protocol"): who may, and the fields that
 * say so. Pure; serve/browsers.h answers.
 *
 * An origin is allowed if it is in the list, byte for byte: browsers spell it in one way only. The
 * list "*" allows all, and then credentials are never allowed (the configuration is refused). */
#pragma once

#include "base/str.h"
#include "rules/wire/http.h"

#include <stdint.h>

/* As configured; lists are separated by commas or spaces. */
struct cors {
    const char *origins; /* "": off */
    const char *methods, *headers, *expose;
    bool credentials;
    int64_t max_age_s;
};

bool cors_is_on(const struct cors *c);
/* The request's Origin; empty: none, or several (then it is nobody's). */
struct span cors_origin(const struct http_request *request);
bool cors_allows(const struct cors *c, struct span origin);
/* Does a browser ask whether it may ask? */
bool cors_is_preflight(const struct http_request *request);

/* Appends whole lines: what every answer to a request from `origin` carries. */
void cors_spell_answer(struct str *out, const struct cors *c, struct span origin);
/* The same for the answer to a preflight. */
void cors_spell_preflight(struct str *out, const struct cors *c, struct span origin);

/* Is it a field that only we may say, where CORS is ours? */
bool cors_is_our_field(struct span name);

/* What is wrong with a list, or NULL: of origins, of methods or field names. */
const char *cors_origins_complaint(struct span list);
const char *cors_names_complaint(struct span list);
/* Is "*" in it? */
bool cors_has_star(const char *list);
