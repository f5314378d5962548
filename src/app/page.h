/* The health port's pages: for the kubelet and Prometheus, nothing else. */
#pragma once

#include "io/operator.h"
#include "serve/request/context.h"

/* What the pages speak of. */
struct page_state {
    const struct shared *shared;
    int64_t born_s; /* when the process started, wall clock */
    bool started;   /* listening */
    bool draining;  /* TERM was received */
};

/* Pass with a struct page_state. */
extern const struct operator_page health_pages[];
