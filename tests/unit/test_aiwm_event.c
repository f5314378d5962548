#include "rules/redis/aiwm_event.h"

#include <criterion/criterion.h>

#define ID "6a00000000000000000000aB"

#define JOB_OF(...)                                                                                \
    (aiwm_event_job((struct span[]){__VA_ARGS__},                                                  \
                    sizeof((struct span[]){__VA_ARGS__}) / sizeof(struct span), &job))

Test(aiwm_event, an_update_and_a_deletion_are_looked_at) {
    struct span job;
    cr_assert(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("17"), SPAN("name"),
                     SPAN("agent.updated")));
    cr_assert(span_equal(job, SPAN("17")));
    cr_assert(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("a-b:c"), SPAN("name"),
                     SPAN("agent.deleted")));
    cr_assert(span_equal(job, SPAN("a-b:c")));
}

Test(aiwm_event, without_a_name_the_job_is_looked_at) {
    struct span job;
    cr_assert(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("17")));
}

Test(aiwm_event, what_becomes_of_a_job_and_other_jobs_do_not_matter) {
    struct span job = SPAN("untouched");
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("waiting"), SPAN("jobId"), SPAN("17")));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("completed"), SPAN("jobId"), SPAN("17"),
                         SPAN("returnvalue"), SPAN("null"), SPAN("prev"), SPAN("active")));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("17"), SPAN("name"),
                         SPAN("agent.created")));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("drained")));
    cr_assert(span_equal(job, SPAN("untouched")));
}

Test(aiwm_event, a_job_id_that_is_no_part_of_a_key_is_not_asked_for) {
    struct span job;
    char longest[AIWM_EVENT_JOB_MAX + 1];
    memset(longest, 'j', sizeof longest);
    cr_assert(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), {longest, AIWM_EVENT_JOB_MAX}));
    cr_assert_not(
        JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), {longest, AIWM_EVENT_JOB_MAX + 1}));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("")));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("1\r\n")));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("1 2")));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId"), SPAN("\xc3\xa9")));
}

Test(aiwm_event, an_entry_of_odd_or_many_words_is_read_as_far_as_it_goes) {
    struct span job;
    struct span many[AIWM_EVENT_FIELDS_MAX + 4];
    for (size_t i = 0; i < AIWM_EVENT_FIELDS_MAX; i++)
        many[i] = SPAN("x");
    many[AIWM_EVENT_FIELDS_MAX] = SPAN("event");
    many[AIWM_EVENT_FIELDS_MAX + 1] = SPAN("added");
    many[AIWM_EVENT_FIELDS_MAX + 2] = SPAN("jobId");
    many[AIWM_EVENT_FIELDS_MAX + 3] = SPAN("1");
    cr_assert_not(aiwm_event_job(many, AIWM_EVENT_FIELDS_MAX + 4, &job));
    cr_assert_not(JOB_OF(SPAN("event"), SPAN("added"), SPAN("jobId")));
    cr_assert_not(aiwm_event_job(NULL, 0, &job));
}

static bool reads(const char *data) {
    struct agent_id id, expected;
    cr_assert(agent_id_parse(SPAN(ID), &expected));
    return aiwm_event_agent(span_of(data), &id) && agent_id_equal(&id, &expected);
}

Test(aiwm_event, the_document_says_whose_it_is) {
    cr_assert(reads("{\"name\":\"a\",\"_id\":\"" ID "\",\"tags\":[1,{\"id\":2}]}"));
    cr_assert(reads("{\"id\":\"" ID "\"}"));
    cr_assert(reads("{\"agentId\":\"" ID "\",\"at\":1}"));
    cr_assert(reads("{\"id\":\"17\",\"agentId\":\"" ID "\"}"));
    cr_assert(reads("{\"event\":\"x\",\"data\":{\"_id\":\"" ID "\"}}"));
    cr_assert(reads("{\"agent\":{\"_id\":\"" ID "\"}}"));
}

Test(aiwm_event, what_names_no_agent_harms_none) {
    static const char *const foreign[] = {
        "",
        "null",
        "17",
        "[]",
        "[{\"_id\":\"" ID "\"}]",
        "{}",
        "{\"_id\":17}",
        "{\"_id\":null}",
        "{\"_id\":\"6a00\"}",
        "{\"_id\":\"" ID "0\"}",
        "{\"_id\":\"zz00000000000000000000aB\"}",
        "{\"_id\":\"" ID "\"",
        "{\"_id\":\"" ID "\"} {}",
        "{\"_id\":\"" ID "\",\"_id\":\"" ID "\"}",
        "{\"document\":{\"_id\":\"" ID "\"}}",
        "{\"data\":{\"data\":{\"_id\":\"" ID "\"}}}",
        "{\"data\":\"{}\"}",
    };
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        cr_assert_not(reads(foreign[i]), "%s", foreign[i]);
}

Test(aiwm_event, a_document_beyond_the_bound_is_not_read) {
    size_t len = AIWM_EVENT_DATA_MAX + 1;
    char *text = malloc(len);
    struct agent_id id;
    memset(text, ' ', len);
    memcpy(text, "{\"_id\":\"" ID "\"}", 8 + 24 + 2);
    cr_assert(aiwm_event_agent((struct span){text, len - 1}, &id));
    cr_assert_not(aiwm_event_agent((struct span){text, len}, &id));
    free(text);
}
