#include "serve/scripts.h"

#include "serve/beat_scripts.h"
#include "serve/peers_scripts.h"
#include "serve/sharing_script.h"

const struct redis_script serve_scripts[SCRIPT_COUNT] = {
#define X(symbol, text) [SCRIPT_##symbol] = {#text, text},
    SCRIPT_ROWS(X)
#undef X
};
