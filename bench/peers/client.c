/* The bench's own TLS client, for what wrk cannot do: whole and resumed handshakes, connections
 * held idle, a fixed rate with latencies counted from when a request was due, and a program's first
 * answer.
 *
 *   bench-client handshakes PORT TOKENS COUNT full|resumed
 *   bench-client hold       PORT TOKENS COUNT      prints when all are open; ends with its input
 *   bench-client paced      PORT TOKENS RATE SECONDS CONNECTIONS
 *   bench-client start      PORT PROGRAM [ARGUMENT...]   milliseconds to PROGRAM's first answer
 *
 * TOKENS is a file of lines "agent-id token". Everything goes to 127.0.0.1 (hold: from several
 * addresses of 127/8, one has not ports enough). Prints one line of JSON. A request that fails ends
 * the program with an error: a bench that measures errors measures nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_MAX = 4096, ANSWER_MAX = 4096, ANSWER_WAIT_S = 10 };

static void die(const char *what) {
    fprintf(stderr, "bench-client: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
    exit(EXIT_FAILURE);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static long number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (!*text || *end || value < 1)
        die("a number is wrong");
    return value;
}

/* ---- what is asked ---- */

struct requests {
    char **text;
    size_t count;
};

static char *spell_heartbeat(const char *id, const char *token) {
    static const char body[] =
        "{\"status\":\"online\",\"metrics\":{\"cpu\":45,\"memory\":60,\"activeConnections\":3}}";
    char *text = malloc(REQUEST_MAX);
    if (!text)
        die("memory");
    int len =
        snprintf(text, REQUEST_MAX,
                 "POST /agents/%s/heartbeat HTTP/1.1\r\nHost: gateway\r\nUser-Agent: bench\r\n"
                 "Accept: */*\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
                 "Content-Length: %zu\r\n\r\n%s",
                 id, token, sizeof body - 1, body);
    if (len < 0 || len >= REQUEST_MAX)
        die("a token is too long");
    return text;
}

static struct requests read_requests(const char *path) {
    struct requests r = {NULL, 0};
    char id[64], token[3072];
    FILE *file = fopen(path, "r");
    if (!file)
        die(path);
    while (fscanf(file, "%63s %3071s", id, token) == 2) {
        r.text = realloc(r.text, (r.count + 1) * sizeof *r.text);
        if (!r.text)
            die("memory");
        r.text[r.count++] = spell_heartbeat(id, token);
    }
    fclose(file);
    if (r.count == 0)
        die("no tokens");
    return r;
}

static void release_requests(struct requests *r) {
    for (size_t i = 0; i < r->count; i++)
        free(r->text[i]);
    free(r->text);
}

/* ---- one connection, blocking ---- */

static int dial(int port, uint32_t from) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(from)};
    struct sockaddr_in peer = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = ANSWER_WAIT_S};
    if (fd < 0)
        die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&own, sizeof own) == 0 &&
        connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0)
        return fd;
    close(fd);
    return -1;
}

static SSL_CTX *make_context(void) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        die("TLS");
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    return ctx;
}

static SSL *open_tls(SSL_CTX *ctx, int fd, SSL_SESSION *session) {
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (session)
        SSL_set_session(ssl, session);
    if (SSL_connect(ssl) != 1)
        die("handshake");
    return ssl;
}

/* Is a whole answer there? Its body is as long as its Content-Length says. */
static bool is_whole(const char *answer, size_t len) {
    const char *end = memmem(answer, len, "\r\n\r\n", 4);
    const char *field = strcasestr(answer, "\r\ncontent-length:");
    if (!end || !field || field > end)
        return false;
    return len >= (size_t)(end + 4 - answer) + strtoul(field + 17, NULL, 10);
}

/* The status. */
static int ask(SSL *ssl, const char *request) {
    char answer[ANSWER_MAX + 1];
    size_t len = 0;
    if (SSL_write(ssl, request, (int)strlen(request)) <= 0)
        die("write");
    do {
        int n = SSL_read(ssl, answer + len, (int)(ANSWER_MAX - len));
        if (n <= 0)
            die("read");
        len += (size_t)n;
        answer[len] = '\0';
    } while (len < ANSWER_MAX && !is_whole(answer, len));
    return (int)strtol(answer + 9, NULL, 10);
}

static void expect_success(int status) {
    errno = 0;
    if (status != 201)
        die("the answer is not 201");
}

/* ---- handshakes ---- */

static SSL_SESSION *ticket;

static int on_ticket(SSL *ssl, SSL_SESSION *session) {
    (void)ssl;
    SSL_SESSION_free(ticket);
    ticket = session;
    return 1;
}

static void handshakes(char **argv) {
    int port = (int)number(argv[0]);
    struct requests r = read_requests(argv[1]);
    long count = number(argv[2]), resumed = 0;
    bool resume = strcmp(argv[3], "resumed") == 0;
    SSL_CTX *ctx = make_context();
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_ticket);
    for (long i = 0; i < count; i++) {
        int fd = dial(port, INADDR_LOOPBACK);
        if (fd < 0)
            die("connect");
        SSL *ssl = open_tls(ctx, fd, resume ? ticket : NULL);
        resumed += SSL_session_reused(ssl);
        expect_success(ask(ssl, r.text[(size_t)i % r.count]));
        SSL_shutdown(ssl);
        SSL_free(ssl);
        close(fd);
    }
    printf("{\"requests\":%ld,\"resumed\":%ld}\n", count, resumed);
    release_requests(&r);
}

/* ---- connections held ---- */

/* Our own half of TLS is freed at once: only the socket is held. */
static void hold(char **argv) {
    enum { PER_ADDRESS = 5000 };
    int port = (int)number(argv[0]);
    struct requests r = read_requests(argv[1]);
    long count = number(argv[2]);
    SSL_CTX *ctx = make_context();
    for (long i = 0; i < count; i++) {
        int fd = dial(port, INADDR_LOOPBACK + (uint32_t)(i / PER_ADDRESS));
        if (fd < 0)
            die("connect");
        SSL *ssl = open_tls(ctx, fd, NULL);
        expect_success(ask(ssl, r.text[(size_t)i % r.count]));
        SSL_set_quiet_shutdown(ssl, 1);
        SSL_free(ssl);
    }
    release_requests(&r);
    printf("{\"held\":%ld}\n", count);
    fflush(stdout);
    while (getchar() != EOF)
        ;
}

/* ---- a fixed rate ---- */

struct lane {
    SSL *ssl;
    int64_t due_ns; /* of the request under way; 0: none */
    char answer[ANSWER_MAX + 1];
    size_t len;
};

struct pace {
    struct lane *lanes;
    size_t lane_count;
    int epoll;
    struct requests requests;
    int64_t *latency_ns;
    size_t done, sent;
};

static void open_lane(struct pace *p, size_t i, SSL_CTX *ctx, int port) {
    int fd = dial(port, INADDR_LOOPBACK);
    if (fd < 0)
        die("connect");
    p->lanes[i].ssl = open_tls(ctx, fd, NULL);
    expect_success(ask(p->lanes[i].ssl, p->requests.text[i % p->requests.count]));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};
    if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll");
}

/* The next lane in turn that is free, NULL when none is: then the request goes out late, and its
 * latency tells. */
static struct lane *free_lane(struct pace *p) {
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *lane = &p->lanes[(p->sent + i) % p->lane_count];
        if (lane->due_ns == 0)
            return lane;
    }
    return NULL;
}

static void send_due(struct pace *p, int64_t start_ns, int64_t gap_ns, size_t total) {
    while (p->sent < total) {
        int64_t due_ns = start_ns + (int64_t)p->sent * gap_ns;
        struct lane *lane = now_ns() >= due_ns ? free_lane(p) : NULL;
        if (!lane)
            return;
        const char *request = p->requests.text[p->sent % p->requests.count];
        if (SSL_write(lane->ssl, request, (int)strlen(request)) <= 0)
            die("write");
        lane->due_ns = due_ns;
        lane->len = 0;
        p->sent++;
    }
}

static void receive(struct pace *p, struct lane *lane) {
    int n = SSL_read(lane->ssl, lane->answer + lane->len, (int)(ANSWER_MAX - lane->len));
    if (n <= 0 && SSL_get_error(lane->ssl, n) == SSL_ERROR_WANT_READ)
        return;
    if (n <= 0)
        die("read");
    lane->len += (size_t)n;
    lane->answer[lane->len] = '\0';
    if (!is_whole(lane->answer, lane->len))
        return;
    expect_success((int)strtol(lane->answer + 9, NULL, 10));
    p->latency_ns[p->done++] = now_ns() - lane->due_ns;
    lane->due_ns = 0;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Looks around all the time, without sleeping: its own waking up is no latency of the proxy. */
static void paced(char **argv) {
    int port = (int)number(argv[0]);
    struct pace p = {.requests = read_requests(argv[1]), .lane_count = (size_t)number(argv[4])};
    long rate = number(argv[2]), seconds = number(argv[3]);
    size_t total = (size_t)(rate * seconds);
    SSL_CTX *ctx = make_context();
    p.epoll = epoll_create1(EPOLL_CLOEXEC);
    p.lanes = calloc(p.lane_count, sizeof *p.lanes);
    p.latency_ns = calloc(total, sizeof *p.latency_ns);
    if (p.epoll < 0 || !p.lanes || !p.latency_ns)
        die("memory");
    for (size_t i = 0; i < p.lane_count; i++)
        open_lane(&p, i, ctx, port);
    printf("{\"ready\":%zu}\n", p.lane_count);
    fflush(stdout);
    (void)getchar(); /* told to begin */
    int64_t start_ns = now_ns();
    while (p.done < total) {
        struct epoll_event events[64];
        send_due(&p, start_ns, 1000000000 / rate, total);
        int n = epoll_wait(p.epoll, events, 64, 0);
        for (int i = 0; i < n; i++)
            receive(&p, &p.lanes[events[i].data.u64]);
    }
    qsort(p.latency_ns, total, sizeof *p.latency_ns, by_value);
    int64_t half_ns = p.latency_ns[total / 2], p99_ns = p.latency_ns[total * 99 / 100];
    printf("{\"requests\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", total, (double)half_ns / 1000,
           (double)p99_ns / 1000);
}

/* ---- a program's first answer ---- */

static pid_t launch(char **argv) {
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        return pid;
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(quiet, STDOUT_FILENO);
    dup2(quiet, STDERR_FILENO);
    execvp(argv[0], argv);
    _exit(127);
}

static void start(char **argv) {
    enum { LOOK_US = 200, PATIENCE_S = 10 };
    int port = (int)number(argv[0]), fd = -1, status;
    SSL_CTX *ctx = make_context();
    int64_t begun_ns = now_ns();
    pid_t pid = launch(argv + 1);
    while ((fd = dial(port, INADDR_LOOPBACK)) < 0) {
        if (waitpid(pid, &status, WNOHANG) != 0 ||
            now_ns() - begun_ns > (int64_t)PATIENCE_S * 1000000000)
            die(argv[1]);
        usleep(LOOK_US);
    }
    (void)ask(open_tls(ctx, fd, NULL),
              "POST /agents/6a0000000000000000000000/heartbeat HTTP/1.1\r\n"
              "Host: gateway\r\nContent-Type: application/json\r\n"
              "Content-Length: 19\r\n\r\n{\"status\":\"online\"}");
    printf("{\"ms\":%.2f}\n", (double)(now_ns() - begun_ns) / 1000000);
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int arguments;
        void (*run)(char **argv);
    } modes[] = {
        {"handshakes", 4, handshakes}, {"hold", 3, hold}, {"paced", 5, paced}, {"start", 2, start}};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (argc >= 2 + modes[i].arguments && strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run(argv + 2);
            return EXIT_SUCCESS;
        }
    fputs("usage: bench-client handshakes|hold|paced|start PORT ...: see bench/peers/client.c\n",
          stderr);
    return 64;
}
