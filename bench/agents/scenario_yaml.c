/* A scenario's file:
 *
 *   agents: 2000
 *   beat: 10s
 *   stages:
 *     - {do: connect, within: 2s}
 *     - {do: hold, for: 30s, name: steady}
 *
 * Two levels and one list: everything else is refused with its line. */
#include "agents/scenario.h"

#include <stdio.h>
#include <yaml.h>

struct reading {
    yaml_document_t document;
    struct scenario *out;
    bool (*option)(void *arg, const char *name, const char *value, char why[SCENARIO_WHY]);
    void *arg;
    char *why;
};

static bool complain(struct reading *r, const yaml_node_t *node, const char *what) {
    char copy[SCENARIO_WHY];
    (void)snprintf(copy, sizeof copy, "%s", what);
    (void)snprintf(r->why, SCENARIO_WHY, "line %zu: %.200s",
                   node ? node->start_mark.line + 1 : (size_t)1, copy);
    return false;
}

static struct span text_of(const yaml_node_t *node) {
    return (struct span){(const char *)node->data.scalar.value, node->data.scalar.length};
}

static bool is_text(const yaml_node_t *node) {
    return node && node->type == YAML_SCALAR_NODE &&
           memchr(node->data.scalar.value, '\0', node->data.scalar.length) == NULL;
}

static bool read_stage(struct reading *r, yaml_node_t *node) {
    struct stage stage;
    char why[SCENARIO_WHY];
    stage_init(&stage);
    if (!node || node->type != YAML_MAPPING_NODE)
        return complain(r, node, "a stage is a mapping: {do: hold, for: 10s}");
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(&r->document, pair->key);
        yaml_node_t *value = yaml_document_get_node(&r->document, pair->value);
        if (!is_text(key) || !is_text(value))
            return complain(r, key, "a stage's keys have plain values");
        if (!stage_set(&stage, text_of(key), text_of(value), why))
            return complain(r, key, why);
    }
    if (!stage_finish(&stage, why))
        return complain(r, node, why);
    if (r->out->count >= SCENARIO_STAGES_MAX)
        return complain(r, node, "too many stages: 64 at most");
    r->out->at[r->out->count++] = stage;
    return true;
}

static bool read_stages(struct reading *r, yaml_node_t *node) {
    if (!node || node->type != YAML_SEQUENCE_NODE)
        return complain(r, node, "`stages` is a list");
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++)
        if (!read_stage(r, yaml_document_get_node(&r->document, *item)))
            return false;
    return r->out->count > 0 || complain(r, node, "there is no stage");
}

static bool read_entry(struct reading *r, yaml_node_t *key, yaml_node_t *value) {
    char why[SCENARIO_WHY];
    if (is_text(key) && span_equal(text_of(key), SPAN("stages")))
        return read_stages(r, value);
    if (!is_text(key) || !is_text(value))
        return complain(r, key, "options have plain values, `stages` is a list");
    return r->option(r->arg, (const char *)key->data.scalar.value,
                     (const char *)value->data.scalar.value, why) ||
           complain(r, key, why);
}

static bool read_document(struct reading *r) {
    yaml_node_t *root = yaml_document_get_root_node(&r->document);
    if (!root || root->type != YAML_MAPPING_NODE)
        return complain(r, root, "a scenario is a mapping with `stages`");
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         pair < root->data.mapping.pairs.top; pair++)
        if (!read_entry(r, yaml_document_get_node(&r->document, pair->key),
                        yaml_document_get_node(&r->document, pair->value)))
            return false;
    return r->out->count > 0 || complain(r, root, "`stages` is missing");
}

bool scenario_read(struct span text, struct scenario *out,
                   bool (*option)(void *arg, const char *name, const char *value,
                                  char why[SCENARIO_WHY]),
                   void *arg, char why[SCENARIO_WHY]) {
    struct reading r = {.out = out, .option = option, .arg = arg, .why = why};
    yaml_parser_t parser;
    *out = (struct scenario){.name = "file"};
    if (!yaml_parser_initialize(&parser))
        return complain(&r, NULL, "the YAML parser cannot be had");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.ptr, text.len);
    bool fine = yaml_parser_load(&parser, &r.document) == 1;
    if (fine) {
        fine = read_document(&r);
        yaml_document_delete(&r.document);
    } else {
        (void)snprintf(why, SCENARIO_WHY, "line %zu: this is not YAML: %.120s",
                       parser.problem_mark.line + 1, parser.problem ? parser.problem : "");
    }
    yaml_parser_delete(&parser);
    return fine;
}
