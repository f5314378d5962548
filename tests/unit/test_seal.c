#include "rules/trust/seal.h"

#include <criterion/criterion.h>

static const uint8_t key[SEAL_KEY] = {"0123456789abcdef0123456789abcde"};
static const uint8_t other_key[SEAL_KEY] = {"0123456789abcdef0123456789abcdf"};
static const struct span facts[] = {{"agent", 5}, {"stamp", 5}};

enum { TEXT = 9, SEALED = TEXT + SEAL_EXTRA };

static struct span sealed(uint8_t out[SEALED]) {
    seal_close(key, facts, 2, SPAN("some text"), out);
    return (struct span){(const char *)out, SEALED};
}

Test(seal, what_was_sealed_opens_again) {
    uint8_t bytes[SEALED];
    char text[TEXT];
    cr_assert(seal_open(key, facts, 2, sealed(bytes), text));
    cr_expect_arr_eq(text, "some text", TEXT);
}

Test(seal, the_text_is_not_to_be_read_and_never_sealed_alike) {
    uint8_t a[SEALED], b[SEALED];
    sealed(a);
    sealed(b);
    cr_expect_null(memmem(a, sizeof a, "some", 4));
    cr_expect_arr_neq(a, b, SEALED);
}

Test(seal, another_key_opens_nothing) {
    uint8_t bytes[SEALED];
    char text[TEXT] = "unchanged";
    cr_expect_not(seal_open(other_key, facts, 2, sealed(bytes), text));
    cr_expect_arr_eq(text, "\0\0\0\0\0\0\0\0\0", TEXT);
}

Test(seal, other_facts_open_nothing) {
    static const struct span others[] = {{"agent", 5}, {"stamq", 5}};
    uint8_t bytes[SEALED];
    char text[TEXT];
    cr_expect_not(seal_open(key, others, 2, sealed(bytes), text));
    cr_expect_not(seal_open(key, facts, 1, sealed(bytes), text));
}

Test(seal, every_changed_byte_and_every_missing_one_is_noticed) {
    uint8_t bytes[SEALED];
    char text[TEXT];
    struct span whole = sealed(bytes);
    for (size_t i = 0; i < SEALED; i++) {
        bytes[i] ^= 1;
        cr_expect_not(seal_open(key, facts, 2, whole, text), "byte %zu", i);
        bytes[i] ^= 1;
        cr_expect_not(seal_open(key, facts, 2, (struct span){whole.ptr, i}, text), "%zu bytes", i);
    }
}

Test(seal, an_empty_text_can_be_sealed) {
    uint8_t bytes[SEAL_EXTRA];
    char none[1];
    seal_close(key, NULL, 0, SPAN_NONE, bytes);
    cr_expect(seal_open(key, NULL, 0, (struct span){(const char *)bytes, sizeof bytes}, none));
}

/* RFC 4231, test case 2, its data in two parts. */
Test(seal, hmac_is_sha256_over_all_parts) {
    static const uint8_t expected[SEAL_HMAC] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e,
                                                0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
                                                0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83,
                                                0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
    struct span parts[] = {SPAN("what do ya want "), SPAN("for nothing?")};
    uint8_t mac[SEAL_HMAC];
    seal_hmac(SPAN("Jefe"), parts, 2, mac);
    cr_expect_arr_eq(mac, expected, SEAL_HMAC);
}

Test(seal, a_remembered_key_seals_what_opens_and_gives_way_to_another) {
    uint8_t bytes[SEALED];
    char text[TEXT];
    struct span whole = {(const char *)bytes, SEALED};
    for (int i = 0; i < 6; i++) {
        bool first = i % 3 < 2; /* twice this one, once the other */
        seal_close_again(first ? key : other_key, facts, 2, SPAN("some text"), bytes);
        cr_expect(seal_open(first ? key : other_key, facts, 2, whole, text), "round %d", i);
        cr_expect_arr_eq(text, "some text", TEXT);
        cr_expect_not(seal_open(first ? other_key : key, facts, 2, whole, text), "round %d", i);
    }
}
