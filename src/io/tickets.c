#include "io/tickets.h"

#include "base/panic.h"
#include "base/random.h"
#include "base/secret.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdlib.h>

enum { ROTATED_KEPT = 3 };

struct tickets {
    pthread_mutex_t lock;
    size_t count;
    struct ticket_key key[TICKET_KEYS_MAX]; /* newest first */
};

static int slot(void) {
    static int index = -1;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    pthread_mutex_unlock(&lock);
    return index;
}

struct tickets *tickets_new(void) {
    struct tickets *t = must_zalloc(sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    tickets_rotate(t);
    return t;
}

void tickets_free(struct tickets *t) {
    if (!t)
        return;
    pthread_mutex_destroy(&t->lock);
    secret_cleanse(t->key, sizeof t->key);
    free(t);
}

void tickets_set(struct tickets *t, const struct ticket_key *keys, size_t count) {
    invariant(count > 0 && count <= TICKET_KEYS_MAX);
    pthread_mutex_lock(&t->lock);
    memcpy(t->key, keys, count * sizeof *keys);
    t->count = count;
    pthread_mutex_unlock(&t->lock);
}

void tickets_rotate(struct tickets *t) {
    struct ticket_key fresh;
    random_fill((uint8_t *)&fresh, sizeof fresh);
    pthread_mutex_lock(&t->lock);
    memmove(t->key + 1, t->key, (ROTATED_KEPT - 1) * sizeof fresh);
    t->key[0] = fresh;
    t->count += t->count < ROTATED_KEPT;
    pthread_mutex_unlock(&t->lock);
    secret_cleanse(&fresh, sizeof fresh);
}

/* ---- what OpenSSL asks ---- */

static struct ticket_key newest(struct tickets *t) {
    pthread_mutex_lock(&t->lock);
    struct ticket_key key = t->key[0];
    pthread_mutex_unlock(&t->lock);
    return key;
}

/* Its place, 0: the newest; -1: unknown. */
static int find(struct tickets *t, const unsigned char name[16], struct ticket_key *out) {
    int found = -1;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->count && found < 0; i++) {
        if (memcmp(t->key[i].name, name, sizeof t->key[i].name) != 0)
            continue;
        *out = t->key[i];
        found = (int)i;
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

static bool key_mac(EVP_MAC_CTX *mac, struct ticket_key *key) {
    OSSL_PARAM with[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end()};
    return EVP_MAC_CTX_set_params(mac, with) == 1;
}

enum { FAILED = -1, UNKNOWN = 0, FINE = 1, FINE_RENEW = 2 };

static int make(struct tickets *t, unsigned char name[16], unsigned char *iv,
                EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac) {
    struct ticket_key key = newest(t);
    memcpy(name, key.name, sizeof key.name);
    random_fill(iv, (size_t)EVP_CIPHER_get_iv_length(EVP_aes_256_cbc()));
    bool fine = EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1 &&
                key_mac(mac, &key);
    secret_cleanse(&key, sizeof key);
    return fine ? FINE : FAILED;
}

static int open_with(struct tickets *t, const unsigned char name[16], const unsigned char *iv,
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac) {
    struct ticket_key key;
    int place = find(t, name, &key);
    if (place < 0)
        return UNKNOWN;
    bool fine = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1 &&
                key_mac(mac, &key);
    secret_cleanse(&key, sizeof key);
    return !fine ? FAILED : place == 0 ? FINE : FINE_RENEW;
}

/* A client of TLS 1.3 uses a ticket once (RFC 8446 appendix C.4): without another one each second
 * handshake would be a whole one. */
static int for_version(const SSL *ssl, int opened) {
    return opened == FINE && SSL_version(ssl) >= TLS1_3_VERSION ? FINE_RENEW : opened;
}

static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int making) {
    struct tickets *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), slot());
    return making ? make(t, name, iv, cipher, mac)
                  : for_version(ssl, open_with(t, name, iv, cipher, mac));
}

void tickets_use(struct tickets *t, SSL_CTX *ctx) {
    invariant(SSL_CTX_set_ex_data(ctx, slot(), t) == 1);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
}
