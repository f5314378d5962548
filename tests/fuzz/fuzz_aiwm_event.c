/* What stands in the controller's Redis, which strangers may write: lines are the words of an entry
 * of its stream, what stands behind an empty line is a job's data. */
#include "rules/redis/aiwm_event.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool condition) {
    if (!condition)
        abort();
}

static bool is_inside(struct span part, struct span whole) {
    return part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len;
}

/* Takes a line off the front of `rest`. */
static struct span line_of(struct span *rest) {
    const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    struct span line = {rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};
    *rest = end ? (struct span){end + 1, rest->len - line.len - 1} : SPAN("");
    return line;
}

static void read_entry(const struct span *words, size_t count, struct span whole) {
    struct span job;
    if (!aiwm_event_job(words, count, &job))
        return;
    must(is_inside(job, whole) && job.len > 0 && job.len <= AIWM_EVENT_JOB_MAX);
    for (size_t i = 0; i < job.len; i++)
        must(job.ptr[i] > ' ' && job.ptr[i] < 0x7f);
}

static void read_data(struct span data) {
    struct agent_id id = {{0}};
    char text[AGENT_ID_HEX];
    if (!aiwm_event_agent(data, &id))
        return;
    agent_id_text(&id, text);
    bool stands = false; /* nobody is named who does not stand there */
    for (size_t i = 0; i + AGENT_ID_HEX <= data.len && !stands; i++)
        stands = span_equal_nocase((struct span){data.ptr + i, AGENT_ID_HEX},
                                   (struct span){text, AGENT_ID_HEX});
    must(stands);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct span whole = size ? (struct span){(const char *)bytes, size} : SPAN("");
    struct span rest = whole, words[2 * AIWM_EVENT_FIELDS_MAX] = {SPAN_NONE};
    size_t count = 0;
    while (rest.len > 0 && count < 2 * AIWM_EVENT_FIELDS_MAX) {
        struct span line = line_of(&rest);
        if (line.len == 0)
            break;
        words[count++] = line;
    }
    read_entry(words, count, whole);
    (void)aiwm_event_kind(count ? words[0] : SPAN_NONE);
    read_data(rest);
    return 0;
}
