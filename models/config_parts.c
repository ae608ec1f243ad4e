/* config_parts.c - what all configs share: bounds, switches (see config_parts.h). */
#include "models/config_parts.h"
#include <stdio.h>
#include <string.h>

/* Bounds that are exact in float too: what was accepted is accepted again once written. */
bool config_eps(const json_scope *s, const char *key, double absent, real *eps) {
    double x;
    if (!json_number(s, key, 0x1p-40, 0.125, absent, &x)) return false;
    *eps = (real)x;
    return true;
}

bool config_divides(const json_scope *s, const char *key, size_t part, const char *of, size_t whole) {
    if (whole % part == 0) return true;
    return err_set(s->e, "%s: %s.%s is %zu, expected a divisor of %s, %zu", s->file, s->path, key, part, of, whole);
}

bool config_is_off(const cJSON *v) {
    return cJSON_IsNull(v) || cJSON_IsFalse(v) || ((cJSON_IsObject(v) || cJSON_IsArray(v)) && !v->child);
}

/* What a list says of a field: NULL not in it, "" any value will do, else the one value it may have. */
static const char *allowed_value(const char *fields, const char *key, char only[32]) {
    size_t n = strlen(key);
    for (const char *p = fields + 1; *p; p = strchr(p, ' ') + 1) {
        if (strncmp(p, key, n) != 0 || (p[n] != ' ' && p[n] != '=')) continue;
        snprintf(only, 32, "%.*s", p[n] == '=' ? (int)strcspn(p + n + 1, " ") : 0, p + n + 1);
        return only;
    }
    return NULL;
}

bool config_check_switches(const json_scope *s, const char *fields) {
    for (const cJSON *v = s->object ? s->object->child : NULL; v; v = v->next) {
        char room[32], found[64];
        const char *only = allowed_value(fields, v->string, room);
        if (only ? !*only || cJSON_IsNull(v) || (cJSON_IsString(v) && strcmp(v->valuestring, only) == 0) : config_is_off(v))
            continue;
        json_describe(v, found, sizeof found);
        return err_set(s->e, "%s: %s.%.60s is %s, which is not supported%s%s", s->file, s->path, v->string, found,
                       only ? ", expected " : "", only ? only : "");
    }
    return true;
}

void config_finish(clip_config *c) {
    if (c->pool == CLIP_POOL_PROBE || c->pool == CLIP_POOL_CELLS) c->queries = 1;
    if (!clip_has_pooler(c)) c->pooler = (clip_tower){0};
    c->pooler.layers = 0; /* it is no block */
    c->pooler.layer_scale = c->pooler.post_norm = c->pooler.sub_norm = c->pooler.swiglu = c->pooler.no_key_bias = false;
    c->act_pooler = c->act_vision;
}

bool config_mlp(const json_scope *s, double ratio, clip_tower *t) {
    double mlp = (double)t->width * ratio;
    if (!(mlp >= 1 && mlp <= (double)MLP_MOST))
        return err_set(s->e, "%s: %s.mlp_ratio is %g, expected one that makes width %zu a whole number from 1 to %d",
                       s->file, s->path, ratio, t->width, MLP_MOST);
    t->mlp = (size_t)mlp;
    return true;
}
