/* The two clocks and their spellings. Only io, serve and app read a clock; rules are told the time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Never jumps; for intervals and deadlines. Milliseconds, microseconds since an arbitrary start. */
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
/* Since 1970-01-01 UTC; may jump. For tokens' exp and for dates. */
int64_t clock_wall_ms(void);
/* The first of them, never held: for what an event takes itself. */
int64_t clock_exact_us(void);

/* Between these two the clocks stand still for the calling thread: what one event causes happens at
 * one time, however often that is asked for. Not nested, and never around anything that waits. */
void clock_hold(void);
void clock_release(void);

enum { CLOCK_HTTP_SIZE = 30, CLOCK_ISO_SIZE = 25 };

/* "Mon, 23 Nov 2026 04:23:08 GMT" (RFC 9110 section 5.6.7, IMF-fixdate), terminated. */
void clock_http(char out[CLOCK_HTTP_SIZE], int64_t wall_ms);
/* The reverse, seconds since 1970; false for anything but an IMF-fixdate. */
bool clock_parse_http(const char *text, size_t len, int64_t *wall_s);
/* "2026-11-23T04:23:08.814Z", terminated. Years 1970 to 9999. */
void clock_iso(char out[CLOCK_ISO_SIZE], int64_t wall_ms);
