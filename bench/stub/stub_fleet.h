/* The table of agents; for stub_agents.c, which answers. In the stub's thread. */
#pragma once

#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define STUB_ORG       "691eb9e6517f917943ae1f9d"
#define STUB_OTHER_ORG "691eb9e6517f917943ae1fff"

enum { STUB_FLEET_TOKEN_MAX = 2048 };

struct agents;
struct stub;

struct agent {
    uint32_t number; /* the end of its id */
    bool deleted, managed, has_instruction, has_secret, of_other_org;
    char status[16];
    int connections;
    int64_t updated_ms;
    int64_t connected_ms; /* -1: never; 0: disconnected */
    int64_t beat_ms;      /* 0: never */
    char *secret;         /* NULL: the one it was born with */
    char *settings;       /* JSON; NULL: the same */
    char *writer;         /* JSON of who wrote last; NULL: the seed */
};

/* Any spelling of an id; NULL when there is no such agent, or it was deleted. */
struct agent *stub_fleet_find(struct agents *agents, const char *id, bool or_deleted);
bool stub_fleet_secret_is(const struct agent *a, const char *given);
/* The answer to connect, and with empty tokens the one to config. */
void stub_fleet_add_configuration(struct str *s, const struct agent *a, struct span token,
                                  int64_t ttl_s);
/* A fresh token for the agent, whose id is spelled like this. */
void stub_fleet_add_token(const struct stub *stub, struct str *s, const struct agent *a,
                          const char *id);
/* What GET /agents/:id answers. */
void stub_fleet_add_document(struct str *s, const struct agents *agents, const struct agent *a);
