#include "rules/trust/seal.h"

#include "base/panic.h"
#include "base/random.h"
#include "rules/trust/hmac.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

/* Fetched once: a fetch costs as much as the work. */
static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static EVP_CIPHER *aes_gcm;

static _Thread_local struct remembered {
    EVP_CIPHER_CTX *context; /* that encrypts; NULL: nothing is remembered */
    uint8_t key[SEAL_KEY];
} remembered;
static pthread_key_t at_thread_end;

static void forget(void *any) {
    (void)any;
    EVP_CIPHER_CTX_free(remembered.context);
    OPENSSL_cleanse(&remembered, sizeof remembered);
}

static void fetch(void) {
    aes_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    invariant(aes_gcm && pthread_key_create(&at_thread_end, forget) == 0);
}

static void need_crypto(void) {
    invariant(pthread_once(&fetched, fetch) == 0);
}

void seal_hmac(struct span key, const struct span *parts, size_t count, uint8_t out[SEAL_HMAC]) {
    struct hmac_key k;
    hmac_key_set(&k, key);
    hmac_make(&k, parts, count, out);
    hmac_key_cleanse(&k);
}

/* `nonce` NULL: it comes later, with cipher_start. */
static EVP_CIPHER_CTX *cipher_new(const uint8_t key[SEAL_KEY], const uint8_t *nonce, bool encrypt) {
    need_crypto();
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    invariant(c && EVP_CipherInit_ex2(c, aes_gcm, key, nonce, encrypt, NULL) == 1);
    return c;
}

static void cipher_vouch(EVP_CIPHER_CTX *c, const struct span *facts, size_t fact_count) {
    int ignored;
    for (size_t i = 0; i < fact_count; i++)
        invariant(EVP_CipherUpdate(c, NULL, &ignored, (const uint8_t *)facts[i].ptr,
                                   (int)facts[i].len) == 1);
}

/* A message of its own, under the key it has: what is left of the one before goes. */
static void cipher_start(EVP_CIPHER_CTX *c, const uint8_t *nonce, const struct span *facts,
                         size_t fact_count) {
    invariant(EVP_CipherInit_ex2(c, NULL, NULL, nonce, -1, NULL) == 1);
    cipher_vouch(c, facts, fact_count);
}

static void close_with(EVP_CIPHER_CTX *c, const struct span *facts, size_t fact_count,
                       struct span text, uint8_t *out) {
    uint8_t *ciphertext = out + SEAL_NONCE, *tag = ciphertext + text.len;
    int len;
    random_fill(out, SEAL_NONCE);
    cipher_start(c, out, facts, fact_count);
    invariant(EVP_CipherUpdate(c, ciphertext, &len, (const uint8_t *)text.ptr, (int)text.len) == 1);
    invariant(EVP_CipherFinal_ex(c, tag, &len) == 1 && len == 0);
    invariant(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, tag) == 1);
}

void seal_close(const uint8_t key[SEAL_KEY], const struct span *facts, size_t fact_count,
                struct span text, uint8_t *out) {
    EVP_CIPHER_CTX *c = cipher_new(key, NULL, true);
    close_with(c, facts, fact_count, text, out);
    EVP_CIPHER_CTX_free(c);
}

void seal_close_again(const uint8_t key[SEAL_KEY], const struct span *facts, size_t fact_count,
                      struct span text, uint8_t *out) {
    struct remembered *r = &remembered;
    if (!r->context || CRYPTO_memcmp(r->key, key, SEAL_KEY) != 0) {
        forget(NULL);
        r->context = cipher_new(key, NULL, true);
        memcpy(r->key, key, SEAL_KEY);
        pthread_setspecific(at_thread_end, r);
    }
    close_with(r->context, facts, fact_count, text, out);
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
    EVP_CIPHER_CTX *c = cipher_new(key, bytes, false);
    cipher_vouch(c, facts, fact_count);
    bool opened =
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, tag) == 1 &&
        EVP_CipherUpdate(c, (uint8_t *)out, &len, bytes + SEAL_NONCE, (int)text_len) == 1 &&
        EVP_CipherFinal_ex(c, tag, &len) == 1;
    EVP_CIPHER_CTX_free(c);
    if (!opened) /* nobody may read what was not authenticated */
        OPENSSL_cleanse(out, text_len);
    return opened;
}
