/* Limits of cgroups, read from a tree of files that looks as the kernel's. */
#include "io/container.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/aiwm-gateway-cgroup-XXXXXX";
static char *made[32];
static size_t made_count;

static char *path_of(const char *name) {
    char *path;
    cr_assert(asprintf(&path, "%s/%s", root, name) > 0);
    return path;
}

static void make_dir(const char *name) {
    made[made_count] = path_of(name);
    cr_assert(mkdir(made[made_count++], 0700) == 0, "%s", name);
}

static void make_file(const char *name, const char *text) {
    made[made_count] = path_of(name);
    FILE *f = fopen(made[made_count++], "we");
    cr_assert(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0, "%s", name);
}

static void set_up(void) {
    static const char *const dirs[] = {"proc",
                                       "proc/self",
                                       "sys",
                                       "sys/fs",
                                       "sys/fs/cgroup",
                                       "sys/fs/cgroup/a.slice",
                                       "sys/fs/cgroup/a.slice/b.service"};
    cr_assert_not_null(mkdtemp(root));
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        make_dir(dirs[i]);
}

static void tear_down(void) {
    while (made_count > 0) {
        (void)remove(made[--made_count]);
        free(made[made_count]);
    }
    (void)rmdir(root);
}

TestSuite(container, .init = set_up, .fini = tear_down);

Test(container, its_own_group_limits_a_service) {
    make_file("proc/self/cgroup", "0::/a.slice/b.service\n");
    make_file("sys/fs/cgroup/a.slice/b.service/memory.max", "134217728\n");
    make_file("sys/fs/cgroup/a.slice/b.service/cpu.max", "150000 100000\n");
    make_file("sys/fs/cgroup/a.slice/memory.max", "max\n");
    struct container_limits limits = container_limits(root);
    cr_expect_eq(limits.memory, 134217728);
    cr_expect_eq(limits.processors, 2);
}

Test(container, a_lower_one_above_it_counts) {
    make_file("proc/self/cgroup", "12:cpu:/elsewhere\n0::/a.slice/b.service\n");
    make_file("sys/fs/cgroup/a.slice/b.service/memory.max", "134217728\n");
    make_file("sys/fs/cgroup/a.slice/b.service/cpu.max", "max 100000\n");
    make_file("sys/fs/cgroup/a.slice/memory.max", "1048576\n");
    make_file("sys/fs/cgroup/cpu.max", "100000 100000\n");
    struct container_limits limits = container_limits(root);
    cr_expect_eq(limits.memory, 1048576);
    cr_expect_eq(limits.processors, 1);
}

Test(container, in_a_container_its_group_is_the_root) {
    make_file("proc/self/cgroup", "0::/\n");
    make_file("sys/fs/cgroup/memory.max", "67108864\n");
    make_file("sys/fs/cgroup/a.slice/memory.max", "1\n");
    cr_expect_eq(container_limits(root).memory, 67108864);
}

Test(container, version_1_has_a_place_of_its_own) {
    make_dir("sys/fs/cgroup/memory");
    make_file("proc/self/cgroup", "4:memory:/\n");
    make_file("sys/fs/cgroup/memory/memory.limit_in_bytes", "33554432\n");
    struct container_limits limits = container_limits(root);
    cr_expect_eq(limits.memory, 33554432);
    cr_expect_eq(limits.processors, 0);
}

Test(container, without_groups_there_is_no_limit) {
    struct container_limits limits = container_limits(root);
    cr_expect_eq(limits.memory, 0);
    cr_expect_eq(limits.processors, 0);
}
