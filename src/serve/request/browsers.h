/* CORS, where forward.cors.origins says so: a browser's question whether it may ask is answered
 * here, and every answer, a refusal too, says whose page may read it. */
#pragma once

#include "serve/request/request.h"

/* What the answer to this request will carry. Does nothing where CORS is off. */
void browsers_mark(struct serve *s, struct exchange *x, const struct http_request *http);
/* Answers a preflight; false: it is none. */
bool browsers_answer(struct serve *s, struct request *r);
/* Does the gateway say it, instead of the controller? */
bool browsers_are_ours(const struct serve *s);
