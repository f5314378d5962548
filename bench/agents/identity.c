#include "agents/identity.h"

#include "base/panic.h"
#include "base/secret.h"
#include "rules/agents/agent_id.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct identity {
    char id[IDENTITY_ID];
    char *secret;
};

struct identities {
    size_t count;
    struct identity *at; /* NULL: the stub's */
};

static bool take_line(struct identity *one, char *line) {
    char *id = strtok(line, " \t,\r\n"), *secret = strtok(NULL, " \t,\r\n");
    struct agent_id parsed;
    if (!id || !secret || strlen(secret) >= IDENTITY_SECRET_MAX ||
        !agent_id_parse(span_of(id), &parsed))
        return false;
    memcpy(one->id, id, IDENTITY_ID);
    one->secret = must_strdup(secret);
    return true;
}

static bool read_file(struct identities *all, FILE *file, char why[IDENTITY_WHY]) {
    char line[IDENTITY_SECRET_MAX + 64];
    size_t number = 0, taken = 0;
    while (taken < all->count && fgets(line, sizeof line, file)) {
        number++;
        if (*line == '#' || *line == '\n')
            continue;
        if (!take_line(&all->at[taken], line)) {
            (void)snprintf(why, IDENTITY_WHY, "line %zu is not an id (24 hex digits) and a secret",
                           number);
            return false;
        }
        taken++;
    }
    secret_cleanse(line, sizeof line);
    if (taken == all->count)
        return true;
    (void)snprintf(why, IDENTITY_WHY, "there are only %zu agents in it, %zu are wanted", taken,
                   all->count);
    return false;
}

struct identities *identities_new(size_t count, const char *file, char why[IDENTITY_WHY]) {
    struct identities *all = must_zalloc(sizeof *all);
    all->count = count;
    if (!file)
        return all;
    all->at = must_zalloc((count + 1) * sizeof *all->at);
    FILE *stream = fopen(file, "re");
    if (!stream)
        (void)snprintf(why, IDENTITY_WHY, "%s", strerror(errno));
    bool fine = stream && read_file(all, stream, why);
    if (stream)
        (void)fclose(stream);
    if (fine)
        return all;
    identities_free(all);
    return NULL;
}

void identities_free(struct identities *all) {
    for (size_t i = 0; all->at && i < all->count; i++) {
        if (all->at[i].secret)
            secret_cleanse(all->at[i].secret, strlen(all->at[i].secret));
        free(all->at[i].secret);
    }
    free(all->at);
    free(all);
}

void identity_id(const struct identities *all, size_t n, char id[IDENTITY_ID]) {
    char text[IDENTITY_ID + 1];
    if (all->at) {
        memcpy(id, all->at[n].id, IDENTITY_ID);
        return;
    }
    (void)snprintf(text, sizeof text, "6a%022zx", n);
    memcpy(id, text, IDENTITY_ID);
}

size_t identity_secret(const struct identities *all, size_t n, char secret[IDENTITY_SECRET_MAX]) {
    int len = all->at ? snprintf(secret, IDENTITY_SECRET_MAX, "%s", all->at[n].secret)
                      : snprintf(secret, IDENTITY_SECRET_MAX, "agent-secret-for-tests-%zu", n);
    return (size_t)len;
}
