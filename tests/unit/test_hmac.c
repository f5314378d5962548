#include "rules/trust/hmac.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

/* libcrypto's own HMAC says the same for every length of key and text around the blocks' ends, with
 * the text in one part or two. */
Test(hmac, is_what_libcrypto_makes_of_it) {
    char key[200], text[200];
    for (size_t i = 0; i < sizeof key; i++) {
        key[i] = (char)(i * 7 + 1);
        text[i] = (char)(i * 13 + 5);
    }
    for (size_t key_len = 1; key_len < sizeof key; key_len += 7)
        for (size_t len = 0; len < sizeof text; len++) {
            struct hmac_key k;
            struct span parts[] = {{text, len / 3}, {text + len / 3, len - len / 3}};
            uint8_t own[HMAC_SIZE], theirs[EVP_MAX_MD_SIZE];
            hmac_key_set(&k, (struct span){key, key_len});
            hmac_make(&k, parts, 2, own);
            HMAC(EVP_sha256(), key, (int)key_len, (unsigned char *)text, len, theirs, NULL);
            cr_assert_arr_eq(own, theirs, HMAC_SIZE, "key %zu, text %zu", key_len, len);
        }
}

/* RFC 4231, test cases 2 and 6. */
Test(hmac, is_that_of_the_standard) {
    static const uint8_t jefe[HMAC_SIZE] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e,
                                            0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
                                            0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83,
                                            0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
    static const uint8_t longer[HMAC_SIZE] = {0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f,
                                              0x0d, 0x8a, 0x26, 0xaa, 0xcb, 0xf5, 0xb7, 0x7f,
                                              0x8e, 0x0b, 0xc6, 0x21, 0x37, 0x28, 0xc5, 0x14,
                                              0x05, 0x46, 0x04, 0x0f, 0x0e, 0xe3, 0x7f, 0x54};
    struct span what = SPAN("what do ya want for nothing?");
    struct span hashed = SPAN("Test Using Larger Than Block-Size Key - Hash Key First");
    char key[131];
    struct hmac_key k;
    uint8_t out[HMAC_SIZE];
    hmac_key_set(&k, SPAN("Jefe"));
    hmac_make(&k, &what, 1, out);
    cr_expect_arr_eq(out, jefe, HMAC_SIZE);
    memset(key, 0xaa, sizeof key);
    hmac_key_set(&k, (struct span){key, sizeof key});
    hmac_make(&k, &hashed, 1, out);
    cr_expect_arr_eq(out, longer, HMAC_SIZE);
}
