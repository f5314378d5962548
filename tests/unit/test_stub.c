#include "stub/stub.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct stub *start(const struct stub_options *options) {
    const char *why = NULL;
    struct stub *stub = stub_start(options, &why);
    cr_assert(stub, "%s", why);
    return stub;
}

/* One request on a connection of its own; the status, or 0 when there was no answer. */
static int ask(int port, const char *request) {
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char answer[4096] = "";
    int status = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&where, sizeof where) == 0 &&
        send(fd, request, strlen(request), MSG_NOSIGNAL) > 0 &&
        recv(fd, answer, sizeof answer - 1, 0) > 0)
        sscanf(answer, "HTTP/1.1 %d", &status);
    close(fd);
    return status;
}

static const char connect_right[] = "POST /agents/6a0000000000000000000003/connect HTTP/1.1\r\n"
                                    "Host: x\r\nContent-Type: application/json\r\n"
                                    "Content-Length: 37\r\n\r\n"
                                    "{\"secret\":\"agent-secret-for-tests-3\"}";

Test(stub, answers_and_counts_in_the_process_that_started_it) {
    struct stub *stub = start(&(struct stub_options){.connect_cost_ms = 1});
    struct stub_counts counts;
    cr_assert_eq(ask(stub_port(stub), connect_right), 201);
    cr_assert_eq(ask(stub_port(stub), "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    stub_counts(stub, &counts);
    cr_assert_eq(counts.requests, 2);
    cr_assert_eq(counts.connects, 1);
    cr_assert_eq(counts.connects_ok, 1);
    cr_assert_eq(counts.bcrypts, 1);
    cr_assert_eq(counts.others, 1);
    stub_stop(stub);
}

Test(stub, has_heartbeats_in_bulk_only_when_asked_for) {
    static const char request[] = "POST /agents/heartbeats HTTP/1.1\r\nHost: x\r\n"
                                  "Content-Length: 0\r\n\r\n";
    struct stub *without = start(&(struct stub_options){.agents = 1});
    struct stub *with = start(&(struct stub_options){.agents = 1, .bulk = true});
    struct stub_counts counts;
    cr_assert_eq(ask(stub_port(without), request), 404);
    cr_assert_eq(ask(stub_port(with), request), 401);
    stub_counts(with, &counts);
    cr_assert_eq(counts.bulk_requests, 1);
    cr_assert_eq(counts.bulk_beats, 0);
    stub_stop(without);
    stub_stop(with);
}

Test(stub, two_of_them_do_not_disturb_each_other) {
    struct stub *few = start(&(struct stub_options){.agents = 3});
    struct stub *many = start(&(struct stub_options){.agents = 4, .control_port = -1});
    cr_assert_eq(ask(stub_port(few), connect_right), 404);
    cr_assert_eq(ask(stub_port(many), connect_right), 201);
    cr_assert_gt(stub_control_port(few), 0);
    cr_assert_eq(stub_control_port(many), -1);
    stub_stop(few);
    cr_assert_eq(ask(stub_port(many), connect_right), 201);
    stub_stop(many);
}

Test(stub, says_why_it_cannot_start) {
    struct stub *stub = start(&(struct stub_options){.agents = 1});
    const struct stub_options bad[] = {
        {.port = stub_port(stub)},
        {.address = "no address"},
        {.control_port = stub_control_port(stub)},
        {.transcripts_dir = "/nonexistent"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *why = NULL;
        cr_assert_null(stub_start(&bad[i], &why), "row %zu", i);
        cr_assert_not_null(why, "row %zu", i);
    }
    stub_stop(stub);
}

Test(stub, stops_while_secrets_are_being_compared) {
    struct stub *stub = start(&(struct stub_options){.connect_cost_ms = 50});
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)stub_port(stub)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct stub_counts counts = {.bcrypts = 0};
    int fd[8];
    for (int i = 0; i < 8; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert_eq(connect(fd[i], (struct sockaddr *)&where, sizeof where), 0);
        send(fd[i], connect_right, sizeof connect_right - 1, MSG_NOSIGNAL);
    }
    while (counts.bcrypts == 0)
        stub_counts(stub, &counts);
    stub_stop(stub);
    for (int i = 0; i < 8; i++)
        close(fd[i]);
}
