#include "app/ctl_show.h"

#include <jansson.h>
#include <string.h>

enum { COLUMNS_MAX = 16, NAME_MAX_SHOWN = 24, FIRST_WIDTH = 26, CELL_MAX = 64 };

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

struct column {
    const char *name;
    int width;
};

static void spell(const json_t *value, char text[CELL_MAX]) {
    text[0] = '\0';
    FILE *cell = fmemopen(text, CELL_MAX, "w");
    if (!cell)
        return;
    show_value(value, cell);
    (void)fclose(cell);
}

/* As wide as its widest cell, or its name. */
static int width_of(json_t *list, const char *name, int least) {
    size_t width = strlen(name) + 2, i;
    json_t *row;
    json_array_foreach(list, i, row) {
        char text[CELL_MAX];
        spell(json_object_get(row, name), text);
        if (strlen(text) + 2 > width)
            width = strlen(text) + 2;
    }
    return (int)width > least ? (int)width : least;
}

static void show_row(const json_t *row, const struct column *columns, size_t count, FILE *to) {
    for (size_t c = 0; c < count; c++) {
        char text[CELL_MAX];
        spell(json_object_get(row, columns[c].name), text);
        (void)fprintf(to, "%-*s", columns[c].width, text);
    }
    (void)fputc('\n', to);
}

static void show_list(json_t *list, FILE *to) {
    const char *names[COLUMNS_MAX];
    struct column columns[COLUMNS_MAX];
    size_t count = find_columns(list, names), i;
    json_t *row;
    if (json_array_size(list) == 0)
        (void)fputs("none", to);
    for (size_t c = 0; c < count; c++) {
        columns[c] = (struct column){names[c], width_of(list, names[c], c == 0 ? FIRST_WIDTH : 0)};
        (void)fprintf(to, "%-*s", columns[c].width, names[c]);
    }
    (void)fputc('\n', to);
    json_array_foreach(list, i, row) {
        show_row(row, columns, count, to);
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
