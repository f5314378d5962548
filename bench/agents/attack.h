/* Strangers at a rate: forged tokens, wrong secrets, clients that send a byte a second. Open loop,
 * on connections of their own; what becomes of them is counted as attack_... in the tally. Only
 * against targets that main.c has let through. */
#pragma once

#include "agents/identity.h"
#include "agents/record.h"
#include "agents/target.h"

struct attack;

struct attack_options {
    struct loop *loop;
    const struct target *target;
    const struct identities *identities;
    struct record *record;
    size_t agents; /* whom they pretend to be, in turn */
    enum attack_kind kind;
    double rate; /* a second */
};

enum { ATTACK_STRANGERS = 1000 }; /* at a time; who finds no place is counted as failed */

/* NULL when no descriptor can be had. */
struct attack *attack_start(const struct attack_options *options);
void attack_stop(struct attack *a);
