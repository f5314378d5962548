/* Who asks for too much: an agent's connects and calls, an address' failed connects, an agent whose
 * secret is being guessed. Decided by rules/gate/limits and rules/gate/lockout; what a refusal says
 * in Retry-After is when the next one will be taken.
 *
 *   connects   asks of the controller per (agent, secret): beyond, a known secret is served from
 *              cache. Answers from cache and followers of a flight cost nothing
 *   failures   every connect that lets nobody in counts once against its address: each 4xx but
 *              429, of the controller or of the gateway. Never a 5xx, a timeout, or what the
 *              gateway refuses by its load and its limits; nor a refusal repeated from memory,
 *              which has counted. An address with n known agents (rules/gate/known_agents) may
 *              have 2 n more a minute than is configured: where all of them fail at once, as in an
 *              outage of the controller's database, no other is refused for it
 *   tries      of unknown secrets: as long as neither their address has failed too often nor their
 *              agent is locked. In flight they count for their own address alone; for the agent
 *              only those count that were found wrong (rules/gate/lockout)
 *   calls      of agents we can tell by their token, heartbeats and connects excepted
 *   control    disconnects and forwarded heartbeats of an identity, agent or user
 *
 * A secret that the gateway knows passes whatever its address or others have done.
 *
 * Configured as limits.*; a limit of 0 is none. With limits.rate_limit_fields answers to calls, and
 * refusals of connects, tell what is left.
 *
 * Every decision is made here and now. Replicas tell each other what they have counted (sharing.h);
 * where they cannot, each gives its part of a limit only. */
#pragma once

#include "rules/gate/limits.h"
#include "serve/request/request.h"

struct limiting;

/* Shared by all workers. Some 14 MB. */
struct limiting *limiting_new(const uint8_t hash_key[16]);
/* NULL is fine. */
void limiting_free(struct limiting *l);

/* May the controller be asked for this connect? ERR_OK, with r->attempt to be ended by
 * limiting_ended; else the refusal and its Retry-After. `known`: this secret has opened the agent
 * before. `proof` tells secrets apart; NULL: the body is none that we read. */
enum err limiting_ask(struct serve *s, struct request *r, const uint8_t *proof, bool known,
                      int *retry_after_s);

/* A connect that takes nothing from the limits: r->attempt, too, is to be ended by limiting_ended,
 * and counts against its address when it fails. */
void limiting_exempt(struct serve *s, struct request *r);

/* It has waited for its turn, and others have failed meanwhile: may it still go? As limiting_ask. A
 * burst of wrong secrets would else be asked for as a whole before the first has failed. */
enum err limiting_ask_again(struct serve *s, struct attempt *a, int *retry_after_s);

/* A connect that the gateway itself refuses with a 4xx: ERR_OK, it was counted; or what to refuse
 * it with instead, for its address has failed too often. */
enum err limiting_malformed(struct serve *s, const struct request *r, int *retry_after_s);

enum attempt_end {
    ATTEMPT_LET_IN,  /* by the controller */
    ATTEMPT_CACHED,  /* let in, and the controller was not asked */
    ATTEMPT_REFUSED, /* a 4xx that says nothing of the secret */
    ATTEMPT_WRONG,   /* by the controller: a wrong secret, or no such agent */
    ATTEMPT_UNDONE,  /* nobody judged it: the controller's trouble, or it was not asked */
};

/* What the controller's status says; 0: there was no answer. */
enum attempt_end limiting_end_of(int status);
/* How the attempt ended; harmless when it has ended, or never began. */
void limiting_ended(struct serve *s, struct attempt *a, enum attempt_end end);

/* The agent has proved that it is at the request's address: by a secret that the gateway knows, or
 * by a token of its own that was verified. Under its lock; cheap where it is known there already.
 */
void limiting_known(struct serve *s, const struct request *r, struct agent *agent);

/* Any other call: ERR_OK, or the refusal and its Retry-After. Once per request. */
enum err limiting_call(struct serve *s, struct request *r, int *retry_after_s);

/* A disconnect, or a heartbeat that is forwarded while its agent waits, of a verified agent or
 * user: likewise. */
enum err limiting_control(struct serve *s, const struct request *r, int *retry_after_s);

/* ---- what replicas count together (serve/limits/sharing.h) ---- */

enum limiting_count {
    LIMITING_CONNECTS, /* per agent and secret */
    LIMITING_FAILURES, /* per address: what an address has where no agent is known */
    LIMITING_TRIES,    /* wrong secrets, per agent */
    LIMITING_CALLS,    /* per agent */
    LIMITING_CONTROL,  /* per identity */
    LIMITING_COUNTS
};

extern const char *const limiting_count_names[LIMITING_COUNTS];
/* Thread safe, as the table is. */
struct limits *limiting_table(struct limiting *l, enum limiting_count which);
/* The whole limit, of all replicas together. False: there is none. */
bool limiting_limit(const struct config *config, enum limiting_count which, struct limit *limit);
