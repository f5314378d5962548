/* Runs a fuzz target once on every file of the directories given: the corpus as a plain test,
 * with any compiler and without libFuzzer. Fails if there is nothing to run. */
#include "base/panic.h"
#include "base/str.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct str current; /* the path being replayed */

/* A broken invariant aborts without knowing its input: name it on the way out. */
static void on_abort(int signal_number) {
    (void)signal_number;
    static const char text[] = "replay: failed on ";
    if (write(STDERR_FILENO, text, sizeof text - 1) > 0 &&
        write(STDERR_FILENO, current.ptr, strlen(current.ptr)) > 0 &&
        write(STDERR_FILENO, "\n", 1) > 0)
        return;
}

static void fail(const char *why, const char *path) {
    fprintf(stderr, "replay: %s: %s\n", why, path);
    exit(1);
}

static void replay_file(const char *path, size_t size) {
    uint8_t *bytes = must_alloc(size);
    FILE *file = fopen(path, "rb");
    if (!file || fread(bytes, 1, size, file) != size)
        fail("cannot read", path);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
}

/* Returns whether it was a file. */
static bool replay_entry(const char *directory, const char *name) {
    struct stat info;
    str_clear(&current);
    str_addf(&current, "%s/%s", directory, name);
    str_add_char(&current, '\0');
    invariant(!current.overflow);
    if (stat(current.ptr, &info) != 0)
        fail("cannot read", current.ptr);
    if (!S_ISREG(info.st_mode))
        return false;
    replay_file(current.ptr, (size_t)info.st_size);
    return true;
}

static size_t replay_directory(const char *path) {
    struct dirent **entries;
    size_t files = 0;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0)
        fail("cannot list", path);
    for (int i = 0; i < count; i++) {
        files += replay_entry(path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return files;
}

int main(int argc, char **argv) {
    size_t files = 0;
    signal(SIGABRT, on_abort);
    str_init(&current, 8192);
    for (int i = 1; i < argc; i++)
        files += replay_directory(argv[i]);
    printf("replayed %zu files\n", files);
    str_release(&current);
    return files > 0 ? 0 : 1;
}
