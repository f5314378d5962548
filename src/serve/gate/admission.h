/* Every call to the controller passes here: it is counted, has a class, and goes when
 * rules/gate/gate lets it.
 *
 *   wish ---- a place is free --------------------------> passage: upstream_call
 *      |----- it may wait: kept, with its request --------> its turn comes: a letter to its worker
 *      |                            |-- its client leaves: nothing was asked of the controller
 *      |                            '-- its patience ends: ERR_CONTROLLER_BUSY
 *      '----- refused at once: ERR_CONTROLLER_BUSY, ERR_CONTROLLER_DOWN; and when to come again
 *
 * The gate is here, a call on its way in passage.h.
 * One gate for all workers, behind a lock that is held for a look and a change, never over a call,
 * a write or a letter. An agent's lock may be held when it is taken, never the other way round. */
#pragma once

#include "rules/gate/gate.h"
#include "serve/request/context.h"

struct admission; /* the process's */
struct desk;      /* a worker's */

struct admission *admission_new(const struct config *config, size_t worker_count);
/* NULL is fine. */
void admission_free(struct admission *a);
/* A reload: other places and another breaker; what was learnt stays. NULL is fine. */
void admission_adopt(struct admission *a, const struct config *config);
/* All workers ask another controller now: it may be asked, whatever the one before did. */
void admission_renew(struct shared *shared);

/* `on_room` is called on this worker when there is room for heartbeats that it has waited for
 * (admission_room_or_wake). */
struct desk *admission_open(struct serve *s, void (*on_room)(struct serve *s));
void admission_desk_free(struct desk *desk);

struct admission_terms {
    enum gate_class class;
    int64_t wait_ms;                  /* longest wait, answer included; 0: now or never */
    int64_t answer_by_ms;             /* monotonic: it does not wait beyond that; 0: `wait_ms` */
    uint64_t who;                     /* connects: the agent's hash, who gets the slot; 0: nobody */
    uint64_t flow;                    /* whose turn it is: the organization's hash; 0: unknown */
    const struct gate_ticket *ticket; /* admission_take gave it; NULL: none */
    /* A client's own call, passed on as it came: neither its status nor its silence is evidence
     * about the controller, the client can cause both. A connection that cannot be made is. A
     * connect's silence is so far as a probe confirms it (GATE_UNCONFIRMED). */
    bool is_forwarded;
    uint64_t agent; /* of a call of our own: whose it is (its hash); 0: nobody's in particular */
    /* After a wait: does still somebody want the answer? Else ERR_CANCELLED. NULL: yes. */
    bool (*is_wanted)(void *arg);
    void *wanted_arg;
};

/* The documented client gives up after ten seconds: a connect is answered before, whatever the
 * controller does. The rest of its second is for the way. */
enum { ADMISSION_CONNECT_MS = 8900, ADMISSION_CONNECT_WAIT_MS = 8700 };

/* The configured patience of a call somebody waits for. */
int64_t admission_wait_ms(const struct serve *s);

/* ---- for those who ask when it suits ---- */

/* A place for a call that follows at once (`ticket` of its terms). False: not now. */
bool admission_take(struct serve *s, enum gate_class class, struct gate_ticket *ticket);
bool admission_has_room(struct serve *s, enum gate_class class);
/* For how many, as it stands. */
size_t admission_room(struct serve *s, enum gate_class class);
/* Is there room for a heartbeat? If not, `on_room` is called on this worker when there is. */
bool admission_room_or_wake(struct serve *s);
/* How long to wait before it makes sense to ask again, milliseconds; 0: the breaker is closed. */
int64_t admission_pause_ms(const struct shared *shared);
/* Is the breaker open? Then *wait_ms is the time until the next probe may go, 0: now. */
bool admission_probe_wait_ms(const struct shared *shared, int64_t *wait_ms);
/* TERM: no time to leave it alone. */
void admission_hurry(struct shared *shared);

/* ---- how the controller is ---- */

enum controller { CONTROLLER_UNKNOWN, CONTROLLER_UP, CONTROLLER_DOWN };

/* `on_alarm` is called in this worker when a probe is wanted at once (gate_wants_probe), and not
 * again before admission_probed. */
void admission_watch(struct serve *s, void (*on_alarm)(struct serve *s));
void admission_probed(struct serve *s);
/* Down: it is left alone, or was never heard and fails. Thread safe, cheap. */
enum controller admission_controller(const struct shared *shared);
/* Has a call failed, and none been answered since? */
bool admission_is_doubtful(const struct shared *shared);
/* Was there anything since it was last asked that may mean trouble but is no evidence: a 502, 503
 * or 504, or a client's call without an answer? Then the probe shall look. */
bool admission_take_suspicion(const struct shared *shared);
/* When it last answered, monotonic milliseconds; 0: never. */
int64_t admission_heard_ms(const struct shared *shared);

struct admission_view {
    enum breaker_state breaker;
    int64_t limit[GATE_CLASSES], inside[GATE_CLASSES], waiting[GATE_CLASSES];
};

extern const char *const admission_class_names[GATE_CLASSES];
void admission_look(const struct shared *shared, struct admission_view *out);
