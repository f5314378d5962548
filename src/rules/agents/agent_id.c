#include "rules/agents/agent_id.h"

/* One more than the digit's value; 0: no digit. */
static const uint8_t hex_digits[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

bool agent_id_parse(struct span text, struct agent_id *out) {
    struct agent_id id;
    if (text.len != AGENT_ID_HEX)
        return false;
    for (size_t i = 0; i < sizeof id.bytes; i++) {
        unsigned high = hex_digits[(uint8_t)text.ptr[2 * i]];
        unsigned low = hex_digits[(uint8_t)text.ptr[2 * i + 1]];
        if (high == 0 || low == 0)
            return false;
        id.bytes[i] = (uint8_t)((high - 1) << 4 | (low - 1));
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
