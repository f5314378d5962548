/* The connect journey: from cache, or one flight to the controller for all who ask the same. */
#pragma once

#include "serve/request/context.h"

struct request;

void connect_journey(struct serve *s, struct request *r);
