/* The option table for readers and editors: docs/config.md and docs/config.schema.json are
 * these texts, and a test keeps them so. */
#include "rules/config/config_table.h"
#include "rules/config/config_values.h"

/* ---- Markdown ---- */

static void add_section_heading(const struct config_row *row, struct span *open, struct str *out) {
    struct span section = config_row_section(row);
    if (open->ptr && span_equal(section, *open))
        return;
    *open = (struct span){section.ptr ? section.ptr : "", section.len};
    if (section.len > 0)
        str_addf(out, "\n## %.*s\n", SPAN_ARG(section));
    else
        STR_ADD(out, "\n## Without a section\n");
    STR_ADD(out, "\n| key | meaning | takes | default | environment | a change needs "
                 "a |\n|---|---|---|---|---|---|\n");
}

/* A cell must not end at a pipe inside it. */
static void add_cell(struct str *out, struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '|')
            str_add_char(out, '\\');
        str_add_char(out, text.ptr[i]);
    }
}

static void add_table_row(const struct config_row *row, struct str *out) {
    char variable[CONFIG_VARIABLE_MAX];
    str_addf(out, "| `%s` | ", row->key);
    add_cell(out, span_of(row->help));
    STR_ADD(out, " | ");
    config_value_describe(row, out);
    if (row->required)
        STR_ADD(out, " | required | ");
    else
        str_addf(out, *row->preset ? " | `%s` | " : " | %s | ", row->preset);
    config_row_variable(row, variable);
    str_addf(out, "`%s`", variable);
    if (row->type == CONFIG_FILE) {
        config_row_content_variable(row, variable);
        str_addf(out, ", or `%s` with the content", variable);
    }
    str_add(out, row->reloadable ? SPAN(" | reload |\n") : SPAN(" | restart |\n"));
}

void config_markdown(struct str *out) {
    struct span open = SPAN_NONE;
    STR_ADD(out,
            "# Configuration\n\n"
            "Made from the option table by `aiwm-gateway --help-config=markdown`; do not edit.\n"
            "\n"
            "A YAML file (`--config`), the environment, or both; the environment wins. "
            "Durations are written\n`500ms`, `60s`, `5m`, `24h`; sizes `65536` (bytes), "
            "`64KiB`, `1MiB`. Unknown and repeated keys are refused.\n");
    for (config_row_each(row)) {
        add_section_heading(row, &open, out);
        add_table_row(row, out);
    }
}

/* ---- JSON schema (2020-12), for editors ---- */

#define DURATION_PATTERN "^[0-9]+(ms|s|m|h)$"
#define SIZE_PATTERN     "^[0-9]+(B|KiB|MiB|GiB)?$"

static void add_type(const struct config_row *row, struct str *out) {
    switch (row->type) {
    case CONFIG_BOOL:
        STR_ADD(out, "\"type\": \"boolean\"");
        break;
    case CONFIG_INTEGER:
        str_addf(out, "\"type\": \"integer\", \"minimum\": %s, \"maximum\": %s", row->min,
                 row->max);
        break;
    case CONFIG_DURATION:
        STR_ADD(out, "\"type\": \"string\", \"pattern\": \"" DURATION_PATTERN "\"");
        break;
    case CONFIG_SIZE:
        STR_ADD(out, "\"type\": [\"string\", \"integer\"], \"pattern\": \"" SIZE_PATTERN "\"");
        break;
    case CONFIG_CHOICE:
        STR_ADD(out, "\"enum\": [");
        for (const char *const *choice = row->choices; *choice; choice++)
            str_addf(out, "%s\"%s\"", choice == row->choices ? "" : ", ", *choice);
        STR_ADD(out, "]");
        break;
    default:
        STR_ADD(out, "\"type\": \"string\"");
    }
}

static void add_default(const struct config_row *row, struct str *out) {
    bool bare = row->type == CONFIG_BOOL || row->type == CONFIG_INTEGER;
    if (*row->preset != '\0')
        str_addf(out, bare ? ", \"default\": %s" : ", \"default\": \"%s\"", row->preset);
}

static void add_property(const struct config_row *row, int indent, struct str *out) {
    str_addf(out, "%*s\"%.*s\": {", indent, "", SPAN_ARG(config_row_name(row)));
    add_type(row, out);
    add_default(row, out);
    STR_ADD(out, ", \"description\": ");
    str_add_json(out, span_of(row->help));
    STR_ADD(out, "}");
}

/* How deep a section stands; 0: none. */
static int depth_of(struct span section) {
    int depth = section.len > 0;
    for (size_t i = 0; i < section.len; i++)
        depth += section.ptr[i] == '.';
    return depth;
}

enum { STEP = 4 };

static void open_section(struct span section, struct str *out) {
    int indent = STEP * depth_of(section);
    const char *dot = memrchr(section.ptr, '.', section.len);
    struct span name = dot ? span_from(section, (size_t)(dot - section.ptr) + 1) : section;
    str_addf(out,
             "%*s\"%.*s\": {\n%*s\"type\": \"object\",\n%*s\"additionalProperties\": false,\n"
             "%*s\"properties\": {\n",
             indent, "", SPAN_ARG(name), indent + 2, "", indent + 2, "", indent + 2, "");
}

static void close_sections(struct span innermost, struct str *out) {
    for (int indent = STEP * depth_of(innermost); indent > 0; indent -= STEP)
        str_addf(out, "\n%*s}\n%*s}", indent + 2, "", indent, "");
}

static bool is_inside(struct span section, struct span outer) {
    return outer.len > 0 && section.len > outer.len && span_starts(section, outer) &&
           section.ptr[outer.len] == '.';
}

void config_schema(struct str *out) {
    struct span open = SPAN_NONE;
    STR_ADD(out, "{\n"
                 "  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                 "  \"title\": \"aiwm-gateway\",\n"
                 "  \"type\": \"object\",\n"
                 "  \"additionalProperties\": false,\n"
                 "  \"properties\": {\n");
    for (config_row_each(row)) {
        struct span section = config_row_section(row);
        bool same = span_equal(section, open);
        if (!same && !is_inside(section, open))
            close_sections(open, out);
        if (row != config_rows)
            STR_ADD(out, ",\n");
        if (!same && section.len > 0)
            open_section(section, out);
        add_property(row, STEP + STEP * depth_of(section), out);
        open = section;
    }
    close_sections(open, out);
    STR_ADD(out, "\n  }\n}\n");
}
