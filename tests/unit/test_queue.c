#include "rules/gate/queue.h"

#include <criterion/criterion.h>

struct waiting {
    struct queue_entry entry;
    int name;
};

static void add(struct queue *q, struct waiting *w, int name, uint64_t flow) {
    w->name = name;
    queue_add(q, &w->entry, flow);
}

static int next(struct queue *q) {
    struct queue_entry *e = queue_take(q);
    return e ? container_of(e, struct waiting, entry)->name : -1;
}

Test(queue, first_come_first_served_within_a_flow) {
    struct queue q;
    struct waiting w[3];
    queue_init(&q);
    for (int i = 0; i < 3; i++)
        add(&q, &w[i], i, 7);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(next(&q), i);
    cr_assert_eq(next(&q), -1);
}

Test(queue, flows_take_turns_however_many_wait_in_each) {
    struct queue q;
    struct waiting many[5], one;
    queue_init(&q);
    for (int i = 0; i < 5; i++)
        add(&q, &many[i], i, 1);
    add(&q, &one, 99, 2);
    cr_assert_eq(queue_ahead(&q, 1), 6);
    cr_assert_eq(queue_ahead(&q, 3), 2);
    cr_assert_eq(next(&q), 0);
    cr_assert_eq(next(&q), 99);
    cr_assert_eq(next(&q), 1);
}

Test(queue, one_that_leaves_is_not_served_nor_counted) {
    struct queue q;
    struct waiting w[3];
    queue_init(&q);
    for (int i = 0; i < 3; i++)
        add(&q, &w[i], i, 4);
    queue_remove(&q, &w[1].entry);
    cr_assert_eq(q.count, 2);
    cr_assert_eq(queue_ahead(&q, 4), 2);
    cr_assert_eq(next(&q), 0);
    cr_assert_eq(next(&q), 2);
    cr_assert_eq(q.count, 0);
}
