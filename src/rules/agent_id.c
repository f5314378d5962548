#include "rules/agent_id.h"

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool agent_id_parse(struct span text, struct agent_id *out) {
    struct agent_id id;
    if (text.len != AGENT_ID_HEX)
        return false;
    for (size_t i = 0; i < sizeof id.bytes; i++) {
        int high = hex_value(text.ptr[2 * i]);
        int low = hex_value(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        id.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *out = id;
    return true;
}

void agent_id_text(const struct agent_id *id, char out[AGENT_ID_HEX]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        out[2 * i] = digits[id->bytes[i] >> 4];
        out[2 * i + 1] = digits[id->bytes[i] & 15];
    }
}

bool agent_id_equal(const struct agent_id *a, const struct agent_id *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
