/* Tokens from strangers ('r' and the bytes), and what a holder of the key could sign ('s', header,
 * newline, claims). Whatever is accepted is accepted again from the cache, with the same claims,
 * and not after its expiry. */
#include "rules/trust/token.h"

#include "../support/mint.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { NOW = 1795407800 };

static struct token_verifier *the_verifier(void) {
    static struct token_verifier *v;
    static const uint8_t hash_key[16] = {1, 2, 3};
    struct token_secrets secrets = {SPAN(MINT_SECRET), SPAN("previous secret")};
    if (!v)
        v = token_verifier_new(&secrets, 0, 16, hash_key);
    return v;
}

static void must(bool condition) {
    if (!condition)
        abort();
}

static void try(struct span token) {
    struct token_claims first, again;
    int64_t expires_s;
    bool cached;
    enum token_fault fault = token_verify(the_verifier(), token, NOW, &first, NULL);
    (void)token_peek(token, &expires_s, NULL);
    (void)token_from_authorization(token, &token);
    if (fault != TOKEN_FINE)
        return;
    must(token_peek(token, &expires_s, NULL) && expires_s == first.expires_s && expires_s > NOW);
    must(token_verify(the_verifier(), token, NOW, &again, &cached) == TOKEN_FINE && cached);
    must(first.is_agent == again.is_agent && strcmp(first.org, again.org) == 0);
    must(token_verify(the_verifier(), token, expires_s, &again, NULL) == TOKEN_EXPIRED);
}

static void try_signed(struct span text) {
    const char *newline = text.len ? memchr(text.ptr, '\n', text.len) : NULL;
    if (!newline)
        return;
    struct span header = {text.ptr, (size_t)(newline - text.ptr)};
    char *token = malloc(text.len * 2 + 200);
    try(mint_any(token, header, span_from(text, header.len + 1), SPAN(MINT_SECRET), "SHA256"));
    free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct span text = {(const char *)bytes, size};
    if (size > 0 && bytes[0] == 's')
        try_signed(span_from(text, 1));
    else
        try(span_from(text, 1));
    return 0;
}
