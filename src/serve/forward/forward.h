/* Everything the gateway does not answer itself: to the controller and back, streamed. */
#pragma once

struct serve;
struct request;

void forward_journey(struct serve *s, struct request *r);
