/* The heartbeat journey: judged as the controller would, held, acknowledged. */
#pragma once

struct serve;
struct request;

void heartbeat_journey(struct serve *s, struct request *r);
