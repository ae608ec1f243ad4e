"""MaskInversion from Python: pure ctypes over libmaskinv, numpy in and out.

    import maskinv
    m = maskinv.open("weights/ViT-B-16")                 # a folder or file; nothing: the model inside the library
    r = m.invert("cat.jpg", ["mask.png"], texts=["a cat", "a dog"])
    r.embeddings                                         # [masks, E] float32, as `maskinv invert` writes it, byte for byte
    r.texts[0]                                           # [(text, similarity, probability), ...], the nearest first
    maps = m.explain("cat.jpg", texts=["a cat"])         # [texts, side, side] in 0..1

Pictures are paths, PIL images or arrays [height, width] or [height, width, 3] of uint8. Masks are paths, PIL images,
arrays of bool, of uint8 (255 is inside; 0 and 1 too) or of floats in 0..1, and what SAM gives: dicts with "segmentation".
Whatever fails raises maskinv.Error, whose text says what was found and what was expected.
"""
from __future__ import annotations

import ctypes as c
import ctypes.util
import os
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np

__all__ = ["Error", "Model", "Result", "methods", "open", "version"]
PathLike = Union[str, "os.PathLike[str]"]
Progress = Callable[[int, int], Optional[bool]]


class Error(Exception):
    """What the library said."""


# ---- the library (face/face.h) ----------------------------------------------------------------------
class _Image(c.Structure):
    _fields_ = [("rgb", c.c_void_p), ("width", c.c_size_t), ("height", c.c_size_t)]


class _Mask(c.Structure):
    _fields_ = [("soft", c.c_void_p), ("width", c.c_size_t), ("height", c.c_size_t)]


_STEP = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.c_size_t, c.c_size_t)


class _InvertOptions(c.Structure):
    _fields_ = [("side", c.c_size_t), ("iters", c.c_size_t), ("layers", c.c_size_t), ("lr", c.c_double),
                ("alpha", c.c_double), ("decay", c.c_double), ("gradient", c.c_char_p), ("explainer", c.c_char_p),
                ("progress", _STEP), ("progress_arg", c.c_void_p)]


class _InvertResult(c.Structure):
    _fields_ = [("embeddings", c.c_void_p), ("losses", c.c_void_p), ("maps", c.POINTER(c.c_void_p)),
                ("image", c.c_void_p)]


class _ExplainOptions(c.Structure):
    _fields_ = [("method", c.c_char_p), ("side", c.c_size_t), ("blocks", c.c_size_t),
                ("templates", c.POINTER(c.c_char_p)), ("template_count", c.c_size_t)]


_TEXTS, _P, _N = c.POINTER(c.c_char_p), c.c_void_p, c.c_size_t
_FUNCTIONS = {
    "mi_version": (c.c_char_p, []),
    "mi_error": (c.c_char_p, []),
    "mi_open": (_P, [c.c_char_p]),
    "mi_close": (None, [_P]),
    "mi_set_threads": (None, [_P, _N]),
    "mi_set_memory": (None, [_P, _N]),
    "mi_name": (c.c_char_p, [_P]),
    "mi_embed_size": (_N, [_P]),
    "mi_image_side": (_N, [_P]),
    "mi_side": (_N, [_P, _N]),
    "mi_image_read": (c.c_bool, [c.c_char_p, c.POINTER(_Image)]),
    "mi_image_free": (None, [c.POINTER(_Image)]),
    "mi_mask_read": (c.c_bool, [c.c_char_p, c.POINTER(_Mask)]),
    "mi_mask_free": (None, [c.POINTER(_Mask)]),
    "mi_masks_read": (c.c_bool, [c.c_char_p, c.c_char_p, c.POINTER(_Image), c.POINTER(c.POINTER(_Mask)), c.POINTER(_N)]),
    "mi_masks_free": (None, [c.POINTER(_Mask), _N]),
    "mi_embed_image": (c.c_bool, [_P, c.POINTER(_Image), c.c_bool, _N, _P]),
    "mi_embed_texts": (c.c_bool, [_P, _TEXTS, _N, _P]),
    "mi_embed_queries": (c.c_bool, [_P, _TEXTS, _N, _TEXTS, _N, _P]),
    "mi_compare": (c.c_bool, [_P, _P, _P, _N, _P, _P]),
    "mi_invert_defaults": (_InvertOptions, []),
    "mi_invert_steps": (_N, [_P, c.POINTER(_InvertOptions)]),
    "mi_invert": (c.c_bool, [_P, c.POINTER(_Image), c.POINTER(_Mask), _N, c.POINTER(_InvertOptions),
                             c.POINTER(_InvertResult)]),
    "mi_method_count": (_N, []),
    "mi_method_name": (c.c_char_p, [_N]),
    "mi_explain_texts": (c.c_bool, [_P, c.POINTER(_Image), _TEXTS, _N, c.POINTER(_ExplainOptions), _P]),
    "mi_explain": (c.c_bool, [_P, c.POINTER(_Image), _P, _N, c.POINTER(_ExplainOptions), _P]),
}


def _load() -> c.CDLL:
    """MASKINV_LIBRARY, beside this file (pip), the checkout that this file stands in, then the system's."""
    here = os.path.dirname(os.path.abspath(__file__))
    name = "libmaskinv.so.1"
    places = [os.environ.get("MASKINV_LIBRARY"), os.path.join(here, name),
              os.path.join(os.path.dirname(os.path.dirname(here)), name)]
    path = next((p for p in places if p and os.path.exists(p)), None)
    try:
        lib = c.CDLL(path or ctypes.util.find_library("maskinv") or name)
    except OSError as e:
        raise ImportError(f"{name} was not found: run make in the checkout, make install, or set MASKINV_LIBRARY ({e})") from e
    for name, (result, arguments) in _FUNCTIONS.items():
        f = getattr(lib, name)
        f.restype, f.argtypes = result, arguments
    return lib


_lib = _load()


def _must(ok: Any) -> None:
    if not ok:
        raise Error(_lib.mi_error().decode("utf-8", "replace"))


def version() -> str:
    return _lib.mi_version().decode()


def methods() -> List[str]:
    """The explainers that `explain` knows by name."""
    return [_lib.mi_method_name(i).decode() for i in range(_lib.mi_method_count())]


# ---- what comes in -----------------------------------------------------------------------------------
def _texts(texts: Sequence[str]) -> Any:
    if isinstance(texts, str):
        raise TypeError("a list of texts is expected, one text found: put it in [ ]")
    return (c.c_char_p * max(len(texts), 1))(*[t.encode() for t in texts])


def _is_path(x: Any) -> bool:
    return isinstance(x, (str, os.PathLike))


class _Held:
    """A picture or mask for one call: a file's, given back at the end, or an array's, kept alive until then."""

    def __init__(self, kind: type, array: Optional[np.ndarray] = None, path: Optional[PathLike] = None):
        self.image = kind is _Image
        self.own = array is None
        self.array = array
        self.it = kind() if array is None else kind(array.ctypes.data, array.shape[1], array.shape[0])
        if array is None:
            read = _lib.mi_image_read if self.image else _lib.mi_mask_read
            _must(read(os.fsencode(path), c.byref(self.it)))

    def free(self) -> None:
        if self.own:
            (_lib.mi_image_free if self.image else _lib.mi_mask_free)(c.byref(self.it))
            self.own = False


def _image(x: Any) -> _Held:
    if _is_path(x):
        return _Held(_Image, path=x)
    if hasattr(x, "convert"):  # PIL
        x = x.convert("RGB")
    a = np.asarray(x)
    if a.ndim == 2:
        a = np.repeat(a[:, :, None], 3, axis=2)
    if a.ndim != 3 or a.shape[2] not in (3, 4) or a.dtype != np.uint8:
        raise Error(f"a picture of shape {a.shape}, {a.dtype} found; [height, width, 3] of uint8 expected")
    return _Held(_Image, np.ascontiguousarray(a[:, :, :3]))


def _mask(x: Any) -> _Held:
    if isinstance(x, dict):
        if "segmentation" not in x:
            raise Error(f"a mask with {sorted(x)} found, SAM's with 'segmentation' expected")
        x = x["segmentation"]
    if _is_path(x):
        return _Held(_Mask, path=x)
    if hasattr(x, "convert") and x.mode not in ("1", "L"):
        x = x.convert("L")
    a = np.asarray(x)
    if a.ndim == 3 and 1 in (a.shape[0], a.shape[2]):
        a = a[0] if a.shape[0] == 1 else a[:, :, 0]
    if a.ndim != 2 or not (a.dtype == bool or np.issubdtype(a.dtype, np.integer) or np.issubdtype(a.dtype, np.floating)):
        raise Error(f"a mask of shape {a.shape}, {a.dtype} found; [height, width] of bool, uint8 or floats expected")
    if np.issubdtype(a.dtype, np.integer) and a.size and a.max() > 1:  # as files: grey / 255
        a = a.astype(np.float32) / np.float32(255)
    return _Held(_Mask, np.ascontiguousarray(a, dtype=np.float32))


class _Named:
    """The masks that one -k of the command line names, for one call."""

    def __init__(self, name: PathLike, photo: Any, image: _Held):
        self.items, self.count = c.POINTER(_Mask)(), c.c_size_t()
        _must(_lib.mi_masks_read(os.fsencode(name), os.fsencode(photo) if _is_path(photo) else None, c.byref(image.it),
                                 c.byref(self.items), c.byref(self.count)))

    def free(self) -> None:
        _lib.mi_masks_free(self.items, self.count)
        self.count = c.c_size_t()


def _mask_list(masks: Any) -> List[Any]:
    if _is_path(masks) or isinstance(masks, dict) or hasattr(masks, "convert"):
        return [masks]
    if isinstance(masks, np.ndarray) and masks.ndim == 2:
        return [masks]
    return list(masks)


# ---- models --------------------------------------------------------------------------------------------
@dataclass
class Result:
    """Of `invert`. A row, an item for each mask."""

    embeddings: np.ndarray                                #: [masks, E] float32, as optimised, not normalised
    maps: List[np.ndarray]                                #: each [mask height, mask width] float32 in 0..1
    losses: np.ndarray                                    #: [masks, steps] float32, before each update
    image: np.ndarray                                     #: [E] the whole picture's, where every inversion starts
    texts: List[List[Tuple[str, float, float]]]           #: (text, similarity, probability), the nearest first


class Model:
    """A checkpoint, by maskinv.open. Any number of threads may use one at the same time."""

    def __init__(self, path: Optional[PathLike] = None, threads: int = 0, memory: int = 0):
        self._m = None
        self._m = _lib.mi_open(None if path is None else os.fsencode(path))
        _must(self._m)
        _lib.mi_set_threads(self._m, threads)
        _lib.mi_set_memory(self._m, memory)

    def close(self) -> None:
        if self._m:
            _lib.mi_close(self._m)
        self._m = None

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _it(self) -> int:
        if not self._m:
            raise Error("the model is closed")
        return self._m

    @property
    def name(self) -> str:
        return os.fsdecode(_lib.mi_name(self._it()))

    @property
    def embed_size(self) -> int:
        """E, numbers of an embedding."""
        return _lib.mi_embed_size(self._it())

    @property
    def image_side(self) -> int:
        """Pixels of the squares that the model was trained on."""
        return _lib.mi_image_side(self._it())

    def _side(self, asked: int) -> int:
        side = _lib.mi_side(self._it(), asked)
        _must(side)
        return side

    def invert(self, image: Any, masks: Any, texts: Sequence[str] = (), *, templates: Sequence[str] = (),
               size: int = 0, iters: int = 0, layers: int = 0, lr: Optional[float] = None,
               alpha: Optional[float] = None, decay: Optional[float] = None, gradient: Optional[str] = None,
               explainer: Optional[str] = None, progress: Optional[Progress] = None) -> Result:
        """MaskInversion: an embedding for each mask: an array, a PIL picture, SAM's dict, or what -k names, which may be
        several (a folder, an .npy of many, COCO's or SAM's .json). What is not given is as `maskinv invert` has it. progress(mask, step)
        is called after each step; where it returns False the run stops after that mask, with an Error."""
        m, e, items = self._it(), self.embed_size, _mask_list(masks)
        o = _lib.mi_invert_defaults()
        o.side, o.iters, o.layers = size, iters, layers
        for name, value in (("lr", lr), ("alpha", alpha), ("decay", decay)):
            if value is not None:
                if not value >= 0:
                    raise Error(f"{name}: {value} found, 0 or more expected")
                setattr(o, name, value)
        o.gradient = gradient.encode() if gradient else None
        o.explainer = explainer.encode() if explainer else None
        raised: List[BaseException] = []

        def step(_: Any, mask: int, done: int) -> bool:
            try:
                return progress(mask, done) is not False
            except BaseException as x:  # noqa: B902 - it goes on in the caller
                raised.append(x)
                return False

        if progress:
            o.progress = _STEP(step)
        units = self.embed_query(texts, templates) if len(texts) else None
        held: List[Any] = []
        try:
            held.append(_image(image))
            given: List[_Mask] = []
            for x in items:
                held.append(_Named(x, image, held[0]) if _is_path(x) else _mask(x))
                given.extend(held[-1].items[:held[-1].count.value] if _is_path(x) else [held[-1].it])
            count = len(given)
            array = (_Mask * max(count, 1))(*given)
            embeddings = np.empty((count, e), np.float32)
            losses = np.empty((count, _lib.mi_invert_steps(m, c.byref(o))), np.float32)
            maps = [np.empty((k.height, k.width), np.float32) for k in given]
            whole = np.empty(e, np.float32)
            rooms = (c.c_void_p * max(count, 1))(*[a.ctypes.data for a in maps])
            r = _InvertResult(embeddings.ctypes.data, losses.ctypes.data, rooms, whole.ctypes.data)
            ok = _lib.mi_invert(m, c.byref(held[0].it), array, count, c.byref(o), c.byref(r))
        finally:
            for h in held:
                h.free()
        if raised:
            raise raised[0]
        _must(ok)
        return Result(embeddings, maps, losses, whole, [self._rank(row, texts, units) for row in embeddings])

    def _rank(self, embedding: np.ndarray, texts: Sequence[str],
              units: Optional[np.ndarray]) -> List[Tuple[str, float, float]]:
        if units is None:
            return []
        similarity, share = np.empty(len(texts)), np.empty(len(texts))
        _must(_lib.mi_compare(self._it(), embedding.ctypes.data, units.ctypes.data, len(texts), similarity.ctypes.data,
                              share.ctypes.data))
        order = np.argsort(-similarity, kind="stable")
        return [(texts[i], float(similarity[i]), float(share[i])) for i in order]

    def explain(self, image: Any, texts: Sequence[str] = (), embeddings: Optional[np.ndarray] = None, *,
                method: str = "legrad", blocks: int = 0, size: int = 0, templates: Sequence[str] = ()) -> np.ndarray:
        """Maps [count, side, side] float32 in 0..1 of texts, or of embeddings [count, E]."""
        if (embeddings is None) == (len(texts) == 0):
            raise Error("one of texts and embeddings is needed")
        side, words = self._side(size), _texts(templates)
        o = _ExplainOptions(method.encode(), size, blocks, words, len(templates))
        held = _image(image)
        try:
            if embeddings is None:
                maps = np.empty((len(texts), side, side), np.float32)
                _must(_lib.mi_explain_texts(self._it(), c.byref(held.it), _texts(texts), len(texts), c.byref(o),
                                            maps.ctypes.data))
            else:
                rows = np.atleast_2d(np.ascontiguousarray(embeddings, np.float32))
                if rows.ndim != 2 or rows.shape[1] != self.embed_size:
                    raise Error(f"embeddings of shape {rows.shape} found, [count, {self.embed_size}] expected")
                maps = np.empty((len(rows), side, side), np.float32)
                _must(_lib.mi_explain(self._it(), c.byref(held.it), rows.ctypes.data, len(rows), c.byref(o),
                                      maps.ctypes.data))
        finally:
            held.free()
        return maps

    def embed_image(self, image: Any, *, squash: bool = False, size: int = 0) -> np.ndarray:
        """[E] float32, not normalised, as `maskinv embed -i` writes it."""
        out, held = np.empty(self.embed_size, np.float32), _image(image)
        try:
            _must(_lib.mi_embed_image(self._it(), c.byref(held.it), squash, size, out.ctypes.data))
        finally:
            held.free()
        return out

    def embed_text(self, texts: Union[str, Sequence[str]]) -> np.ndarray:
        """[count, E] float32 of a list, [E] of one text; not normalised, as `maskinv embed -t` writes it."""
        items = [texts] if isinstance(texts, str) else list(texts)
        out = np.empty((len(items), self.embed_size), np.float32)
        _must(_lib.mi_embed_texts(self._it(), _texts(items), len(items), out.ctypes.data))
        return out[0] if isinstance(texts, str) else out

    def embed_query(self, texts: Sequence[str], templates: Sequence[str] = ()) -> np.ndarray:
        """Unit embeddings [count, E]; with templates ("a photo of a {}.") the normalised mean of each text's sentences."""
        out = np.empty((len(texts), self.embed_size), np.float32)
        _must(_lib.mi_embed_queries(self._it(), _texts(texts), len(texts), _texts(templates), len(templates),
                                    out.ctypes.data))
        return out


def open(path: Optional[PathLike] = None, *, threads: int = 0, memory: int = 0) -> Model:  # noqa: A001
    """A model from a folder or file; without one the model inside the library. threads 0: all cores."""
    return Model(path, threads, memory)
