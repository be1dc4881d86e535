"""Machine code before the first request: numba loads or compiles a kernel when it is first called."""

from __future__ import annotations

from collections.abc import Iterable

from thunderserve.kv.wire.arrays import empty
from thunderserve.kv.wire.catalogue import load
from thunderserve.kv.wire.contract import Dtype
from thunderserve.kv.wire.packet import Decoder, Encoder
from thunderserve.spec.kv import KvCodec

HEADS, DIM = 2, 64


def warm_up(codecs: Iterable[KvCodec | str], dtype: Dtype) -> None:
    """Run every kernel that ``codecs`` need for values of ``dtype``, so that no transfer waits for a compiler.

    A second where the code lies on disk, some ten where it does not. Shapes do not matter to it; the format of the values does.
    """
    for codec in codecs:
        made = load(codec)
        tokens = max(1, made.noun.group_size) + 1  # a whole group and a rest
        k = empty(tokens, HEADS, DIM, dtype)
        k[:] = 0
        Decoder().decode(Encoder(made).encode(k, k))
