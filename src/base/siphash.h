/* SipHash-2-4: a hash under a key (Aumasson and Bernstein, 2012), for tables that strangers fill.
 * Without the key nobody can make entries collide on purpose. */
#pragma once

#include "base/span.h"

#include <stdint.h>

uint64_t siphash(const uint8_t key[16], struct span bytes);
