/* Who is aboard a flight (flying.h), and how they are told how it ended. Of flying.c and
 * flying_look.c, and nobody else's. */
#pragma once

#include "serve/connect/replay.h"
#include "serve/request/answer.h"

struct flight;

enum { ABOARD_KEPT_MAX = 2 * HTTP_HEAD_MAX + 102400 /* an agent call's head and largest body */ };

/* How a flight ended, the same for all aboard; shared by reference count. */
struct outcome {
    _Atomic int references;
    struct grant *grant; /* answer from this older grant; else: */
    bool hit;            /* it was found on the shelf */
    enum err error;      /* not ERR_OK: no answer */
    int retry_after_s;   /* with an error; 0: nobody knows */
    bool stored;
    int status;
    char *content_type; /* terminated */
    char *body;
    size_t body_len;
    int64_t took_us; /* the controller, to begin with its answer; 0: there was none */
    uint64_t site;   /* whose address it counted against (serve/limits/limiting); 0: nobody's */
};

/* One that waits: a flight's leader, or a follower. */
struct passenger {
    struct letter landed; /* to a follower's worker */
    struct list seat;     /* in the flight, for followers */
    struct serve *serve;
    struct caller caller; /* caller.x NULL: answered already, gone, or a refresh */
    struct grant_pass pass;
    enum replay_reason reason;
    struct flight *flight; /* leader: its own; follower: valid while aboard */
    bool leads;
    bool aboard; /* follower: still in the flight (under the agent's lock) */
    struct timer patience;
    int64_t first_patience_ms, more_patience_ms;
    int64_t began_ms;    /* monotonic */
    bool is_known;       /* the secret has opened the agent before, or is a refresh's */
    struct fetch *fetch; /* leader */
    struct outcome *outcome;
    struct attempt attempt; /* what it took from the limits; followers: whom a failure counts for */
    enum err denied;        /* leader: see struct flying_ticket */
    int retry_after_s;
    int64_t peers_seen; /* leader: the last purge of any replica when it took off */
    /* Leader: asks the controller, or denies it. Borrows head and body during the call. */
    void (*ask)(struct passenger *p, struct span head, struct span body);
    /* The leader looks at the shelf first (flying_look.c). */
    bool looks;
    struct look *look; /* under way */
    struct str kept;   /* meanwhile: head and body of the request, as they go to the controller */
    size_t kept_head;
};

/* Under the agent's lock: a flight of this leader's. */
void aboard_take_off(struct passenger *p, struct agent *agent);
/* Under the agent's lock: ends it; who followed is moved to `followers`. */
void aboard_disembark(struct passenger *leader, struct list *followers);
/* Each on his own worker. */
void aboard_tell_followers(struct list *followers, struct outcome *outcome);

/* Answers, if somebody still waits. */
void aboard_answer(struct passenger *p);
/* From this older grant (may be NULL): the flight brings nothing, or not in time. `detail` as in
 * replay_answer. False: not answered. */
bool aboard_answer_older(struct passenger *p, const struct grant *g, const char *detail);

void aboard_outcome_unref(struct outcome *o); /* NULL is fine */
void aboard_drop_kept(struct passenger *p);
void aboard_free(struct passenger *p);
