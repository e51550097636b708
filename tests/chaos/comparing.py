"""What is in ClickHouse against what has to be there: each difference is a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from tests.chaos.log_oracle import Place, Slice, Total

Asked = Callable[..., Sequence[Sequence[Any]]]

TABLES = {
    "exposures.v1": "exposures",
    "turn-metrics.v1": "turn_metrics",
    "invites.v1": "invites",
    "outcomes.v1": "outcomes",
}
SHOWN = 5


def slice_differences(asked: Asked, place: Place, slice_: Slice) -> Iterator[str]:
    """Offset by offset: each good event stored once, each bad one dead once for its reason."""
    offsets = sorted(slice_.offsets)
    if not offsets:
        return
    bounds = {"partition": place.partition, "first": offsets[0], "last": offsets[-1]}
    rows = asked(
        f"SELECT _offset, event_id FROM {TABLES[place.topic]} WHERE _partition = "
        "{partition:Int32} AND _offset BETWEEN {first:Int64} AND {last:Int64} ORDER BY _offset",
        **bounds,
    )
    yield from _compared(f"{place.topic}/{place.partition} rows", slice_.good, rows)
    letters = asked(
        "SELECT offset, reason FROM dead_letters WHERE topic = {topic:String} AND partition = "
        "{partition:Int32} AND offset BETWEEN {first:Int64} AND {last:Int64} ORDER BY offset",
        topic=place.topic,
        **bounds,
    )
    yield from _compared(f"{place.topic}/{place.partition} dead letters", slice_.dead, letters)


def _compared(
    what: str, wanted: Mapping[int, str], found: Sequence[Sequence[Any]]
) -> Iterator[str]:
    seen: dict[int, str] = {}
    twice = [row[0] for row in found if row[0] in seen or seen.update({row[0]: row[1]})]
    if twice:
        yield f"{what}: {len(twice)} twice: {twice[0]} to {twice[-1]}"
    missing = sorted(wanted.keys() - seen.keys())
    if missing:
        yield f"{what}: {len(missing)} missing: {missing[0]} to {missing[-1]}"
    strange = sorted(seen.keys() - wanted.keys())
    if strange:
        yield f"{what}: {len(strange)} that should not be there: {strange[0]} to {strange[-1]}"
    other = [at for at in wanted.keys() & seen.keys() if wanted[at] != seen[at]]
    for at in islice(sorted(other), SHOWN):
        yield f"{what}: {seen[at]} instead of {wanted[at]} at {at}"


def total_differences(asked: Asked, totals: Mapping[Place, Total]) -> Iterator[str]:
    """Everything so far, for what came late: a zombie that stored what was looked at before."""
    for topic, table in TABLES.items():
        rows = asked(
            f"SELECT _partition, count(), uniqExact(_offset), uniqExact(event_id), sum(_offset) "
            f"FROM {table} GROUP BY _partition"
        )
        found = {row[0]: tuple(row[1:]) for row in rows}
        letters = asked(
            "SELECT partition, count(), uniqExact(offset) FROM dead_letters "
            "WHERE topic = {topic:String} GROUP BY partition",
            topic=topic,
        )
        died = {row[0]: tuple(row[1:]) for row in letters}
        for place, total in totals.items():
            if place.topic != topic:
                continue
            wanted = (total.good, total.good, total.good, total.offsets)
            if found.get(place.partition, (0, 0, 0, 0)) != wanted:
                yield (
                    f"{topic}/{place.partition}: rows, offsets, events, sum of offsets are "
                    f"{found.get(place.partition)}, and should be {wanted}"
                )
            if died.get(place.partition, (0, 0)) != (total.dead, total.dead):
                yield (
                    f"{topic}/{place.partition}: dead letters are {died.get(place.partition)}, and "
                    f"should be {total.dead}"
                )


def batch_differences(asked: Asked, totals: Mapping[Place, Total]) -> Iterator[str]:
    """Ranges follow each other from 0 on, and say how much is in them."""
    rows = asked(
        "SELECT topic, partition, groupArray((first, last, epoch)), sum(rows), sum(dead), sum(lost)"
        " FROM (SELECT * FROM batches ORDER BY topic, partition, first) GROUP BY topic, partition"
    )
    found = {Place(row[0], row[1]): row[2:] for row in rows}
    for place, total in totals.items():
        if not total.good + total.dead:
            continue
        ranges, stored, dead, lost = found.get(place, ([], 0, 0, 0))
        where = f"batches of {place.topic}/{place.partition}"
        expected = 0
        for first, last, _ in ranges:
            if first != expected:
                kind = "a gap" if first > expected else "an overlap"
                yield f"{where}: {kind} before {first} to {last}, should begin at {expected}"
            expected = last + 1
        if expected <= total.last:
            yield f"{where}: end at {expected - 1}, the log at {total.last}"
        if len({epoch for _, _, epoch in ranges}) > 1:
            yield f"{where}: several epochs: {sorted({epoch for _, _, epoch in ranges})}"
        if (stored, dead, lost) != (total.good, total.dead, 0):
            yield (
                f"{where}: rows, dead, lost are {(stored, dead, lost)}, and should be "
                f"{(total.good, total.dead, 0)}"
            )


def restatement_differences(asked: Asked, grace_seconds: int) -> Iterator[str]:
    """Late is what belongs to a window that had closed before its batch, and nothing else is."""
    for topic, table in TABLES.items():
        rows = asked(
            f"""
            WITH ranges AS (
                SELECT partition, first, max(least(max_ts, applied_at)) OVER (
                    PARTITION BY partition ORDER BY first
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS before
                FROM batches WHERE topic = {{topic:String}}
            ), late AS (
                SELECT toStartOfMinute(ts) AS window, _partition AS partition, first, 1 AS wanted
                FROM {table} ASOF JOIN ranges
                ON {table}._partition = ranges.partition AND {table}._offset >= ranges.first
                WHERE toStartOfMinute(ts) + 60 + {grace_seconds} <= before
            )
            SELECT partition, first, toString(window), sum(wanted), sum(found) FROM (
                SELECT partition, first, window, wanted, 0 AS found FROM late UNION ALL
                SELECT partition, first, window, 0, events FROM restatements
                WHERE topic = {{topic:String}}
            ) GROUP BY ALL HAVING sum(wanted) != sum(found) ORDER BY ALL LIMIT 5
            """,
            topic=topic,
        )
        for partition, first, window, wanted, found in rows:
            yield (
                f"restatements of {topic}/{partition} by the batch from {first}: {found} late "
                f"events in {window}, and should be {wanted}"
            )


def applied_up_to(asked: Asked) -> dict[Place, int]:
    rows = asked("SELECT topic, partition, max(last) FROM batches GROUP BY topic, partition")
    return {Place(row[0], row[1]): row[2] for row in rows}
