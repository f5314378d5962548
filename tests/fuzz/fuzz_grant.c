/* What Redis may give us: entries of other versions, cut, edited. What unpacks packs to the same
 * bytes, and only what was sealed under the pass opens. */
#include "rules/trust/grant.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool condition) {
    if (!condition)
        abort();
}

static struct grant_pass the_pass(void) {
    static const struct grant_key key = {{1, 2, 3}};
    struct agent_id id;
    struct grant_pass pass;
    must(agent_id_parse(SPAN("6a0000000000000000000abc"), &id));
    grant_pass_make(&key, &id, SPAN("secret"), &pass);
    return pass;
}

static void repack(const struct grant *g, struct span packed) {
    uint8_t *again = malloc(packed.len);
    must(grant_packed_len(g) == packed.len && grant_pack(g, again) == packed.len);
    must(memcmp(again, packed.ptr, packed.len) == 0);
    free(again);
}

static void use(struct grant *g) {
    static const struct grant_policy policy = {60000, 3300000, 300000};
    struct grant_pass pass = the_pass();
    char *memory = calloc(1, GRANT_HEADROOM + g->body_len), *body = memory + GRANT_HEADROOM;
    must(!grant_open(g, &pass, body));
    memcpy(g->proof, pass.proof, GRANT_PROOF); /* as one who knows the proof, not the secret */
    must(!grant_open(g, &pass, body));
    struct span spliced = grant_splice_expiry(g, body, 1795407800);
    must(spliced.ptr >= memory && spliced.ptr + spliced.len == body + g->body_len);
    (void)grant_age(g, &policy, INT64_C(1795407800000));
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct span packed = {(const char *)bytes, size};
    struct grant *g = grant_unpack(packed);
    if (!g)
        return 0;
    repack(g, packed);
    use(g);
    grant_unref(g);
    return 0;
}
