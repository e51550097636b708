"""Numbers and intervals as a terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_WIDTH = 25
Bounds = Sequence[float | None]


def figure(value: float | None, *, sign: bool = False) -> str:
    """To four digits, with nothing lost before the point."""
    if value is None:
        return "-"
    plus = "+" if sign else ""
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e12):
        return f"{value:{plus}.3e}"
    places = 0 if size >= 1_000 else max(0, 3 - (math.floor(math.log10(size)) if size else 0))
    text = f"{value:{plus},.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}" if abs(value) >= 0.001 else f"{value:+.2%}"


def probability(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}".rstrip("0") if value < 1 else "1"


def scale(intervals: Iterable[Bounds]) -> tuple[float, float]:
    """What bars below each other share; zero is on it."""
    ends = [end for bounds in intervals for end in bounds if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return (low, high) if high > low else (-1.0, 1.0)


def bar(bounds: Bounds, value: float, ends: tuple[float, float]) -> str:
    """The interval as a line with a dot, and where zero is: `    |  ---o---  `."""
    low, high = ends

    def place(at: float | None, otherwise: float) -> int:
        share = ((otherwise if at is None else at) - low) / (high - low)
        return min(_WIDTH - 1, max(0, round(share * (_WIDTH - 1))))

    cells = [" "] * _WIDTH
    for cell in range(place(bounds[0], low), place(bounds[1], high) + 1):
        cells[cell] = "━"
    cells[place(0.0, low)] = "┃" if cells[place(0.0, low)] == " " else "╋"
    cells[place(value, low)] = "●"
    return "".join(cells)
