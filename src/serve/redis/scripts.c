#include "serve/redis/scripts.h"

#include "serve/redis/beat_scripts.h"
#include "serve/redis/peers_scripts.h"
#include "serve/redis/sharing_script.h"

const struct redis_script serve_scripts[SCRIPT_COUNT] = {
#define X(symbol, text) [SCRIPT_##symbol] = {#text, text},
    SCRIPT_ROWS(X)
#undef X
};
