#include "agents/origin.h"

#include "base/clock.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The Makefile writes it where the sources are a clone; "unknown" elsewhere. */
#ifndef BENCH_COMMIT
#define BENCH_COMMIT "unknown"
#endif

static void find_processor(char *out, size_t size) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    (void)snprintf(out, size, "unknown processor");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            (void)snprintf(out, size, "%s", strchr(line, ':') + 2);
            out[strcspn(out, "\n")] = '\0';
            break;
        }
    if (file)
        (void)fclose(file);
}

static void describe_machine(struct origin *o) {
    char processor[128];
    struct utsname system;
    find_processor(processor, sizeof processor);
    if (uname(&system) != 0)
        system.sysname[0] = system.release[0] = '\0';
    (void)snprintf(o->machine, sizeof o->machine, "%s, %.40s %.60s", processor, system.sysname,
                   system.release);
    o->processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    o->memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (getloadavg(&o->load, 1) != 1)
        o->load = 0;
}

static void hash(struct span text, char out[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    out[0] = '\0';
    if (EVP_Digest(text.ptr, text.len, digest, &len, EVP_sha256(), NULL) != 1)
        return;
    for (unsigned int i = 0; i < len; i++)
        (void)snprintf(out + (size_t)2 * i, 3, "%02x", digest[i]);
}

static void add_word(struct str *out, const char *word) {
    bool plain = *word != '\0';
    for (const char *at = word; *at; at++)
        plain = plain && (strchr("-_./:=,%", *at) || (*at >= '0' && *at <= '9') ||
                          ((*at | 0x20) >= 'a' && (*at | 0x20) <= 'z'));
    str_addf(out, plain ? "%s" : "'%s'", word);
}

/* Settings of the gateway may be secrets: only their names are kept. */
static void add_command(struct str *out, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *name = strrchr(argv[i], '/');
        if (i > 0)
            str_add_char(out, ' ');
        if (strncmp(word, "AIWM_GATEWAY_", 13) == 0)
            str_addf(out, "%.*s=...", (int)strcspn(word, "="), word);
        else if (strncmp(word, "--gateway-env=", 14) == 0)
            str_addf(out, "--gateway-env=%.*s=...", (int)strcspn(word + 14, "="), word + 14);
        else
            add_word(out, i == 0 && name ? name + 1 : word);
    }
}

void origin_fill(struct origin *o, int argc, char **argv, struct span canonical) {
    *o = (struct origin){.wall_ms = clock_wall_ms()};
    (void)snprintf(o->version, sizeof o->version, "%s", GATEWAY_VERSION);
    (void)snprintf(o->commit, sizeof o->commit, "%s", BENCH_COMMIT);
    describe_machine(o);
    hash(canonical, o->config_hash);
    enum { COMMAND_MAX = 4096 };
    str_init(&o->command, COMMAND_MAX);
    add_command(&o->command, argc, argv);
}

void origin_release(struct origin *o) {
    str_release(&o->command);
}
