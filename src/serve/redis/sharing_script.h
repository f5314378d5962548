/* What Redis does for serve/limits/sharing: see sharing_script.c. */
#pragma once

/* Bytes of one key in what is told (key, spent, ahead) and in what is heard (key, ahead): integers
 * of 8 bytes, the least significant first. */
enum { SHARING_TOLD_BYTES = 24, SHARING_HEARD_BYTES = 16 };

extern const char sharing_script[];
