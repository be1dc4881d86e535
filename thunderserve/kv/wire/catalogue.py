"""Which codecs there are: one a module file in ``thunderserve/kv/``, found by listing the folder."""

from __future__ import annotations

import importlib
import pkgutil

import thunderserve.kv
from thunderserve.kv.kernels.contract import Kernels
from thunderserve.kv.wire.contract import Codec, CodecError
from thunderserve.spec.errors import nearest
from thunderserve.spec.kv import CODECS, KvCodec


def names() -> list[str]:
    """All codecs; some need a package that may be missing, which ``load`` says."""
    found = pkgutil.iter_modules(thunderserve.kv.__path__)
    return sorted(module.name.replace("_", "-") for module in found if not module.ispkg)


def load(codec: KvCodec | str, kernels: Kernels | None = None) -> Codec:
    """A fresh codec of one thread, by its name, or as a plan names it (then with the plan's group size).

    ``kernels`` are those of the CPU unless given (``Gpu()`` for tensors there).

    Raises:
        CodecError: there is none of this name, or it does not take these settings.
        ImportError: the package it needs is not installed.
    """
    name = codec if isinstance(codec, str) else codec.name
    if name not in names():
        raise CodecError(f"no KV codec is called {name!r}; {nearest(name, names())}")
    module = importlib.import_module(f"thunderserve.kv.{name.replace('-', '_')}")
    made: Codec = module.make(
        CODECS.get(name, KvCodec(name=name, bits=16)) if isinstance(codec, str) else codec, kernels
    )
    return made
