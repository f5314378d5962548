/* One value of the configuration: from text to struct config and back.
 * Private to rules/config/config*.c and its tests. */
#pragma once

#include "rules/config/config_table.h"

/* Puts `text`, as a user wrote it, into the row's member. False when it is no value for this row,
 * with "what is wrong; what to do" in `why`. Text members are replaced, the old one is freed. */
bool config_value_set(struct config *config, const struct config_row *row, struct span text,
                      struct str *why);

/* The row's value as it would be written in a file: 64MiB, 60s, true, "/etc/key". */
void config_value_print(const struct config *config, const struct config_row *row, struct str *out);
bool config_value_equal(const struct config *a, const struct config *b,
                        const struct config_row *row);

/* CONFIG_FILE rows: is what stands in the files the same? Other rows: true. */
bool config_content_equal(const struct config *a, const struct config *b,
                          const struct config_row *row);
/* Value and content of the row, from one to the other. */
void config_value_copy(const struct config *from, struct config *to, const struct config_row *row);

/* What a row takes: "a whole number from 0 to 65535". */
void config_value_describe(const struct config_row *row, struct str *out);

/* CONFIG_FILE rows only. */
struct config_secret *config_value_content(struct config *config, const struct config_row *row);
/* For rows that are numbers underneath, and for those that are text. */
int64_t config_value_number(const struct config *config, const struct config_row *row);
const char *config_value_text(const struct config *config, const struct config_row *row);
void config_value_free(struct config *config, const struct config_row *row);

/* What is wrong with a text and what to do, or NULL. Empty texts are judged by their row. */
const char *config_address_complaint(struct span text);         /* an IPv4 or IPv6 address */
const char *config_address_or_none_complaint(struct span text); /* the same, or "" */
const char *config_url_complaint(struct span text);             /* http[s]://host[:port] */
const char *config_prefix_complaint(struct span text);          /* "" or /segment[/segment...] */
const char *config_redis_url_complaint(struct span text);       /* rules/redis/redis_url.h */
const char *config_redis_prefix_complaint(struct span text);    /* printable, no spaces or braces */
const char *config_networks_complaint(struct span text);        /* "", or 10.0.0.0/8, 192.0.2.1 */
const char *config_stream_complaint(struct span text);          /* a key that ends in ":events" */
