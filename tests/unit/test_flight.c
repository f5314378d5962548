#include "rules/agents/flight.h"

#include <criterion/criterion.h>

static const uint8_t one[GRANT_PROOF] = {1}, two[GRANT_PROOF] = {2};

static size_t length(const struct list *head) {
    size_t n = 0;
    list_each (at, head) {
        n++;
    }
    return n;
}

Test(flight, is_found_by_its_proof_and_no_other) {
    struct list flights, passengers;
    list_init(&flights);
    cr_expect_null(flight_find(&flights, one, 0));
    struct flight *first = flight_start(&flights, one, 0), *second = flight_start(&flights, two, 0);
    cr_expect_eq(flight_find(&flights, one, 0), first);
    cr_expect_eq(flight_find(&flights, two, 0), second);
    flight_land(first, &passengers);
    cr_expect_null(flight_find(&flights, one, 0));
    cr_expect_eq(flight_find(&flights, two, 0), second);
    flight_land(second, &passengers);
    cr_expect(list_empty(&flights));
}

Test(flight, one_that_took_off_before_a_purge_takes_nobody_who_came_after) {
    struct list flights, passengers;
    list_init(&flights);
    struct flight *old = flight_start(&flights, one, 4);
    cr_expect_eq(flight_find(&flights, one, 4), old);
    cr_expect_null(flight_find(&flights, one, 5));
    struct flight *young = flight_start(&flights, one, 5);
    cr_expect_eq(flight_find(&flights, one, 5), young);
    flight_land(old, &passengers);
    cr_expect_eq(flight_find(&flights, one, 5), young);
    flight_land(young, &passengers);
}

Test(flight, hands_over_its_followers_in_order_when_it_lands) {
    struct list flights, seats[3], landed;
    list_init(&flights);
    struct flight *f = flight_start(&flights, one, 0);
    for (int i = 0; i < 3; i++)
        cr_expect(flight_join(f, &seats[i]));
    cr_expect_eq(f->follower_count, 3);
    flight_land(f, &landed);
    cr_expect_eq(length(&landed), 3);
    cr_expect_eq(landed.next, &seats[0]);
    cr_expect_eq(landed.prev, &seats[2]);
    cr_expect(list_empty(&flights));
}

Test(flight, takes_sixty_four_and_a_place_that_was_left_is_free_again) {
    struct list flights, seats[FLIGHT_FOLLOWERS_MAX], late, landed;
    list_init(&flights);
    struct flight *f = flight_start(&flights, one, 0);
    for (int i = 0; i < FLIGHT_FOLLOWERS_MAX; i++)
        cr_expect(flight_join(f, &seats[i]));
    cr_expect_not(flight_join(f, &late));
    flight_leave(f, &seats[7]);
    cr_expect(flight_join(f, &late));
    flight_land(f, &landed);
    cr_expect_eq(length(&landed), FLIGHT_FOLLOWERS_MAX);
}
