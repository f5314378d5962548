/* Who is due next: one time per agent, a binary heap over their numbers. Pure; 20 bytes each.
 * Setting, removing and taking the first cost O(log n). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct schedule;

#define SCHEDULE_NEVER INT64_MAX

/* For the numbers 0 to count - 1; none is due at first. */
struct schedule *schedule_new(size_t count);
void schedule_free(struct schedule *s);

/* Replaces the time that was set before; SCHEDULE_NEVER takes it out. */
void schedule_set(struct schedule *s, size_t number, int64_t due_us);
/* SCHEDULE_NEVER when nobody is. */
int64_t schedule_next_us(const struct schedule *s);
/* Takes out the first one, if it is due by `now_us`. */
bool schedule_take(struct schedule *s, int64_t now_us, size_t *number);
