"""python.py OUT - of test_python.sh, which put the command line's results into OUT."""
import json
import os
import sys
import threading

import numpy as np

import maskinv

out, data = sys.argv[1], "test/data/"
failed = 0


def test(f):
    global failed
    name = f.__name__.replace("_", " ")
    print(f"[ RUN      ] {name}", flush=True)
    try:
        said = f()
        print(f"[  SKIPPED ] {name}: {said}" if said else f"[       OK ] {name}", flush=True)
    except Exception as x:  # noqa: B902
        failed += 1
        print(f"[  FAILED  ] {name}: {type(x).__name__}: {x}", flush=True)


def same(a, path):
    b = np.load(os.path.join(out, path))
    assert a.dtype == np.float32 and a.reshape(-1).tobytes() == b.reshape(-1).tobytes(), f"other bytes than {path}"


def raises(word, f):
    try:
        f()
    except maskinv.Error as x:
        assert word in str(x), f"'{x}' does not say '{word}'"
        return
    raise AssertionError(f"no error that says '{word}'")


m = maskinv.open(data + "nanogelu-openclip-bf16")
masks = [data + "mask0.png", data + "mask1.png"]


@test
def paths_give_the_command_lines_bytes():
    r = m.invert(data + "image.png", masks)
    same(r.embeddings, "cli/embeddings.npy")
    for i in range(2):
        same(r.maps[i], f"cli/mask{i}.map.npy")
    result = json.load(open(out + "/cli/result.json"))
    assert np.allclose(r.losses[1], result["masks"][1]["loss"], rtol=1e-6)
    same(m.explain(data + "image.png", embeddings=r.embeddings)[1], "cli/1.map.npy")
    same(m.embed_image(data + "image.png"), "image.npy")


@test
def json_holds_many():
    path = out + "/two.json"
    both = [np.asarray(m.invert(data + "image.png", k).maps[0]).shape for k in masks]
    regions = [{"segmentation": {"size": [h, w], "counts": [0, h * w // 2, h * w - h * w // 2]}} for h, w in both]
    json.dump(regions, open(path, "w"))
    r = m.invert(data + "image.png", path, iters=1)
    assert r.embeddings.shape == (2, m.embed_size) and r.maps[0].shape == both[0]
    assert m.invert(data + "image.png", [path + ":1", masks[0]], iters=1).embeddings.shape[0] == 2
    raises("regions 0 to 1 are in it", lambda: m.invert(data + "image.png", path + ":2"))


@test
def arrays_dicts_and_pil_give_them_too():
    try:
        from PIL import Image
    except ImportError:
        return "no PIL here"
    photo = Image.open(data + "image.png")
    grey = [Image.open(p) for p in masks]
    arrays = [np.asarray(g.convert("L")) for g in grey]
    for some in (grey, arrays, [{"segmentation": a > 127, "area": 1} for a in arrays], np.stack([a > 127 for a in arrays])):
        same(m.invert(photo, some).embeddings, "cli/embeddings.npy")
    same(m.invert(np.asarray(photo.convert("RGB")), arrays).embeddings, "cli/embeddings.npy")


@test
def texts_are_the_command_lines():
    if not os.path.exists(out + "/text.npy"):
        return "no default model here"
    with maskinv.open() as d:
        same(d.embed_text("a red fish"), "text.npy")
        r = d.invert(data + "image.png", masks[0], texts=["a red fish", "a cat"])
        same(r.embeddings, "default/embeddings.npy")
        given = json.load(open(out + "/default/result.json"))["masks"][0]["texts"]
        given = {t["text"]: t for t in given}
        for text, similarity, share in r.texts[0]:
            assert abs(given[text]["probability"] - share) < 1e-6 and abs(given[text]["similarity"] - similarity) < 1e-6
        assert r.texts[0][0][1] >= r.texts[0][1][1]
        assert d.explain(data + "image.png", texts=["a red fish"], method="surgery").shape[0] == 1


@test
def bad_things_are_errors_in_words():
    image = np.zeros((4, 4, 3), np.uint8)
    raises("no/such", lambda: maskinv.open("no/such"))
    raises("none.png", lambda: m.invert("none.png", masks))
    raises("shape (4,)", lambda: m.invert(np.zeros(4, np.uint8), masks))
    raises("float64", lambda: m.invert(np.zeros((4, 4, 3)), masks))
    raises("nan found", lambda: m.invert(image, np.full((2, 2), np.nan)))
    raises("empty", lambda: m.invert(image, np.zeros((2, 2), bool)))
    raises("segmentation", lambda: m.invert(image, [{"mask": 1}]))
    raises("lr", lambda: m.invert(image, masks, lr=-1))
    raises("lr", lambda: m.invert(image, masks, lr=float("nan")))
    raises("'loud'", lambda: m.explain(image, embeddings=np.ones((1, m.embed_size)), method="loud"))
    raises("(1, 3)", lambda: m.explain(image, embeddings=np.ones((1, 3))))
    raises("needed", lambda: m.explain(image))
    raises("side", lambda: m.explain(image, embeddings=np.ones((1, m.embed_size)), size=7))
    raises("closed", lambda: (lambda x: (x.close(), x.embed_image(image)))(maskinv.open(data + "nanogelu-openclip-bf16")))


@test
def progress_is_called_and_stops():
    seen = []
    m.invert(data + "image.png", masks, progress=lambda mask, step: seen.append((mask, step)), iters=3)
    assert [k for k, _ in seen] == [0, 0, 0, 1, 1, 1], seen
    raises("stopped after mask 0", lambda: m.invert(data + "image.png", masks, progress=lambda *_: False))
    try:
        m.invert(data + "image.png", masks, progress=lambda *_: 1 // 0)
    except ZeroDivisionError:
        return
    raise AssertionError("an exception in progress was lost")


@test
def threads_share_a_model():
    results = [None] * 4

    def run(i):
        results[i] = m.invert(data + "image.png", masks).embeddings

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for r in results:
        same(r, "cli/embeddings.npy")


sys.exit(failed > 0)
