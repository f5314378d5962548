#include "rules/seal.h"

#include "base/panic.h"
#include "base/random.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

/* ---- libcrypto, fetched once: a fetch costs as much as the work ---- */

static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static EVP_CIPHER *aes_gcm;
static EVP_MAC_CTX *hmac_sha256; /* without a key; only ever duplicated */

enum { REMEMBERED = 2 };

static _Thread_local struct remembered {
    EVP_MAC_CTX *hmac; /* NULL: nothing is remembered here */
    uint8_t key[SEAL_KEY];
} remembered[REMEMBERED];
static pthread_key_t at_thread_end;

static void forget_all(void *arg);

static void fetch(void) {
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    aes_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    hmac_sha256 = mac ? EVP_MAC_CTX_new(mac) : NULL;
    invariant(aes_gcm && hmac_sha256 && EVP_MAC_CTX_set_params(hmac_sha256, params) == 1);
    EVP_MAC_free(mac); /* the context keeps it */
    invariant(pthread_key_create(&at_thread_end, forget_all) == 0);
}

static void need_crypto(void) {
    invariant(pthread_once(&fetched, fetch) == 0);
}

/* Sets up `key`; NULL: starts anew under the one it has. */
static void hmac_with(EVP_MAC_CTX *c, const struct span *key, const struct span *parts,
                      size_t count, uint8_t out[SEAL_HMAC]) {
    size_t len;
    const unsigned char *bytes = key ? (const unsigned char *)key->ptr : NULL;
    invariant(c && EVP_MAC_init(c, bytes, key ? key->len : 0, NULL) == 1);
    for (size_t i = 0; i < count; i++)
        invariant(EVP_MAC_update(c, (const unsigned char *)parts[i].ptr, parts[i].len) == 1);
    invariant(EVP_MAC_final(c, out, &len, SEAL_HMAC) == 1 && len == SEAL_HMAC);
}

void seal_hmac(struct span key, const struct span *parts, size_t count, uint8_t out[SEAL_HMAC]) {
    need_crypto();
    EVP_MAC_CTX *c = EVP_MAC_CTX_dup(hmac_sha256);
    hmac_with(c, &key, parts, count, out);
    EVP_MAC_CTX_free(c);
}

static void forget(struct remembered *r) {
    EVP_MAC_CTX_free(r->hmac);
    OPENSSL_cleanse(r, sizeof *r);
}

static void forget_all(void *arg) {
    struct remembered *all = arg;
    for (int i = 0; i < REMEMBERED; i++)
        forget(&all[i]);
}

/* In front of the others. */
static void remember(const uint8_t key[SEAL_KEY]) {
    forget(&remembered[REMEMBERED - 1]);
    memmove(remembered + 1, remembered, (REMEMBERED - 1) * sizeof *remembered);
    remembered[0].hmac = EVP_MAC_CTX_dup(hmac_sha256);
    memcpy(remembered[0].key, key, SEAL_KEY);
    pthread_setspecific(at_thread_end, remembered);
}

void seal_hmac_again(const uint8_t key[SEAL_KEY], const struct span *parts, size_t count,
                     uint8_t out[SEAL_HMAC]) {
    need_crypto();
    for (int i = 0; i < REMEMBERED; i++)
        if (remembered[i].hmac && CRYPTO_memcmp(remembered[i].key, key, SEAL_KEY) == 0) {
            hmac_with(remembered[i].hmac, NULL, parts, count, out);
            return;
        }
    struct span whole = {(const char *)key, SEAL_KEY};
    remember(key);
    hmac_with(remembered[0].hmac, &whole, parts, count, out);
}

static EVP_CIPHER_CTX *cipher_start(const uint8_t key[SEAL_KEY], const uint8_t *nonce,
                                    const struct span *facts, size_t fact_count, bool encrypt) {
    int ignored;
    need_crypto();
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    invariant(c && EVP_CipherInit_ex2(c, aes_gcm, key, nonce, encrypt, NULL) == 1);
    for (size_t i = 0; i < fact_count; i++)
        invariant(EVP_CipherUpdate(c, NULL, &ignored, (const uint8_t *)facts[i].ptr,
                                   (int)facts[i].len) == 1);
    return c;
}

void seal_close(const uint8_t key[SEAL_KEY], const struct span *facts, size_t fact_count,
                struct span text, uint8_t *out) {
    uint8_t *ciphertext = out + SEAL_NONCE, *tag = ciphertext + text.len;
    int len;
    random_fill(out, SEAL_NONCE);
    EVP_CIPHER_CTX *c = cipher_start(key, out, facts, fact_count, true);
    invariant(EVP_CipherUpdate(c, ciphertext, &len, (const uint8_t *)text.ptr, (int)text.len) == 1);
    invariant(EVP_CipherFinal_ex(c, tag, &len) == 1 && len == 0);
    invariant(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, tag) == 1);
    EVP_CIPHER_CTX_free(c);
}

bool seal_open(const uint8_t key[SEAL_KEY], const struct span *facts, size_t fact_count,
               struct span sealed, char *out) {
    if (sealed.len < SEAL_EXTRA)
        return false;
    const uint8_t *bytes = (const uint8_t *)sealed.ptr;
    size_t text_len = sealed.len - SEAL_EXTRA;
    uint8_t tag[SEAL_TAG];
    int len;
    memcpy(tag, bytes + SEAL_NONCE + text_len, SEAL_TAG);
    EVP_CIPHER_CTX *c = cipher_start(key, bytes, facts, fact_count, false);
    bool opened =
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, tag) == 1 &&
        EVP_CipherUpdate(c, (uint8_t *)out, &len, bytes + SEAL_NONCE, (int)text_len) == 1 &&
        EVP_CipherFinal_ex(c, tag, &len) == 1;
    EVP_CIPHER_CTX_free(c);
    if (!opened) /* nobody may read what was not authenticated */
        OPENSSL_cleanse(out, text_len);
    return opened;
}
