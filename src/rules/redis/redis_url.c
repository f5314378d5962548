#include "rules/redis/redis_url.h"

#include <stdio.h>

enum { REDIS_PORT = 6379, SENTINEL_PORT = 26379, DATABASE_MAX = 1023, PORT_MAX = 65535 };

static const struct scheme {
    struct span prefix;
    bool tls, sentinel;
} schemes[] = {
    {{"redis://", 8}, false, false},
    {{"rediss://", 9}, true, false},
    {{"redis+sentinel://", 17}, false, true},
    {{"rediss+sentinel://", 18}, true, true},
};

static const struct scheme *scheme_of(struct span text) {
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (span_starts(text, schemes[i].prefix))
            return &schemes[i];
    return NULL;
}

/* Up to `max`; false for anything but digits. */
static bool parse_number(struct span text, int max, int *out) {
    *out = (int)span_decimal(text, 5);
    return *out >= 0 && *out <= max;
}

static bool copy_text(struct span text, char *out, size_t size) {
    if (text.len == 0 || text.len >= size || memchr(text.ptr, '\0', text.len))
        return false;
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return true;
}

static bool is_host_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == ':';
}

static bool copy_host(struct span name, struct redis_host *out) {
    for (size_t i = 0; i < name.len; i++)
        if (!is_host_char(name.ptr[i]))
            return false;
    return copy_text(name, out->name, sizeof out->name);
}

/* host, host:port, [v6] or [v6]:port */
static bool parse_host(struct span text, int preset_port, struct redis_host *out) {
    struct span name = text, port = SPAN_NONE;
    bool bracketed = text.len > 0 && text.ptr[0] == '[';
    const char *end = text.len == 0 ? NULL : memchr(text.ptr, bracketed ? ']' : ':', text.len);
    if (bracketed && !end)
        return false;
    if (end) {
        size_t len = (size_t)(end - text.ptr);
        name = bracketed ? (struct span){text.ptr + 1, len - 1} : (struct span){text.ptr, len};
        port = span_from(text, len + bracketed);
    }
    out->port = preset_port;
    if (port.len > 0 && (port.ptr[0] != ':' || out->port == 0 ||
                         !parse_number(span_from(port, 1), PORT_MAX, &out->port)))
        return false;
    bool colon_alone = end && !bracketed && port.len == 1;
    return !colon_alone && out->port > 0 && copy_host(name, out);
}

static struct span cut(struct span *rest, char separator) {
    const char *end = rest->len > 0 ? memchr(rest->ptr, separator, rest->len) : NULL;
    struct span part = end ? (struct span){rest->ptr, (size_t)(end - rest->ptr)} : *rest;
    *rest = span_from(*rest, part.len + 1);
    return part;
}

static const char *parse_hosts(struct span hosts, int preset_port, bool many,
                               struct redis_url *url) {
    while (hosts.len > 0) {
        struct span one = cut(&hosts, ',');
        if (url->host_count == (many ? REDIS_HOSTS_MAX : 1))
            return many ? "names more than 8 sentinels; name three or five"
                        : "names more than one host; for several sentinels write redis+sentinel://";
        if (!parse_host(one, preset_port, &url->host[url->host_count]))
            return "has no valid host[:port]; write redis://host:6379";
        url->host_count++;
    }
    return url->host_count > 0 ? NULL : "has no host; write redis://host:6379";
}

static const char *parse_unix(struct span path, struct redis_url *url) {
    while (path.len > 1 && path.ptr[0] == '/' && path.ptr[1] == '/')
        path = span_from(path, 1);
    if (path.len == 0 || path.ptr[0] != '/' || !copy_text(path, url->path, sizeof url->path))
        return "is no unix:/absolute/path of at most 107 bytes";
    return NULL;
}

static const char *parse_network(const struct scheme *scheme, struct span rest,
                                 struct redis_url *url) {
    if (rest.len > 0 && memchr(rest.ptr, '@', rest.len))
        return "has a user or password in it, and URLs are printed; use redis.username and "
               "redis.password_file";
    struct span hosts = cut(&rest, '/');
    const char *complaint =
        parse_hosts(hosts, scheme->sentinel ? SENTINEL_PORT : REDIS_PORT, scheme->sentinel, url);
    if (complaint)
        return complaint;
    url->tls = scheme->tls;
    if (scheme->sentinel)
        return copy_text(rest, url->master, sizeof url->master)
                   ? NULL
                   : "has no master's name; write redis+sentinel://host1,host2,host3/mymaster";
    if (rest.len > 0 && !parse_number(rest, DATABASE_MAX, &url->database))
        return "ends in no database number; write redis://host:6379/0";
    return NULL;
}

const char *redis_url_parse(struct span text, struct redis_url *out) {
    struct redis_url url = {0};
    const struct scheme *scheme = scheme_of(text);
    const char *complaint;
    if (span_starts(text, SPAN("unix:")))
        complaint = parse_unix(span_from(text, 5), &url);
    else if (scheme)
        complaint = parse_network(scheme, span_from(text, scheme->prefix.len), &url);
    else
        complaint = "is no redis://, rediss://, unix: or redis+sentinel:// URL";
    if (!complaint && out)
        *out = url;
    return complaint;
}
