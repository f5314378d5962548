/* The disconnect journey: after every beat received before it, and before those received later. */
#pragma once

struct serve;
struct request;

void disconnect_journey(struct serve *s, struct request *r);
