"""Raw rows and dead letters, as the ranges of `batches` have them: as many, no offset twice.

Ranges of several lives that overlap are taken together, and hold their rows together.
"""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sinks.verify_lives import Scope, place_key
from sinks.verify_questions import LOOKS_AGAIN_SECONDS, Difference, Findings, Questions
from sinks.verify_sources import RAW_TABLES, second, text

_OFFSETS_SHOWN = 5
_EXPLAINED = 10
# Far more than there are partitions: each may have rows under way, which are no difference.
_TAKEN = 100_000


async def check_rows(ask: Questions, findings: Findings, scope: Scope, horizon: datetime) -> None:
    table = RAW_TABLES[scope.topic]
    # Where all ranges before have ended, a cluster begins; in one life every range is one.
    begins = (
        "first > max(last) OVER (PARTITION BY partition ORDER BY first, last "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    )
    ranges = (
        "SELECT partition, '' AS epoch, min(first) AS start, max(last) AS stop, sum(rows) AS n, "
        f"uniqExact(life) AS lives, ifNull(min(min_ts) < {second(horizon)}, 0) AS is_old FROM ("
        "SELECT *, sum(begins) OVER (PARTITION BY partition ORDER BY first, last "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS cluster FROM ("
        f"SELECT *, epoch AS life, {begins} AS begins FROM {scope.batches})) "
        "GROUP BY partition, cluster"
    )
    stored = (
        f"SELECT _partition AS partition, '' AS epoch, _offset AS at FROM {table} "
        f"WHERE _topic = {text(scope.topic)} AND _partition IN ({scope.partitions}) "
        f"AND _offset >= {scope.begins('_partition')}"
    )
    await _check_held(ask, findings, scope, table, ranges, stored)


async def check_dead_letters(
    ask: Questions, findings: Findings, scope: Scope, horizon: datetime
) -> None:
    ranges = (
        "SELECT partition, epoch, first AS start, last AS stop, dead AS n, 1 AS lives, "
        f"applied_at < {second(horizon)} AS is_old FROM {scope.batches}"
    )
    stored = (
        "SELECT partition, epoch, offset AS at FROM dead_letters "
        f"WHERE topic = {text(scope.topic)} AND partition IN ({scope.partitions}) "
        f"AND offset >= {scope.begins('partition')}"
    )
    await _check_held(ask, findings, scope, "dead_letters", ranges, stored)


async def _check_held(
    ask: Questions, findings: Findings, scope: Scope, table: str, ranges: str, stored: str
) -> None:
    """What lies at the offsets of each range, against what the range says; and what lies outside.

    The nearest range that begins at or before an offset is its own, or none is.
    """
    joined = (
        "SELECT s.partition AS partition, s.epoch AS epoch, s.at AS at, r.start AS start, "
        "r.stop AS stop, r.lives > 0 AND s.at <= r.stop AS is_in "
        f"FROM ({stored}) AS s ASOF LEFT JOIN ({ranges}) AS r "
        "ON s.partition = r.partition AND s.epoch = r.epoch AND s.at >= r.start"
    )
    statement = (
        "SELECT partition, epoch, start, stop, sum(n) AS expected, sum(inside) AS found, "
        "sum(offsets), sum(outside) AS beyond, max(first_outside), max(last_outside), "
        "max(lives) AS several, max(is_old) AS old, count() OVER () FROM ("
        "SELECT partition, epoch, start, stop, n, lives, is_old, 0 AS inside, 0 AS offsets, "
        f"0 AS outside, 0 AS first_outside, 0 AS last_outside FROM ({ranges}) UNION ALL "
        "SELECT partition, epoch, start, stop, 0 AS n, 0 AS lives, 0 AS is_old, "
        "countIf(is_in) AS inside, groupBitmapIf(toUInt64(at), is_in) AS offsets, "
        "countIf(NOT is_in) AS outside, minIf(at, NOT is_in) AS first_outside, "
        f"maxIf(at, NOT is_in) AS last_outside FROM ({joined}) "
        "GROUP BY partition, epoch, start, stop"
        ") GROUP BY partition, epoch, start, stop "
        "HAVING beyond > 0 OR if(old, found > expected, found != expected) "
        "OR (sum(offsets) != found AND several < 2) "
        f"ORDER BY partition, epoch, start LIMIT {_TAKEN}"
    )
    for seconds in LOOKS_AGAIN_SECONDS:
        await ask.sleep(seconds)
        held = [Held(*row) for row in await ask.rows(statement)]
        odd = [one for one in held if _is_wrong(scope, one) or not _is_under_way(scope, one)]
        if not odd:
            break
    findings.in_flight[table] += sum(one.outside for one in held if _is_under_way(scope, one))
    for number, one in enumerate(odd):
        if _is_wrong(scope, one):
            where = ""
            if number < _EXPLAINED:
                where = await _where(ask, scope.topic, table, one, stored)
            key = place_key(scope.topic, one.partition, one.epoch, one.start, one.stop)
            found = f"{one.found}{where}"
            findings.add(Difference(table, key, "rows in the range", str(one.expected), found))
        if not _is_under_way(scope, one):
            key = place_key(
                scope.topic, one.partition, one.epoch, one.first_outside, one.last_outside
            )
            findings.add(Difference(table, key, "rows of no batch", "0", str(one.outside)))
    findings.total += held[0].of - len(held) if held else 0


class Held(NamedTuple):
    """What lies in a range, and between it and the next."""

    partition: int
    epoch: str
    start: int
    stop: int
    expected: int
    found: int
    offsets: int
    """Different ones."""
    outside: int
    first_outside: int
    last_outside: int
    lives: int
    is_old: bool
    """Some of it may be gone by the table's own rule."""
    of: int
    """How many like it there are."""


def _is_wrong(scope: Scope, held: Held) -> bool:
    if held.found < held.expected:
        return not held.is_old
    # A life under way gives offsets out again that an older one had: its rows are among those.
    latest = [life.last for life in scope.lives if life.partition == held.partition]
    if not held.epoch and len(latest) > 1 and held.stop > latest[-1]:
        return False
    return held.found > held.expected or (held.lives < 2 and held.offsets < held.found)


def _is_under_way(scope: Scope, held: Held) -> bool:
    """Whether what lies outside, if anything, comes after all that is finished."""
    return not held.outside or all(
        held.first_outside > life.finished
        for life in scope.lives
        if life.partition == held.partition
        and (life.is_latest if not held.epoch else life.epoch == held.epoch)
    )


async def _where(ask: Questions, topic: str, table: str, held: Held, stored: str) -> str:
    """Which offsets have too many rows, and which none, nor a dead letter."""
    within = (
        f"partition = {held.partition} AND epoch = {text(held.epoch)} "
        f"AND at BETWEEN {held.start} AND {held.stop}"
    )
    mine = f"SELECT at FROM ({stored}) WHERE {within}"
    twice = await ask.rows(
        f"SELECT at FROM ({mine}) GROUP BY at HAVING count() > {max(1, held.lives)} "
        f"ORDER BY at LIMIT {_OFFSETS_SHOWN}"
    )
    none: list[Any] = []
    if table != "dead_letters" and held.found - len(twice) < held.expected:
        none = await ask.rows(
            f"SELECT number FROM numbers({held.start}, {held.stop - held.start + 1}) "
            f"WHERE toInt64(number) NOT IN ({mine}) AND toInt64(number) NOT IN ("
            f"SELECT offset FROM dead_letters WHERE topic = {text(topic)} "
            f"AND partition = {held.partition} AND offset BETWEEN {held.start} AND {held.stop}) "
            f"LIMIT {_OFFSETS_SHOWN}"
        )
    parts = [
        f"{said} {', '.join(str(offset) for (offset,) in offsets)}"
        for said, offsets in (("more than once at", twice), ("none at", none))
        if offsets
    ]
    return f" ({'; '.join(parts)})" if parts else ""
