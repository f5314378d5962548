#include "agents/scenario.h"

#include "agents/units.h"

#include <stddef.h>
#include <stdio.h>

static const struct {
    const char *name, *help;
} kinds[] = {
#define X(symbol, name, help) {name, help},
    STAGE_ROWS(X)
#undef X
};

static const char *const states[] = {
#define X(symbol, name) name,
    STAGE_STATE_ROWS(X)
#undef X
};

static const char *const attacks[] = {
#define X(symbol, name) name,
    ATTACK_ROWS(X)
#undef X
};

const char *stage_kind_name(enum stage_kind kind) {
    return kinds[kind].name;
}

const char *stage_kind_help(enum stage_kind kind) {
    return kinds[kind].help;
}

const char *stage_state_name(enum stage_state state) {
    return states[state];
}

const char *attack_name(enum attack_kind kind) {
    return attacks[kind];
}

/* ---- one stage from its keys ---- */

static const struct {
    const char *key;
    enum unit unit;
    size_t at;
} numbers[] = {
    {"within", UNIT_TIME, offsetof(struct stage, within_us)},
    {"for", UNIT_TIME, offsetof(struct stage, for_us)},
    {"percent", UNIT_PERCENT, offsetof(struct stage, percent)},
    {"rate", UNIT_COUNT, offsetof(struct stage, rate)},
    {"delay", UNIT_TIME, offsetof(struct stage, delay_us)},
    {"fail", UNIT_COUNT, offsetof(struct stage, fail)},
};

static bool complain(char why[SCENARIO_WHY], const char *what, struct span about) {
    (void)snprintf(why, SCENARIO_WHY, "%s%.*s", what, (int)(about.len < 80 ? about.len : 80),
                   about.ptr ? about.ptr : "");
    return false;
}

static int choose(const char *const *names, int count, struct span text) {
    for (int i = 0; i < count; i++)
        if (text.len > 0 && span_equal(span_of(names[i]), text))
            return i;
    return -1;
}

static bool set_kind(struct stage *stage, struct span value, char why[SCENARIO_WHY]) {
    for (int i = 0; i < STAGE_KIND_COUNT; i++)
        if (span_equal(span_of(kinds[i].name), value)) {
            stage->kind = (enum stage_kind)i;
            return true;
        }
    return complain(why, "no stage does that: ", value);
}

static bool set_text(char *out, size_t size, struct span value, char why[SCENARIO_WHY]) {
    if (value.len >= size)
        return complain(why, "this is too long: ", value);
    memcpy(out, value.ptr, value.len);
    out[value.len] = '\0';
    return true;
}

static bool set_choice(struct stage *stage, struct span key, struct span value,
                       char why[SCENARIO_WHY]) {
    bool is_state = span_equal(key, SPAN("state"));
    int chosen =
        is_state ? choose(states, STATE_COUNT, value) : choose(attacks, ATTACK_COUNT, value);
    if (chosen < 0)
        return complain(why, is_state ? "no such state: " : "no such kind of attack: ", value);
    if (is_state)
        stage->state = (enum stage_state)chosen;
    else
        stage->attack = (enum attack_kind)chosen;
    return true;
}

static bool set_measured(struct stage *stage, struct span value, char why[SCENARIO_WHY]) {
    stage->unmeasured = span_equal(value, SPAN("false"));
    return stage->unmeasured || span_equal(value, SPAN("true")) ||
           complain(why, "true or false, not ", value);
}

bool stage_set(struct stage *stage, struct span key, struct span value, char why[SCENARIO_WHY]) {
    if (span_equal(key, SPAN("do")))
        return set_kind(stage, value, why);
    if (span_equal(key, SPAN("name")))
        return set_text(stage->name, sizeof stage->name, value, why);
    if (span_equal(key, SPAN("command")))
        return set_text(stage->command, sizeof stage->command, value, why);
    if (span_equal(key, SPAN("measured")))
        return set_measured(stage, value, why);
    if (span_equal(key, SPAN("state")) || span_equal(key, SPAN("kind")))
        return set_choice(stage, key, value, why);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (span_equal(span_of(numbers[i].key), key))
            return units_parse(numbers[i].unit, value,
                               (double *)(void *)((char *)stage + numbers[i].at)) ||
                   complain(why, "not a number with its unit (2s, 5%): ", value);
    return complain(why, "a stage has no such key: ", key);
}

void stage_init(struct stage *stage) {
    *stage = (struct stage){.kind = STAGE_KIND_COUNT, .delay_us = -1, .fail = -1};
}

static const char *missing(const struct stage *s) {
    bool changes = s->state != STATE_NONE || s->delay_us >= 0 || s->fail >= 0;
    switch (s->kind) {
    case STAGE_KIND_COUNT:
        return "a stage needs `do`: what it does";
    case STAGE_HOLD:
        return s->for_us > 0 ? NULL : "hold needs `for`";
    case STAGE_RESTART:
        return s->for_us > 0 && s->percent > 0 ? NULL : "restart needs `percent` and `for`";
    case STAGE_ATTACK:
        return s->for_us > 0 && s->rate > 0 && s->attack ? NULL
                                                         : "attack needs `kind`, `rate` and `for`";
    case STAGE_CONTROLLER:
        return changes ? NULL : "controller needs `state`, `delay` or `fail`";
    case STAGE_GATEWAY:
    case STAGE_REDIS:
        return s->state ? NULL : "gateway and redis need `state`";
    case STAGE_RUN:
        return *s->command ? NULL : "run needs `command`";
    case STAGE_CONNECT:
    case STAGE_LEAVE:
        break;
    }
    return NULL;
}

bool stage_finish(struct stage *stage, char why[SCENARIO_WHY]) {
    const char *what = missing(stage);
    if (what)
        return complain(why, what, SPAN_NONE);
    if (!*stage->name)
        (void)snprintf(stage->name, sizeof stage->name, "%s%s%s%s", kinds[stage->kind].name,
                       stage->state || stage->attack ? " " : "", states[stage->state],
                       attacks[stage->attack]);
    return true;
}

/* ---- presets ---- */

static struct stage *add(struct scenario *s, enum stage_kind kind, const char *name) {
    struct stage *stage = &s->at[s->count++];
    stage_init(stage);
    stage->kind = kind;
    (void)snprintf(stage->name, sizeof stage->name, "%s", name);
    return stage;
}

static void add_hold(struct scenario *s, const char *name, double for_us) {
    add(s, STAGE_HOLD, name)->for_us = for_us;
}

static void add_connect(struct scenario *s, const struct scenario_wishes *w, const char *name) {
    if (w->warm) {
        struct stage *first = add(s, STAGE_CONNECT, "first connect");
        first->within_us = w->warm_us;
        first->unmeasured = true;
        struct stage *leave = add(s, STAGE_LEAVE, "goodbye");
        leave->within_us = w->warm_us / 2;
        leave->unmeasured = true;
        struct stage *rest = add(s, STAGE_HOLD, "rest");
        rest->for_us = w->rest_us;
        rest->unmeasured = true;
    }
    add(s, STAGE_CONNECT, name)->within_us = w->within_us;
}

static void make_storm(struct scenario *s, const struct scenario_wishes *w) {
    add_connect(s, w, "storm");
    if (w->for_us > 0)
        add_hold(s, "after", w->for_us);
}

static void make_steady(struct scenario *s, const struct scenario_wishes *w) {
    add_connect(s, w, "connect");
    add_hold(s, "steady", w->for_us);
}

static void make_rolling(struct scenario *s, const struct scenario_wishes *w) {
    add_connect(s, w, "connect");
    struct stage *restart = add(s, STAGE_RESTART, "rolling restart");
    restart->percent = w->percent;
    restart->for_us = w->for_us;
}

static void add_trouble(struct scenario *s, const struct scenario_wishes *w, const char *name,
                        enum stage_state state, double delay_us, double fail) {
    struct stage *trouble = add(s, STAGE_CONTROLLER, name);
    trouble->state = state;
    trouble->delay_us = delay_us;
    trouble->fail = fail;
    trouble->for_us = w->for_us;
}

static void add_state(struct scenario *s, const struct scenario_wishes *w, enum stage_kind kind,
                      const char *name, enum stage_state state) {
    struct stage *stage = add(s, kind, name);
    stage->state = state;
    stage->for_us = w->for_us;
}

static void make_chaos(struct scenario *s, const struct scenario_wishes *w) {
    add_connect(s, w, "connect");
    add_hold(s, "calm", w->for_us);
    add_trouble(s, w, "controller hangs", STATE_HANG, -1, -1);
    add_trouble(s, w, "controller is back", STATE_UP, -1, -1);
    add_trouble(s, w, "controller refuses", STATE_REFUSE, -1, -1);
    add_trouble(s, w, "controller is back again", STATE_UP, -1, -1);
    add_trouble(s, w, "controller takes 500 ms", STATE_NONE, 500e3, -1);
    add_trouble(s, w, "controller fails 200 calls", STATE_NONE, 0, 200);
    if (w->redis) {
        add_state(s, w, STAGE_REDIS, "Redis hangs", STATE_PAUSE);
        add_state(s, w, STAGE_REDIS, "Redis answers again", STATE_RESUME);
        add_state(s, w, STAGE_REDIS, "Redis dies", STATE_KILL);
        add_state(s, w, STAGE_REDIS, "Redis is back", STATE_START);
    }
    add(s, STAGE_GATEWAY, "gateway dies")->state = STATE_KILL;
    add_state(s, w, STAGE_GATEWAY, "gateway is back", STATE_START);
}

static void make_attack(struct scenario *s, const struct scenario_wishes *w) {
    add_connect(s, w, "connect");
    add_hold(s, "calm", w->for_us);
    for (int kind = ATTACK_FORGED; kind < ATTACK_COUNT; kind++) {
        struct stage *stage = add(s, STAGE_ATTACK, "");
        (void)snprintf(stage->name, sizeof stage->name, "attack: %s", attacks[kind]);
        stage->attack = (enum attack_kind)kind;
        stage->rate = w->rate;
        stage->for_us = w->for_us;
    }
    add_hold(s, "calm again", w->for_us);
}

static const struct {
    const char *name;
    void (*make)(struct scenario *, const struct scenario_wishes *);
} presets[] = {
    {"storm", make_storm}, {"steady", make_steady}, {"rolling", make_rolling},
    {"soak", make_steady}, {"chaos", make_chaos},   {"attack", make_attack},
};

bool scenario_preset(const char *name, const struct scenario_wishes *wishes, struct scenario *out) {
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        if (strcmp(presets[i].name, name) == 0) {
            *out = (struct scenario){.count = 0};
            (void)snprintf(out->name, sizeof out->name, "%s", name);
            presets[i].make(out, wishes);
            return true;
        }
    return false;
}

void scenario_preset_names(struct str *out) {
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        str_addf(out, "%s%s", i ? ", " : "", presets[i].name);
}

/* ---- spelled out ---- */

static void print_number(struct str *out, const char *key, enum unit unit, double value) {
    if (value < 0)
        return;
    str_addf(out, ", %s: ", key);
    if (unit == UNIT_TIME)
        str_addf(out, "%.0fms", value / 1000);
    else
        str_addf(out, "%.6g%s", value, unit == UNIT_PERCENT ? "%" : "");
}

static void print_stage(struct str *out, const struct stage *s) {
    str_addf(out, "- {do: %s, name: \"%s\"", kinds[s->kind].name, s->name);
    if (s->unmeasured)
        STR_ADD(out, ", measured: false");
    if (s->state)
        str_addf(out, ", state: %s", states[s->state]);
    if (s->attack)
        str_addf(out, ", kind: %s", attacks[s->attack]);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const double *value = (const double *)(const void *)((const char *)s + numbers[i].at);
        bool preset = *value == 0 && strcmp(numbers[i].key, "delay") != 0;
        if (!preset)
            print_number(out, numbers[i].key, numbers[i].unit, *value);
    }
    if (*s->command)
        str_addf(out, ", command: \"%s\"", s->command);
    STR_ADD(out, "}\n");
}

void scenario_print(const struct scenario *scenario, struct str *out) {
    for (size_t i = 0; i < scenario->count; i++)
        print_stage(out, &scenario->at[i]);
}
