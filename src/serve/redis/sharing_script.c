/* The ledger of limits that replicas share.
 *
 * <p>1:limits:<limit>   zset: keyed hashes (8 bytes) by their arrival time, microseconds of Redis'
 *                       clock; those in the past go, and of more than 65,536 the idlest
 *
 * What was spent may have begun when the teller told last, so it is added from there; but a key has
 * got at least as far as its teller sees it, also where Redis has lost its data. Nothing lies
 * further ahead than the burst of every replica and one more: who takes more than there is owes it,
 * but is not shut out for ever. */
#include "serve/redis/sharing_script.h"

#define KEYS_KEPT "65536"

/* One line of Lua a line. */
/* clang-format off */

/* KEYS: one for each limit. ARGV: how long ago we told last (us); how many of the others' we hear
 * of; then for each limit: how far ahead at most (us), from where on it is near its limit (us), what
 * we tell. For each limit two texts: the keys we told, those of the others that are near it. */
const char sharing_script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000000 + t[2]\n"
    "local since, most_heard = tonumber(ARGV[1]), ARGV[2]\n"
    "local function number(n) return string.format('%.0f', n) end\n"
    "local out = {}\n"
    "for i, key in ipairs(KEYS) do\n"
    "  local most, near, told = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), ARGV[3 * i + 2]\n"
    "  local own, others, is_own = {}, {}, {}\n"
    "  for at = 1, #told, 24 do\n"
    "    local k = string.sub(told, at, at + 7)\n"
    "    local spent, ahead = struct.unpack('<i8i8', told, at + 8)\n"
    "    local arrival = tonumber(redis.call('ZSCORE', key, k) or 0)\n"
    "    arrival = math.max(math.max(arrival, now - since) + spent, now + ahead)\n"
    "    arrival = math.min(arrival, now + most)\n"
    "    redis.call('ZADD', key, number(arrival), k)\n"
    "    own[#own + 1] = k .. struct.pack('<i8', arrival - now)\n"
    "    is_own[k] = true\n"
    "  end\n"
    /* By a clock that was set back since. */
    "  redis.call('ZREMRANGEBYSCORE', key, number(now + 2 * most + 60000000), '+inf')\n"
    "  local busy = redis.call('ZREVRANGEBYSCORE', key, '+inf', number(now + near),\n"
    "    'WITHSCORES', 'LIMIT', 0, most_heard)\n"
    "  for j = 1, #busy, 2 do\n"
    "    if not is_own[busy[j]] then\n"
    "      others[#others + 1] = busy[j] .. struct.pack('<i8', tonumber(busy[j + 1]) - now)\n"
    "    end\n"
    "  end\n"
    "  if #own > 0 then\n"
    "    redis.call('ZREMRANGEBYSCORE', key, '-inf', number(now - 1000000))\n"
    "    redis.call('ZREMRANGEBYRANK', key, 0, -" KEYS_KEPT " - 1)\n"
    "    redis.call('PEXPIRE', key, number(math.ceil(most / 1000) + 1000))\n"
    "  end\n"
    "  out[#out + 1] = table.concat(own)\n"
    "  out[#out + 1] = table.concat(others)\n"
    "end\n"
    "return out\n";
