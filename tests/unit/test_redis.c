#include "rules/redis/redis_reply.h"
#include "rules/redis/redis_url.h"

#include <criterion/criterion.h>

static struct redis_url parsed(const char *text) {
    struct redis_url url = {0};
    const char *complaint = redis_url_parse(span_of(text), &url);
    cr_assert_null(complaint, "%s: %s", text, complaint);
    return url;
}

Test(redis_url, a_host_has_the_usual_port_and_database) {
    struct redis_url url = parsed("redis://cache.internal");
    cr_expect_eq(url.host_count, 1);
    cr_expect_str_eq(url.host[0].name, "cache.internal");
    cr_expect_eq(url.host[0].port, 6379);
    cr_expect_eq(url.database, 0);
    cr_expect_not(url.tls);
    cr_expect_str_eq(url.master, "");
}

Test(redis_url, port_database_and_tls_are_read) {
    struct redis_url url = parsed("rediss://cache:6380/3");
    cr_expect(url.tls);
    cr_expect_eq(url.host[0].port, 6380);
    cr_expect_eq(url.database, 3);
    cr_expect_eq(parsed("redis://h/").database, 0);
}

Test(redis_url, an_ipv6_address_stands_in_brackets) {
    struct redis_url url = parsed("redis://[::1]:7000");
    cr_expect_str_eq(url.host[0].name, "::1");
    cr_expect_eq(url.host[0].port, 7000);
    cr_expect_str_eq(parsed("redis://[fe80::2]").host[0].name, "fe80::2");
}

Test(redis_url, a_socket_is_a_path) {
    cr_expect_str_eq(parsed("unix:/run/redis.sock").path, "/run/redis.sock");
    cr_expect_str_eq(parsed("unix:///run/redis.sock").path, "/run/redis.sock");
    cr_expect_eq(parsed("unix:/r").host_count, 0);
}

Test(redis_url, sentinels_and_their_master_are_read) {
    struct redis_url url = parsed("rediss+sentinel://a,b:1,[::1]:2/mymaster");
    cr_expect(url.tls);
    cr_expect_eq(url.host_count, 3);
    cr_expect_eq(url.host[0].port, 26379);
    cr_expect_eq(url.host[1].port, 1);
    cr_expect_str_eq(url.host[2].name, "::1");
    cr_expect_str_eq(url.master, "mymaster");
}

Test(redis_url, what_is_none_is_refused_with_advice) {
    static const char *const wrong[] = {
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://:6379",
        "redis://h:",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:6379x",
        "redis://h:6379/x",
        "redis://h:6379/0/1",
        "redis://h/-1",
        "redis://h/1024",
        "redis://a,b",
        "redis://user:secret@h",
        "redis://h o",
        "redis://[::1",
        "redis://[]",
        "redis://[::1]6379",
        "redis+sentinel://a,b,c",
        "redis+sentinel://a,b,c/",
        "redis+sentinel:///m",
        "redis+sentinel://a,,b/m",
        "redis+sentinel://1,2,3,4,5,6,7,8,9/m",
        "unix:",
        "unix:relative",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_not_null(redis_url_parse(span_of(wrong[i]), NULL), "%s", wrong[i]);
    char path[200] = "unix:/";
    memset(path + 6, 'a', 150);
    cr_expect_not_null(redis_url_parse(span_of(path), NULL));
}

Test(redis_url, a_password_in_it_is_pointed_to_its_file) {
    const char *complaint = redis_url_parse(SPAN("redis://:secret@h"), NULL);
    cr_expect_not_null(strstr(complaint, "redis.password_file"), "%s", complaint);
    cr_expect_null(strstr(complaint, "secret"), "%s", complaint);
}

Test(redis_reply, errors_are_known_by_their_first_word) {
    static const struct {
        const char *error;
        enum redis_trouble is;
    } cases[] = {
        {"READONLY You can't write against a read only replica.", REDIS_READONLY},
        {"LOADING Redis is loading the dataset in memory", REDIS_LOADING},
        {"NOSCRIPT No matching script. Please use EVAL.", REDIS_NOSCRIPT},
        {"NOPERM this user has no permissions to run the 'info' command", REDIS_NOPERM},
        {"MOVED 3999 127.0.0.1:6381", REDIS_CLUSTER},
        {"OOM command not allowed when used memory > 'maxmemory'.", REDIS_FULL},
        {"WRONGPASS invalid username-password pair or user is disabled.", REDIS_AUTH},
        {"NOAUTH Authentication required.", REDIS_NOAUTH},
        {"MISCONF Redis is configured to save RDB snapshots", REDIS_MISCONF},
        {"NOREPLICAS Not enough good replicas to write.", REDIS_NOREPLICAS},
        {"MASTERDOWN Link with MASTER is down", REDIS_MASTERDOWN},
        {"BUSY Redis is busy running a script.", REDIS_BUSY},
        {"BUSYKEY Target key name already exists.", REDIS_OTHER},
        {"ERR unknown command", REDIS_OTHER},
        {"", REDIS_OTHER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_eq(redis_error_name(span_of(cases[i].error)), cases[i].is, "%s", cases[i].error);
}

Test(redis_reply, an_error_inside_a_script_is_known_too) {
    cr_expect_eq(redis_error_name(SPAN("ERR Error running script (call to f_0a1b): "
                                       "@user_script:3: OOM command not allowed")),
                 REDIS_FULL);
    cr_expect_eq(redis_error_name(SPAN("ERR user_script:1: attempt to call a nil value")),
                 REDIS_OTHER);
    cr_expect_eq(redis_error_name(SPAN("ERR user_script:")), REDIS_OTHER);
    cr_expect_eq(redis_error_name(SPAN("ERR user_script:1")), REDIS_OTHER);
}

Test(redis_reply, a_right_that_a_script_misses_is_one_that_its_user_misses) {
    static const char *const errors[] = {
        "ERR The user executing the script can't run this command or subcommand script: 0119, on "
        "@user_script:1.",
        "ERR The user executing the script can't access at least one of the keys mentioned in the "
        "command arguments script: be39, on @user_script:1.",
        "ERR ACL failure in script: User u has no permissions to run the 'zadd' command script: 0, "
        "on @user_script:1.",
        "ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -NOPERM The user "
        "executing the script can't run this command or subcommand",
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        cr_expect_eq(redis_error_name(span_of(errors[i])), REDIS_NOPERM, "%s", errors[i]);
}

Test(redis_reply, the_missing_right_is_read_where_it_is_said_and_nothing_else) {
    static const struct {
        const char *error, *right;
    } cases[] = {
        {"NOPERM this user has no permissions to run the 'zadd' command", "zadd"},
        {"NOPERM User u has no permissions to run the 'script|load' command", "script|load"},
        {"ERR ACL failure in script: User u has no permissions to run the 'get' command", "get"},
        {"NOPERM this user has no permissions to access one of the keys used as arguments", ""},
        {"NOPERM to run the 'A secret' command", ""},
        {"NOPERM to run the 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' command", ""},
        {"NOPERM to run the 'zad", ""},
        {"NOPERM to run the '", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect(span_equal(redis_missing_right(span_of(cases[i].error)), span_of(cases[i].right)),
                  "%s", cases[i].error);
}

Test(redis_reply, the_rights_of_a_script_are_those_it_calls_each_once) {
    char memory[64];
    struct str rights;
    str_init_fixed(&rights, memory, sizeof memory);
    redis_script_rights(SPAN("if redis.call('GET', 'a') then redis.call('SET', 'a', 1) end\n"
                             "redis.pcall('GET', 'b') redis.call('GETDEL', 'b') redis.call("),
                        &rights);
    cr_expect(span_equal(str_span(&rights), SPAN("+get +set +getdel")), "%.*s",
              SPAN_ARG(str_span(&rights)));
}

Test(redis_reply, each_trouble_has_a_name_of_its_own) {
    for (int a = 0; a < REDIS_TROUBLE_COUNT; a++)
        for (int b = 0; b < a; b++)
            cr_expect_str_neq(redis_trouble_row((enum redis_trouble)a)->name,
                              redis_trouble_row((enum redis_trouble)b)->name);
}

Test(redis_reply, info_tells_mode_durability_and_version) {
    struct redis_info info;
    redis_info_parse(SPAN("# Server\r\nredis_version:7.0.15\r\n# Persistence\r\nloading:0\r\n"
                          "aof_enabled:1\r\n# Memory\r\nmaxmemory:1000\r\n"
                          "maxmemory_policy:noeviction\r\n# Cluster\r\ncluster_enabled:0\r\n"),
                     &info);
    cr_expect(info.persistent);
    cr_expect_not(info.evicts);
    cr_expect_not(info.cluster);
    cr_expect_not(info.loading);
    cr_expect_str_eq(info.version, "7.0.15");
}

Test(redis_reply, a_policy_evicts_only_where_memory_is_bounded) {
    struct redis_info info;
    redis_info_parse(SPAN("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"), &info);
    cr_expect_not(info.evicts);
    redis_info_parse(SPAN("maxmemory:100\r\nmaxmemory_policy:volatile-ttl\r\n"), &info);
    cr_expect(info.evicts);
    redis_info_parse(SPAN("cluster_enabled:1\nloading:1\n"), &info);
    cr_expect(info.cluster);
    cr_expect(info.loading);
    cr_expect_str_eq(info.version, "");
    redis_info_parse(SPAN_NONE, &info);
    cr_expect_not(info.persistent);
}
