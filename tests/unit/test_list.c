#include "base/list.h"

#include <criterion/criterion.h>

struct item {
    int number;
    struct list link;
};

/* The numbers in the list as one decimal: 1, 2, 3 is 123. */
static int digits(struct list *head) {
    int sum = 0;
    list_each (at, head) {
        sum = sum * 10 + container_of(at, struct item, link)->number;
    }
    return sum;
}

static int digits_backwards(const struct list *head) {
    int sum = 0;
    for (struct list *at = head->prev; at != head; at = at->prev)
        sum = sum * 10 + container_of(at, struct item, link)->number;
    return sum;
}

Test(list, is_empty_until_something_is_in_it_and_after_it_left) {
    struct list head;
    struct item one = {.number = 1};
    list_init(&head);
    cr_expect(list_empty(&head));
    list_push_back(&head, &one.link);
    cr_expect_not(list_empty(&head));
    list_remove(&one.link);
    cr_expect(list_empty(&head));
}

Test(list, keeps_the_order_in_both_directions) {
    struct list head;
    struct item one = {.number = 1}, two = {.number = 2}, three = {.number = 3};
    list_init(&head);
    list_push_back(&head, &two.link);
    list_push_back(&head, &three.link);
    list_push_front(&head, &one.link);
    cr_expect_eq(digits(&head), 123);
    cr_expect_eq(digits_backwards(&head), 321);
}

Test(list, removing_from_the_middle_and_the_ends_leaves_the_others) {
    struct list head;
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    list_init(&head);
    for (int i = 0; i < 4; i++)
        list_push_back(&head, &items[i].link);
    list_remove(&items[1].link);
    cr_expect_eq(digits(&head), 134);
    list_remove(&items[0].link);
    cr_expect_eq(digits(&head), 34);
    list_remove(&items[3].link);
    cr_expect_eq(digits(&head), 3);
    cr_expect_eq(digits_backwards(&head), 3);
}

Test(list, removing_twice_is_harmless) {
    struct list head;
    struct item one = {.number = 1}, two = {.number = 2};
    list_init(&head);
    list_init(&two.link);
    list_push_back(&head, &one.link);
    list_remove(&two.link);
    list_remove(&one.link);
    list_remove(&one.link);
    cr_expect(list_empty(&head));
}

Test(list, a_removed_item_can_go_into_another_list) {
    struct list first, second;
    struct item one = {.number = 1};
    list_init(&first);
    list_init(&second);
    list_push_back(&first, &one.link);
    list_remove(&one.link);
    list_push_back(&second, &one.link);
    cr_expect(list_empty(&first));
    cr_expect_eq(digits(&second), 1);
}

Test(list, the_safe_walk_survives_the_removal_of_every_item) {
    struct list head;
    struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    int seen = 0;
    list_init(&head);
    for (int i = 0; i < 3; i++)
        list_push_back(&head, &items[i].link);
    list_each_safe (at, &head) {
        list_remove(at);
        seen++;
    }
    cr_expect_eq(seen, 3);
    cr_expect(list_empty(&head));
}
