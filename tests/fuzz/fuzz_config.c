/* Any bytes as the configuration file: never a crash, never silence about a refusal, and what was
 * accepted prints as something that reads back as the same. */
#include "base/panic.h"
#include "rules/config/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every file exists and holds a strong secret, but for those whose name has an `m` (missing). */
static char *read_file(void *arg, const char *path, size_t *len, const char **why) {
    static const char secret[] = "0123456789abcdef0123456789abcdef\n";
    (void)arg;
    if (strchr(path, 'm')) {
        *why = "missing";
        return NULL;
    }
    *len = sizeof secret - 1;
    return must_copy(secret, *len);
}

static struct config *read_config(struct span text, char *const *variables) {
    struct config_sources sources = {
        .file_name = "fuzz.yaml", .file = text, .environ = variables, .read_file = read_file};
    struct str complaints, warnings;
    str_init(&complaints, 65536);
    str_init(&warnings, 65536);
    struct config *config = config_read(&sources, &complaints, &warnings);
    invariant((config == NULL) == (complaints.len > 0 || complaints.overflow));
    /* One line each, and nothing in it that could disturb a terminal. */
    for (size_t i = 0; i < complaints.len; i++)
        invariant(complaints.ptr[i] == '\n' || (unsigned char)complaints.ptr[i] >= ' ');
    str_release(&complaints);
    str_release(&warnings);
    return config;
}

static void check_round_trip(const struct config *config) {
    struct str first, second;
    char *nothing[] = {NULL};
    str_init(&first, 262144);
    str_init(&second, 262144);
    config_print(config, &first);
    invariant(!first.overflow);
    struct config *again = read_config(str_span(&first), nothing);
    invariant(again);
    config_print(again, &second);
    invariant(span_equal(str_span(&first), str_span(&second)));
    config_free(again);
    str_release(&first);
    str_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* What is required is given, so that most files are about their own faults. */
    char url[] = "AIWM_GATEWAY_UPSTREAM_URL=http://aiwm:3000";
    char secret[] = "AIWM_GATEWAY_JWT_SECRET_FILE=/secret";
    char tls[] = "AIWM_GATEWAY_TLS_ENABLED=false";
    char *variables[] = {url, secret, tls, NULL};
    struct config *config = read_config((struct span){(const char *)data, size}, variables);
    if (config)
        check_round_trip(config);
    config_free(config);
    return 0;
}
