/* Small files read whole: the configuration, certificates, secrets. */
#pragma once

#include <stddef.h>

enum { FILES_MAX = 1048576 }; /* bytes; a certificate bundle of a whole system has 0.2 million */

/* Gives the content (malloc'ed, terminated by a zero that *len does not count), or NULL with a
 * static text in *why. Regular files of at most FILES_MAX bytes only: a directory, a fifo or a
 * device is refused, and opening one never blocks. What is judged is the file that was opened,
 * not its name. `unused` is there to fit config_sources.read_file. */
char *files_read(void *unused, const char *path, size_t *len, const char **why);

/* Opens /dev/null for those of the standard descriptors that whoever started us has closed: else
 * the first sockets would take their numbers, and what is printed would go to a client. Call before
 * anything is opened. */
void files_fill_standard(void);
