/* What the clients of a process know together of one Redis: counted, shown and logged. Private to
 * io/redis*.c. Any thread. */
#pragma once

#include "io/redis.h"

/* Counted always, logged when it begins. */
void redis_note_trouble(const struct redis_options *o, enum redis_trouble t);
/* Our user may not do something: says once, until it is well again, which right its ACL misses, or
 * which ones `script` needs (NULL: it was none). Nothing where Redis does not say. */
void redis_note_missing_right(const struct redis_options *o, struct span error,
                              const struct redis_script *script);
/* A good reply: has a trouble of commands only been quiet for long enough to be over? */
void redis_note_reply(const struct redis_options *o);
/* A client has been greeted; is gone. In turns. */
void redis_note_here(const struct redis_options *o, const struct redis_info *info);
void redis_note_away(const struct redis_options *o);
/* Whether what Redis acknowledges is safe there; a warning once, where it is not. */
void redis_note_durability(const struct redis_options *o, const struct redis_info *info);
