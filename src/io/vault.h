/* A few slots of memory for secrets that must outlive their request: locked (never swapped), left
 * out of core dumps, cleansed when given back. Not thread safe: one per worker. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct vault;

/* As many of `slots` as the limit of locked memory allows, perhaps none. */
struct vault *vault_new(size_t slots, size_t slot_size);
/* Cleanses everything. */
void vault_free(struct vault *v);
size_t vault_slots(const struct vault *v);

/* Zeroed; NULL when all are taken. */
void *vault_take(struct vault *v);
void vault_give(struct vault *v, void *slot);
