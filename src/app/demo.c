#include "app/demo.h"

#include "base/metric.h"
#include "base/panic.h"
#include "base/str.h"
#include "io/tls.h"
#include "stub/stub.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define AGENT "6a0000000000000000000000"

enum { ENVIRON_MORE = 8, PEM_MAX = 16384, BCRYPT_MS = 57, BEAT_US = 1700 };

struct demo {
    struct stub *stub; /* NULL: a real controller is configured */
    char **environ;
    size_t count;
};

static bool is_set(char *const *environ, const char *name) {
    size_t len = strlen(name);
    for (; *environ; environ++)
        if (strncmp(*environ, name, len) == 0 && (*environ)[len] == '=')
            return true;
    return false;
}

static void set(struct demo *d, const char *name, struct span value) {
    struct str line;
    if (is_set(d->environ, name))
        return;
    str_init(&line, PEM_MAX + strlen(name) + 2);
    str_addf(&line, "%s=", name);
    str_add(&line, value);
    str_add_char(&line, '\0');
    d->environ[d->count++] = line.ptr;
    d->environ[d->count] = NULL;
}

static void borrow_environ(struct demo *d, char *const *environ) {
    size_t count = 0;
    while (environ[count])
        count++;
    d->environ = must_zalloc((count + ENVIRON_MORE + 1) * sizeof *d->environ);
    for (; d->count < count; d->count++)
        d->environ[d->count] = must_strdup(environ[d->count]);
}

static bool start_stub(struct demo *d, const char **why) {
    struct stub_options options = {.control_port = -1, .connect_cost_ms = BCRYPT_MS};
    d->stub = stub_start(&options, why);
    if (!d->stub)
        return false;
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d", stub_port(d->stub));
    set(d, "AIWM_GATEWAY_UPSTREAM_URL", span_of(url));
    set(d, "AIWM_GATEWAY_JWT_SECRET", span_of(STUB_JWT_SECRET));
    return true;
}

static bool make_certificate(struct demo *d) {
    if (is_set(d->environ, "AIWM_GATEWAY_TLS_CERTIFICATE_FILE"))
        return true;
    struct str certificate, key;
    str_init(&certificate, PEM_MAX);
    str_init(&key, PEM_MAX);
    bool made = tls_self_signed(&certificate, &key);
    if (made) {
        set(d, "AIWM_GATEWAY_TLS_CERTIFICATE", str_span(&certificate));
        set(d, "AIWM_GATEWAY_TLS_PRIVATE_KEY", str_span(&key));
    }
    str_release(&certificate);
    str_release(&key);
    return made;
}

struct demo *demo_start(char *const *environ, const char **why) {
    struct demo *d = must_zalloc(sizeof *d);
    borrow_environ(d, environ);
    bool fine = is_set(d->environ, "AIWM_GATEWAY_UPSTREAM_URL") || start_stub(d, why);
    if (fine && !make_certificate(d)) {
        *why = "no certificate could be made";
        fine = false;
    }
    if (!fine) {
        demo_stop(d);
        return NULL;
    }
    /* Something to try at one's own desk is not to be reached from elsewhere. */
    set(d, "AIWM_GATEWAY_LISTEN_ADDRESS", SPAN("127.0.0.1"));
    set(d, "AIWM_GATEWAY_HEALTH_ADDRESS", SPAN("127.0.0.1"));
    /* No load balancer has to notice that it ends. */
    set(d, "AIWM_GATEWAY_DRAIN_DELAY", SPAN("0s"));
    return d;
}

char *const *demo_environ(const struct demo *d) {
    return d->environ;
}

void demo_print_welcome(const struct demo *d, bool tls, int port) {
    const char *scheme = tls ? "https" : "http";
    const char *k = tls ? "-k " : "";
    if (!d->stub) {
        printf("\naiwm-gateway is in front of your controller: %s://127.0.0.1:%d\n"
               "Point an agent's base URL there. Ctrl-C ends it.\n\n",
               scheme, port);
        (void)fflush(stdout);
        return;
    }
    printf("\naiwm-gateway is in front of a stand-in for the AIWM controller: "
           "%s://127.0.0.1:%d\n\nTry, in another terminal:\n\n",
           scheme, port);
    printf("  # connect: the first goes to the controller and costs it a bcrypt\n"
           "  TOKEN=$(curl -s %s%s://127.0.0.1:%d/agents/" AGENT "/connect \\\n"
           "    --json '{\"secret\":\"agent-secret-for-tests-0\"}' | sed 's/.*\"accessToken\":"
           "\"\\([^\"]*\\)\".*/\\1/')\n\n",
           k, scheme, port);
    printf("  # heartbeat: acknowledged here, delivered in the background\n"
           "  curl -i %s%s://127.0.0.1:%d/agents/" AGENT "/heartbeat \\\n"
           "    -H \"Authorization: Bearer $TOKEN\" --json '{\"status\":\"online\"}'\n\n",
           k, scheme, port);
    printf("  # anything else is forwarded\n"
           "  curl -i %s%s://127.0.0.1:%d/agents/" AGENT " -H \"Authorization: Bearer $TOKEN\"\n\n",
           k, scheme, port);
    printf("  # the same connect again, from cache: see Age and Cache-Status\n"
           "  curl -i %s%s://127.0.0.1:%d/agents/" AGENT "/connect \\\n"
           "    --json '{\"secret\":\"agent-secret-for-tests-0\"}'\n\n"
           "Ctrl-C ends it.\n\n",
           k, scheme, port);
    (void)fflush(stdout);
}

void demo_print_farewell(const struct demo *d) {
    int64_t bcrypts = metric_read(METRIC_BCRYPTS_AVOIDED);
    int64_t beats = metric_read(METRIC_BEATS_RECEIVED);
    int64_t delivered = metric_read(METRIC_BEATS_DELIVERED);
    int64_t cpu_ms = bcrypts * BCRYPT_MS + (beats - delivered) * BEAT_US / 1000;
    printf("\nThe controller was spared %" PRId64 " bcrypts and %" PRId64 " of %" PRId64
           " heartbeats: about %" PRId64 " ms of its CPU\n(57 ms a connect and 1.7 ms a heartbeat, "
           "as measured on AIWM).\n",
           bcrypts, beats - delivered, beats, cpu_ms);
    if (d->stub) {
        struct stub_counts counts;
        stub_counts(d->stub, &counts);
        printf("It saw %" PRId64 " connects, %" PRId64 " heartbeats and %" PRId64
               " other requests.\n",
               counts.connects, counts.heartbeats, counts.others + counts.disconnects);
    }
    (void)fflush(stdout);
}

void demo_stop(struct demo *d) {
    if (d->stub)
        stub_stop(d->stub);
    for (size_t i = 0; i < d->count; i++)
        free(d->environ[i]);
    free(d->environ);
    free(d);
}
