// library.cpp - the same from C++, on a picture made here, and the core below it.
//     library_cpp MODEL        prints the embedding's first numbers and the core's arena
#include <maskinv/core/maskinv.h>
#include <maskinv/core/methods.h>
#include <maskinv/maskinv.h>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Close {
    void operator()(mi_model *m) const { mi_close(m); }
};

static void must(bool ok) {
    if (!ok) throw std::runtime_error(mi_error());
}

int main(int argc, char **argv) try {
    std::unique_ptr<mi_model, Close> model(mi_open(argc > 1 ? argv[1] : nullptr));
    must(model != nullptr);
    std::vector<unsigned char> rgb(64 * 48 * 3);
    for (std::size_t i = 0; i < rgb.size(); i++) rgb[i] = static_cast<unsigned char>(i * 7 % 251);
    std::vector<float> soft(8 * 6, 0.0f), e(mi_embed_size(model.get())), nan(4, 2.0f);
    for (int i = 0; i < 20; i++) soft[i] = 1;
    mi_image photo = {rgb.data(), 64, 48};
    mi_mask mask = {soft.data(), 8, 6}, bad = {nan.data(), 2, 2};
    mi_invert_result r = {e.data(), nullptr, nullptr, nullptr};
    must(mi_invert(model.get(), &photo, &mask, 1, nullptr, &r));
    if (mi_invert(model.get(), &photo, &bad, 1, nullptr, &r)) throw std::runtime_error("a mask of 2 was taken");
    std::printf("%zu numbers, %.6f; %s\n", e.size(), e[0], mi_error());
    unsigned char room[4096];
    maskinv_arena a;
    maskinv_arena_init(&a, room, sizeof room);
    std::printf("core: %zu methods, %s\n", maskinv_method_count(), maskinv_arena_alloc(&a, 10, 4) ? "an arena" : "none");
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
