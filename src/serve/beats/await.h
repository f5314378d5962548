/* The agent of a first beat waits for the controller's word: a deleted agent shall hear at once
 * that it is. No longer than a second: the beat is held, and that is what was promised. */
#pragma once

#include "serve/beats/sending.h"
#include "serve/request/answer.h"

struct await;

/* Takes the caller, whose client is still here. `in_memory`: what to say of the beat if the
 * controller says nothing. */
struct await *await_new(struct serve *s, struct caller *caller, bool in_memory);
/* There was no place for the beat: the caller is given back, nobody watches its client. */
void await_cancel(struct await *a, struct caller *caller);
/* Pass it with the beat. The wait ends when it is told, when the client leaves, or in a second. */
struct sending_waiter *await_waiter(struct await *a);
