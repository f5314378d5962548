#include "io/files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 64 };

static char directory[PATH_SIZE];
static char path[PATH_SIZE + 8];

static void make_directory(void) {
    (void)snprintf(directory, sizeof directory, "/tmp/test_files.XXXXXX");
    cr_assert(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/file", directory);
}

static void remove_directory(void) {
    (void)unlink(path);
    cr_assert_eq(rmdir(directory), 0);
}

static void write_file(const void *bytes, size_t len) {
    FILE *f = fopen(path, "wb");
    cr_assert(f);
    cr_assert_eq(fwrite(bytes, 1, len, f), len);
    cr_assert_eq(fclose(f), 0);
}

static void expect_refused(const char *name, const char *because) {
    const char *why = NULL;
    size_t len = 0;
    char *bytes = files_read(NULL, name, &len, &why);
    cr_assert_null(bytes, "%s", name);
    cr_assert(why && strstr(why, because), "%s: %s", name, why ? why : "(nothing)");
}

TestSuite(files, .init = make_directory, .fini = remove_directory);

Test(files, gives_every_byte_and_a_terminator) {
    static const char content[] = "one\0two\n\xff";
    write_file(content, sizeof content - 1);
    const char *why = NULL;
    size_t len = 0;
    char *bytes = files_read(NULL, path, &len, &why);
    cr_assert(bytes, "%s", why);
    cr_expect_eq(len, sizeof content - 1);
    cr_expect_arr_eq(bytes, content, sizeof content);
    free(bytes);
}

Test(files, an_empty_file_is_no_failure) {
    write_file("", 0);
    const char *why = NULL;
    size_t len = 1;
    char *bytes = files_read(NULL, path, &len, &why);
    cr_assert(bytes, "%s", why);
    cr_expect_eq(len, 0);
    free(bytes);
}

Test(files, takes_a_mebibyte_and_not_a_byte_more) {
    char *large = calloc(1, FILES_MAX + 1);
    const char *why = NULL;
    size_t len = 0;
    write_file(large, FILES_MAX);
    char *bytes = files_read(NULL, path, &len, &why);
    cr_expect(bytes, "%s", why);
    cr_expect_eq(len, FILES_MAX);
    free(bytes);
    write_file(large, FILES_MAX + 1);
    expect_refused(path, "larger than 1 MiB");
    free(large);
}

Test(files, says_why_there_is_nothing_to_read) {
    expect_refused(path, "No such file");
    expect_refused("", "No such file");
    expect_refused(directory, "is a directory");
    expect_refused("/dev/null", "not a regular file");
}

Test(files, refuses_a_fifo_without_waiting_for_its_writer, .timeout = 5) {
    cr_assert_eq(mkfifo(path, 0600), 0);
    expect_refused(path, "not a regular file");
}

Test(files, does_not_trust_the_size_of_files_that_make_their_content_up) {
    expect_refused("/proc/self/status", "changed while it was read");
}

Test(files, follows_links_as_kubernetes_mounts_secrets_through_them) {
    char target[PATH_SIZE + 8];
    (void)snprintf(target, sizeof target, "%s/real", directory);
    cr_assert_eq(symlink(target, path), 0);
    expect_refused(path, "No such file");
    FILE *f = fopen(target, "w");
    cr_assert(f && fputs("x", f) >= 0 && fclose(f) == 0);
    const char *why = NULL;
    size_t len = 0;
    char *bytes = files_read(NULL, path, &len, &why);
    cr_expect(bytes && len == 1, "%s", why);
    free(bytes);
    (void)unlink(target);
}

Test(files, leaves_no_descriptor_open) {
    write_file("x", 1);
    int before = dup(STDIN_FILENO);
    (void)close(before);
    for (int i = 0; i < 3; i++) {
        const char *why = NULL;
        size_t len = 0;
        free(files_read(NULL, path, &len, &why));
        expect_refused(directory, "is a directory");
    }
    int after = dup(STDIN_FILENO);
    (void)close(after);
    cr_expect_eq(before, after);
}
