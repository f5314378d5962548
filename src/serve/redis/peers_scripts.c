/* The connect cache's level that replicas share, and what they tell each other.
 *
 * <p>1:grant:<id>     hash: proof, seen, tags, fetched, grant (sealed); lives as long as its token
 * <p>1:fill:<id>:<x>  who is asking the controller for it (x: of the proof); 5 s
 * <p>1:purges         hash: seq, epoch, gone, and a field for each slot of tags that was written
 * <p>1:purged:<id>    when the agent was forgotten; 10 min, longer than any fill takes
 * <p>1:events         stream: from, seq, what (rules/redis/notice)
 * <p>1:revoked        hash: <id> -> "deleted|suspended <cut-off>", <id>:r -> regenerated until
 * <p>1:revoked:until  zset: the same fields by the second at which they are over; 25 h
 * <p>1:replicas       zset: replicas by the millisecond they were last heard
 *
 * Purges have one rising sequence: Redis' clock in microseconds, or one more than the last where
 * the clock was set back. (It is asked for here and not passed in: a replica's idea of it may be
 * behind, and a purge that is dated back would not stop a fill. So it also rises over a loss of all
 * data, which a counter would not.) `seen` is the last purge that a replica had heard of when it
 * asked the controller: what was purged later is not stored, or not found. `epoch` is where this
 * Redis' memory begins: a fill that began before may have been purged without a trace. */
#include "serve/redis/peers_scripts.h"

#define SEQUENCE(state)                                                                            \
    "local t = redis.call('TIME')\n"                                                               \
    "local now = t[1] * 1000000 + t[2]\n"                                                          \
    "local s = redis.call('HMGET', " state ", 'seq', 'epoch')\n"                                   \
    "local last = tonumber(s[1] or 0)\n"                                                           \
    "local function number(n) return string.format('%.0f', n) end\n"

/* The sequence of this purge, as text in `seq`. */
#define NEXT(state)                                                                                \
    SEQUENCE(state)                                                                                \
    "local seq = number(math.max(now, last + 1))\n"                                                \
    "if not s[2] then redis.call('HSET', " state ", 'epoch', seq) end\n"                           \
    "redis.call('HSET', " state ", 'seq', seq)\n"

#define EVENTS_KEPT "10000"
#define TELL(stream, text)                                                                         \
    "redis.call('XADD', " stream ", 'MAXLEN', '~', " EVENTS_KEPT                                   \
    ", '*', 'from', ARGV[1], 'seq', seq, 'what', " text ")\n"

/* `after(x, n)`: is there a sequence x, and is it later than n? */
#define AFTER "local function after(x, n) return x and tonumber(x) > n end\n"

/* Was any slot of `tags` ("1,2,3") written after n? */
#define WRITTEN(state)                                                                             \
    "local function written(tags, n)\n"                                                            \
    "  local slots = {}\n"                                                                         \
    "  for slot in string.gmatch(tags, '%d+') do slots[#slots + 1] = slot end\n"                   \
    "  if #slots == 0 then return false end\n"                                                     \
    "  for _, at in ipairs(redis.call('HMGET', " state ", unpack(slots))) do\n"                    \
    "    if after(at, n) then return true end\n"                                                   \
    "  end\n"                                                                                      \
    "  return false\n"                                                                             \
    "end\n"

/* One line of Lua a line. */
/* clang-format off */

/* KEYS: grant, fill, purges, purged. ARGV: proof, proof under the previous key or '', who asks, how
 * long a fill is his (ms).
 * {'found', is it stale, tags, grant}, or {'ours'}: the fill is his who asks; or {'locked'}. */
const char peers_look[] =
    AFTER WRITTEN("KEYS[3]")
    "local e = redis.call('HMGET', KEYS[1], 'proof', 'seen', 'tags')\n"
    "if e[1] and (e[1] == ARGV[1] or e[1] == ARGV[2]) then\n"
    "  local seen = tonumber(e[2])\n"
    "  local gone = after(redis.call('HGET', KEYS[3], 'gone'), seen)\n"
    "  if not gone and not after(redis.call('GET', KEYS[4]), seen) then\n"
    "    local stale = written(e[3], seen) and 1 or 0\n"
    "    return {'found', stale, e[3], redis.call('HGET', KEYS[1], 'grant')}\n"
    "  end\n"
    "end\n"
    "if redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4]) then return {'ours'} end\n"
    "if redis.call('GET', KEYS[2]) == ARGV[3] then return {'ours'} end\n"
    "return {'locked'}\n";

/* KEYS: grant, fill, purges, purged. ARGV: who, seen, proof, tags, when it was fetched (ms), how
 * long it lives (ms), the grant; '' just ends the fill.
 * 1: stored. Nothing that was purged since `seen`, nor what is older than what is there. */
const char peers_keep[] =
    AFTER WRITTEN("KEYS[3]")
    "if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end\n"
    "if ARGV[7] == '' then return 0 end\n"
    "local seen = tonumber(ARGV[2])\n"
    "local s = redis.call('HMGET', KEYS[3], 'epoch', 'gone')\n"
    "if not s[1] or after(s[1], seen) or after(s[2], seen) then return 0 end\n"
    "if after(redis.call('GET', KEYS[4]), seen) or written(ARGV[4], seen) then return 0 end\n"
    "local e = redis.call('HMGET', KEYS[1], 'seen', 'fetched')\n"
    "if after(e[1], seen) or after(e[2], tonumber(ARGV[5])) then return 0 end\n"
    "redis.call('HSET', KEYS[1], 'proof', ARGV[3], 'seen', ARGV[2], 'tags', ARGV[4],\n"
    "  'fetched', ARGV[5], 'grant', ARGV[7])\n"
    "redis.call('PEXPIRE', KEYS[1], ARGV[6])\n"
    "return 1\n";

/* KEYS: purges, events, grant, purged, revoked, revoked:until. ARGV: who; the notice; the same
 * without its access; id, forget, only if shared, access, cut-off, regenerated; the purge that a
 * readmission has seen, or ''; how long a purge is marked (ms), a revocation known (s).
 * 1: told. */
const char peers_tell_agent[] =
    AFTER
    "if ARGV[6] == '1' and redis.call('EXISTS', KEYS[3]) == 0 then return 0 end\n"
    "local text, access = ARGV[2], ARGV[7]\n"
    "if access == 'readmitted' and ARGV[10] ~= ''\n"
    "   and after(redis.call('GET', KEYS[4]), tonumber(ARGV[10])) then\n"
    "  if ARGV[5] == '0' and ARGV[9] == '0' then return 0 end\n"
    "  text, access = ARGV[3], 'unchanged'\n"
    "end\n"
    NEXT("KEYS[1]")
    "if ARGV[5] == '1' then\n"
    "  redis.call('DEL', KEYS[3])\n"
    "  redis.call('SET', KEYS[4], seq, 'PX', ARGV[11])\n"
    "end\n"
    "local now_s = tonumber(t[1])\n"
    "local function revoke(field, value)\n"
    "  redis.call('HSET', KEYS[5], field, value)\n"
    "  redis.call('ZADD', KEYS[6], now_s + ARGV[12], field)\n"
    "end\n"
    "if access == 'deleted' or access == 'suspended' then\n"
    "  revoke(ARGV[4], access .. ' ' .. ARGV[8])\n"
    "elseif access == 'readmitted' then\n"
    "  redis.call('HDEL', KEYS[5], ARGV[4])\n"
    "  redis.call('ZREM', KEYS[6], ARGV[4])\n"
    "end\n"
    "if ARGV[9] ~= '0' then revoke(ARGV[4] .. ':r', ARGV[9]) end\n"
    "local over = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', now_s, 'LIMIT', 0, 100)\n"
    "if #over > 0 then\n"
    "  redis.call('HDEL', KEYS[5], unpack(over))\n"
    "  redis.call('ZREM', KEYS[6], unpack(over))\n"
    "end\n"
    TELL("KEYS[2]", "text")
    "return 1\n";

/* KEYS: purges, events. ARGV: who, the notice, the slots of tags ("1,2,3") or '' for everything. */
const char peers_tell_all[] =
    NEXT("KEYS[1]")
    "if ARGV[3] == '' then redis.call('HSET', KEYS[1], 'gone', seq) end\n"
    "for slot in string.gmatch(ARGV[3], '%d+') do redis.call('HSET', KEYS[1], slot, seq) end\n"
    TELL("KEYS[2]", "ARGV[2]")
    "return 1\n";

/* KEYS: replicas, purges, events. ARGV: who, how long one that is silent still counts (ms).
 * {how many replicas there are, the last purge, the epoch}. The stream is never empty after it:
 * who follows it can always tell whether he missed something. */
const char peers_attend[] =
    SEQUENCE("KEYS[2]")
    "if not s[1] or not s[2] then\n"
    "  local seq = number(math.max(now, last + 1))\n"
    "  redis.call('HSET', KEYS[2], 'seq', seq, 'epoch', seq)\n"
    "  s = {seq, seq}\n"
    "end\n"
    "local now_ms = math.floor(now / 1000)\n"
    "redis.call('ZADD', KEYS[1], number(now_ms), ARGV[1])\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', number(now_ms - ARGV[2]))\n"
    /* By a clock that was set back since. */
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], number(now_ms + 60000), '+inf')\n"
    "if redis.call('EXISTS', KEYS[3]) == 0 then\n"
    "  redis.call('XADD', KEYS[3], '*', 'from', ARGV[1], 'seq', s[1], 'what', 'hello')\n"
    "end\n"
    "return {redis.call('ZCARD', KEYS[1]), s[1], s[2]}\n";
