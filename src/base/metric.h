/* Counters and gauges: one row each, and nothing else to do to have it in /metrics.
 *
 * Each thread adds to a block of its own (relaxed, no lock, no shared line); a scrape sums the
 * blocks. A gauge is a sum of +1 and -1 over all blocks. Never an agent's id as a label.
 *   symbol, kind, family, labels, help (the same for all rows of a family; rows of one family
 *   stand together) */
#pragma once

#include "base/str.h"

#include <stdint.h>

#define METRIC_ROWS(X)                                                                             \
    X(CERTIFICATE_EXPIRY, gauge, "certificate_expiry_timestamp_seconds", "",                       \
      "When the certificate shown to agents ends, seconds since 1970.")                            \
    X(RELOADS_FINE, counter, "config_reloads_total", "result=\"ok\"", "Reloads by result.")        \
    X(RELOADS_REFUSED, counter, "config_reloads_total", "result=\"refused\"",                      \
      "Reloads by result.")                                                                        \
    X(CONNECTIONS, gauge, "connections", "", "Open client connections.")                           \
    X(CONNECTIONS_ACCEPTED, counter, "connections_accepted_total", "",                             \
      "Client connections accepted.")                                                              \
    X(CONNECTIONS_EVICTED, counter, "connections_evicted_total", "",                               \
      "Strangers' connections that made room for newcomers.")                                      \
    X(IN_FLIGHT, gauge, "requests_in_flight", "", "Requests that wait for somebody.")              \
    X(SHED_CONNECTS, counter, "shed_total", "what=\"connects\"",                                   \
      "Requests refused because the gateway is at its own limits.")                                \
    X(SHED_CALLS, counter, "shed_total", "what=\"calls\"",                                         \
      "Requests refused because the gateway is at its own limits.")                                \
    X(SHED_BEATS, counter, "shed_total", "what=\"heartbeats\"",                                    \
      "Requests refused because the gateway is at its own limits.")                                \
    X(REFUSED_LIMIT, counter, "connections_refused_total", "reason=\"limit\"",                     \
      "Client connections closed before the handshake.")                                           \
    X(REFUSED_DESCRIPTORS, counter, "connections_refused_total", "reason=\"descriptors\"",         \
      "Client connections closed before the handshake.")                                           \
    X(REFUSED_PROXY, counter, "connections_refused_total", "reason=\"proxy_header\"",              \
      "Client connections closed before the handshake.")                                           \
    X(REFUSED_UNTRUSTED, counter, "connections_refused_total", "reason=\"untrusted_peer\"",        \
      "Client connections closed before the handshake.")                                           \
    X(OPERATORS_EVICTED, counter, "operator_connections_closed_total", "reason=\"evicted\"",       \
      "Connections to the health and admin ports that were closed early.")                         \
    X(OPERATORS_TIMEOUT, counter, "operator_connections_closed_total", "reason=\"timeout\"",       \
      "Connections to the health and admin ports that were closed early.")                         \
    X(OPERATORS_REFUSED, counter, "operator_connections_closed_total", "reason=\"refused\"",       \
      "Connections to the health and admin ports that were closed early.")                         \
    X(TLS_FULL, counter, "tls_handshakes_total", "kind=\"full\"", "TLS handshakes finished.")      \
    X(TLS_RESUMED, counter, "tls_handshakes_total", "kind=\"resumed\"",                            \
      "TLS handshakes finished.")                                                                  \
    X(TLS_FAILED, counter, "tls_handshakes_failed_total", "", "TLS handshakes that failed.")       \
    X(REQUESTS_CONNECT, counter, "requests_total", "route=\"connect\"", "Requests by route.")      \
    X(REQUESTS_HEARTBEAT, counter, "requests_total", "route=\"heartbeat\"", "Requests by route.")  \
    X(REQUESTS_DISCONNECT, counter, "requests_total", "route=\"disconnect\"",                      \
      "Requests by route.")                                                                        \
    X(REQUESTS_FORWARD, counter, "requests_total", "route=\"forward\"", "Requests by route.")      \
    X(ANSWERS_NONE_2XX, counter, "answers_total", "route=\"none\",class=\"2xx\"",                  \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_NONE_3XX, counter, "answers_total", "route=\"none\",class=\"3xx\"",                  \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_NONE_4XX, counter, "answers_total", "route=\"none\",class=\"4xx\"",                  \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_NONE_5XX, counter, "answers_total", "route=\"none\",class=\"5xx\"",                  \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_CONNECT_2XX, counter, "answers_total", "route=\"connect\",class=\"2xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_CONNECT_3XX, counter, "answers_total", "route=\"connect\",class=\"3xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_CONNECT_4XX, counter, "answers_total", "route=\"connect\",class=\"4xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_CONNECT_5XX, counter, "answers_total", "route=\"connect\",class=\"5xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_HEARTBEAT_2XX, counter, "answers_total", "route=\"heartbeat\",class=\"2xx\"",        \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_HEARTBEAT_3XX, counter, "answers_total", "route=\"heartbeat\",class=\"3xx\"",        \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_HEARTBEAT_4XX, counter, "answers_total", "route=\"heartbeat\",class=\"4xx\"",        \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_HEARTBEAT_5XX, counter, "answers_total", "route=\"heartbeat\",class=\"5xx\"",        \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_DISCONNECT_2XX, counter, "answers_total", "route=\"disconnect\",class=\"2xx\"",      \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_DISCONNECT_3XX, counter, "answers_total", "route=\"disconnect\",class=\"3xx\"",      \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_DISCONNECT_4XX, counter, "answers_total", "route=\"disconnect\",class=\"4xx\"",      \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_DISCONNECT_5XX, counter, "answers_total", "route=\"disconnect\",class=\"5xx\"",      \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_FORWARD_2XX, counter, "answers_total", "route=\"forward\",class=\"2xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_FORWARD_3XX, counter, "answers_total", "route=\"forward\",class=\"3xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_FORWARD_4XX, counter, "answers_total", "route=\"forward\",class=\"4xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ANSWERS_FORWARD_5XX, counter, "answers_total", "route=\"forward\",class=\"5xx\"",            \
      "Answers given, by route and status class; none: no request that could be matched.")         \
    X(ACCESS_LEFT_OUT, counter, "access_lines_left_out_total", "",                                 \
      "Request lines that log.access_rate left out of the log.")                                   \
    X(REQUESTS_MALFORMED, counter, "requests_malformed_total", "",                                 \
      "Requests refused by the HTTP grammar.")                                                     \
    X(CLIENTS_GONE, counter, "clients_gone_total", "", "Clients that left before their answer.")   \
    X(CONNECT_HIT, counter, "connect_cache_total", "result=\"hit\"", "Connects by cache result.")  \
    X(CONNECT_MISS, counter, "connect_cache_total", "result=\"miss\"",                             \
      "Connects by cache result.")                                                                 \
    X(CONNECT_STALE, counter, "connect_cache_total", "result=\"stale\"",                           \
      "Connects by cache result.")                                                                 \
    X(CONNECT_COLLAPSED, counter, "connect_cache_total", "result=\"collapsed\"",                   \
      "Connects by cache result.")                                                                 \
    X(CONNECT_BYPASS, counter, "connect_cache_total", "result=\"bypass\"",                         \
      "Connects by cache result.")                                                                 \
    X(CONNECT_REFUSED, counter, "connect_cache_total", "result=\"refused\"",                       \
      "Connects by cache result.")                                                                 \
    X(LIMITED_CONNECT, counter, "limited_total", "by=\"connects_per_agent\"",                      \
      "Requests refused, or connects answered from cache, by a limit of the client's.")            \
    X(LIMITED_ADDRESS, counter, "limited_total", "by=\"connect_failures_per_ip\"",                 \
      "Requests refused, or connects answered from cache, by a limit of the client's.")            \
    X(LIMITED_LOCKOUT, counter, "limited_total", "by=\"connect_failures_per_agent\"",              \
      "Requests refused, or connects answered from cache, by a limit of the client's.")            \
    X(LIMITED_CALL, counter, "limited_total", "by=\"api_rate\"",                                   \
      "Requests refused, or connects answered from cache, by a limit of the client's.")            \
    X(LIMITED_CONTROL, counter, "limited_total", "by=\"control_rate\"",                            \
      "Requests refused, or connects answered from cache, by a limit of the client's.")            \
    X(LIMITED_BEAT, counter, "limited_total", "by=\"heartbeat_rate\"",                             \
      "Requests refused, or connects answered from cache, by a limit of the client's.")            \
    X(REFRESH_SENT, counter, "connect_refreshes_total", "result=\"sent\"",                         \
      "Background refreshes of cached connects.")                                                  \
    X(REFRESH_DROPPED, counter, "connect_refreshes_total", "result=\"dropped\"",                   \
      "Background refreshes of cached connects.")                                                  \
    X(TOKENS_REVOKED, counter, "tokens_revoked_refused_total", "",                                 \
      "Requests refused because the agent's token was revoked.")                                   \
    X(CONNECT_CACHED, gauge, "connect_cache_entries", "", "Connect answers held.")                 \
    X(BCRYPTS_AVOIDED, counter, "bcrypts_avoided_total", "",                                       \
      "Connects answered without the controller.")                                                 \
    X(BEATS_RECEIVED, counter, "heartbeats_received_total", "", "Valid heartbeats received.")      \
    X(BEATS_DELIVERED, counter, "heartbeats_delivered_total", "",                                  \
      "Heartbeats the controller has answered.")                                                   \
    X(BEATS_SUPERSEDED, counter, "heartbeats_superseded_total", "",                                \
      "Heartbeats replaced by a newer one or by a disconnect, as this process learnt.")            \
    X(BEATS_EXPIRED, counter, "heartbeats_expired_total", "",                                      \
      "Heartbeats not delivered within their time.")                                               \
    X(BULK_REQUESTS, counter, "heartbeats_bulk_requests_total", "",                                \
      "Requests that delivered heartbeats in bulk.")                                               \
    X(BEATS_ACK_DURABLE, counter, "heartbeats_acknowledged_total", "kind=\"durable\"",             \
      "Heartbeats acknowledged once they were in Redis, or held in memory only.")                  \
    X(BEATS_ACK_MEMORY, counter, "heartbeats_acknowledged_total", "kind=\"memory\"",               \
      "Heartbeats acknowledged once they were in Redis, or held in memory only.")                  \
    X(BEATS_HELD, gauge, "heartbeats_held", "", "Heartbeats held for delivery in this process.")   \
    X(BEATS_HELD_SHARED, gauge, "heartbeats_held_shared", "",                                      \
      "Heartbeats held for delivery in Redis, of the whole fleet; every replica says the same.")   \
    X(AGENTS_KNOWN, gauge, "agents_known", "", "Agents in the table.")                             \
    X(TOKENS_REFUSED_ABSENT, counter, "tokens_refused_total", "reason=\"absent\"",                 \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_REFUSED_MALFORMED, counter, "tokens_refused_total", "reason=\"malformed\"",           \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_REFUSED_ALGORITHM, counter, "tokens_refused_total", "reason=\"algorithm\"",           \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_REFUSED_SIGNATURE, counter, "tokens_refused_total", "reason=\"signature\"",           \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_REFUSED_EXPIRED, counter, "tokens_refused_total", "reason=\"expired\"",               \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_REFUSED_NO_EXPIRY, counter, "tokens_refused_total", "reason=\"no_expiry\"",           \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_REFUSED_EARLY, counter, "tokens_refused_total", "reason=\"early\"",                   \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_REFUSED_NO_SUBJECT, counter, "tokens_refused_total", "reason=\"no_subject\"",         \
      "Tokens refused by reason.")                                                                 \
    X(TOKENS_FOREIGN, counter, "tokens_foreign_total", "",                                         \
      "Tokens presented for another agent: refused, or reported only (jwt.binding).")              \
    X(TOKENS_CACHED, counter, "tokens_cached_total", "",                                           \
      "Tokens accepted from the verified-token cache.")                                            \
    X(CALLS_CONNECT, counter, "controller_calls_total", "class=\"connect\"",                       \
      "Calls let through to the controller, by class.")                                            \
    X(CALLS_HEARTBEAT, counter, "controller_calls_total", "class=\"heartbeat\"",                   \
      "Calls let through to the controller, by class.")                                            \
    X(CALLS_CONTROL, counter, "controller_calls_total", "class=\"control\"",                       \
      "Calls let through to the controller, by class.")                                            \
    X(CALLS_API, counter, "controller_calls_total", "class=\"api\"",                               \
      "Calls let through to the controller, by class.")                                            \
    X(CALLS_LONG, counter, "controller_calls_total", "class=\"long\"",                             \
      "Calls let through to the controller, by class.")                                            \
    X(CALLS_STREAM, counter, "controller_calls_total", "class=\"stream\"",                         \
      "Calls let through to the controller, by class.")                                            \
    X(CALLS_PROBE, counter, "controller_calls_total", "class=\"probe\"",                           \
      "Calls let through to the controller, by class.")                                            \
    X(CALLS_BUSY_CONNECT, counter, "controller_refused_total",                                     \
      "class=\"connect\",reason=\"busy\"", "Calls refused instead of waiting, by class.")          \
    X(CALLS_BUSY_HEARTBEAT, counter, "controller_refused_total",                                   \
      "class=\"heartbeat\",reason=\"busy\"", "Calls refused instead of waiting, by class.")        \
    X(CALLS_BUSY_CONTROL, counter, "controller_refused_total",                                     \
      "class=\"control\",reason=\"busy\"", "Calls refused instead of waiting, by class.")          \
    X(CALLS_BUSY_API, counter, "controller_refused_total", "class=\"api\",reason=\"busy\"",        \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_BUSY_LONG, counter, "controller_refused_total", "class=\"long\",reason=\"busy\"",      \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_BUSY_STREAM, counter, "controller_refused_total", "class=\"stream\",reason=\"busy\"",  \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_BUSY_PROBE, counter, "controller_refused_total", "class=\"probe\",reason=\"busy\"",    \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_DOWN_CONNECT, counter, "controller_refused_total",                                     \
      "class=\"connect\",reason=\"down\"", "Calls refused instead of waiting, by class.")          \
    X(CALLS_DOWN_HEARTBEAT, counter, "controller_refused_total",                                   \
      "class=\"heartbeat\",reason=\"down\"", "Calls refused instead of waiting, by class.")        \
    X(CALLS_DOWN_CONTROL, counter, "controller_refused_total",                                     \
      "class=\"control\",reason=\"down\"", "Calls refused instead of waiting, by class.")          \
    X(CALLS_DOWN_API, counter, "controller_refused_total", "class=\"api\",reason=\"down\"",        \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_DOWN_LONG, counter, "controller_refused_total", "class=\"long\",reason=\"down\"",      \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_DOWN_STREAM, counter, "controller_refused_total", "class=\"stream\",reason=\"down\"",  \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_DOWN_PROBE, counter, "controller_refused_total", "class=\"probe\",reason=\"down\"",    \
      "Calls refused instead of waiting, by class.")                                               \
    X(CALLS_LEFT, counter, "controller_waiting_left_total", "",                                    \
      "Calls whose client left while they waited for the controller.")                             \
    X(UPSTREAM_CALLS, counter, "upstream_calls_total", "", "Calls made to the controller.")        \
    X(UPSTREAM_FAILED, counter, "upstream_failed_total", "",                                       \
      "Calls to the controller without a valid answer.")                                           \
    X(UPSTREAM_RETRIED, counter, "upstream_retried_total", "",                                     \
      "Calls repeated on a new connection.")                                                       \
    X(UPSTREAM_CONNECTIONS, gauge, "upstream_connections", "",                                     \
      "Open connections to the controller.")                                                       \
    X(SHARED_HIT, counter, "connect_shared_total", "result=\"hit\"",                               \
      "Connects of agents unknown here that were looked up in Redis, by result.")                  \
    X(SHARED_STALE, counter, "connect_shared_total", "result=\"stale\"",                           \
      "Connects of agents unknown here that were looked up in Redis, by result.")                  \
    X(SHARED_MISS, counter, "connect_shared_total", "result=\"miss\"",                             \
      "Connects of agents unknown here that were looked up in Redis, by result.")                  \
    X(SHARED_LOCKED, counter, "connect_shared_total", "result=\"locked\"",                         \
      "Connects of agents unknown here that were looked up in Redis, by result.")                  \
    X(SHARED_LATE, counter, "connect_shared_total", "result=\"late\"",                             \
      "Connects of agents unknown here that were looked up in Redis, by result.")                  \
    X(SHARED_ERROR, counter, "connect_shared_total", "result=\"error\"",                           \
      "Connects of agents unknown here that were looked up in Redis, by result.")                  \
    X(SHARED_KEPT, counter, "connect_shared_kept_total", "", "Connect answers put into Redis.")    \
    X(PURGES_SHARED, counter, "purges_shared_total", "",                                           \
      "Purges told to the other gateways through Redis.")                                          \
    X(CHANNEL_UP, gauge, "purge_channel_up", "",                                                   \
      "1 while the purges of other gateways are heard as they come.")                              \
    X(CHANNEL_GAPS, counter, "purge_channel_gaps_total", "",                                       \
      "Times at which purges of others may have been missed, and all that is cached became "       \
      "stale.")                                                                                    \
    X(LIMITS_SHARED, gauge, "limits_shared", "",                                                   \
      "1 while what clients take is counted together with the other gateways.")                    \
    X(LIMITS_TOLD, counter, "limits_told_total", "",                                               \
      "What a client took, told to the other gateways: once per client and turn.")                 \
    X(LIMITS_NOT_TOLD, counter, "limits_not_told_total", "",                                       \
      "The same, not told because there were too many, and others nearer their limit.")            \
    X(LIMITS_HEARD, counter, "limits_heard_total", "",                                             \
      "What clients took of other gateways and is near a limit, heard from them.")                 \
    X(REPLICAS, gauge, "replicas", "", "Gateways that share this Redis, this one included.")       \
    X(REDIS_UP, gauge, "redis_up", "", "1 while Redis shares and keeps what it should.")           \
    X(REDIS_CONNECTIONS, gauge, "redis_connections", "",                                           \
      "Connections to Redis in use, one a worker.")                                                \
    X(REDIS_DURABLE, gauge, "redis_durable", "",                                                   \
      "1 while Redis writes what it acknowledges to disk (AOF) and evicts nothing.")               \
    X(REDIS_COMMANDS, counter, "redis_commands_total", "", "Commands sent to Redis.")              \
    X(REDIS_SENDS, counter, "redis_sends_total", "",                                               \
      "Writes in which commands travelled to Redis, together.")                                    \
    X(REDIS_ERROR_UNREACHABLE, counter, "redis_errors_total", "reason=\"unreachable\"",            \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_TIMEOUT, counter, "redis_errors_total", "reason=\"timeout\"",                    \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_CLOSED, counter, "redis_errors_total", "reason=\"closed\"",                      \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_TLS, counter, "redis_errors_total", "reason=\"tls\"",                            \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_PROTOCOL, counter, "redis_errors_total", "reason=\"protocol\"",                  \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_OVERSIZED, counter, "redis_errors_total", "reason=\"oversized\"",                \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_AUTH, counter, "redis_errors_total", "reason=\"auth\"",                          \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_NOAUTH, counter, "redis_errors_total", "reason=\"noauth\"",                      \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_NOPERM, counter, "redis_errors_total", "reason=\"noperm\"",                      \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_LOADING, counter, "redis_errors_total", "reason=\"loading\"",                    \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_BUSY, counter, "redis_errors_total", "reason=\"busy\"",                          \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_READONLY, counter, "redis_errors_total", "reason=\"readonly\"",                  \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_NO_MASTER, counter, "redis_errors_total", "reason=\"no_master\"",                \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_MASTERDOWN, counter, "redis_errors_total", "reason=\"masterdown\"",              \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_CLUSTER, counter, "redis_errors_total", "reason=\"cluster\"",                    \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_FULL, counter, "redis_errors_total", "reason=\"full\"",                          \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_MISCONF, counter, "redis_errors_total", "reason=\"misconf\"",                    \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_NOREPLICAS, counter, "redis_errors_total", "reason=\"noreplicas\"",              \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_NOSCRIPT, counter, "redis_errors_total", "reason=\"noscript\"",                  \
      "Troubles with Redis by reason.")                                                            \
    X(REDIS_ERROR_OTHER, counter, "redis_errors_total", "reason=\"other\"",                        \
      "Troubles with Redis by reason.")                                                            \
    X(AIWM_EVENTS_UP, gauge, "aiwm_events_up", "",                                                 \
      "1 while the controller's own stream of events is followed.")                                \
    X(AIWM_EVENTS_FORGOTTEN, counter, "aiwm_events_total", "result=\"forgotten\"",                 \
      "Entries of the controller's stream: an agent was forgotten; not about that; the job was "   \
      "gone already; its data names no agent.")                                                    \
    X(AIWM_EVENTS_IGNORED, counter, "aiwm_events_total", "result=\"ignored\"",                     \
      "Entries of the controller's stream.")                                                       \
    X(AIWM_EVENTS_GONE, counter, "aiwm_events_total", "result=\"gone\"",                           \
      "Entries of the controller's stream.")                                                       \
    X(AIWM_EVENTS_UNREADABLE, counter, "aiwm_events_total", "result=\"unreadable\"",               \
      "Entries of the controller's stream.")

enum metric {
#define X(symbol, kind, family, labels, help) METRIC_##symbol,
    METRIC_ROWS(X)
#undef X
        METRIC_COUNT
};

/* How long things take, as histograms: symbol, family, labels, help; rows of one family stand
 * together, in the order of the classes they are about. */
#define METRIC_TIME_ROWS(X)                                                                        \
    X(CALL_CONNECT, "controller_duration_seconds", "class=\"connect\"",                            \
      "From asking the controller to the head of its answer, by class.")                           \
    X(CALL_HEARTBEAT, "controller_duration_seconds", "class=\"heartbeat\"",                        \
      "From asking the controller to the head of its answer, by class.")                           \
    X(CALL_CONTROL, "controller_duration_seconds", "class=\"control\"",                            \
      "From asking the controller to the head of its answer, by class.")                           \
    X(CALL_API, "controller_duration_seconds", "class=\"api\"",                                    \
      "From asking the controller to the head of its answer, by class.")                           \
    X(CALL_LONG, "controller_duration_seconds", "class=\"long\"",                                  \
      "From asking the controller to the head of its answer, by class.")                           \
    X(CALL_STREAM, "controller_duration_seconds", "class=\"stream\"",                              \
      "From asking the controller to the head of its answer, by class.")                           \
    X(CALL_PROBE, "controller_duration_seconds", "class=\"probe\"",                                \
      "From asking the controller to the head of its answer, by class.")                           \
    X(REQUEST_CONNECT, "request_duration_seconds", "route=\"connect\"",                            \
      "From a whole request to the head of its answer, by route.")                                 \
    X(REQUEST_HEARTBEAT, "request_duration_seconds", "route=\"heartbeat\"",                        \
      "From a whole request to the head of its answer, by route.")                                 \
    X(REQUEST_DISCONNECT, "request_duration_seconds", "route=\"disconnect\"",                      \
      "From a whole request to the head of its answer, by route.")                                 \
    X(REQUEST_FORWARD, "request_duration_seconds", "route=\"forward\"",                            \
      "From a whole request to the head of its answer, by route.")                                 \
    X(BEAT_LAG, "heartbeat_forward_lag_seconds", "",                                               \
      "From receiving a heartbeat to the controller's answer to it.")                              \
    X(LOOP_LAG, "loop_lag_seconds", "",                                                            \
      "How late a worker's loop was, looked at ten times a second.")

enum metric_time {
#define X(symbol, family, labels, help) METRIC_TIME_##symbol,
    METRIC_TIME_ROWS(X)
#undef X
        METRIC_TIME_COUNT
};

/* One that took `us` microseconds (negative counts as 0). */
void metric_time(enum metric_time which, int64_t us);
/* How many were timed, over all threads. */
int64_t metric_time_count(enum metric_time which);

/* Adds to the calling thread's block, which is made on first use (at most 256 threads). */
void metric_add(enum metric m, int64_t n);
/* Leaves the row out of metric_render: what it is about does not exist here, and 0 would look like
 * a failure. For the start, before other threads count. */
void metric_omit(enum metric m);
/* The sum over all threads, now. */
int64_t metric_read(enum metric m);
/* All rows that are not omitted, in the Prometheus text format 0.0.4, families with HELP and TYPE.
 */
void metric_render(struct str *out);
