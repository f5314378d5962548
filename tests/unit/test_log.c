#include "base/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Each test is a process of its own: standard output is its to replace. Gives the reading end. */
static int capture(void) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    close(ends[1]);
    return ends[0];
}

static char *read_text(int fd, char *out, size_t size) {
    ssize_t n = read(fd, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    return out;
}

Test(log, a_line_is_json_with_its_fields_in_order) {
    char text[1024];
    int fd = capture();
    log_start(LOG_INFO, LOG_JSON);
    log_info("started", F_TEXT("name", "a\"b\n"), F_INT("port", -7), F_SPAN("part", SPAN("xy")));
    log_stop(1000);
    read_text(fd, text, sizeof text);
    const char *behind_time = strstr(text, ",\"level\"");
    cr_assert(behind_time, "%s", text);
    cr_expect_eq(strncmp(text, "{\"time\":\"2", 10), 0, "%s", text);
    cr_expect_str_eq(behind_time,
                     ",\"level\":\"info\",\"message\":\"started\",\"name\":\"a\\\"b\\n\","
                     "\"port\":-7,\"part\":\"xy\"}\n");
}

Test(log, text_is_one_line_whatever_is_logged) {
    char text[1024];
    int fd = capture();
    log_start(LOG_INFO, LOG_TEXT);
    log_warn("odd", F_TEXT("value", "two\nlines"));
    log_stop(1000);
    read_text(fd, text, sizeof text);
    cr_expect(strstr(text, " warn  odd value=\"two\\nlines\"\n"), "%s", text);
    cr_expect_eq(strchr(text, '\n') - text, (long)strlen(text) - 1);
}

Test(log, less_important_lines_are_left_out_until_the_level_says_otherwise) {
    char text[1024];
    int fd = capture();
    log_start(LOG_WARN, LOG_JSON);
    log_info("left out", F_NONE);
    cr_expect_not(log_wants(LOG_INFO));
    log_set_level(LOG_DEBUG);
    log_debug("written", F_NONE);
    log_stop(1000);
    read_text(fd, text, sizeof text);
    cr_expect_not(strstr(text, "left out"));
    cr_expect(strstr(text, "written"));
}

Test(log, nobody_waits_for_a_reader_that_does_not_read, .timeout = 10) {
    (void)capture();
    log_start(LOG_INFO, LOG_JSON);
    for (int i = 0; i < 20000; i++)
        log_info("a line that nobody reads", F_INT("i", i));
    cr_expect_gt(log_dropped(), 0, "more than pipe and queue hold");
    log_stop(50);
}

Test(log, a_closed_standard_output_loses_lines_and_nothing_else, .timeout = 10) {
    close(STDOUT_FILENO);
    cr_assert_eq(open("/dev/full", O_WRONLY), STDOUT_FILENO);
    log_start(LOG_INFO, LOG_JSON);
    log_info("into the void", F_NONE);
    log_stop(1000);
    cr_expect_gt(log_dropped(), 0);
}

Test(log, a_line_that_is_too_long_is_counted_and_dropped) {
    static char huge[10000];
    char text[1024];
    int fd = capture();
    memset(huge, 'x', sizeof huge - 1);
    log_start(LOG_INFO, LOG_JSON);
    log_info("huge", F_TEXT("value", huge));
    log_info("small", F_NONE);
    log_stop(1000);
    read_text(fd, text, sizeof text);
    cr_expect_not(strstr(text, "huge"));
    cr_expect(strstr(text, "small"));
    cr_expect_eq(log_dropped(), 1);
}
