/* How many descriptors this process may have. */
#pragma once

#include <stddef.h>

/* As many as the hard limit allows, or 65,536 if that is more and we may raise it. Returns how many
 * that are. For programs: it is the whole process' limit. */
size_t descriptors_raise(void);
