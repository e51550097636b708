"""How many bytes values take in Avro, written the shortest way: what the fast way's proof adds up.

Counted for a column at a time; where all values of a column take the same, as one number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import polars as pl

from streams.avro_shapes import Kind, Shape

Size: TypeAlias = "int | pl.Series"
"""Bytes that each value takes at least: one number for all, or one each."""

_MEASURES: dict[Kind, Callable[[str], pl.Expr]] = {
    Kind.TEXT: lambda name: pl.col(name).str.len_bytes().cast(pl.Int64),
    Kind.BYTES: lambda name: pl.col(name).bin.size().cast(pl.Int64),
    Kind.LIST: lambda name: pl.col(name).list.len().cast(pl.Int64),
}


class TooWideError(Exception):
    """A number has more bits than its type, or so many that polars does not look at all of them."""


def sum_of(sizes: Sequence[Size]) -> Size:
    total: Size = 0
    for size in sizes:
        total += size
    return total


def sizes_of(frame: pl.DataFrame, shapes: Sequence[Shape], names: Sequence[str]) -> list[Size]:
    """Of each field, in order."""
    # In one go: what is done to a single column costs polars as much as what is done to all.
    measured = frame.select(
        measure(name)
        for shape, name in zip(shapes, names, strict=True)
        if (measure := _MEASURES.get(shape.kind))
    )
    return [
        _size(frame[name], measured[name] if shape.kind in _MEASURES else frame[name], shape)
        for shape, name in zip(shapes, names, strict=True)
    ]


def _size(column: pl.Series, measured: pl.Series, shape: Shape) -> Size:
    size: Size
    if shape.nullable and column.null_count() == column.len():
        return 1
    match shape.kind:
        case Kind.TEXT | Kind.BYTES:
            size = _bytes_size(measured)
        case Kind.DOUBLE:
            size = 8
        case Kind.INT:
            size = number_size(column, limit_bits=31)
        case Kind.LONG:
            size = number_size(column)
        case Kind.LIST:
            size = _list_size(column, measured, shape)
    if shape.nullable:
        there = column.is_not_null().cast(pl.Int64)
        size = 1 + (there * size if isinstance(size, int) else size.fill_null(0))
    return size


def _list_size(column: pl.Series, counts: pl.Series, shape: Shape) -> Size:
    inner = column.explode(empty_as_null=False, keep_nulls=False)
    items = inner.struct.unnest() if shape.of_records else inner.alias("").to_frame()
    size = sum_of(sizes_of(items, shape.items, [item.name for item in shape.items]))
    if isinstance(size, int):
        size = counts * size
    elif not (counts == 1).all():
        ends = counts.cum_sum()
        sums = pl.concat([pl.Series([0], dtype=pl.Int64), size.cum_sum()])
        size = sums.gather(ends) - sums.gather(ends - counts)
    # The count and the items, if there are any; then a count of zero, which ends the array.
    return number_size(counts) + size + (counts > 0).cast(pl.Int64)


def _bytes_size(lengths: pl.Series) -> Size:
    """Of byte strings with these lengths, which stand before them."""
    size = number_size(lengths)
    shortest, longest = lengths.min(), lengths.max()
    if isinstance(size, int) and isinstance(longest, int) and shortest == longest:
        return size + longest
    return lengths + size


def number_size(values: pl.Series, limit_bits: int = 62) -> Size:
    """Of zigzag varints. One of ten bytes has bits to spare that polars does not look at, so none
    of these is proven."""
    least, most = values.min(), values.max()
    if least is None:
        return 1
    assert isinstance(least, int)
    assert isinstance(most, int)
    if least < 0:
        values = pl.select(pl.when(values < 0).then(-1 - values).otherwise(values)).to_series()
        least, most = 0, max(most, -1 - least)
    if most >> limit_bits:
        raise TooWideError("a number is out of its range")
    size: Size = 1
    for bits in range(6, 62, 7):
        if most >> bits:
            size += 1 if least >> bits else (values >= 1 << bits).cast(pl.Int64)
    return size
