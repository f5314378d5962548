#include "serve/redis/beat_scripts.h"

/* clang-format off: one line of Lua a line */

/* An agent's record lives for 25 h after its last change: a token lives for 24. What is none of
 * ours (another type, other bytes) counts as none, and is written over. */
#define RECORD                                                                                     \
    "local function look(key)\n"                                                                   \
    "  local packed = redis.pcall('GET', key)\n"                                                   \
    "  if type(packed) == 'table' and not string.find(packed.err, 'WRONGTYPE') then\n"             \
    "    redis.call('GET', key)\n"                                                                 \
    "  end\n"                                                                                      \
    "  if type(packed) ~= 'string' then return {} end\n"                                           \
    "  local fine, agent = pcall(cmsgpack.unpack, packed)\n"                                       \
    "  return fine and type(agent) == 'table' and agent or {}\n"                                   \
    "end\n"                                                                                        \
    "local function keep(key, agent)\n"                                                            \
    "  redis.call('SET', key, cmsgpack.pack(agent), 'EX', 90000)\n"                                \
    "end\n"

#define PARKED "9e15"

/* Is nobody to claim? Until when stands there: a key whose life is counted by a clock that was set
 * back since, or that somebody else made, must not stop the fleet. */
#define QUIET                                                                                      \
    "local function quiet(key, now)\n"                                                             \
    "  local till = redis.pcall('GET', key)\n"                                                     \
    "  local left = type(till) == 'string' and tonumber(till) and tonumber(till) - now or 0\n"     \
    "  return left > 0 and left < 4000\n"                                                          \
    "end\n"

/* Does Redis hear this half a second after it was asked (a lease is 30 s)? It was stopped, or the
 * network was; its asker may have given up, and would never know what it was given. */
#define LATE                                                                                       \
    "local function late(lease_end)\n"                                                             \
    "  local t = redis.call('TIME')\n"                                                             \
    "  return t[1] * 1000 + t[2] / 1000 > tonumber(lease_end) - 29500\n"                           \
    "end\n"

/* rules/agents/beat.c says the same in C, for beats in memory; the policy begins at ARGV[at]:
 * phase, interval, hold, gap, expiry, milliseconds. */
#define DUE                                                                                        \
    "local function due_ms(agent, at)\n"                                                           \
    "  local phase, interval = tonumber(ARGV[at]), tonumber(ARGV[at + 1])\n"                       \
    "  local received = agent.heard or math.floor(agent.stamp / 1000)\n"                           \
    "  local due = received\n"                                                                     \
    "  local sent = agent.sent_ms\n"                                                               \
    "  if sent and sent - received > 60000 then sent = nil end\n" /* by another clock */           \
    "  if agent.sent_status == agent.status and not agent.silence then\n"                          \
    "    due = agent.since or received\n"                                                          \
    "    if sent then due = math.max(due, sent + math.floor(interval / 2)) end\n"                  \
    "    due = due + (phase - due) % interval\n"                                                   \
    "    due = math.min(due, received + tonumber(ARGV[at + 2]))\n"                                 \
    "  end\n"                                                                                      \
    "  if sent then due = math.max(due, sent + tonumber(ARGV[at + 3])) end\n"                      \
    "  return math.max(due, agent.retry or 0)\n"                                                   \
    "end\n"

/* The controller's own no, if there was one, begins at ARGV[at]: status, token, till, message. */
#define NO                                                                                         \
    "local function note_no(agent, at)\n"                                                          \
    "  if ARGV[at] ~= '0' then\n"                                                                  \
    "    agent.no = {status = ARGV[at], token = ARGV[at + 1],\n"                                   \
    "                till = tonumber(ARGV[at + 2]), message = ARGV[at + 3]}\n"                     \
    "  end\n"                                                                                      \
    "end\n"

/* The record says again what waits, and when; nobody has the agent. */
#define FREE                                                                                       \
    "local function free(key, due, id, agent, at)\n"                                               \
    "  agent.lease, agent.under_way = nil, nil\n"                                                  \
    "  if agent.stamp then\n"                                                                      \
    "    redis.call('ZADD', due, due_ms(agent, at), id)\n"                                         \
    "  else\n"                                                                                     \
    "    agent.sealed, agent.status, agent.since = nil, nil, nil\n"                                \
    "    redis.call('ZREM', due, id)\n"                                                            \
    "  end\n"                                                                                      \
    "  keep(key, agent)\n"                                                                         \
    "end\n"

/* A beat was received.
 * KEYS: record, due, sending, settle.
 * ARGV: id, stamp, now, status, sealed, token, heed a no?, may be claimed?, claimant, end of the
 *       lease, up to what the asker knows it settled, policy.
 * Returns bits (enum in durable.c), or with news {bits, settled, sent status, sent ms}, or
 * {64, status, message}: the controller's no. */
const char beat_store[] = RECORD QUIET DUE LATE
    "local id, stamp, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])\n"
    "local agent = look(KEYS[1])\n"
    "local no = agent.no\n"
    "if no and ARGV[7] == '1' and now < no.till and (no.token == '' or no.token == ARGV[6]) then\n"
    "  return {64, no.status, no.message}\n"
    "end\n"
    /* What is stamped far ahead is of a clock that was set back: then who comes last is newer. */
    "local ahead = math.max(stamp, (now + 60000) * 1000)\n"
    "if agent.settled and agent.settled > ahead then agent.settled = nil end\n"
    "if agent.stamp and agent.stamp > ahead then agent.stamp = stamp - 1 end\n"
    "local settled, bits = agent.settled or 0, 0\n"
    "if stamp == settled then\n"
    "  bits = 32\n" /* that one, and it is settled already */
    "elseif stamp < settled or stamp < (agent.stamp or 0) then\n"
    "  bits = 16\n" /* a newer one was quicker */
    "elseif stamp == agent.stamp then\n"
    "  bits = 1\n" /* told twice */
    "else\n"
    "  local received = math.min(math.floor(stamp / 1000), now)\n"
    "  bits = 1\n"
    "  if agent.stamp and agent.stamp ~= agent.under_way then\n"
    "    bits = bits + 2\n" /* the older one is superseded */
    "  else\n"
    "    agent.since = received\n"
    "  end\n"
    "  if agent.heard and received - agent.heard > tonumber(ARGV[16]) then agent.silence = 1 end\n"
    "  agent.heard, agent.stamp, agent.status, agent.sealed = received, stamp, ARGV[4], ARGV[5]\n"
    "  local due = due_ms(agent, 12)\n"
    "  if agent.lease then\n"
    "    redis.call('ZADD', KEYS[2], " PARKED ", id)\n"
    "  elseif due <= now and ARGV[8] == '1' and not quiet(KEYS[4], now)\n"
    "      and not late(ARGV[10]) then\n"
    "    bits = bits + 4\n" /* the asker sends it at once */
    "    agent.lease, agent.under_way = ARGV[9], stamp\n"
    "    redis.call('ZREM', KEYS[2], id)\n"
    "    redis.call('ZADD', KEYS[3], ARGV[10], id)\n"
    "  else\n"
    "    if due <= now then bits = bits + 8 end\n"
    "    redis.call('ZADD', KEYS[2], due, id)\n"
    "  end\n"
    "  if not agent.sent_status then bits = bits + 128 end\n"
    "  keep(KEYS[1], agent)\n"
    "end\n"
    "if settled == tonumber(ARGV[11]) then return bits end\n"
    "return {bits, settled, agent.sent_status or '', agent.sent_ms or -1}\n";

/* Who is due? And first: leases that ended, because their replica did, are taken back.
 * KEYS: due, sending, turns, settle, seen.
 * ARGV: what records' keys begin with, now, how many, claimant, end of the lease, expiry (ms; 0:
 *       beats do not expire).
 * Returns {next due ms or -1, expired, superseded, held, then id, stamp, sealed of each}.
 */
const char beat_claim[] = RECORD QUIET LATE
    "local prefix, now, expiry = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[6])\n"
    "local expired, superseded, out = 0, 0, {}\n"
    /* A full Redis refuses a script whose first write needs memory; this one makes room. */
    "redis.call('ZREM', KEYS[1], '')\n"
    "redis.call('SET', KEYS[5], ARGV[2])\n"
    "for _, leases in ipairs({KEYS[2], KEYS[3]}) do\n"
    "  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do\n"
    "    local agent = look(prefix .. id)\n"
    "    redis.call('ZREM', leases, id)\n"
    "    if agent.lease then\n"
    "      if agent.under_way and agent.under_way ~= agent.stamp then\n"
    "        superseded = superseded + 1\n"
    "      end\n"
    "      agent.lease, agent.under_way = nil, nil\n"
    "      if agent.stamp then redis.call('ZADD', KEYS[1], now, id) end\n"
    "      keep(prefix .. id, agent)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "if not quiet(KEYS[4], now) and not late(ARGV[5]) then\n"
    "  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) "
    "do\n"
    "    local agent = look(prefix .. id)\n"
    "    redis.call('ZREM', KEYS[1], id)\n"
    "    if agent.stamp and expiry > 0 and now - (agent.heard or math.floor(agent.stamp / 1000)) > "
    "expiry then\n"
    "      expired = expired + 1\n"
    "      agent.stamp, agent.sealed, agent.status, agent.since = nil, nil, nil, nil\n"
    "      keep(prefix .. id, agent)\n"
    "    elseif agent.stamp then\n"
    "      agent.lease, agent.under_way = ARGV[4], agent.stamp\n"
    "      redis.call('ZADD', KEYS[2], ARGV[5], id)\n"
    "      keep(prefix .. id, agent)\n"
    "      for _, each in ipairs({id, agent.stamp, agent.sealed or ''}) do\n"
    "        out[#out + 1] = each\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "end\n"
    "local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')\n"
    "local held = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2])\n"
    "return {first[2] and tonumber(first[2]) or -1, expired, superseded, held, unpack(out)}\n";

/* A claimed beat has come to its end, or not.
 * KEYS: record, due, sending.
 * ARGV: id, stamp, claimant, outcome (taken, refused, failed), now, spread of the retry (0 to
 *       1000), no (status, token, till, message), the beat's status, policy.
 * Returns 0: somebody else has it by now; 1: noted; 2: it failed, and a newer one waits. */
const char beat_done[] = RECORD DUE NO FREE
    "local id, stamp, outcome, now = ARGV[1], tonumber(ARGV[2]), ARGV[4], tonumber(ARGV[5])\n"
    "local agent = look(KEYS[1])\n"
    "if agent.lease ~= ARGV[3] then return 0 end\n"
    "redis.call('ZREM', KEYS[3], id)\n"
    "agent.turned = nil\n"
    "local result = 1\n"
    "if outcome == 'failed' then\n"
    "  agent.failures = (agent.failures or 0) + 1\n"
    "  local most = math.min(30000, 1000 * 2 ^ math.min(agent.failures - 1, 5))\n"
    "  agent.retry = now + math.floor(most / 2 + most / 2 * tonumber(ARGV[6]) / 1000)\n"
    "  if agent.stamp ~= stamp then result = 2 end\n"
    "else\n"
    "  if stamp > (agent.settled or 0) then\n"
    "    agent.settled, agent.sent_ms = stamp, now\n"
    "    agent.sent_status = outcome == 'taken' and ARGV[11] or nil\n"
    "  end\n"
    "  agent.failures, agent.retry, agent.silence = nil, nil, nil\n"
    "  if agent.stamp == stamp then agent.stamp = nil end\n"
    "end\n"
    "note_no(agent, 7)\n"
    "free(KEYS[1], KEYS[2], id, agent, 12)\n"
    "return result\n";

/* An ordered call (serve/beats/turn.h) wants the agent. A claimant who has the agent already has it
 * for longer, for this call, whatever he had it for. Between two deliveries of the agent's held
 * beat one ordered call goes: `turned` says that it has gone, and then a beat that is due goes
 * first. KEYS: record, due, turns, sending. ARGV: id, claimant, end of the lease, now (-1: the call
 * is on its way already, as after an outage of Redis: nothing can go before it), policy.
 * Returns 1: nobody else sends until told; 0: somebody else has it, or a beat goes first; -1: it
 * was asked too late. */
const char beat_take[] =
    RECORD LATE DUE "local agent = look(KEYS[1])\n"
                    "if agent.lease and agent.lease ~= ARGV[2] then return 0 end\n"
                    "if late(ARGV[3]) then return -1 end\n"
                    "if not agent.lease and agent.turned and agent.stamp\n"
                    "    and due_ms(agent, 5) <= tonumber(ARGV[4]) then return 0 end\n"
                    "agent.lease, agent.turned = ARGV[2], 1\n"
                    "redis.call('ZREM', KEYS[4], ARGV[1])\n"
                    "redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])\n"
                    "if agent.stamp then redis.call('ZADD', KEYS[2], " PARKED ", ARGV[1]) end\n"
                    "keep(KEYS[1], agent)\n"
                    "return 1\n";

/* What the controller has heard of the agent, and not by way of a claimed beat, or nobody could say
 * how that one ended. The claimant gives the agent back, whatever he had it for.
 * KEYS: record, due, turns, sending.
 * ARGV: id, claimant ('' none), outcome (sent, disconnected), stamp, status ('' unknown), when
 * (ms), no (status, token, till, message), policy, is the claimed beat's fate still to be counted?
 * Returns how many beats were dropped as older. */
const char beat_tell[] = RECORD DUE NO FREE
    "local id, outcome, stamp = ARGV[1], ARGV[3], tonumber(ARGV[4])\n"
    "local agent, dropped = look(KEYS[1]), 0\n"
    "redis.call('ZREM', KEYS[2], '')\n" /* as in claim: this may make room */
    "if agent.lease and agent.lease == ARGV[2] then\n"
    "  redis.call('ZREM', KEYS[3], id)\n"
    "  redis.call('ZREM', KEYS[4], id)\n"
    "  agent.lease = nil\n"
    "  local claimed = ARGV[16] == '1' and agent.under_way\n"
    "  if claimed and (claimed ~= agent.stamp or claimed <= stamp) then dropped = 1 end\n"
    "end\n"
    "if stamp > (agent.settled or 0) then\n"
    "  agent.settled = stamp\n"
    "  agent.sent_status = ARGV[5] ~= '' and ARGV[5] or nil\n"
    "  agent.sent_ms = outcome == 'sent' and tonumber(ARGV[6]) or nil\n"
    "  agent.failures, agent.retry, agent.silence = nil, nil, nil\n"
    "  if agent.stamp and agent.stamp <= stamp then\n"
    /* The one under way is its sender's to count. */
    "    if agent.stamp < stamp and agent.stamp ~= agent.under_way then dropped = dropped + 1 end\n"
    "    agent.stamp = nil\n"
    "  end\n"
    "end\n"
    "note_no(agent, 7)\n"
    "if agent.lease then\n"
    "  if not agent.stamp then redis.call('ZREM', KEYS[2], id) end\n"
    "  keep(KEYS[1], agent)\n"
    "else\n"
    "  free(KEYS[1], KEYS[2], id, agent, 11)\n"
    "end\n"
    "return dropped\n";

/* A replica arrives. One that was away has things to tell, and others may have, too: nobody claims
 * for 3 s, which is longer than the longest pause between two attempts to connect. One that is new
 * has nothing to tell; others may, unless somebody was at work here a moment ago. Or never: Redis
 * is new, too. Who was at work may have been cut off a moment ago, and not be back yet: one that is
 * new always waits for 3 s itself. One that comes and goes does not stop the fleet: 10 s of this,
 * then 30 s without. KEYS: settle, settling, seen. ARGV: was away?, now. Returns how long to claim
 * nothing (ms). */
const char beat_hello[] =
    "local now, seen = tonumber(ARGV[2]), tonumber(redis.call('GET', KEYS[3]) or '-1')\n"
    "local new = ARGV[1] ~= '1'\n"
    "if new and seen < 0 then return 0 end\n"
    "local since = tonumber(redis.call('GET', KEYS[2]) or now)\n"
    "if now - since <= 10000 and not (new and now - seen < 2000) then\n"
    "  redis.call('SET', KEYS[1], string.format('%.0f', now + 3000), 'PX', 3000)\n"
    "  redis.call('SET', KEYS[2], since, 'PX', 30000)\n"
    "end\n"
    "return new and 3000 or 0\n";

/* The controller itself has let the agent in. KEYS: record. */
const char beat_lift[] = RECORD "local agent = look(KEYS[1])\n"
                                "if not agent.no then return 0 end\n"
                                "agent.no = nil\n"
                                "keep(KEYS[1], agent)\n"
                                "return 1\n";

/* clang-format on */
