"""Holds events against the meaning of their fields: ranges, lengths, patterns, times.

The SDK's own check is the judge, so that an event is worth the same here as where it was emitted.
It takes a Python object and microseconds; so whole columns are looked at first, and only rows that
could be wrong are taken before it. A look may suspect a good row, and may never miss a bad one.

A time is judged by the time that Kafka has for its record, not by a clock: a replay judges alike.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from anabranch import events
from anabranch.fields import Event, shown, text_problem
from schemas.record import Field, Kind, Record, parse
from streams.decoded import OFFSET, TIMESTAMP, Decoded
from streams.reasons import BadEventReason

_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
_CONTROLS = r"[\x00-\x1f\x7f-\x9f]"
_CONTROLS_BUT_LINES = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"

Verdict: TypeAlias = tuple[BadEventReason, str]


def validate(kind: type[Event], decoded: Decoded) -> Decoded:
    """The same with the bad events among the dead; the detail is the SDK's sentence."""
    frame = decoded.frame
    if frame.is_empty():
        return decoded
    record = _meaning(kind.SCHEMA)
    suspicious = _suspicious(frame, record.fields)
    if suspicious is None:
        return decoded
    verdicts: dict[int, Verdict] = {}
    for row in frame.filter(suspicious).iter_rows(named=True):
        if verdict := _verdict(kind, record, row):
            verdicts[row[OFFSET]] = verdict
    return decoded.without(verdicts)


@cache
def _meaning(schema_text: str) -> Record:
    return parse(schema_text)


def _verdict(kind: type[Event], record: Record, row: dict[str, Any]) -> Verdict | None:
    values = {}
    for field in record.fields:
        value = row[field.name]
        if field.kind is Kind.PAIRS:
            names = [pair["name"] for pair in value]
            value = {pair["name"]: pair["value"] for pair in value}
            if len(value) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                detail = f"{field.name} holds {shown(twice)} twice; its names must be unique"
                return BadEventReason.INVALID, detail
        elif field.kind is Kind.RECORDS:
            assert field.items is not None
            item = getattr(events, field.items.name)
            value = tuple(item(**fields) for fields in value)
        elif field.kind is Kind.TEXTS:
            value = tuple(value)
        values[field.name] = value
    problem = kind(**values).problem(now_ms=row[TIMESTAMP])
    if problem is None:
        return None
    times = tuple(f"{field.name} is " for field in record.fields if field.kind is Kind.TIME)
    if problem.startswith(times):
        return BadEventReason.TIME_OUT_OF_RANGE, problem
    return BadEventReason.INVALID, problem


def _suspicious(frame: pl.DataFrame, fields: Sequence[Field]) -> pl.Series | None:
    """A mask of the rows that could be wrong; None when it is none of them."""
    looks = [look for field in fields for look in _LOOKS[field.kind](frame, field)]
    if not looks:
        return None
    seen = frame.select(look.any().alias(str(number)) for number, look in enumerate(looks)).row(0)
    caught = [look for look, any_row in zip(looks, seen, strict=True) if any_row]
    if not caught:
        return None
    return frame.select(reduce(operator.or_, caught).fill_null(False).alias("")).to_series()


def _text_looks(frame: pl.DataFrame, field: Field) -> list[pl.Expr]:
    rules, column = field.attributes, frame[field.name]
    this = pl.col(field.name)
    if "enum" in rules:
        return [~this.is_in(list(rules["enum"]))]
    shortest, longest = rules.get("minLength", 0), rules["maxLength"]
    # A character has one byte or more: too many bytes may still be few enough characters.
    looks = [this.str.len_bytes() > longest]
    if shortest > 1:
        looks.append(this.str.len_chars() < shortest)
    elif shortest:
        looks.append(this.str.len_bytes() < 1)
    if "pattern" in rules:
        # Keys and tags: there are few of them, however many rows.
        pattern = re.compile(rules["pattern"])
        bad = [
            value
            for value in column.unique()
            if value is not None and text_problem("", value, shortest, longest, pattern)
        ]
        return [*looks, this.is_in(bad)] if bad else looks
    if not _is_plain_ascii(column):
        controls = _CONTROLS_BUT_LINES if rules.get("multiline") else _CONTROLS
        looks.append(this.str.contains(controls))
    return looks


def _is_plain_ascii(column: pl.Series) -> bool:
    """Whether all its bytes lie between the space and the tilde: one look at them all at once."""
    texts = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    buffer = texts.buffers()[-1]
    if buffer is None or not buffer.size:
        return True
    seen = pc.min_max(pa.Array.from_buffers(pa.uint8(), buffer.size, [None, buffer])).as_py()
    return bool(seen["min"] >= 0x20 and seen["max"] <= 0x7E)


def _number_looks(frame: pl.DataFrame, field: Field) -> list[pl.Expr]:
    # Not a number is larger than any for polars, so it is outside, too.
    rules = field.attributes
    return [~pl.col(field.name).is_between(rules["minimum"], rules["maximum"])]


def _time_looks(frame: pl.DataFrame, field: Field) -> list[pl.Expr]:
    this, rules = pl.col(field.name), field.attributes
    earliest = pl.col(TIMESTAMP) - rules["maximumAgeDays"] * _DAY_MS
    latest = pl.col(TIMESTAMP) + rules["maximumAheadMinutes"] * _MINUTE_MS
    return [(this < earliest) | (this > latest)]


def _list_looks(frame: pl.DataFrame, field: Field) -> list[pl.Expr]:
    assert field.items is not None
    fewest, most = field.attributes.get("minItems", 0), field.attributes["maxItems"]
    looks = [~pl.col(field.name).list.len().is_between(fewest, most)]
    column = frame[field.name]
    counts = column.list.len()
    inner = column.explode(empty_as_null=False, keep_nulls=False)
    if field.kind is Kind.TEXTS:
        items = inner.alias(field.items.fields[0].name).to_frame()
    else:
        items = inner.struct.unnest()
    if items.is_empty():
        return looks
    suspicious = _suspicious(items, field.items.fields)
    if field.kind is Kind.PAIRS and (counts > 1).any():
        names = pl.DataFrame({"row": _rows_of_items(counts), "name": items["name"]})
        twice = names.is_duplicated()
        suspicious = twice if suspicious is None else suspicious | twice
    if suspicious is not None and suspicious.any():
        rows = _rows_of_items(counts).filter(suspicious).unique()
        looks.append(pl.lit(pl.int_range(len(frame), eager=True).is_in(rows.implode())))
    return looks


def _rows_of_items(counts: pl.Series) -> pl.Series:
    rows = pl.DataFrame({"row": pl.int_range(len(counts), eager=True), "count": counts})
    return rows.select(pl.col("row").repeat_by("count").explode(empty_as_null=False)).to_series()


_LOOKS: dict[Kind, Callable[[pl.DataFrame, Field], list[pl.Expr]]] = {
    Kind.TEXT: _text_looks,
    Kind.INTEGER: _number_looks,
    Kind.NUMBER: _number_looks,
    Kind.TIME: _time_looks,
    Kind.TEXTS: _list_looks,
    Kind.RECORDS: _list_looks,
    Kind.PAIRS: _list_looks,
}
