#include "io/tls.h"

#include "base/panic.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

static void explain(char why[TLS_WHY], const char *what) {
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    (void)snprintf(why, TLS_WHY, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
}

static BIO *memory_of(struct span pem) {
    return BIO_new_mem_buf(pem.ptr ? pem.ptr : "", (int)pem.len);
}

/* Keys are never asked a passphrase for: nobody sits at the terminal at three in the morning. */
static int no_passphrase(char *buffer, int size, int writing, void *arg) {
    (void)buffer;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

/* After the last certificate of a file; anything else than its end was something broken. Clears
 * OpenSSL's queue when it is fine. */
static bool was_end_of_file(void) {
    unsigned long code = ERR_peek_last_error();
    bool end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    if (end)
        ERR_clear_error();
    return end;
}

static bool use_certificates(SSL_CTX *ctx, struct span pem, char why[TLS_WHY]) {
    BIO *bio = memory_of(pem);
    X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    bool fine = leaf && SSL_CTX_use_certificate(ctx, leaf) == 1;
    X509_free(leaf);
    if (!fine) {
        explain(why, "the certificate cannot be read (PEM, own certificate first)");
        BIO_free(bio);
        return false;
    }
    for (X509 *next; (next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL;)
        if (SSL_CTX_add0_chain_cert(ctx, next) != 1)
            X509_free(next);
    BIO_free(bio);
    if (was_end_of_file())
        return true;
    explain(why, "the certificate's chain cannot be read (PEM)");
    return false;
}

static bool use_key(SSL_CTX *ctx, struct span pem, char why[TLS_WHY]) {
    BIO *bio = memory_of(pem);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    if (!key) {
        explain(why, "the private key cannot be read (PEM, not encrypted)");
        return false;
    }
    /* use_PrivateKey itself refuses a key that does not match the certificate. */
    bool fine = SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
    EVP_PKEY_free(key);
    if (!fine)
        explain(why, "the private key does not match the certificate");
    return fine;
}

static int choose_http11(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                         const unsigned char *in, unsigned int in_len, void *arg) {
    (void)ssl;
    (void)arg;
    static const unsigned char ours[] = "\x08http/1.1";
    if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours, sizeof ours - 1, in,
                              in_len) == OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_OK;
    return SSL_TLSEXT_ERR_NOACK;
}

static void common_settings(SSL_CTX *ctx) {
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Idle connections give their record buffers back: 34 KB less each. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
}

/* Of TLS 1.2, forward secrecy (ECDHE) and AEAD only: RSA key exchange and CBC have a history of
 * attacks, and OpenSSL has these since 2012, Java since 2014. TLS 1.3 has no others. */
static const char tls12_ciphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

SSL_CTX *tls_server_new(struct span certificate_pem, struct span key_pem, char why[TLS_WHY]) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    invariant(ctx);
    common_settings(ctx);
    invariant(SSL_CTX_set_cipher_list(ctx, tls12_ciphers) == 1);
    /* One ticket, not none: with none a client that has Nagle on waits 45 ms for its first answer;
     * not two: a fleet's restart is paid by the handshake. */
    SSL_CTX_set_num_tickets(ctx, 1);
    /* Tickets make the server stateless; the internal cache would only cost memory and a lock. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_early_data(ctx, 0); /* a replayed connect or regenerate is an attack */
    static const unsigned char context_id[] = "aiwm-gateway";
    SSL_CTX_set_session_id_context(ctx, context_id, sizeof context_id - 1);
    SSL_CTX_set_alpn_select_cb(ctx, choose_http11, NULL);
    if (use_certificates(ctx, certificate_pem, why) && use_key(ctx, key_pem, why))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

const char *tls_library_version(void) {
    return OpenSSL_version(OPENSSL_FULL_VERSION_STRING);
}

int64_t tls_server_expiry_s(const SSL_CTX *ctx) {
    const X509 *certificate = SSL_CTX_get0_certificate(ctx);
    struct tm end = {0};
    if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1)
        return 0;
    return (int64_t)timegm(&end);
}

static bool trust(SSL_CTX *ctx, struct span ca_pem) {
    if (ca_pem.len == 0)
        return SSL_CTX_set_default_verify_paths(ctx) == 1;
    BIO *bio = memory_of(ca_pem);
    int count = 0;
    for (X509 *ca; (ca = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL; count++) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca);
        X509_free(ca);
    }
    BIO_free(bio);
    return was_end_of_file() && count > 0;
}

SSL_CTX *tls_client_new(struct span ca_pem, char why[TLS_WHY]) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    invariant(ctx);
    common_settings(ctx);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (trust(ctx, ca_pem))
        return ctx;
    explain(why, "the certificate authorities cannot be read (PEM)");
    SSL_CTX_free(ctx);
    return NULL;
}

bool tls_client_present(SSL_CTX *ctx, struct span certificate_pem, struct span key_pem,
                        char why[TLS_WHY]) {
    return use_certificates(ctx, certificate_pem, why) && use_key(ctx, key_pem, why);
}

/* ---- the demo's certificate ---- */

static bool add_extension(X509 *cert, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool fine = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return fine;
}

static bool fill_certificate(X509 *cert, EVP_PKEY *key) {
    enum { THIRTY_DAYS_S = 30 * 86400 };
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_set_version(cert, X509_VERSION_3) &&
           ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -60) &&
           X509_gmtime_adj(X509_getm_notAfter(cert), THIRTY_DAYS_S) && X509_set_pubkey(cert, key) &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                      (const unsigned char *)"aiwm-gateway demo", -1, -1, 0) &&
           X509_set_issuer_name(cert, name) &&
           add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1") &&
           X509_sign(cert, key, EVP_sha256()) > 0;
}

static void add_memory(struct str *out, BIO *bio) {
    char *bytes;
    long len = BIO_get_mem_data(bio, &bytes);
    str_add(out, (struct span){bytes, (size_t)len});
}

bool tls_self_signed(struct str *certificate_pem, struct str *key_pem) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
    bool fine = key && cert && cert_bio && key_bio && fill_certificate(cert, key) &&
                PEM_write_bio_X509(cert_bio, cert) &&
                PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL);
    if (fine) {
        add_memory(certificate_pem, cert_bio);
        add_memory(key_pem, key_bio);
    }
    BIO_free(cert_bio);
    BIO_free(key_bio);
    X509_free(cert);
    EVP_PKEY_free(key);
    return fine;
}
