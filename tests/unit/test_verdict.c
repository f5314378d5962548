#include "rules/agents/verdict.h"

#include <criterion/criterion.h>

static const uint8_t hash_key[16] = "0123456789abcde";
static const char said[256] = "Agent is suspended";

enum { NOW_MS = 1000000 };

struct house {
    struct agents *agents;
    struct agent *agent;
};

static struct house build(void) {
    struct agent_id id = {{0x6a}};
    struct house h = {.agents = agents_new(1 << 20, 100, hash_key)};
    h.agent = agents_lock(h.agents, &id, true);
    return h;
}

static void tear_down(struct house *h) {
    agents_unlock(h->agents, h->agent);
    agents_free(h->agents);
}

static void note(struct house *h, int status, struct span token) {
    verdict_note(h->agent, status, agents_token_hash(h->agents, token), said, NOW_MS);
}

static const struct verdict *look(struct house *h, struct span token, int64_t now_ms) {
    return verdict_for(h->agents, h->agent, token, now_ms);
}

Test(verdict, there_is_none_before_the_controller_said_one) {
    struct house h = build();
    cr_assert_null(look(&h, SPAN("token"), NOW_MS));
    cr_assert_eq(verdict_left_ms(h.agent, NOW_MS), 0);
    verdict_forget(h.agent);
    tear_down(&h);
}

Test(verdict, a_401_binds_to_the_token_it_was_said_to) {
    struct house h = build();
    note(&h, 401, SPAN("token"));
    const struct verdict *v = look(&h, SPAN("token"), NOW_MS);
    cr_assert_not_null(v);
    cr_assert_eq(v->status, 401);
    cr_assert_str_eq(v->message, said);
    cr_assert_null(look(&h, SPAN("another"), NOW_MS));
    cr_assert_not_null(look(&h, SPAN("token"), NOW_MS), "it still stands");
    tear_down(&h);
}

Test(verdict, a_403_and_a_404_bind_to_the_agent) {
    struct house h = build();
    for (int status = 403; status <= 404; status++) {
        note(&h, status, SPAN("token"));
        const struct verdict *v = look(&h, SPAN("another"), NOW_MS);
        cr_assert_not_null(v);
        cr_assert_eq(v->status, status);
    }
    tear_down(&h);
}

Test(verdict, it_holds_for_ten_minutes) {
    struct house h = build();
    note(&h, 404, SPAN("token"));
    cr_assert_eq(verdict_left_ms(h.agent, NOW_MS + 1), VERDICT_MS - 1);
    cr_assert_not_null(look(&h, SPAN("token"), NOW_MS + VERDICT_MS - 1));
    cr_assert_eq(verdict_left_ms(h.agent, NOW_MS + VERDICT_MS), 0);
    cr_assert_null(look(&h, SPAN("token"), NOW_MS + VERDICT_MS));
    cr_assert_null(h.agent->verdict, "it is gone for good");
    tear_down(&h);
}

Test(verdict, it_holds_no_more_once_it_is_forgotten) {
    struct house h = build();
    note(&h, 404, SPAN("token"));
    verdict_forget(h.agent);
    cr_assert_null(look(&h, SPAN("token"), NOW_MS));
    tear_down(&h);
}
