#include "app/ctl_show.h"

#include <jansson.h>
#include <string.h>

enum { COLUMNS_MAX = 16, NAME_MAX_SHOWN = 24 };

static void show_value(const json_t *value, FILE *to) {
    if (json_is_string(value))
        (void)fputs(json_string_value(value), to);
    else if (json_is_integer(value))
        (void)fprintf(to, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        (void)fprintf(to, "%.1f", json_real_value(value));
    else if (json_is_boolean(value))
        (void)fputs(json_is_true(value) ? "yes" : "no", to);
    else
        (void)fputs("-", to);
}

static void show_list(json_t *list, FILE *to);

/* "heartbeats.held   12" */
static void show_object(json_t *object, const char *prefix, FILE *to) {
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        char full[128];
        (void)snprintf(full, sizeof full, "%s%s%s", prefix, *prefix ? "." : "", name);
        if (json_is_object(value)) {
            show_object(value, full, to);
        } else if (json_is_array(value)) {
            show_list(value, to);
        } else {
            (void)fprintf(to, "%-*s  ", NAME_MAX_SHOWN, full);
            show_value(value, to);
            (void)fputc('\n', to);
        }
    }
}

/* What any row has gets a column. */
static size_t find_columns(json_t *list, const char *columns[COLUMNS_MAX]) {
    size_t count = 0, i;
    json_t *row;
    json_array_foreach(list, i, row) {
        const char *name;
        json_t *value;
        json_object_foreach(row, name, value) {
            size_t at = 0;
            while (at < count && strcmp(columns[at], name) != 0)
                at++;
            if (at == count && count < COLUMNS_MAX)
                columns[count++] = name;
        }
    }
    return count;
}

static void show_list(json_t *list, FILE *to) {
    const char *columns[COLUMNS_MAX];
    size_t count = find_columns(list, columns), i;
    json_t *row;
    if (json_array_size(list) == 0)
        (void)fputs("none", to);
    for (size_t c = 0; c < count; c++)
        (void)fprintf(to, "%-*s", c == 0 ? 26 : (int)strlen(columns[c]) + 2, columns[c]);
    (void)fputc('\n', to);
    json_array_foreach(list, i, row) {
        for (size_t c = 0; c < count; c++) {
            char text[64] = "";
            FILE *cell = fmemopen(text, sizeof text, "w");
            if (cell) {
                show_value(json_object_get(row, columns[c]), cell);
                (void)fclose(cell);
            }
            (void)fprintf(to, "%-*s", c == 0 ? 26 : (int)strlen(columns[c]) + 2, text);
        }
        (void)fputc('\n', to);
    }
}

bool ctl_show(struct span json, FILE *to) {
    json_t *root = json_loadb(json.ptr ? json.ptr : "", json.len, 0, NULL);
    bool is_object = json_is_object(root);
    if (is_object)
        show_object(root, "", to);
    json_decref(root);
    return is_object;
}
