/* containers.c - whose file is it: the table (see containers.h). */
#include "models/containers.h"
#include <string.h>
#include "models/safetensors.h"

static bool begins(const file_bytes *f, const char *magic, size_t length) {
    return f->length >= length && memcmp(f->data, magic, length) == 0;
}

static bool named(const file_bytes *f, const char *ending) {
    size_t n = strlen(f->name), m = strlen(ending);
    return n >= m && strcmp(f->name + n - m, ending) == 0;
}

static bool hdf5_is(const file_bytes *f) { return begins(f, "\x89HDF\r\n\x1a\n", 8); }
static bool tar_is(const file_bytes *f) { return f->length > 262 && memcmp(f->data + 257, "ustar", 5) == 0; }
static bool gzip_is(const file_bytes *f) { return begins(f, "\x1f\x8b", 2); }
static bool lfs_is(const file_bytes *f) { return begins(f, "version https://git-lfs", 23); }
static bool page_is(const file_bytes *f) { return begins(f, "<!", 2) || begins(f, "<html", 5) || begins(f, "<?xml", 5); }
static bool npy_is(const file_bytes *f) { return begins(f, "\x93NUMPY", 6); }
static bool ggml_is(const file_bytes *f) { return begins(f, "lmgg", 4) || begins(f, "tjgg", 4) || begins(f, "fmgg", 4); }
static bool tflite_is(const file_bytes *f) { return f->length > 8 && memcmp(f->data + 4, "TFL3", 4) == 0; }
static bool pickle_is_begun(const file_bytes *f) { return f->length > 2 && f->data[0] == 0x80 && f->data[1] >= 1 && f->data[1] <= 5; }
/* protobuf: field 1, the IR's version; field 2, the producer's name */
static bool onnx_is(const file_bytes *f) {
    return named(f, ".onnx") || (f->length > 3 && f->data[0] == 8 && f->data[1] > 0 && f->data[1] < 30 && f->data[2] == 0x12);
}
/* a map whose first key is a text */
static bool msgpack_is(const file_bytes *f) {
    return named(f, ".msgpack") || (f->length > 2 && f->data[0] > 0x80 && f->data[0] < 0x90 &&
                                    ((f->data[1] & 0xe0) == 0xa0 || f->data[1] == 0xd9));
}

/* u64 header length, {: looked for first, since the length's bytes may look like another's magic number */
static bool safetensors_is(const file_bytes *f) {
    uint64_t n = 0;
    for (size_t i = 8; f->length > 8 && i-- > 0;) n = n << 8 | f->data[i];
    return n > 0 && n <= f->length - 8 && f->data[8] == '{';
}

/* The last row is taken where no other knows the bytes: its reader then says what it expected. */
static const container CONTAINERS[] = {
    {.name = "safetensors", .is = safetensors_is, .read = safetensors_read},
    {.name = "a zip archive", .is = zip_is, .read = zip_read},
    {.name = "PyTorch legacy stream", .is = torch_legacy_is, .read = torch_legacy_read},
    {.name = "clip.cpp GGUF", .is = gguf_is, .read = gguf_read},
    {.name = "TensorFlow's HDF5 (.h5)", .is = hdf5_is, .why = "its weights are published as safetensors or .bin too"},
    {.name = "Flax's msgpack", .is = msgpack_is, .why = "its weights are published as safetensors or .bin too"},
    {.name = "an ONNX graph", .is = onnx_is, .why = "it is a program rather than weights; take the model it was made from"},
    {.name = "a TensorFlow Lite graph", .is = tflite_is, .why = "it is a program rather than weights"},
    {.name = "a tar archive", .is = tar_is, .why = "PyTorch's before 0.2, or files to be unpacked first"},
    {.name = "a pickle that torch.save did not write", .is = pickle_is_begun, .why = "expected torch.save's"},
    {.name = "a single NumPy array", .is = npy_is, .why = "expected an .npz of big_vision's two towers"},
    {.name = "a ggml file older than GGUF", .is = ggml_is, .why = "convert it by clip.cpp, or take a .gguf"},
    {.name = "packed by gzip", .is = gzip_is, .why = "unpack it first"},
    {.name = "a Git LFS pointer", .is = lfs_is, .why = "the file itself was not fetched (git lfs pull)"},
    {.name = "a web page", .is = page_is, .why = "the download went wrong"},
    {.name = "safetensors", .read = safetensors_read},
};

const container *container_of(const file_bytes *f) {
    size_t n = sizeof CONTAINERS / sizeof *CONTAINERS;
    for (size_t i = 0; i < n; i++)
        if (CONTAINERS[i].is && CONTAINERS[i].is(f)) return &CONTAINERS[i];
    return &CONTAINERS[n - 1];
}

/* ---- safetensors ------------------------------------------------------------------------------------ */
static void release(void *s) { st_free(s); }

bool safetensors_read(tensors *t, const file_bytes *f, err *e) {
    safetensors *s = st_parse(f->data, f->length, f->name, e);
    if (!s || !tensors_keep(t, s, release, e)) return false;
    for (size_t i = 0; i < st_count(s); i++) {
        const st_tensor *from = st_at(s, i);
        file_tensor w = {.name = from->name + tensor_wrapping(from->name, strlen(from->name)), .type = from->type, .rank = from->rank, .data = from->data};
        w.bytes = from->bytes;
        memcpy(w.shape, from->shape, sizeof w.shape);
        if (!tensors_add(t, &w, e)) return false;
    }
    return true;
}
