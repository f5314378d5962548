/* A disconnect walks like this:
 *
 *   its token (401) -> its id (400) -> whose it is (403)
 *     -> its turn among the agent's beats: the controller is asked, the agent waits
 *          |-- it said yes: beats received before the disconnect are dropped, the next is a first
 *          '-- anything else: the held beat goes on as if nothing had been */
#include "serve/beats/disconnect.h"

#include "base/metric.h"
#include "serve/beats/turn.h"
#include "serve/limits/limiting.h"
#include "serve/request/answer.h"

static enum err judge(struct serve *s, struct request *r) {
    request_authenticate(s, r);
    if (!r->verified) {
        request_count_refused_token(r->fault);
        return token_fault_err(r->fault);
    }
    return r->has_agent ? request_authorize(s, r) : ERR_BAD_AGENT_ID;
}

void disconnect_journey(struct serve *s, struct request *r) {
    static const struct turn_kind disconnect = {.is_beat = false};
    int retry_after_s = 0;
    enum err error = judge(s, r);
    if (error == ERR_OK)
        error = limiting_control(s, r, &retry_after_s);
    if (error != ERR_OK) {
        request_refuse_until(s, r, error, retry_after_s);
        return;
    }
    struct agents *agents = s->shared->agents;
    struct agent *agent = agents_lock(agents, &r->agent, true);
    struct turn *turn = turn_take(s, r, agent, &disconnect);
    agents_unlock(agents, agent);
    if (turn)
        turn_launch(turn);
    else
        request_refuse(s, r, ERR_OVERLOADED);
}
