/* aiwm-stub: the controller stub as a program, for load tests and for trying things by hand. */
#include "stub/descriptors.h"
#include "stub/stub.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_USAGE = 64 };

static const char help[] =
    "Usage: aiwm-stub [options]\n"
    "Answers as the AIWM controller does, until it is told to stop (TERM or INT).\n"
    "  --address A          where to listen (127.0.0.1)\n"
    "  --port N             0 takes any free one (0)\n"
    "  --control-port N     counts, request log, faults; on 127.0.0.1; -1: none (0)\n"
    "  --agents N           how many agents there are (1000)\n"
    "  --connect-cost-ms N  CPU burnt per connect, as bcrypt would (0)\n"
    "  --processors N       a connect takes its time on one of N processors (at most 4) of a "
    "machine\n"
    "                       of its own, instead of burning this one's (0)\n"
    "  --jwt-secret S       signs and checks tokens (the one of the recordings)\n"
    "  --transcripts DIR    recordings for everything that is not the agent API\n"
    "  --token-ttl S        seconds a token lives (86400)\n"
    "  --bulk               has POST /agents/heartbeats\n"
    "  --journal FILE       adds a line for each request answered; survives kill -9\n"
    "  --help\n"
    "Prints {\"port\":N,\"control_port\":N} on standard output when it serves.\n";

static const struct option options[] = {
    {"address", required_argument, NULL, 'A'},
    {"port", required_argument, NULL, 'p'},
    {"control-port", required_argument, NULL, 'c'},
    {"agents", required_argument, NULL, 'a'},
    {"connect-cost-ms", required_argument, NULL, 'b'},
    {"processors", required_argument, NULL, 'P'},
    {"jwt-secret", required_argument, NULL, 'j'},
    {"transcripts", required_argument, NULL, 't'},
    {"token-ttl", required_argument, NULL, 'e'},
    {"bulk", no_argument, NULL, 'B'},
    {"journal", required_argument, NULL, 'J'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text && !*end && value >= -1 && value <= 100000000)
        return (int)value;
    fprintf(stderr, "aiwm-stub: not a number: %s\n", text);
    exit(EXIT_USAGE);
}

static void read_options(int argc, char **argv, struct stub_options *o) {
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'A':
            o->address = optarg;
            break;
        case 'p':
            o->port = number(optarg);
            break;
        case 'c':
            o->control_port = number(optarg);
            break;
        case 'a':
            o->agents = number(optarg);
            break;
        case 'b':
            o->connect_cost_ms = number(optarg);
            break;
        case 'P':
            o->processors = number(optarg);
            break;
        case 'j':
            o->jwt_secret = optarg;
            break;
        case 't':
            o->transcripts_dir = optarg;
            break;
        case 'e':
            o->token_ttl_s = number(optarg);
            break;
        case 'J':
            o->journal_file = optarg;
            break;
        case 'B':
            o->bulk = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(EXIT_SUCCESS);
        default:
            fputs("Try aiwm-stub --help\n", stderr);
            exit(EXIT_USAGE);
        }
    }
}

int main(int argc, char **argv) {
    struct stub_options o = {.address = NULL};
    const char *why = NULL;
    sigset_t ends;
    int signal_number;
    read_options(argc, argv, &o);
    (void)descriptors_raise();
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    struct stub *stub = stub_start(&o, &why);
    if (!stub) {
        fprintf(stderr, "aiwm-stub: %s\n", why);
        return EXIT_FAILURE;
    }
    printf("{\"port\":%d,\"control_port\":%d}\n", stub_port(stub), stub_control_port(stub));
    fflush(stdout);
    sigwait(&ends, &signal_number);
    stub_stop(stub);
    return EXIT_SUCCESS;
}
