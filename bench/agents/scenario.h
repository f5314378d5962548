/* What a run does, stage after stage: a preset by name, or a file. Pure; scenario_yaml.c is the
 * only file of the bench that includes yaml.h. */
#pragma once

#include "base/str.h"

enum {
    SCENARIO_STAGES_MAX = 64,
    SCENARIO_NAME_MAX = 48,
    SCENARIO_TEXT_MAX = 256,
    SCENARIO_WHY = 256,
};

/*   symbol, name in files, what it does */
#define STAGE_ROWS(X)                                                                              \
    X(CONNECT, "connect",                                                                          \
      "all agents connect, evenly `within`; ends when all are, or after `for`")                    \
    X(LEAVE, "leave", "all agents say goodbye, evenly `within`")                                   \
    X(HOLD, "hold", "nothing changes `for` this long")                                             \
    X(RESTART, "restart", "`percent` of the agents restart in each minute, `for` this long")       \
    X(ATTACK, "attack", "strangers of a `kind` come at a `rate` per second, `for` this long")      \
    X(CONTROLLER, "controller",                                                                    \
      "becomes `state` up, refuse, hang, pause or resume; gets a "                                 \
      "`delay`; has the next `fail` calls fail")                                                   \
    X(GATEWAY, "gateway", "becomes `state` kill, start, pause or resume")                          \
    X(REDIS, "redis",                                                                              \
      "becomes `state` pause, resume, kill or start (--with-redis, or --redis-pid)")               \
    X(RUN, "run", "runs a `command` of yours and waits for its end")

enum stage_kind {
#define X(symbol, name, help) STAGE_##symbol,
    STAGE_ROWS(X)
#undef X
        STAGE_KIND_COUNT
};

#define STAGE_STATE_ROWS(X)                                                                        \
    X(NONE, "")                                                                                    \
    X(UP, "up")                                                                                    \
    X(REFUSE, "refuse")                                                                            \
    X(HANG, "hang") X(PAUSE, "pause") X(RESUME, "resume") X(KILL, "kill") X(START, "start")

enum stage_state {
#define X(symbol, name) STATE_##symbol,
    STAGE_STATE_ROWS(X)
#undef X
        STATE_COUNT
};

/* Heartbeats with a forged token; connects with a wrong secret; clients that send a byte a second.
 */
#define ATTACK_ROWS(X)                                                                             \
    X(NONE, "") X(FORGED, "forged") X(WRONG_SECRET, "wrong-secret") X(SLOW, "slow")

enum attack_kind {
#define X(symbol, name) ATTACK_##symbol,
    ATTACK_ROWS(X)
#undef X
        ATTACK_COUNT
};

struct stage {
    enum stage_kind kind;
    bool unmeasured; /* a preparation: in the timeline, but in no figure */
    enum stage_state state;
    enum attack_kind attack;
    double within_us, for_us; /* for_us after everything else; 0: at once, for connect: see run.h */
    double percent;           /* restart: a minute */
    double rate;              /* attack: a second */
    double delay_us;          /* controller; below 0: not given */
    double fail;              /* controller: calls; below 0: not given */
    char name[SCENARIO_NAME_MAX];
    char command[SCENARIO_TEXT_MAX];
};

struct scenario {
    char name[SCENARIO_NAME_MAX];
    size_t count;
    struct stage at[SCENARIO_STAGES_MAX];
};

/* What presets are made of; the rest is a preset's own. */
struct scenario_wishes {
    double within_us; /* of the connect */
    double for_us;    /* of what comes after it */
    double percent;   /* rolling */
    double rate;      /* attack */
    bool warm;        /* everyone was connected once before, and said goodbye */
    double warm_us;   /* that takes this long */
    double rest_us;   /* and then all is quiet for this long */
    bool redis;       /* chaos: there is one to be stopped */
};

/* storm, steady, rolling, soak, chaos, attack; false for any other name. */
bool scenario_preset(const char *name, const struct scenario_wishes *wishes, struct scenario *out);
/* "storm, steady, ..." */
void scenario_preset_names(struct str *out);

/* One key of one stage as it stands in a file; false with a sentence in `why`. */
bool stage_set(struct stage *stage, struct span key, struct span value, char why[SCENARIO_WHY]);
void stage_init(struct stage *stage);
/* After all keys: is something missing that its kind needs? Gives it a name if it has none. */
bool stage_finish(struct stage *stage, char why[SCENARIO_WHY]);
const char *stage_kind_name(enum stage_kind kind);
const char *stage_kind_help(enum stage_kind kind);
const char *stage_state_name(enum stage_state state);
const char *attack_name(enum attack_kind kind);

/* A file: options of the command line without their dashes, and `stages`, a list of stages. Options
 * are told through `option`, which returns false with a sentence in `why`. Complaints begin with
 * the line. */
bool scenario_read(struct span text, struct scenario *out,
                   bool (*option)(void *arg, const char *name, const char *value,
                                  char why[SCENARIO_WHY]),
                   void *arg, char why[SCENARIO_WHY]);

/* The stages on one line each: for people, and for the hash that says whether two runs did the
 * same. */
void scenario_print(const struct scenario *scenario, struct str *out);
