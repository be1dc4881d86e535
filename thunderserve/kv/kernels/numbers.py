"""Floating-point numbers as bits, for compiled loops: the integer type of a memory names the format it holds.

uint16 holds IEEE float16, int16 holds bfloat16, uint32 holds float32. ``order`` maps bits to a signed integer that
sorts as the numbers do, so ranges are found without converting, NaN and infinity cannot hide in a comparison, and -0
< +0 has one answer on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Lowered = tuple[Any, Callable[..., Any]]
Compiled = Callable[..., Any]
"""To be called from compiled code only."""

HALF, BRAIN, SINGLE = types.uint16, types.int16, types.uint32
INFINITY = {HALF: 0x7C00, BRAIN: 0x7F80, SINGLE: 0x7F800000}
_WORD, _SHORT = ir.IntType(32), ir.IntType(16)


def _widen(_typing: Any, bits: Any) -> Lowered:
    """Bits -> the float32 they mean; exact."""

    def lower(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        if bits == HALF:
            return builder.fpext(builder.bitcast(value, ir.HalfType()), ir.FloatType())
        if bits == BRAIN:
            value = builder.shl(builder.zext(value, _WORD), ir.Constant(_WORD, 16))
        return builder.bitcast(value, ir.FloatType())

    return types.float32(bits), lower


def _narrow(_typing: Any, number: Any, like: Any) -> Lowered:
    """A finite float32 -> bits of the format of ``like``, to the nearest, ties to even."""

    def lower(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value = arguments[0]
        if like == HALF:
            return builder.bitcast(builder.fptrunc(value, ir.HalfType()), _SHORT)
        word = builder.bitcast(value, _WORD)
        if like == SINGLE:
            return word
        odd = builder.and_(builder.lshr(word, ir.Constant(_WORD, 16)), ir.Constant(_WORD, 1))
        rounded = builder.add(builder.add(word, ir.Constant(_WORD, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(_WORD, 16)), _SHORT)

    return like(number, like), lower


def _flip(builder: Any, value: Any, width: int) -> Any:
    """Complement the magnitude bits of a negative number; its own inverse."""
    kind = ir.IntType(width)
    sign = builder.ashr(value, ir.Constant(kind, width - 1))
    return builder.xor(value, builder.and_(sign, ir.Constant(kind, (1 << (width - 1)) - 1)))


def _order(_typing: Any, bits: Any) -> Lowered:
    """Bits -> a signed integer of the same width that sorts as the numbers do."""
    signed = types.int32 if bits == SINGLE else types.int16

    def lower(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _flip(builder, arguments[0], bits.bitwidth)

    return signed(bits), lower


def _disorder(_typing: Any, key: Any, like: Any) -> Lowered:
    """The inverse of ``order``, to the format of ``like``."""

    def lower(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _flip(builder, context.cast(builder, arguments[0], key, like), like.bitwidth)

    return like(key, like), lower


def _infinity(_typing: Any, like: Any) -> Lowered:
    """``order`` of +infinity in this format. Finite numbers lie in ``[-it, it)``, as ``order(-inf)`` is ``-it - 1``."""

    def lower(context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return context.get_constant(types.int32, INFINITY[like])

    return types.int32(like), lower


def _as_bits(_typing: Any, number: Any) -> Lowered:
    """float32 -> its bits."""

    def lower(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _WORD)

    return types.uint32(number), lower


def _from_bits(_typing: Any, bits: Any) -> Lowered:
    """Bits -> float32, whatever the integer type."""

    def lower(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(context.cast(builder, arguments[0], bits, types.uint32), ir.FloatType())

    return types.float32(bits), lower


widen = cast("Compiled", intrinsic(_widen))
narrow = cast("Compiled", intrinsic(_narrow))
order = cast("Compiled", intrinsic(_order))
disorder = cast("Compiled", intrinsic(_disorder))
infinity = cast("Compiled", intrinsic(_infinity))
as_bits = cast("Compiled", intrinsic(_as_bits))
from_bits = cast("Compiled", intrinsic(_from_bits))
