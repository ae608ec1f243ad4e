/* tuned.c - the folder of a fine-tuned model (see tuned.h). */
#include "training/tuned.h"
#include "files/files.h"
#include "models/model.h"
#include <stdio.h>
#include <string.h>

/* The text side is the model's own, so its merges are. */
static bool copy_merges(const system_job *j, const char *folder, err *e) {
    char from[LOOP_PATH + 64], to[LOOP_PATH + 64];
    builtin_model b;
    snprintf(to, sizeof to, "%s/merges.txt", folder);
    if (!j->options->model) return builtin_model_get(&b) && file_write(to, b.merges, b.merges_length, e);
    snprintf(from, sizeof from, "%s/merges.txt", checkpoint_folder(j->weights));
    if (!file_exists(from)) return true; /* its tokenizer lies in another file, which is the user's to copy */
    size_t length;
    char *text = file_read(from, (size_t)1 << 28, &length, e);
    bool good = text && file_write(to, text, length, e);
    mem_free(text);
    return good;
}

bool tuned_write(const system_job *j, tower *w, const part_list *l, const char *type, const char *path, err *e) {
    char folder[LOOP_PATH + 32];
    snprintf(folder, sizeof folder, "%.*s", (int)(strlen(path) - strlen(".safetensors")), path);
    return part_write(l, path, type, NULL, 0, e) && checkpoint_write(folder, &w->model, "F16", e) && copy_merges(j, folder, e);
}
