/* aiwm-bench: a fleet of agents, to see what a gateway or a controller can bear. */
#include "agents/campaign.h"
#include "agents/report.h"
#include "base/log.h"
#include "io/files.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum { EXIT_USAGE = 64 };

static int run(const struct bench_options *o, int argc, char **argv) {
    if (o->out_dir && !report_prepare(o->out_dir))
        return EXIT_FAILURE;
    struct campaign *c = campaign_new(o);
    char why[RUN_WHY] = "";
    enum { CANONICAL_MAX = 65536 };
    struct str canonical;
    str_init(&canonical, CANONICAL_MAX);
    bench_options_print_canonical(o, &canonical);
    origin_fill(&c->origin, argc, argv, str_span(&canonical));
    str_release(&canonical);
    enum run_end end = campaign_run(c, why);
    bool failed = end != RUN_DONE;
    if (failed)
        fprintf(stderr, "aiwm-bench: %s\n", why);
    if (c->runs[0] > 0) {
        campaign_print(c, stdout);
        failed |= campaign_failed(c, stdout);
        failed |= o->out_dir && !report_write(c, o->out_dir);
    }
    campaign_free(c);
    return end == RUN_REFUSED ? EXIT_USAGE : failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    static struct bench_options options;
    char why[SCENARIO_WHY] = "";
    files_fill_standard();
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_ERROR);
    if (!bench_options_parse(argc, argv, &options, why)) {
        fprintf(stderr, "aiwm-bench: %s\nTry aiwm-bench --help\n", why);
        bench_options_release(&options);
        return EXIT_USAGE;
    }
    int code = EXIT_SUCCESS;
    if (options.help)
        bench_options_print_help(stdout);
    else if (options.version)
        printf("aiwm-bench %s\n", GATEWAY_VERSION);
    else
        code = run(&options, argc, argv);
    bench_options_release(&options);
    return code;
}
