#include "rules/agents/agents.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t hash_key[16] = "0123456789abcde";
static const struct grant_key grant_key = {"0123456789abcdef0123456789abcde"};

enum { MEMORY = 64 << 20, SHARDS = 64 };

static struct agent_id id_of(uint32_t n) {
    struct agent_id id = {{0x6a}};
    for (size_t i = 0; i < 4; i++)
        id.bytes[8 + i] = (uint8_t)(n >> (8 * i));
    return id;
}

static struct agents *table_of(size_t memory, size_t max_agents) {
    return agents_new(memory, max_agents, hash_key);
}

static struct grant *grant_of(uint32_t n, size_t body_len) {
    struct agent_id id = id_of(n);
    struct grant_pass pass;
    char *body = calloc(1, body_len);
    grant_pass_make(&grant_key, &id, SPAN("secret"), &pass);
    struct grant_facts facts = {.status = 201, .fetched_ms = 1, .expires_s = 2};
    struct grant *g = grant_seal(&pass, &facts, (struct span){body, body_len});
    free(body);
    cr_assert_not_null(g);
    return g;
}

static void give_grant(struct agents *table, uint32_t n, size_t body_len) {
    struct agent_id id = id_of(n);
    struct agent *a = agents_lock(table, &id, true);
    agents_set_grant(table, a, grant_of(n, body_len));
    agents_unlock(table, a);
}

static bool has_grant(struct agents *table, uint32_t n) {
    struct agent_id id = id_of(n);
    struct agent *a = agents_lock(table, &id, false);
    if (!a)
        return false;
    bool has = a->grant != NULL;
    agents_unlock(table, a);
    return has;
}

/* An entry that stays: it has had a beat. */
static void know(struct agents *table, uint32_t n) {
    struct agent_id id = id_of(n);
    struct agent *a = agents_lock(table, &id, true);
    a->beat.sequence = 1;
    agents_unlock(table, a);
}

static bool is_known(struct agents *table, uint32_t n) {
    struct agent_id id = id_of(n);
    struct agent *a = agents_lock(table, &id, false);
    if (a)
        agents_unlock(table, a);
    return a != NULL;
}

static size_t count_known(struct agents *table, uint32_t up_to) {
    size_t count = 0;
    for (uint32_t n = 0; n < up_to; n++)
        count += is_known(table, n);
    return count;
}

Test(agents, are_there_once_they_know_something) {
    struct agents *table = table_of(MEMORY, 1000);
    cr_expect_not(is_known(table, 1));
    know(table, 1);
    cr_expect(is_known(table, 1));
    cr_expect_not(is_known(table, 2));
    agents_free(table);
}

Test(agents, an_entry_that_learnt_nothing_is_dropped_when_it_is_unlocked) {
    struct agents *table = table_of(MEMORY, 1000);
    struct agent_id id = id_of(1);
    agents_unlock(table, agents_lock(table, &id, true));
    cr_expect_not(is_known(table, 1));
    agents_free(table);
}

Test(agents, an_entry_somebody_waits_for_is_kept_though_it_knows_nothing) {
    struct agents *table = table_of(MEMORY, 1000);
    struct agent_id id = id_of(1);
    static const uint8_t proof[GRANT_PROOF];
    struct list nobody, waiter;
    struct agent *a = agents_lock(table, &id, true);
    struct flight *f = flight_start(&a->flights, proof, 0);
    agents_unlock(table, a);
    cr_expect(is_known(table, 1));
    a = agents_lock(table, &id, false);
    flight_land(f, &nobody);
    list_push_back(&a->waiters, &waiter);
    agents_unlock(table, a);
    a = agents_lock(table, &id, false);
    cr_assert_not_null(a, "a call waits for its turn");
    list_remove(&waiter);
    a->beat.blocked = true;
    agents_unlock(table, a);
    a = agents_lock(table, &id, false);
    cr_assert_not_null(a, "a call is under way");
    a->beat.blocked = false;
    agents_unlock(table, a);
    cr_expect_not(is_known(table, 1));
    agents_free(table);
}

Test(agents, many_are_found_again) {
    struct agents *table = table_of(MEMORY, 100000);
    for (uint32_t n = 0; n < 20000; n++)
        know(table, n);
    cr_expect_eq(count_known(table, 20000), 20000);
    agents_free(table);
}

Test(agents, above_their_number_the_least_recently_used_idle_one_goes) {
    struct agents *table = table_of(MEMORY, 6400 - SHARDS); /* 100 a shard */
    for (uint32_t n = 0; n < 6000; n++)
        know(table, n);
    for (uint32_t n = 6000; n < 30000; n++) {
        know(table, n);
        cr_assert(is_known(table, 17), "it is used all the time");
    }
    cr_expect_leq(count_known(table, 30000), 6400);
    cr_expect_gt(count_known(table, 30000), 6000);
    cr_expect(is_known(table, 29999));
    cr_expect_not(is_known(table, 3));
    agents_free(table);
}

Test(agents, nothing_that_somebody_waits_for_is_ever_dropped) {
    struct agents *table = table_of(MEMORY, 1);
    for (uint32_t n = 0; n < 4000; n++) {
        struct agent_id id = id_of(n);
        struct agent *a = agents_lock(table, &id, true);
        a->beat.sequence = 1;
        a->beat.held = n % 2 == 0;
        a->beat.sending = n % 4 == 1;
        agents_unlock(table, a);
    }
    for (uint32_t n = 0; n < 4000; n++)
        if (n % 2 == 0 || n % 4 == 1)
            cr_assert(is_known(table, n), "agent %u", n);
    for (uint32_t n = 0; n < 4000; n++) {
        struct agent_id id = id_of(n);
        struct agent *a = agents_lock(table, &id, false);
        if (!a)
            continue;
        a->beat.held = a->beat.sending = false;
        agents_unlock(table, a);
    }
    for (uint32_t n = 4000; n < 12000; n++)
        know(table, n);
    cr_expect_leq(count_known(table, 12000), 2 * SHARDS);
    agents_free(table);
}

Test(agents, above_their_memory_the_least_recently_used_grants_go_and_the_agents_stay) {
    enum { BODY = 10000, EACH_SHARD = 4 };
    struct agents *table = table_of((size_t)SHARDS * EACH_SHARD * (BODY + 500), 100000);
    for (uint32_t n = 0; n < 2000; n++) {
        know(table, n);
        give_grant(table, n, BODY);
        cr_assert(has_grant(table, n), "the newest fits");
    }
    size_t with = 0;
    for (uint32_t n = 0; n < 2000; n++)
        with += has_grant(table, n);
    cr_expect_leq(with, SHARDS * EACH_SHARD);
    cr_expect_geq(with, SHARDS * EACH_SHARD / 2);
    cr_expect_eq(count_known(table, 2000), 2000);
    agents_free(table);
}

Test(agents, a_grant_larger_than_all_memory_is_not_kept) {
    struct agents *table = table_of(SHARDS * 1000, 1000);
    give_grant(table, 1, 5000);
    cr_expect_not(has_grant(table, 1));
    agents_free(table);
}

Test(agents, a_new_grant_takes_the_place_of_the_old_one) {
    struct agents *table = table_of((size_t)SHARDS * 10000, 1000);
    for (int i = 0; i < 100; i++)
        give_grant(table, 1, 5000);
    cr_expect(has_grant(table, 1), "the old ones' memory was given back");
    struct agent_id id = id_of(1);
    struct agent *a = agents_lock(table, &id, false);
    agents_set_grant(table, a, NULL);
    agents_unlock(table, a);
    cr_expect_not(is_known(table, 1));
    agents_free(table);
}

Test(agents, each_purge_has_a_number_of_its_own_and_forgets_the_grant) {
    struct agents *table = table_of(MEMORY, 1000);
    struct agent_id one = id_of(1), two = id_of(2);
    give_grant(table, 1, 100);
    give_grant(table, 2, 100);
    uint64_t before = agents_purges(table);
    struct agent *a = agents_lock(table, &one, true);
    a->beat.sequence = 1;
    agents_purge(table, a);
    cr_expect_null(a->grant);
    uint64_t first = a->purged;
    agents_unlock(table, a);
    a = agents_lock(table, &two, true);
    agents_purge(table, a);
    uint64_t second = a->purged;
    agents_unlock(table, a);
    cr_expect_gt(first, before);
    cr_expect_gt(second, first);
    cr_expect_eq(agents_purges(table), second);
    agents_free(table);
}

/* ---- revocation ---- */

enum { IAT = 1000, NOW = 5000, TWENTY_FIVE_HOURS = 25 * 3600 * 1000 };

static enum revoked revoked_at(struct agents *table, uint32_t n, int64_t issued_s, int64_t now_ms) {
    struct agent_id id = id_of(n);
    struct agent *a = agents_lock(table, &id, false);
    if (!a)
        return REVOKED_NOT;
    enum revoked why = agents_revoked(table, a, issued_s, now_ms);
    agents_unlock(table, a);
    return why;
}

static void revoke(struct agents *table, uint32_t n, enum revoked why, int64_t cutoff_s) {
    struct agent_id id = id_of(n);
    struct agent *a = agents_lock(table, &id, true);
    agents_revoke(table, a, why, cutoff_s, NOW);
    agents_unlock(table, a);
}

static void readmit(struct agents *table, uint32_t n) {
    struct agent_id id = id_of(n);
    struct agent *a = agents_lock(table, &id, true);
    agents_readmit(table, a);
    agents_unlock(table, a);
}

/* The process that issued it may have a clock that is five seconds ahead. */
Test(agents, tokens_up_to_five_seconds_after_the_cut_off_are_refused_and_newer_ones_are_not) {
    struct agents *table = table_of(MEMORY, 1000);
    cr_expect_not(agents_any_revoked(table));
    revoke(table, 1, REVOKED_SUSPENDED, IAT);
    revoke(table, 2, REVOKED_DELETED, IAT);
    cr_expect(agents_any_revoked(table));
    cr_expect_eq(revoked_at(table, 1, IAT - 1, NOW), REVOKED_SUSPENDED);
    cr_expect_eq(revoked_at(table, 1, IAT, NOW), REVOKED_SUSPENDED);
    cr_expect_eq(revoked_at(table, 1, IAT + 5, NOW), REVOKED_SUSPENDED);
    cr_expect_eq(revoked_at(table, 1, IAT + 6, NOW), REVOKED_NOT);
    cr_expect_eq(revoked_at(table, 2, IAT + 5, NOW), REVOKED_DELETED);
    cr_expect_eq(revoked_at(table, 2, IAT + 6, NOW), REVOKED_NOT);
    cr_expect_eq(revoked_at(table, 3, IAT, NOW), REVOKED_NOT);
    agents_free(table);
}

/* The new secret may be used within the second in which it was given out. */
Test(agents, a_regenerate_spares_tokens_of_its_own_second) {
    struct agents *table = table_of(MEMORY, 1000);
    revoke(table, 1, REVOKED_REGENERATED, IAT);
    cr_expect_eq(revoked_at(table, 1, IAT - 1, NOW), REVOKED_REGENERATED);
    cr_expect_eq(revoked_at(table, 1, IAT, NOW), REVOKED_NOT);
    agents_free(table);
}

Test(agents, who_is_let_in_again_is_not_suspended_any_more_but_his_old_secret_stays_regenerated) {
    struct agents *table = table_of(MEMORY, 1000);
    revoke(table, 1, REVOKED_REGENERATED, IAT - 10);
    revoke(table, 1, REVOKED_SUSPENDED, IAT);
    cr_expect_eq(revoked_at(table, 1, IAT - 11, NOW), REVOKED_SUSPENDED);
    readmit(table, 1);
    cr_expect_eq(revoked_at(table, 1, IAT, NOW), REVOKED_NOT);
    cr_expect_eq(revoked_at(table, 1, IAT - 11, NOW), REVOKED_REGENERATED);
    cr_expect(agents_any_revoked(table));
    agents_free(table);
}

Test(agents, a_revocation_is_kept_for_as_long_as_a_token_can_live) {
    struct agents *table = table_of(MEMORY, 1000);
    revoke(table, 1, REVOKED_DELETED, IAT);
    cr_expect_eq(revoked_at(table, 1, IAT, NOW + TWENTY_FIVE_HOURS - 1), REVOKED_DELETED);
    cr_expect_eq(revoked_at(table, 1, IAT, NOW + TWENTY_FIVE_HOURS), REVOKED_NOT);
    cr_expect_not(agents_any_revoked(table));
    cr_expect_not(is_known(table, 1), "nothing else was known of it");
    agents_free(table);
}

Test(agents, one_that_goes_takes_its_revocation_along) {
    struct agents *table = table_of(MEMORY, 1);
    revoke(table, 1, REVOKED_SUSPENDED, IAT);
    readmit(table, 1);
    cr_expect_not(agents_any_revoked(table));
    for (uint32_t n = 0; n < 4 * SHARDS; n++)
        revoke(table, n, REVOKED_SUSPENDED, IAT);
    size_t left = count_known(table, 4 * SHARDS);
    cr_expect_leq(left, SHARDS);
    for (uint32_t n = 0; n < 4 * SHARDS; n++)
        readmit(table, n);
    cr_expect_not(agents_any_revoked(table));
    agents_free(table);
}

struct visits {
    uint8_t seen[1000];
    size_t worker, workers;
    struct agents *table;
};

static void visit(void *arg, struct agent *agent) {
    struct visits *v = arg;
    uint32_t n = agent->id.bytes[8] | (uint32_t)agent->id.bytes[9] << 8;
    v->seen[n]++;
    cr_assert_eq(agents_owner(v->table, &agent->id, v->workers), v->worker);
}

Test(agents, each_belongs_to_one_worker_whatever_their_number) {
    struct agents *table = table_of(MEMORY, 100000);
    for (uint32_t n = 0; n < 1000; n++)
        know(table, n);
    static const size_t counts[] = {1, 2, 3, 4, 7, 64};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct visits v = {.workers = counts[i], .table = table};
        for (v.worker = 0; v.worker < v.workers; v.worker++)
            agents_each_owned(table, v.worker, v.workers, visit, &v);
        for (uint32_t n = 0; n < 1000; n++)
            cr_assert_eq(v.seen[n], 1, "agent %u, %zu workers", n, counts[i]);
    }
    agents_free(table);
}

Test(agents, tokens_hash_differently_and_never_to_zero) {
    struct agents *table = table_of(MEMORY, 10);
    cr_expect_neq(agents_token_hash(table, SPAN("a")), agents_token_hash(table, SPAN("b")));
    cr_expect_eq(agents_token_hash(table, SPAN("a")), agents_token_hash(table, SPAN("a")));
    cr_expect_neq(agents_token_hash(table, SPAN_NONE), 0);
    agents_free(table);
}

Test(agents, bytes_are_overwritten_in_place) {
    struct bytes b = {NULL, 0, 0};
    bytes_set(&b, SPAN("long enough"));
    const char *first = b.ptr;
    bytes_set(&b, SPAN("short"));
    cr_expect_eq(b.ptr, first);
    cr_expect(span_equal((struct span){b.ptr, b.len}, SPAN("short")));
    bytes_set(&b, SPAN_NONE);
    cr_expect_eq(b.len, 0);
    bytes_set(&b, SPAN("longer than it has ever been before"));
    cr_expect(span_equal((struct span){b.ptr, b.len}, SPAN("longer than it has ever been before")));
    free(b.ptr);
}

static void *work(void *arg) {
    struct agents *table = arg;
    for (uint32_t i = 0; i < 20000; i++) {
        struct agent_id id = id_of(i % 97);
        struct agent *a = agents_lock(table, &id, true);
        a->beat.sequence++;
        if (i % 31 == 0)
            agents_purge(table, a);
        agents_unlock(table, a);
    }
    return NULL;
}

Test(agents, threads_do_not_get_in_each_others_way) {
    struct agents *table = table_of(MEMORY, 1000);
    pthread_t threads[4];
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, work, table);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t n = 0; n < 97; n++) {
        struct agent_id id = id_of(n);
        struct agent *a = agents_lock(table, &id, false);
        sum += a->beat.sequence;
        agents_unlock(table, a);
    }
    cr_expect_eq(sum, 80000);
    agents_free(table);
}
