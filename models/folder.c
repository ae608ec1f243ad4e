/* folder.c - files that belong together (see folder.h). */
#include "models/folder.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "files/files.h"
#include "files/json.h"
#include "models/implied.h"
#include "models/names.h"
#include "os/os.h"

enum { CONFIG_BYTES = 16 << 20, FILES_MOST = 1000, NAME_ROOM = 256 };

/* Published names, in the order in which they are taken: a config and its weights. */
static const char OPEN_CLIP[] = "open_clip_config.json", HUGGING_FACE[] = "config.json";
static const char *const OPEN_CLIP_WEIGHTS[] = {"open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
                                                "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", NULL};
static const char *const HUGGING_FACE_WEIGHTS[] = {"model.safetensors", "model.safetensors.index.json",
                                                   "pytorch_model.bin", "pytorch_model.bin.index.json", "model.pth", NULL};

bool model_file_path(char out[PATH_ROOM], const char *folder, const char *file, err *e) {
    size_t n = strlen(folder);
    const char *slash = n == 0 || folder[n - 1] == '/' ? "" : "/";
    if ((size_t)snprintf(out, PATH_ROOM, "%s%s%s", folder, slash, file) < PATH_ROOM) return true;
    return err_set(e, "%.200s...: path is longer than %d bytes", folder, PATH_ROOM - 1);
}

static bool beside(const char *folder, const char *file) {
    char path[PATH_ROOM];
    return model_file_path(path, folder, file, NULL) && file_exists(path);
}

static const char *first_of(const char *folder, const char *const *names) {
    for (; *names; names++)
        if (beside(folder, *names)) return *names;
    return NULL;
}

/* ---- a folder's files ------------------------------------------------------------------------------------ */
typedef struct {
    char (*names)[NAME_ROOM];
    size_t count, room;
} listing;

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

typedef struct {
    const char *folder, *const *endings;
    listing *l;
    bool full; /* and e says of what */
    err *e;
} looking;

/* Regular names ending in one of `endings`; links out of the folder count as files that are there. */
static bool list_one(void *arg, const char *name) {
    looking *k = arg;
    bool wanted = false;
    for (const char *const *end = k->endings; *end; end++) wanted = wanted || ends_with(name, *end);
    if (!wanted || name[0] == '.' || strlen(name) >= NAME_ROOM || !beside(k->folder, name)) return true;
    if (k->l->count == FILES_MOST)
        k->full = !err_set(k->e, "%s: more than %d files of weights or settings", k->folder, FILES_MOST);
    else if (!mem_grow(&k->l->names, &k->l->room, k->l->count + 1, sizeof *k->l->names))
        k->full = !err_set(k->e, "%s: not enough memory", k->folder);
    if (k->full) return false;
    strcpy(k->l->names[k->l->count++], name);
    return true;
}

/* Sorted. */
static bool list(const char *folder, const char *const *endings, listing *l, err *e) {
    looking k = {folder, endings, l, false, e};
    bool ok = os_folder_each(folder, list_one, &k) || (!k.full && err_set(e, "%s: the folder cannot be read", folder));
    if (l->count) qsort(l->names, l->count, sizeof *l->names, by_text);
    return ok;
}

/* ---- one checkpoint under any name ------------------------------------------------------------------------- */
typedef struct {
    char weights[NAME_ROOM], overlay[NAME_ROOM], several[400], overlays[400];
    size_t found, sides; /* how many models, and image sides of AlphaCLIP's */
    err refusal; /* the first file's that looked like weights and was refused */
} candidates;

static void add_name(char *list, size_t size, const char *name) {
    size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%s", used ? ", " : "", name);
}

/* What is not the model's weights may lie beside them: a trainer's state, embeddings. */
static void consider(candidates *c, const char *folder, const char *file) {
    char path[PATH_ROOM];
    err e = {0};
    tensors *t = model_file_path(path, folder, file, &e) ? tensors_open(path, &e) : NULL;
    name_set names;
    if (t && tensors_find(t, "conv1_alpha.weight")) {
        if (!c->sides++) snprintf(c->overlay, sizeof c->overlay, "%s", file);
        add_name(c->overlays, sizeof c->overlays, file);
    } else if (t && names_recognise(t, &names, &e)) {
        if (!c->found++) snprintf(c->weights, sizeof c->weights, "%s", file);
        add_name(c->several, sizeof c->several, file);
    } else if (!t && !c->refusal.text[0]) {
        c->refusal = e;
    }
    tensors_free(t);
}

static const char *const WEIGHTS[] = {".safetensors", ".safetensors.index.json", ".bin.index.json", ".bin", ".pt", ".pth",
                                      ".npz", ".gguf", ".onnx", ".msgpack", ".h5", ".ckpt", NULL};

/* Other files of weights in the folder, a sharded model's own left out. */
static bool list_others(model_files *f, const char *taken, const char *overlay, err *e) {
    listing l = {0};
    bool ok = list(f->folder, WEIGHTS, &l, e);
    for (size_t i = 0; ok && i < l.count; i++)
        if (strcmp(l.names[i], taken) && strcmp(l.names[i], overlay) && !strstr(l.names[i], "-of-"))
            add_name(f->others, sizeof f->others, l.names[i]);
    mem_free(l.names);
    return ok;
}

/* overlay: the path of AlphaCLIP's image side that was named; NULL: the folder's, if there is one. */
static bool find_any(model_files *f, const char *overlay, err *e) {
    listing l = {0};
    candidates c = {0};
    bool ok = list(f->folder, WEIGHTS, &l, e);
    for (size_t i = 0; ok && i < l.count; i++) consider(&c, f->folder, l.names[i]);
    mem_free(l.names);
    if (!ok) return false;
    if (c.found > 1)
        return err_set(e, "%s: several models in this folder, name one of them: %s", f->folder, c.several);
    if (c.found == 1 && c.sides > 1 && !overlay)
        return err_set(e, "%s: several image sides of AlphaCLIP in this folder, name one of them: %s", f->folder, c.overlays);
    const char *slash = overlay ? os_last_slash(overlay) : NULL, *side = !overlay ? c.overlay : slash ? slash + 1 : overlay;
    if (c.found == 1)
        return list_others(f, c.weights, side, e) && model_file_path(f->weights, f->folder, c.weights, e) &&
               (!*side || model_file_path(f->overlay, f->folder, side, e));
    if (*c.overlay)
        return err_set(e, "%s: %s is AlphaCLIP's image side alone: expected the CLIP that it was trained from beside it",
                       f->folder, c.overlay);
    if (c.refusal.text[0]) {
        *e = c.refusal;
        return false;
    }
    bool a = beside(f->folder, OPEN_CLIP), b = beside(f->folder, HUGGING_FACE);
    return err_set(e,
                   "%s: no model in this folder: expected %s and %s, or %s and model.safetensors (or "
                   "model.safetensors.index.json), or one file of weights (.safetensors .bin .pt .pth .npz .gguf) under any "
                   "name; found %s%s%s",
                   f->folder, OPEN_CLIP, OPEN_CLIP_WEIGHTS[0], HUGGING_FACE, a ? OPEN_CLIP : "", a && b ? ", " : "",
                   b ? HUGGING_FACE : a ? "" : "none of them");
}

static bool find_in_folder(model_files *f, err *e) {
    const char *a = first_of(f->folder, OPEN_CLIP_WEIGHTS), *b = first_of(f->folder, HUGGING_FACE_WEIGHTS);
    const char *file = a && beside(f->folder, OPEN_CLIP) ? a : b && beside(f->folder, HUGGING_FACE) ? b : b ? b : a;
    if (!file || !(beside(f->folder, OPEN_CLIP) || beside(f->folder, HUGGING_FACE))) return find_any(f, NULL, e);
    return list_others(f, file, "", e) && model_file_path(f->weights, f->folder, file, e);
}

/* ---- a file of weights --------------------------------------------------------------------------------------- */
/* AlphaCLIP's overlay by itself: its base is the one other model of the folder. */
static bool find_base(model_files *f, const char *path, err *e) {
    tensors *t = tensors_open(path, e);
    bool overlay = t && tensors_find(t, "conv1_alpha.weight");
    bool opened = t != NULL;
    tensors_free(t);
    return opened && (!overlay || find_any(f, path, e));
}

bool model_files_find(const char *path, model_files *f, err *e) {
    memset(f, 0, sizeof *f);
    if (!*path) return err_set(e, "the name of a model is empty");
    if (strlen(path) >= PATH_ROOM) return err_set(e, "%.200s...: path is too long", path);
    if (folder_exists(path)) {
        strcpy(f->folder, path);
        return find_in_folder(f, e);
    }
    if (!file_exists(path))
        return err_set(e, "%s: no such file or folder: expected a model (weights/get lists published ones and fetches them)", path);
    const char *slash = os_last_slash(path);
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    memcpy(f->folder, n ? path : "./", n ? n : 2);
    strcpy(f->weights, path);
    return !ends_with(path, ".pth") || find_base(f, path, e); /* the overlays' ending */
}

tensors *model_files_weights(const model_files *f, err *e) {
    return *f->overlay ? tensors_overlay(f->weights, f->overlay, e) : tensors_open(f->weights, e);
}

/* ---- the config -------------------------------------------------------------------------------------------------- */
static char *read_beside(const model_files *f, const char *file, char name[PATH_ROOM], size_t *length, err *e) {
    return model_file_path(name, f->folder, file, e) ? file_read(name, CONFIG_BYTES, length, e) : NULL;
}

static char *copy_text(const char *text, const char *of, char name[PATH_ROOM], size_t *length, err *e) {
    char *copy = mem_text(text);
    if (!copy) return err_set(e, "%s: not enough memory", of), NULL;
    *length = strlen(text);
    snprintf(name, PATH_ROOM, "%s", of);
    return copy;
}

static bool is_model_config(const char *path) {
    size_t length;
    char *text = file_read(path, CONFIG_BYTES, &length, NULL);
    cJSON *j = text ? json_parse(text, length, path, NULL) : NULL;
    bool is = cJSON_IsObject(j) && (cJSON_GetObjectItemCaseSensitive(j, "model_cfg") ||
                                    (cJSON_GetObjectItemCaseSensitive(j, "embed_dim") &&
                                     cJSON_GetObjectItemCaseSensitive(j, "vision_cfg")));
    json_free(j);
    mem_free(text);
    return is;
}

/* The one JSON beside the weights that is a model's config, under any name: open_clip's model_configs, EVA's. */
static bool find_any_config(const model_files *f, char name[PATH_ROOM], err *e) {
    static const char *const endings[] = {".json", NULL};
    listing l = {0};
    char path[PATH_ROOM];
    bool ok = list(f->folder, endings, &l, e);
    *name = 0;
    for (size_t i = 0; ok && i < l.count; i++) {
        if (!model_file_path(path, f->folder, l.names[i], NULL) || !is_model_config(path)) continue;
        if (*name) ok = err_set(e, "%s: two configs stand beside it, %s and %s: expected one", f->weights, name, l.names[i]);
        else memcpy(name, path, sizeof path);
    }
    mem_free(l.names);
    return ok;
}

char *model_files_config(const model_files *f, const tensors *t, char name[PATH_ROOM], size_t *length, err *e) {
    char json[IMPLIED_ROOM];
    if (tensors_config(t)) return copy_text(tensors_config(t), tensors_name(t), name, length, e);
    bool a = beside(f->folder, OPEN_CLIP), b = beside(f->folder, HUGGING_FACE);
    bool second = b && (!a || !names_like_open_clip(t));
    if (a || b) return read_beside(f, second ? HUGGING_FACE : OPEN_CLIP, name, length, e);
    if (!find_any_config(f, name, e)) return NULL;
    if (*name) return file_read(name, CONFIG_BYTES, length, e);
    if (tensors_find(t, "visual.conv1.weight") && tensors_find(t, "token_embedding.weight"))
        return implied_config(t, json, e) ? copy_text(json, tensors_name(t), name, length, e) : NULL;
    err_set(e, "%s: its config is missing: expected %s or %s beside it", f->weights, OPEN_CLIP, HUGGING_FACE);
    return NULL;
}

/* One object of a file beside the weights: transformers 5 keeps all of a processor in one file. */
static char *read_inner(const model_files *f, const char *file, const char *key, char name[PATH_ROOM], size_t *length, bool *found, err *e) {
    char *text = read_beside(f, file, name, length, e), *out = NULL;
    cJSON *root = text ? json_parse(text, *length, name, e) : NULL;
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(root, key);
    mem_free(text);
    *found = !root || cJSON_IsObject(inner);
    char *printed = root && *found ? cJSON_PrintUnformatted(inner) : NULL;
    if ((out = mem_text(printed))) *length = strlen(out);
    if (root && *found && !out) err_set(e, "%s: not enough memory", name);
    cJSON_free(printed);
    json_free(root);
    return out;
}

char *model_files_pixels(const model_files *f, const tensors *t, const char *config, char name[PATH_ROOM], size_t *length,
                         bool *found, err *e) {
    *found = true;
    if (tensors_pixels(t)) return copy_text(tensors_pixels(t), tensors_name(t), name, length, e);
    const char *slash = os_last_slash(config);
    bool hugging_face = strcmp(slash ? slash + 1 : config, HUGGING_FACE) == 0;
    if (hugging_face && beside(f->folder, "preprocessor_config.json")) return read_beside(f, "preprocessor_config.json", name, length, e);
    if (hugging_face && beside(f->folder, "processor_config.json")) return read_inner(f, "processor_config.json", "image_processor", name, length, found, e);
    *found = false;
    return NULL;
}
