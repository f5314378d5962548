/* aiwm-gateway: the gateway in front of AIWM, the controller of fleets of AI agents. */
#include "app/app.h"
#include "app/options.h"
#include "io/files.h"

#include <unistd.h>

int main(int argc, char **argv) {
    struct options options;
    files_fill_standard();
    if (options_parse(argc, argv, &options) != OPTIONS_FINE) {
        options_print_usage(stderr, &options);
        return EXIT_USAGE;
    }
    return app_run(&options, environ);
}
