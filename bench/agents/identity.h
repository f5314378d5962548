/* Who the agents are: ids and secrets by number. The stub's own, or those of a file with an id and
 * a secret on each line. Secrets stay in memory and are never printed. */
#pragma once

#include "base/str.h"

enum { IDENTITY_ID = 24, IDENTITY_SECRET_MAX = 256, IDENTITY_WHY = 160 };

struct identities;

/* `file` NULL: the stub's agents. Else NULL with a sentence in `why` when it cannot be read or has
 * fewer than `count`. */
struct identities *identities_new(size_t count, const char *file, char why[IDENTITY_WHY]);
void identities_free(struct identities *all);

/* Agent number `n`'s, 0 to count - 1: 24 hex digits, not terminated; the secret's length. */
void identity_id(const struct identities *all, size_t n, char id[IDENTITY_ID]);
size_t identity_secret(const struct identities *all, size_t n, char secret[IDENTITY_SECRET_MAX]);
