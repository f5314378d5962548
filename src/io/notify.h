/* Tells whoever started this process how it is, in the protocol of sd_notify(3): one datagram to
 * the socket that NOTIFY_SOCKET names. systemd (Type=notify) sets it; where nobody does, nothing is
 * sent. The few lines are ours so that libsystemd need not be linked. */
#pragma once

#include <stdbool.h>

/* `environment` is NULL-terminated. `state`: "READY=1", "STOPPING=1" and the like, lines.
 * Never blocks. False when somebody wanted to know and could not be told: a reason to wonder, none
 * to end. True when nobody wants to know. */
bool notify_tell(char *const *environment, const char *state);
