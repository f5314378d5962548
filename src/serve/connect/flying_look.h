/* A leader's look at what other replicas have learnt, before he asks the controller. */
#pragma once

#include "serve/connect/aboard.h"

/* Looks, and then asks the controller (leader->ask) or not. The request stands in serve->head
 * already. False: there is no use in looking. */
bool flying_look(struct passenger *leader, const struct request *r);
