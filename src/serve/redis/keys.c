#include "serve/redis/keys.h"

#include "base/panic.h"

struct span key_spell(const struct shared *shared, const char *name, const struct agent_id *agent,
                      char memory[KEY_MAX]) {
    char id[AGENT_ID_HEX];
    struct str key;
    str_init_fixed(&key, memory, KEY_MAX);
    str_addf(&key, "%s1:%s", shared->config->redis.key_prefix, name);
    if (agent) {
        agent_id_text(agent, id);
        str_addf(&key, ":%.*s", AGENT_ID_HEX, id);
    }
    invariant(!key.overflow); /* the prefix has a maximum, names are ours */
    return str_span(&key);
}
