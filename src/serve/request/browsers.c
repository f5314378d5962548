#include "serve/request/browsers.h"

#include "rules/wire/cors.h"
#include "serve/request/access.h"

/* Valid for this turn of the loop, as the configuration is. */
static struct cors cors_of(const struct serve *s) {
    const struct config *config = s->shared->config;
    return (struct cors){.origins = config->forward.cors.origins,
                         .methods = config->forward.cors.methods,
                         .headers = config->forward.cors.headers,
                         .expose = config->forward.cors.expose,
                         .credentials = config->forward.cors.credentials,
                         .max_age_s = config->forward.cors.max_age_ms / 1000};
}

bool browsers_are_ours(const struct serve *s) {
    return s->shared->config->forward.cors.origins[0] != '\0';
}

/* Agents are no browsers, and their answers are not cached by anything: what varies with the origin
 * need be said only to those who have one, and of what may be cached. */
static bool concerns(const struct http_request *http, struct span origin) {
    return origin.len > 0 || http->method == HTTP_GET || http->method == HTTP_HEAD;
}

void browsers_mark(struct serve *s, struct exchange *x, const struct http_request *http) {
    if (!browsers_are_ours(s))
        return;
    struct cors cors = cors_of(s);
    struct span origin = cors_origin(http);
    if (!concerns(http, origin))
        return;
    str_clear(&s->fields);
    cors_spell_answer(&s->fields, &cors, origin);
    exchange_add_fields(x, str_span(&s->fields));
}

bool browsers_answer(struct serve *s, struct request *r) {
    if (!browsers_are_ours(s) || !cors_is_preflight(r->http))
        return false;
    struct cors cors = cors_of(s);
    access_mark(r->x, OUTCOME_PREFLIGHT);
    exchange_add_fields(r->x, SPAN_NONE);
    str_clear(&s->fields);
    STR_ADD(&s->fields, "x-correlation-id: ");
    str_add(&s->fields, r->correlation_id);
    STR_ADD(&s->fields, "\r\n");
    cors_spell_preflight(&s->fields, &cors, cors_origin(r->http));
    exchange_answer(r->x, &(struct answer){204, str_span(&s->fields), false}, SPAN_NONE);
    return true;
}
