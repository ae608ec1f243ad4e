/* data.c - the table of datasets (see data.h). */
#include "data/reader.h"
#include "files/files.h"
#include <string.h>

static const data_set sets[] = {
    {"voc2012", "PASCAL VOC 2012", "val", "train, val, trainval", NULL,
     "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar (data/get voc2012)", read_voc2012},
    {"pascal_context", "PASCAL Context, converted", "val", "train, val", NULL,
     "https://www.cs.stanford.edu/~roozbeh/pascal-context/, pictures of VOC 2010, maps converted by mmsegmentation's "
     "tool",
     read_context},
    {"pascal_context_mat", "PASCAL Context, original", "trainval", "train, val, trainval (not given: val, where VOC 2010's lists are)", NULL,
     "https://www.cs.stanford.edu/~roozbeh/pascal-context/ (trainval.tar.gz), pictures of VOC 2010 (data/get pascal_context_mat)", read_context_mat},
    {"coco2017", "COCO 2017", "val2017", "train2017, val2017", NULL,
     "https://cocodataset.org/#download (data/get coco2017)", read_coco},
    {"coco_panoptic", "COCO panoptic", "val2017", "train2017, val2017", NULL,
     "https://cocodataset.org/#download (data/get coco_panoptic)", read_coco_panoptic},
    {"coco_stuff", "COCO-Stuff", "val2017", "train2017, val2017", NULL,
     "https://github.com/nightrome/cocostuff (data/get coco_stuff)", read_coco_stuff},
    {"refcoco", "RefCOCO", "val", "train, val, testA, testB, test", "unc",
     "https://github.com/lichengunc/refer, pictures of COCO train2014", read_refcoco},
    {"refcocoplus", "RefCOCO+", "val", "train, val, testA, testB, test", "unc",
     "https://github.com/lichengunc/refer, pictures of COCO train2014", read_refcoco},
    {"refcocog", "RefCOCOg", "val", "train, val, test", "umd",
     "https://github.com/lichengunc/refer, pictures of COCO train2014", read_refcoco},
    {"reclip", "ReCLIP's copy of RefCOCO, + and g", "val", "train, val, testA, testB, test", "refcoco",
     "https://github.com/allenai/reclip, pictures of COCO train2014", read_reclip},
    {"phrasecut", "PhraseCut", "val", "train, val, test, miniv", NULL,
     "https://github.com/ChenyunWu/PhraseCutDataset (data/get phrasecut)", read_phrasecut},
    {"openimages_v7", "Open Images V7", "validation", "train, validation, test", NULL,
     "https://storage.googleapis.com/openimages/web/download_v7.html (data/get openimages_v7)", read_openimages},
    {"ade20k", "ADE20K", "validation", "training, validation", NULL,
     "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip, under its terms", read_ade20k},
    {"cityscapes", "Cityscapes", "val", "train, val", NULL,
     "https://www.cityscapes-dataset.com/downloads/, with an account", read_cityscapes},
    {"imagenet_s", "ImageNet-S", "validation", "validation, test", NULL,
     "https://github.com/LUSSeg/ImageNet-S, pictures of ImageNet", read_imagenet_s},
    {"imagenet", "ImageNet", "val", "val", NULL, "https://image-net.org/, with an account", read_imagenet},
    {"mvtec_ad", "MVTec AD", "test", "train, test", NULL,
     "https://www.mvtec.com/company/research/datasets/mvtec-ad, with a form", read_mvtec},
    {"visa", "VisA", "test", "train, test", NULL, "https://github.com/amazon-science/spot-diff (data/get visa)",
     read_visa},
    {"flickr30k", "Flickr30k", "test", "train, val, test", NULL,
     "https://shannon.cs.illinois.edu/DenotationGraph/, with a form", read_flickr30k},
};
enum { SETS = sizeof sets / sizeof *sets };

size_t data_set_count(void) { return SETS; }
const data_set *data_set_at(size_t i) { return i < SETS ? &sets[i] : NULL; }
const data_set *data_set_find(const char *name) {
    for (size_t i = 0; i < SETS; i++)
        if (!strcmp(sets[i].name, name)) return &sets[i];
    return NULL;
}

/* "val" is val2017 or validation where the folders are called so, "train" likewise. */
static const char *full_split(const data_set *set, const char *split) {
    static const char *const others[][2] = {
        {"val", "val2017"}, {"val", "validation"}, {"train", "train2017"}, {"train", "training"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(split, others[i][0]) && strstr(set->splits, others[i][1])) return others[i][1];
    return split;
}

bool data_read(const data_set *set, const data_wish *wish, const data_sink *sink, err *e) {
    data_reader r = {.set = set, .root = wish->root, .sink = sink, .e = e, .objects = wish->objects, .labels = wish->labels};
    r.split = wish->split ? full_split(set, wish->split) : set->split;
    r.asked = wish->split != NULL;
    r.by = wish->by ? wish->by : set->by;
    if (strchr(r.split, '/') || !*r.split)
        return err_set(e, "--split: '%s' found, one of %s expected", r.split, set->splits);
    if (wish->by && !set->by) return err_set(e, "--by: %s has one division only", set->title);
    if (!folder_exists(r.root))
        return err_set(e, "%s: there is no such folder; %s comes from %s", r.root, set->title, set->where);
    bool ok = set->read(&r);
    mem_free(r.mask), mem_free(r.more.text), mem_free(r.other.text), mem_free(r.counts);
    return ok;
}
