/* data_phrases.c - PhraseCut: phrases of Visual Genome's pictures, each with the polygons of what it means. */
#include "data/reader.h"
#include "masks/segmentation.h"
#include "files/files.h"
#include <string.h>

static const char base[] = "VGPhraseCut_v0";

typedef struct {
    json_stream pictures, tasks;
    places listed, of_picture, groups; /* pictures by number; tasks by picture; pictures in the order of their tasks */
    segment_room room;
} phrasecut;

static bool index_pictures(data_reader *r, phrasecut *p) {
    uint64_t id;
    path_text path = reader_path(r, "%s/image_data_split3000.json", base);
    if (!file_exists(path.text)) path = reader_path(r, "%s/image_data_split.json", base);
    if (!reader_needs(r, path.text) || !json_stream_open(&p->pictures, path.text, r->e)) return false;
    for (size_t i = 0; json_stream_next(&p->pictures, r->e); i++) /* its tasks will be of a picture that is not listed */
        if (!(item_whole(p->pictures.item, "image_id", &id) ? places_add(r, &p->listed, id, p->pictures.at)
                                                            : reader_skip(r, false, "no image_id", "picture %zu of the list", i)))
            return false;
    places_sort(&p->listed);
    return p->pictures.ended;
}

static bool index_tasks(data_reader *r, phrasecut *p) {
    path_text path = reader_path(r, "%s/refer_%s.json", base, r->split);
    if (!reader_needs(r, path.text) || !json_stream_open(&p->tasks, path.text, r->e)) return false;
    while (json_stream_next(&p->tasks, r->e)) {
        uint64_t id = UINT64_MAX;
        (void)item_whole(p->tasks.item, "image_id", &id);
        if (!places_add(r, &p->of_picture, id, p->tasks.at)) return false;
    }
    places_sort(&p->of_picture);
    return p->tasks.ended && places_groups(r, &p->of_picture, &p->groups);
}

static bool phrase_region(data_reader *r, phrasecut *p, const cJSON *task, const char *id) {
    const cJSON *polygons = cJSON_GetObjectItemCaseSensitive(task, "Polygons");
    const char *phrase = item_text(task, "phrase"),
               *name = item_text(cJSON_GetObjectItemCaseSensitive(task, "phrase_structure"), "name");
    err why = {0};
    if (!phrase) return reader_skip(r, true, "no phrase", "%s", id);
    if (!segment_phrasecut(polygons, r->height, r->width, &p->room, &why))
        return reader_skip(r, true, path_of("Polygons: %s", why.text).text, "%s", id);
    if (!reader_mask(r)) return false;
    memcpy(r->mask, p->room.cover, r->width * r->height);
    path_text more = path_of(",\"instances\":%d", cJSON_GetArraySize(polygons));
    data_phrase said = {.raw = phrase};
    data_region region = {.id = id,
                          .kind = "phrase",
                          .class_id = name,
                          .class_name = name,
                          .class_index = -1,
                          .phrases = &said,
                          .phrase_count = 1,
                          .more = more.text};
    return reader_region(r, &region);
}

/* All tasks of one picture. why: they are left out; else they are regions. */
static bool each_task(data_reader *r, phrasecut *p, size_t first, const char *why) {
    const places *at = &p->of_picture;
    bool ok = true;
    for (size_t k = first; ok && k < at->count && at->item[k].key == at->item[first].key; k++) {
        cJSON *task = json_stream_at(&p->tasks, at->item[k].at, r->e);
        if (!task) return false;
        const char *name = item_text(task, "task_id");
        path_text id = path_of("%s", name ? name : "a task without task_id");
        ok = why ? reader_skip(r, false, why, "%s", id.text) : phrase_region(r, p, task, id.text);
        json_free(task);
    }
    return ok;
}

/* *why: the tasks of this picture are left out. */
static picture_state open_picture(data_reader *r, phrasecut *p, uint64_t id, const char **why) {
    size_t k = places_find(&p->listed, id), width, height;
    uint64_t w = 0, h = 0;
    *why = "picture not listed";
    if (k == p->listed.count) return PICTURE_GONE;
    cJSON *item = json_stream_at(&p->pictures, p->listed.item[k].at, r->e);
    if (!item) return PICTURE_STOP;
    const char *split = item_text(item, "split");
    bool here = split && !strcmp(split, r->split),
         sides = item_whole(item, "width", &w) && item_whole(item, "height", &h);
    json_free(item);
    *why = "picture of another split";
    if (!here) return PICTURE_GONE;
    path_text name = path_of("%llu", (unsigned long long)id), file = path_of("%s/images/%s.jpg", base, name.text);
    data_picture picture = {.id = name.text, .whole = true, .file = file.text, .class_index = -1};
    picture_state state = reader_look(r, &picture, &width, &height);
    *why = "picture missing";
    if (state != PICTURE_HERE) return state;
    *why = "picture of another size than listed";
    if (!sides || w != width || h != height) return PICTURE_GONE;
    *why = NULL;
    return reader_tell(r, &picture, width, height);
}

bool read_phrasecut(void *reader) {
    data_reader *r = reader;
    phrasecut p = {0};
    bool ok = index_pictures(r, &p) && index_tasks(r, &p) && r->sink->classes(r->sink->arg, NULL, 0, r->e);
    for (size_t i = 0; ok && i < p.groups.count; i++) {
        size_t first = (size_t)p.groups.item[i].key;
        const char *why;
        picture_state state = open_picture(r, &p, p.of_picture.item[first].key, &why);
        ok = state != PICTURE_STOP && (state == PICTURE_OTHER || each_task(r, &p, first, why));
    }
    json_stream_close(&p.pictures), json_stream_close(&p.tasks);
    places_free(&p.listed), places_free(&p.of_picture), places_free(&p.groups);
    segment_free(&p.room);
    return ok;
}
