/* Keys of TLS session tickets, as a file holds them: one per line, 160 hex digits, newest first. */
#pragma once

#include "base/span.h"

#include <stdint.h>

enum { TICKET_KEYS_MAX = 4 };

/* RFC 5077 section 4: a name to find the key by, one key to encrypt, one to authenticate. */
struct ticket_key {
    uint8_t name[16];
    uint8_t cipher[32];
    uint8_t mac[32];
};

/* How many there are, 1 to TICKET_KEYS_MAX; 0: malformed, too many or none. Blank lines do not
 * count. Cleanse `out` after use. */
size_t ticket_keys_parse(struct span text, struct ticket_key out[TICKET_KEYS_MAX]);
