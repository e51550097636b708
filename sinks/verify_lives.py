"""The lives of partitions, as `batches` has them, and which of its rows a question is about.

A life is an epoch: a topic made anew begins another. Within one, each range begins where the one
before it ended. But a new life gives offsets out again, and raw rows do not say of which one they
are: partitions with several lives are always looked at with all of them.
"""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sinks.verify_questions import Questions
from sinks.verify_sources import second, text

_BATCHES_AT_ONCE = 3_000_000


class Life(NamedTuple):
    """What `batches` has of one epoch of a partition."""

    topic: str
    partition: int
    epoch: str
    begins: int
    """The first offset that is looked at."""
    last: int
    finished: int
    """The last offset that `batch_totals` knows of: beyond `last`, if its batch is gone."""
    batches: int
    rows: int
    is_latest: bool


async def lives(ask: Questions, since: datetime | None) -> list[Life]:
    """Of all partitions; with `since`, from the first batch on that was applied then.

    Of a partition with several lives always all of them: their offsets are the same."""
    wanted = "1" if since is None else f"applied_at >= {second(since)}"
    # Before `batches`: what is finished in between is then in both, or in `batches` alone.
    finished = {
        (topic, partition, epoch): last
        for topic, partition, epoch, last in await ask.rows(
            "SELECT topic, partition, epoch, max(last) FROM batch_totals "
            "GROUP BY topic, partition, epoch"
        )
    }
    rows = await ask.rows(
        "SELECT topic, partition, epoch, minIf(first, wanted), countIf(wanted), "
        "sumIf(rows, wanted), min(first), count(), sum(rows), max(last), max(applied_at) "
        f"FROM (SELECT *, {wanted} AS wanted FROM batches) "
        "GROUP BY topic, partition, epoch ORDER BY topic, partition, max(applied_at)"
    )
    counts: dict[tuple[str, int], int] = {}
    for topic, partition, *_ in rows:
        counts[topic, partition] = counts.get((topic, partition), 0) + 1
    found = []
    for number, (topic, partition, epoch, *counted, last, _) in enumerate(rows):
        is_latest = number + 1 == len(rows) or tuple(rows[number + 1][:2]) != (topic, partition)
        begins, batches, stored = counted[3:] if counts[topic, partition] > 1 else counted[:3]
        if batches:
            known = max(last, finished.get((topic, partition, epoch), last))
            found.append(
                Life(topic, partition, epoch, begins, last, known, batches, stored, is_latest)
            )
    return found


class Scope(NamedTuple):
    """Some lives of a topic's partitions, each with all others of its partition."""

    topic: str
    lives: Sequence[Life]

    @property
    def batches(self) -> str:
        keys = ", ".join(f"({life.partition}, {text(life.epoch)})" for life in self.lives)
        return (
            f"(SELECT * FROM batches WHERE topic = {text(self.topic)} "
            f"AND (partition, epoch) IN ({keys}) AND first >= {self.begins('partition')})"
        )

    def begins(self, partition: str) -> str:
        least: dict[int, int] = {}
        for life in self.lives:
            least[life.partition] = min(life.begins, least.get(life.partition, life.begins))
        if not any(least.values()):
            return "0"
        partitions, offsets = (", ".join(map(str, n)) for n in (least, least.values()))
        return f"transform({partition}, [{partitions}], [{offsets}], toInt64(0))"

    @property
    def partitions(self) -> str:
        return ", ".join(sorted({str(life.partition) for life in self.lives}))


def place_key(topic: str, partition: int, epoch: str, first: int, last: int) -> dict[str, str]:
    key = {"topic": topic, "partition": str(partition), "epoch": epoch}
    return {name: said for name, said in key.items() if said} | {"offsets": f"{first}-{last}"}


def together(known: Sequence[Life]) -> Iterator[Sequence[Life]]:
    """Partitions that one query goes through; the lives of one stay together."""
    some: list[Life] = []
    batches = 0
    for life in known:
        if some and some[-1].partition != life.partition and batches > _BATCHES_AT_ONCE:
            yield some
            some, batches = [], 0
        some.append(life)
        batches += life.batches
    if some:
        yield some
