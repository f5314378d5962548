/* What an agent puts on the wire. Pure. */
#pragma once

#include "agents/life.h"
#include "base/str.h"

struct request {
    enum life_call call;
    const char *prefix, *authority;
    struct span id;     /* 24 hex digits */
    struct span secret; /* connect */
    struct span token;  /* heartbeat, disconnect */
    bool close;         /* asks for the connection's end */
};

/* Appends head and body. The secret stands in it: cleanse the memory once it is sent. */
void request_build(struct str *out, const struct request *r);

/* The token in a connect's answer (accessToken, or token as older controllers spell it); borrows.
 */
bool request_find_token(struct span body, struct span *token);
