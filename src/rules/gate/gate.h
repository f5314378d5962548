/* The gate to the controller: who may ask it now, who waits, who shall come again and when. Pure;
 * it puts together what rules/gate/breaker, concurrency, queue and slots decide. Not thread safe:
 * its caller holds a lock (serve/gate/admission.c), or lives in virtual time (bench/sim).
 *
 *   gate_ask --- the breaker is open ------------------------------> GATE_DOWN
 *      |-------- a place is free ----------------------------------> GATE_IN
 *      |-------- it could not finish within its time, or won't wait -> GATE_BUSY
 *      '-------- else ----------------------------------------------> GATE_WAITS
 *
 * When an outage is over, short calls from before it hold no permits any more: they may hang until
 * they time out, and would keep everybody else waiting for it. But together with those that hold
 * one there are never more than twice the permits, however often the breaker opens and closes.
 *
 * Who is in says when its answer came (gate_answered) and when it needs its place no more
 * (gate_out); who waits is told by gate_next, or leaves (gate_out). Each class has places of its
 * own, so that a storm of connects takes none from heartbeats. */
#pragma once

#include "rules/gate/breaker.h"
#include "rules/gate/concurrency.h"
#include "rules/gate/queue.h"
#include "rules/gate/slots.h"

enum {
    GATE_SLOTS = 65536,
    GATE_WITNESSES = 16, /* agents that are told apart in a row of failures */
};

enum gate_class {
    GATE_CONNECT,   /* a bcrypt each */
    GATE_HEARTBEAT, /* held heartbeats, alone or in bulk: permits that no client can take */
    GATE_CONTROL,   /* disconnects, and heartbeats that are passed on while their agent waits */
    GATE_API,
    GATE_LONG,   /* inference and its like: minutes are normal, so nothing is learnt from how long
                    they take */
    GATE_STREAM, /* upgrades, events, long polls, answers that are taken slowly: their places say
                    how many there are, not how many the controller bears; nothing is learnt from
                    how long they take */
    GATE_PROBE,  /* the gateway's own question whether the controller is there: never waits for a
                    place of others, and is the only call that may have none */
    GATE_CLASSES,
};

struct gate_policy {
    struct breaker_policy breaker;
    int64_t places[GATE_CLASSES]; /* over all replicas */
    bool adaptive;                /* connects and heartbeats */
    bool adaptive_api;            /* api */
    int64_t ramp_us;              /* so long after an outage connects get half their places */
    int64_t waiting_max;          /* calls of a class */
    int64_t retry_reach_s;        /* the largest Retry-After of a connect */
};

/* A call at the gate; embedded by its owner. */
struct gate_ticket {
    struct queue_entry entry; /* in the queue while it waits; the owner's when gate_next gave it */
    enum gate_class class;
    enum { GATE_OUTSIDE, GATE_WAITING, GATE_INSIDE } where;
    bool judged;         /* its result was taken */
    uint64_t agent;      /* set by the owner: whose call it is; 0: nobody's in particular */
    uint32_t era;        /* the gate's when it got in */
    uint32_t outages;    /* likewise */
    uint32_t probe;      /* not 0: it probes the breaker */
    int64_t in_us;       /* when it got in */
    int64_t patience_us; /* while it waits: then it leaves, see gate_wish.wait_us */
};

struct gate_lane {
    int64_t inside;
    int64_t hung; /* begun before the last outage, and not ended: they hold no permits, see above */
    struct queue queue;
    struct concurrency concurrency;
    double gap_us;       /* between two that leave, while all places are taken; of late */
    double best_gap_us;  /* the least it was in the last minutes */
    int64_t gaps;        /* so many were measured */
    int64_t full_out_us; /* when the last one left while all were taken; 0: they are not */
};

struct gate {
    struct gate_policy policy;
    struct breaker breaker;
    struct gate_lane lane[GATE_CLASSES];
    struct slots *slots;
    int64_t replicas;                 /* that share the places; 1 or more */
    bool heard;                       /* an answer was ever good */
    uint64_t witness[GATE_WITNESSES]; /* whose calls have failed since the last answer */
    size_t witnesses;
    int64_t unconfirmed; /* failures since the last answer that await a probe's word */
    uint32_t era;        /* counts the controllers, see gate_renew */
    uint32_t outages;    /* that are over */
};

void gate_init(struct gate *g, const struct gate_policy *policy);
void gate_release(struct gate *g);

struct gate_wish {
    enum gate_class class;
    /* It is refused at once unless it will be answered within this time, 0: unless there is a place
     * now. That is an estimate: who got in the queue may wait an eighth longer. */
    int64_t wait_us;
    uint64_t who;  /* connects: whose slot; 0: nobody's */
    uint64_t flow; /* see rules/gate/queue */
};

enum gate_answer { GATE_IN, GATE_WAITS, GATE_BUSY, GATE_DOWN };

enum gate_answer gate_ask(struct gate *g, struct gate_ticket *t, const struct gate_wish *wish,
                          int64_t now_us);
/* In how many seconds one that was refused shall come again, 1 or more. For a connect a slot is
 * dealt. */
int64_t gate_retry_after_s(struct gate *g, const struct gate_wish *wish, uint32_t random,
                           int64_t now_us);

/* From now on another controller is asked: nothing is known of its health, and how calls to the one
 * before end says nothing of it. What was learnt of the pace stays as a first guess. Then see
 * gate_next. */
void gate_renew(struct gate *g);

/* Only GATE_FAILED can open the breaker. A call that a client has made as it liked must never be
 * reported as failed because of its status or its silence: the client can cause both at will. */
enum gate_result {
    GATE_FINE,        /* answered */
    GATE_ODD,         /* answered, but how long that took teaches nothing (an error is quick) */
    GATE_UNAVAILABLE, /* 502, 503, 504, or a client's call without an answer: its class' adaptive
                         limit falls, the breaker learns nothing */
    GATE_FAILED, /* no connection, or no answer to a call of our own. What one agent sends may be
                    the reason: its second until something is answered is unconfirmed */
    GATE_UNCONFIRMED, /* a connect of nobody we know without an answer, or with 502, 503, 504: a
                         failure if a probe fails before anything is answered */
};

/* How the call of one that is in went, as far as it concerns the controller's health; only the
 * first result counts. The state of the breaker may change: then see gate_next. */
void gate_answered(struct gate *g, struct gate_ticket *t, enum gate_result result, int64_t now_us);
/* Would a probe that fails open the breaker, by what waits for its word? */
bool gate_wants_probe(const struct gate *g);
/* It needs its place no more, or does not want to wait any longer. Harmless when it is outside. */
void gate_out(struct gate *g, struct gate_ticket *t, int64_t now_us);
/* One that is in turns out to be of another class. False: that is full, and nothing changed. */
bool gate_move(struct gate *g, struct gate_ticket *t, enum gate_class class);

/* The next of a class that need not wait any more: it is in, or *answer is GATE_DOWN. NULL: none.
 * Call it until then whenever somebody went out, was answered, or time went by after an outage. */
struct gate_ticket *gate_next(struct gate *g, enum gate_class class, int64_t now_us,
                              enum gate_answer *answer);

/* Would one of this class that does not want to wait get in? */
bool gate_has_room(const struct gate *g, enum gate_class class, int64_t now_us);
/* The places of a class now: its share, what was learnt, and the ramp. */
int64_t gate_limit(const struct gate *g, enum gate_class class, int64_t now_us);
