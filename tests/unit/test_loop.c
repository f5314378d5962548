#include "io/loop.h"
#include "io/mailbox.h"

#include <criterion/criterion.h>

/* ---- timers ---- */

struct ticks {
    struct loop *loop;
    struct timer timer[3];
    char order[8];
    size_t count;
};

static void note(struct ticks *t, char name) {
    t->order[t->count++] = name;
}

static void on_first(void *arg) {
    note(arg, 'a');
}

static void on_second(void *arg) {
    struct ticks *t = arg;
    note(t, 'b');
    timer_stop(&t->timer[0]);
    timer_start(&t->timer[2], -5);
}

static void on_last(void *arg) {
    struct ticks *t = arg;
    note(t, 'c');
    loop_stop(t->loop);
}

Test(loop, fires_timers_in_order_once_and_not_after_they_were_stopped) {
    struct loop loop;
    loop_init(&loop);
    struct ticks t = {.loop = &loop};
    timer_init(&t.timer[0], &loop, on_first, &t);
    timer_init(&t.timer[1], &loop, on_second, &t);
    timer_init(&t.timer[2], &loop, on_last, &t);
    timer_start(&t.timer[1], 3);
    timer_start(&t.timer[0], 0);
    timer_start(&t.timer[0], 30);
    cr_expect(timer_pending(&t.timer[0]));
    loop_run(&loop);
    cr_expect_str_eq(t.order, "bc");
    cr_expect_not(timer_pending(&t.timer[0]));
    loop_release(&loop);
}

Test(loop, spells_the_date_as_http_wants_it) {
    struct loop loop;
    loop_init(&loop);
    struct span date = loop_date(&loop);
    cr_assert_eq(date.len, 29);
    cr_expect_arr_eq(date.ptr + 25, " GMT", 4);
    loop_release(&loop);
}

/* ---- letters ---- */

enum { LETTERS = 5 };

struct desk {
    struct loop *loop;
    struct mailbox *box;
    char order[16];
    size_t count;
};

struct note {
    struct letter letter;
    char name;
    struct note *next; /* posted when this one is delivered */
};

static void deliver(struct letter *letter, void *receiver) {
    struct note *n = container_of(letter, struct note, letter);
    struct desk *desk = receiver;
    desk->order[desk->count++] = n->name;
    if (n->next)
        mailbox_post(desk->box, &n->next->letter);
    else if (n->name == 'z')
        loop_stop(desk->loop);
}

static void *post_all(void *arg) {
    struct note *notes = ((void **)arg)[0];
    struct mailbox *box = ((void **)arg)[1];
    for (int i = 0; i < LETTERS; i++)
        mailbox_post(box, &notes[i].letter);
    return NULL;
}

Test(mailbox, delivers_in_the_order_of_posting_also_what_is_posted_on_delivery) {
    struct loop loop;
    struct mailbox box;
    loop_init(&loop);
    struct desk desk = {.loop = &loop, .box = &box};
    struct note last = {{.deliver = deliver}, 'z', NULL};
    struct note notes[LETTERS];
    for (int i = 0; i < LETTERS; i++)
        notes[i] = (struct note){{.deliver = deliver}, (char)('a' + i), i == 1 ? &last : NULL};
    mailbox_init(&box, &loop, &desk);
    pthread_t thread;
    void *arg[] = {notes, &box};
    cr_assert_eq(pthread_create(&thread, NULL, post_all, arg), 0);
    pthread_join(thread, NULL);
    loop_run(&loop);
    cr_expect_str_eq(desk.order, "abcdez");
    mailbox_release(&box);
    loop_release(&loop);
}

Test(mailbox, delivers_what_is_left_when_it_closes) {
    struct loop loop;
    struct mailbox box;
    loop_init(&loop);
    struct desk desk = {.loop = &loop, .box = &box};
    struct note second = {{.deliver = deliver}, 'b', NULL};
    struct note first = {{.deliver = deliver}, 'a', &second};
    mailbox_init(&box, &loop, &desk);
    mailbox_post(&box, &first.letter);
    mailbox_release(&box);
    cr_expect_str_eq(desk.order, "ab");
    loop_release(&loop);
}
