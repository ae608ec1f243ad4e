/* manual.c - maskinv --man: the commands' flag tables, and what a reader of a manual looks for besides. test/test_readme.sh
 * runs the examples, with the files that documents speak of. */
#include "cli/cli.h"
#include "files/roff.h"

static const roff_row examples[] = {
    {"Embeddings of two regions of a photograph, compared with two texts; what they look at in out/regions.png",
     "maskinv invert -i photo.jpg -k cat.png -k dog.png -t 'a cat' -t 'a dog' -m weights/ViT-B-16 -o out"},
    {"Where the first of them looks in another picture",
     "maskinv explain -i other.jpg -e out/embeddings.npy -m weights/ViT-B-16 -o where"},
    {"The map of a text, by CLIP Surgery", "maskinv explain -i photo.jpg -t 'a cat' --method surgery -m weights/ViT-B-16 -o map"},
    {"A class for every pixel", "maskinv segment -i photo.jpg --classes voc20 -m weights/ViT-B-16 -o classes"},
    {"Pictures and texts as embeddings", "maskinv embed -i photo.jpg -i other.jpg -m weights/ViT-B-16 -o pictures.npy\n"
                                         "maskinv embed -t 'a cat' -t 'a dog' -m weights/ViT-B-16 -o texts.npy"},
    {"A set of scenes, and region embeddings compared on it by the model inside the program",
     "maskinv scenes --kind drawn --objects 3 --count 1000 --seed 7 -o scenes\n"
     "maskinv eval -d scenes --methods cls,crop,maskinv --explainers legrad -o table"},
};
static const roff_row files[] = {
    {"weights/NAME", "a model as weights/get puts it there: weights, their config, their tokenizer; -m also takes one file "
                     "(safetensors, PyTorch's, TorchScript, npz, GGUF) or any folder of the kind"},
    {"DIR/embeddings.npy", "invert, regions: [masks, E], float32"},
    {"DIR/NAME.map.npy, DIR/NAME.map.png", "invert, explain: a map in 0..1, and as heat over the photograph"},
    {"DIR/regions.png, DIR/maps.png, DIR/classes.png", "sheets to look at"},
    {"DIR/result.json, DIR/segment.json, DIR/anomaly.json", "all settings that were used, and the numbers"},
    {"OUT/results.jsonl", "eval: a line a scene; a run that was killed goes on from here. table.csv, names.csv, table.json "
                          "and report.html are made from it"},
    {"FILE.part", "embed --resume: what is done so far"},
};
static const roff_row environment[] = {
    {"MASKINV_GEMM", "own or blas: whose product multiplies the weights; not given: the program's own where the processor has AVX-512, else the BLAS's (--version tells)"},
    {"OPENBLAS_CORETYPE", "which of OpenBLAS's kernels are used; last digits depend on it"},
    {"SOURCE_DATE_EPOCH", "the date in report.html"},
};

void cli_manual(FILE *out, const command *const *commands, size_t count) {
    roff_begin(out, "maskinv", MASKINV_VERSION, "embeddings of image regions by MaskInversion");
    roff_section(out, "SYNOPSIS");
    fprintf(out, ".B maskinv\n\\fICOMMAND\\fR [flags]\n");
    roff_section(out, "DESCRIPTION");
    fprintf(out, "Given a photograph and masks of some of its regions, maskinv finds for each mask, by optimisation at test "
                 "time, the CLIP\nembedding whose explainability map fills that mask.\n"
                 "\\fB\\-\\-help\\fR (\\fB\\-h\\fR) after a command lists its flags, \\fB\\-\\-version\\fR tells the version, "
                 "\\fB\\-\\-man\\fR prints this page.\n");
    roff_section(out, "COMMANDS");
    for (size_t i = 0; i < count; i++) flags_manual(commands[i], out);
    roff_examples(out, examples, sizeof examples / sizeof *examples);
    roff_names(out, "FILES", files, sizeof files / sizeof *files);
    roff_names(out, "ENVIRONMENT", environment, sizeof environment / sizeof *environment);
    roff_end(out);
    roff_section(out, "SEE ALSO");
    fprintf(out, ".BR train (1)\n");
}
