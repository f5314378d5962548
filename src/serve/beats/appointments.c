#include "serve/beats/appointments.h"

#include "base/clock.h"
#include "base/panic.h"
#include "serve/beats/bulk.h"
#include "serve/beats/sending.h"
#include "serve/gate/admission.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { TICK_MIN_MS = 1 };

/* Stale when the agent's scheduled_ms says otherwise. */
struct appointment {
    int64_t due_ms;
    struct agent_id id;
};

struct appointments {
    struct serve *serve;
    appointments_keep *keep;
    struct timer timer;
    struct appointment *heap; /* smallest due_ms first */
    size_t count, cap;
};

/* ---- the heap ---- */

static void heap_swap(struct appointments *book, size_t a, size_t b) {
    struct appointment keep = book->heap[a];
    book->heap[a] = book->heap[b];
    book->heap[b] = keep;
}

static void heap_push(struct appointments *book, struct appointment a) {
    if (book->count == book->cap) {
        book->cap = book->cap ? book->cap * 2 : 256;
        book->heap = must_realloc(book->heap, book->cap * sizeof *book->heap);
    }
    size_t i = book->count++;
    book->heap[i] = a;
    for (; i > 0 && book->heap[i].due_ms < book->heap[(i - 1) / 2].due_ms; i = (i - 1) / 2)
        heap_swap(book, i, (i - 1) / 2);
}

static struct appointment heap_pop(struct appointments *book) {
    struct appointment top = book->heap[0];
    book->heap[0] = book->heap[--book->count];
    for (size_t i = 0;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < book->count && book->heap[left].due_ms < book->heap[least].due_ms)
            least = left;
        if (right < book->count && book->heap[right].due_ms < book->heap[least].due_ms)
            least = right;
        if (least == i)
            return top;
        heap_swap(book, i, least);
        i = least;
    }
}

/* Is there a way for one more? If not, the gate tells when there is. */
static bool may_send(const struct appointments *book) {
    struct serve *s = book->serve;
    if (!bulk_is_on(s))
        return admission_room_or_wake(s);
    /* A batch needs one place for all, and waits for it itself. */
    return bulk_has_room(s->bulk) &&
           (admission_pause_ms(s->shared) == 0 || admission_room_or_wake(s));
}

/* While the controller is left alone one look at the end of that is enough for all that is due. */
static void set_alarm(struct appointments *book) {
    timer_stop(&book->timer);
    if (book->count == 0)
        return;
    int64_t in_ms = book->heap[0].due_ms - clock_mono_ms();
    int64_t pause_ms = in_ms <= 0 && !may_send(book) ? admission_pause_ms(book->serve->shared) : 0;
    if (in_ms > 0)
        timer_start(&book->timer, in_ms);
    else if (pause_ms > 0)
        timer_start(&book->timer, pause_ms);
    else if (may_send(book))
        timer_start(&book->timer, TICK_MIN_MS);
}

void appointments_look(struct appointments *book) {
    set_alarm(book);
}

static void make_appointment(struct appointments *book, const struct agent_id *id, int64_t due_ms) {
    heap_push(book, (struct appointment){due_ms, *id});
    set_alarm(book);
}

struct appointment_letter {
    struct letter letter;
    struct appointment appointment;
};

static void on_appointment(struct letter *letter, void *receiver) {
    struct serve *owner = receiver;
    struct appointment_letter *l = container_of(letter, struct appointment_letter, letter);
    make_appointment(owner->appointments, &l->appointment.id, l->appointment.due_ms);
    free(l);
}

int64_t appointments_due_ms(struct serve *s, const struct agent *agent) {
    if (atomic_load(&s->shared->draining))
        return agent->beat.retry_ms;
    struct beat_policy policy = beat_policy_of(s->shared->config);
    return beat_due_ms(&agent->beat, &policy, agent->hash);
}

/* In bulk one worker keeps all appointments: what is due there travels together, and the number of
 * requests does not grow with the number of workers. To hurry at the end all help. */
static size_t owner_of(struct serve *s, const struct agent *agent) {
    if (bulk_is_on(s) && !atomic_load(&s->shared->draining))
        return 0;
    return agents_owner(s->shared->agents, &agent->id, s->shared->worker_count);
}

void appointments_schedule(struct serve *s, struct agent *agent) {
    if (s->closing)
        return;
    int64_t due = appointments_due_ms(s, agent);
    if (agent->scheduled_ms >= 0 && agent->scheduled_ms <= due)
        return;
    agent->scheduled_ms = due;
    size_t owner = owner_of(s, agent);
    if (owner == s->worker) {
        make_appointment(s->appointments, &agent->id, due);
        return;
    }
    struct appointment_letter *l = must_zalloc(sizeof *l);
    l->letter.deliver = on_appointment;
    l->appointment = (struct appointment){due, agent->id};
    mailbox_post(s->shared->mailbox[owner], &l->letter);
}

/* ---- appointments kept ---- */

static void on_alarm(void *arg) {
    struct appointments *book = arg;
    struct agents *agents = book->serve->shared->agents;
    int64_t now = clock_mono_ms();
    while (book->count > 0 && book->heap[0].due_ms <= now && may_send(book)) {
        struct appointment a = heap_pop(book);
        struct agent *agent = agents_lock(agents, &a.id, false);
        if (!agent)
            continue;
        if (agent->scheduled_ms == a.due_ms) {
            agent->scheduled_ms = -1;
            book->keep(book->serve, agent);
        }
        agents_unlock(agents, agent);
        sending_launch(book->serve->sending);
    }
    set_alarm(book);
}

/* ---- life ---- */

struct appointments *appointments_new(struct serve *s, appointments_keep *keep) {
    struct appointments *book = must_zalloc(sizeof *book);
    book->serve = s;
    book->keep = keep;
    timer_init(&book->timer, s->loop, on_alarm, book);
    return book;
}

void appointments_free(struct appointments *book) {
    timer_stop(&book->timer);
    free(book->heap);
    free(book);
}
