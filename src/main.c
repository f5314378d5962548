/* aiwm-gateway: the gateway in front of AIWM, the controller of fleets of AI agents. */
#include "app/app.h"
#include "app/ctl.h"
#include "app/options.h"
#include "io/files.h"
#include "io/record_memory.h"

#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct options options;
    files_fill_standard();
    record_memory_use();
    if (argc > 1 && strcmp(argv[1], "ctl") == 0)
        return ctl_run(argc - 1, argv + 1);
    if (options_parse(argc, argv, &options) != OPTIONS_FINE) {
        options_print_usage(stderr, &options);
        return EXIT_USAGE;
    }
    return app_run(&options, environ);
}
