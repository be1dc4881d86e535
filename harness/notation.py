"""How numbers are written for people: three digits that matter, the unit beside them, the interval behind."""

from __future__ import annotations

from harness.statistics.value import Value


def number(value: float, digits: int = 3) -> str:
    """``1234567`` -> ``1.23M``, ``0.01234`` -> ``0.0123``, ``0`` -> ``0``."""
    size = abs(value)
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit * 0.9995:
            scale = 1e3 if sign == "k" else limit
            return f"{_plain(value / scale, digits)}{sign}"
    return _plain(value, digits)


def _plain(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e" in text and abs(value) >= 1 else text


def seconds(value: float) -> str:
    """``0.0123`` -> ``12.3 ms``, ``2.5`` -> ``2.5 s``."""
    return f"{_plain(value, 3)} s" if abs(value) >= 0.9995 or value == 0 else f"{_plain(value * 1e3, 3)} ms"


def percent(value: float) -> str:
    """``0.9034`` -> ``90.3``; only a share of exactly 1 is written 100."""
    return "100" if value == 1 else f"{min(value * 100, 99.9) if value < 1 else value * 100:.1f}"


def quantity(column: str, value: float | None) -> str:
    """A metric's value in the unit that its column's name carries; a dash where there is none."""
    if value is None:
        return "-"
    if column.startswith("slo_attainment"):
        return percent(value)
    if column.endswith("_s") and not column.endswith("_per_s"):
        return seconds(value)
    if column.startswith("cost_usd"):
        return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
    return number(value)


def span(column: str, value: Value) -> str:
    """``90.3 88.1–92.0``: the value and its interval, in the unit of ``quantity``; the value alone if it has none."""
    text = quantity(column, value.value)
    if value.value is None or value.interval is None:
        return text
    return f"{text} {quantity(column, value.interval[0])}–{quantity(column, value.interval[1])}"
