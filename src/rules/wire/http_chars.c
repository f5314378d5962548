#include "rules/wire/http_chars.h"

#define _ 0                         /* controls */
#define S CHAR_TEXT                 /* space, tab, obs-text */
#define V (CHAR_TEXT | CHAR_TARGET) /* visible */
#define F (CHAR_TEXT | CHAR_TOKEN)  /* '#', which would start a fragment */
#define T (V | CHAR_TOKEN)
#define H (T | CHAR_HOST)
#define X (H | CHAR_HEX)
#define D (X | CHAR_DIGIT)

/* clang-format off */
const uint8_t http_chars[256] = {
    _, _, _, _, _, _, _, _, _, S, _, _, _, _, _, _, /* 00 */
    _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, /* 10 */
    S, T, V, F, T, T, T, T, V, V, T, T, V, H, H, V, /* 20 */
    D, D, D, D, D, D, D, D, D, D, V, V, V, V, V, V, /* 30 */
    V, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H, /* 40 */
    H, H, H, H, H, H, H, H, H, H, H, V, V, V, T, H, /* 50 */
    T, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H, /* 60 */
    H, H, H, H, H, H, H, H, H, H, H, V, T, V, H, _, /* 70 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* 80 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* 90 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* a0 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* b0 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* c0 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* d0 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* e0 */
    S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, S, /* f0 */
};
/* clang-format on */
