#include "agents/report_files.h"

static const char *const states[] = {
#define X(symbol, name) name,
    LIFE_STATE_ROWS(X)
#undef X
};

static void add_head(struct str *out) {
    STR_ADD(out, "at_us,stage");
    for (int i = 0; i < LIFE_STATE_COUNT; i++)
        str_addf(out, ",agents_%s", states[i]);
#define X(name) STR_ADD(out, "," #name);
    TALLY_ROWS(X)
#undef X
#define X(name) STR_ADD(out, ",controller_" #name);
    SEEN_ROWS(X)
#undef X
    STR_ADD(out, ",p50_us,p99_us,max_us,gateway_cpu_us,gateway_bytes,controller_cpu_us,"
                 "generator_cpu_us,generator_bytes,generator_lag_max_us\n");
}

/* Unknown: an empty column. */
static void add(struct str *out, int64_t value) {
    str_add_char(out, ',');
    if (value >= 0)
        str_add_int(out, value);
}

static void add_row(struct str *out, const struct record_row *row) {
    str_add_int(out, row->at_us);
    add(out, row->stage);
    for (int i = 0; i < LIFE_STATE_COUNT; i++)
        add(out, row->state[i]);
#define X(name) add(out, row->tally.name);
    TALLY_ROWS(X)
#undef X
#define X(name) add(out, row->scene.seen.name);
    SEEN_ROWS(X)
#undef X
    const int64_t rest[] = {row->p50_us,
                            row->p99_us,
                            row->max_us,
                            row->scene.gateway.cpu_us,
                            row->scene.gateway.memory,
                            row->scene.controller.cpu_us,
                            row->scene.self.cpu_us,
                            row->scene.self.memory,
                            row->lag_max_us};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        add(out, rest[i]);
    str_add_char(out, '\n');
}

void report_csv(const struct record *r, struct str *out) {
    add_head(out);
    for (size_t i = 0; i < r->row_count; i++)
        add_row(out, &r->row[i]);
}
