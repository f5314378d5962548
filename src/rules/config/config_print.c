#include "rules/config/config_table.h"
#include "rules/config/config_values.h"

/* Opens the row's section if the row before was in another one: one in a section comes right behind
 * the outer one's keys. */
static void print_section(const struct config_row *row, struct span *open, struct str *out) {
    struct span section = config_row_section(row);
    if (span_equal(section, *open))
        return;
    *open = section;
    const char *dot = section.len > 0 ? memchr(section.ptr, '.', section.len) : NULL;
    if (dot)
        str_addf(out, "  %.*s:\n", SPAN_ARG(span_from(section, (size_t)(dot - section.ptr) + 1)));
    else if (section.len > 0)
        str_addf(out, "%.*s:\n", SPAN_ARG(section));
}

static const struct config_secret *content_of(const struct config *config,
                                              const struct config_row *row) {
    return (const void *)((const char *)config + row->content_at);
}

/* A path is printed, what stands in the file never is. Without a path the line is a comment. */
static void print_file(const struct config *config, const struct config_row *row, struct str *out) {
    struct span name = config_row_name(row);
    bool has_path = *config_value_text(config, row) != '\0';
    str_addf(out, "%s%.*s: ", has_path ? "" : "# ", SPAN_ARG(name));
    if (has_path) {
        config_value_print(config, row, out);
        STR_ADD(out, " # ");
    }
    str_addf(out, "(%s)\n", content_of(config, row)->bytes ? "set" : "not set");
}

static void print_row(const struct config *config, const struct config_row *row, struct str *out) {
    for (const char *dot = row->key; (dot = strchr(dot, '.')) != NULL; dot++)
        STR_ADD(out, "  ");
    if (row->type == CONFIG_FILE) {
        print_file(config, row, out);
        return;
    }
    str_addf(out, "%.*s: ", SPAN_ARG(config_row_name(row)));
    config_value_print(config, row, out);
    str_add_char(out, '\n');
}

void config_print(const struct config *config, struct str *out) {
    struct span open = SPAN_NONE;
    for (config_row_each(row)) {
        print_section(row, &open, out);
        print_row(config, row, out);
    }
}

static void describe_environment(const struct config_row *row, struct str *out) {
    char variable[CONFIG_VARIABLE_MAX];
    config_row_variable(row, variable);
    str_addf(out, "    environment: %s", variable);
    if (row->type == CONFIG_FILE) {
        config_row_content_variable(row, variable);
        str_addf(out, ", or %s with the content itself", variable);
    }
    str_add_char(out, '\n');
}

static void describe_row(const struct config_row *row, struct str *out) {
    str_addf(out, "%s\n    %s\n    takes ", row->key, row->help);
    config_value_describe(row, out);
    if (row->required)
        STR_ADD(out, "; required\n");
    else if (*row->preset == '\0')
        STR_ADD(out, "; not set by default\n");
    else
        str_addf(out, "; default %s\n", row->preset);
    describe_environment(row, out);
    if (!row->reloadable)
        STR_ADD(out, "    a change needs a restart\n");
    str_add_char(out, '\n');
}

void config_describe(struct str *out) {
    for (config_row_each(row))
        describe_row(row, out);
}

bool config_contents_differ(const struct config *a, const struct config *b) {
    for (config_row_each(row))
        if (!config_content_equal(a, b, row))
            return true;
    return false;
}

void config_keep_running(const struct config *running, struct config *wanted) {
    for (config_row_each(row))
        if (!row->reloadable)
            config_value_copy(running, wanted, row);
}

bool config_needs_restart(const struct config *running, const struct config *wanted,
                          struct str *out) {
    bool needs = false;
    for (config_row_each(row)) {
        if (row->reloadable || (config_value_equal(running, wanted, row) &&
                                config_content_equal(running, wanted, row)))
            continue;
        needs = true;
        str_addf(out, "%s: has changed; restart to apply it\n", row->key);
    }
    return needs;
}
