/* torch_zip.c - zip archives: what torch.save writes since 1.6, and TorchScript's, which has code/ besides.
 *
 *     NAME/data.pkl          the pickle: names, shapes, and where each storage is
 *     NAME/data/0, 1, 2...   the storages, stored and aligned: they are used as they lie in the mapped file
 *     NAME/byteorder, NAME/version, NAME/constants.pkl, NAME/code/...     the last two are never read
 */
#include <stdio.h>
#include <string.h>
#include "files/zip.h"
#include "models/containers.h"
#include "models/torch_values.h"

typedef struct {
    const zip *z;
    const file_bytes *f;
    char root[256]; /* "archive/" */
    err *e;
} archive;

/* data.pkl stands in one folder, the archive's root. */
static const zip_entry *find_pickle(archive *a) {
    const zip_entry *found = NULL;
    for (size_t i = 0; i < zip_count(a->z); i++) {
        const zip_entry *t = zip_at(a->z, i);
        const char *slash = strchr(t->name, '/');
        if (!slash || strcmp(slash, "/data.pkl") != 0) continue;
        if (found)
            return err_set(a->e, "%s: both %.200s and %.200s stand in it, expected one data.pkl", a->f->name, found->name,
                           t->name),
                   NULL;
        found = t;
    }
    size_t n = found ? strlen(found->name) - strlen("data.pkl") : 0;
    if (!found || n >= sizeof a->root)
        return err_set(a->e, "%s: a zip archive without NAME/data.pkl (PyTorch) and without .npy (NumPy)", a->f->name), NULL;
    memcpy(a->root, found->name, n);
    return found;
}

static const zip_entry *in_root(const archive *a, const char *name, size_t length) {
    char path[600];
    snprintf(path, sizeof path, "%s%.*s", a->root, (int)(length < 300 ? length : 300), name);
    return zip_find(a->z, path);
}

/* torch deflates its code alone; numbers are little-endian unless `byteorder` says otherwise. */
static bool check_archive(const archive *a) {
    size_t n = strlen(a->root);
    for (size_t i = 0; i < zip_count(a->z); i++) {
        const zip_entry *t = zip_at(a->z, i);
        if (t->deflated && strncmp(t->name, a->root, n) == 0 && strncmp(t->name + n, "code/", 5) != 0)
            return err_set(a->e, "%s: entry %.200s is deflated, torch stores it as it is", a->f->name, t->name);
    }
    const zip_entry *order = in_root(a, "byteorder", 9);
    const unsigned char *text = order ? zip_stored(a->z, order, a->e) : NULL;
    if (!order) return true;
    if (!text) return false;
    return (order->size == 6 && memcmp(text, "little", 6) == 0) ||
           err_set(a->e, "%s: %s is \"%.*s\", expected little", a->f->name, order->name,
                   (int)(order->size < 20 ? order->size : 20), (const char *)text);
}

static bool place_storages(const archive *a, torch_storages *s) {
    for (size_t i = 0; i < s->count; i++) {
        char path[300];
        snprintf(path, sizeof path, "data/%.*s", (int)s->item[i].key_length, s->item[i].key);
        const zip_entry *t = in_root(a, path, strlen(path));
        if (!t) continue; /* an error where a tensor wants it */
        s->item[i].data = zip_stored(a->z, t, a->e);
        s->item[i].bytes = t->size;
        if (!s->item[i].data) return false;
    }
    return true;
}

static bool read_pickle(tensors *t, const archive *a, const zip_entry *entry) {
    const unsigned char *bytes = zip_stored(a->z, entry, a->e);
    char name[600];
    snprintf(name, sizeof name, "%.400s: %s", a->f->name, entry->name);
    pickle *p = bytes ? pickle_parse(bytes, entry->size, name, PICKLE_CHECKPOINT, NULL, a->e) : NULL;
    torch_storages s = {0};
    bool ok = p && torch_storages_collect(&s, p, a->f->name, a->e) && place_storages(a, &s) &&
              torch_tensors_add(t, &s, pickle_root(p), a->f->name, a->e);
    torch_storages_free(&s);
    pickle_free(p);
    return ok;
}

static bool read_torch(tensors *t, const zip *z, const file_bytes *f, err *e) {
    archive a = {.z = z, .f = f, .e = e};
    const zip_entry *entry = find_pickle(&a);
    if (!entry || !check_archive(&a)) return false;
    tensors_set_container(t, in_root(&a, "constants.pkl", 13) ? "TorchScript archive" : "PyTorch zip");
    return read_pickle(t, &a, entry);
}

/* ---- a zip archive: whose? ------------------------------------------------------------------------------------- */
bool zip_is(const file_bytes *f) {
    return f->length >= 4 && (memcmp(f->data, "PK\3\4", 4) == 0 || memcmp(f->data, "PK\5\6", 4) == 0);
}

static void release(void *z) { zip_free(z); }

bool zip_read(tensors *t, const file_bytes *f, err *e) {
    zip *z = zip_parse(f->data, f->length, f->name, e);
    if (!z || !tensors_keep(t, z, release, e)) return false;
    for (size_t i = 0; i < zip_count(z); i++)
        if (ends_with(zip_at(z, i)->name, ".npy")) return npz_read(t, z, f, e);
    return read_torch(t, z, f, e);
}
