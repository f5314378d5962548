/* `aiwm-gateway ctl ...`: the admin port from a terminal. */
#pragma once

/* argv[0] is "ctl". Returns the exit code: 0 done, 1 refused or not reached, 64 usage. */
int ctl_run(int argc, char **argv);
