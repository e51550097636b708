"""`anabranch verify`: prove that what is stored is what was read, or show where it is not."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.topics import AUDIT, EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from service.commands.tail import moment, printable
from service.errors import CommandError
from service.settings import DEFAULT_STATE, Settings, load_settings
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.verify import LedgerEntry, Verification
from sinks.verify import verify as look_at_everything
from streams.standing import read_standings
from streams.topic_admin import TopicError

_TOPICS = tuple(spec.name for spec in (EXPOSURES, TURN_METRICS, INVITES, OUTCOMES, AUDIT))


def verify(
    *,
    since: Annotated[
        str | None,
        Parameter(help="Only what is from then on: 10m, 2h, 1d ago, or 2026-01-31T12:00:00Z."),
    ] = None,
    kafka: Annotated[bool, Parameter(help="Compare with the ledger in Kafka, too.")] = True,
    json_: Annotated[bool, Parameter("--json", help="Print JSON.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Make everything again from raw rows and offsets, and compare.

    Ranges of offsets without gap or overlap, each with the rows and dead letters that it should
    have; windows, hours, days and sums by unit equal to the raw rows; Kafka's ledger equal to what
    is applied. It runs beside ingestion. The status is 1 where there is any difference, and the
    exact place of each is shown.
    """
    now = datetime.now(UTC)
    start = None if since is None else moment(since, now)
    settings = load_settings(state=state)
    # aiokafka says in many lines what the notice below says in one.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    begun = time.monotonic()
    try:
        found, standing = asyncio.run(_verified(settings, now, start, with_kafka=kafka))
    except (ClickHouseUnavailable, ClickHouseRefused) as error:
        raise CommandError(str(error)) from error
    seconds = time.monotonic() - begun
    if json_:
        print(json.dumps(_as_json(found, standing, seconds)))
    else:
        _show(found, standing, seconds)
    if found.total:
        raise SystemExit(1)


class Pending:
    """What Kafka said, when it was asked."""

    def __init__(self) -> None:
        self.records: int | None = None
        self.problem: str | None = None


async def _verified(
    settings: Settings, now: datetime, since: datetime | None, *, with_kafka: bool
) -> tuple[Verification, Pending]:
    pending = Pending()

    async def read_ledger() -> Mapping[tuple[str, int], LedgerEntry]:
        try:
            standings = await read_standings(settings.kafka, settings.worker.group, _TOPICS)
        except TopicError as error:
            pending.problem = str(error)
            return {}
        pending.records = sum(
            max(0, at.end - (at.entry.offset if at.entry else at.start))
            for at in standings.values()
        )
        return {
            (place.topic, place.partition): LedgerEntry(entry.epoch, entry.offset, entry.intended)
            for place, at in standings.items()
            if (entry := at.entry) is not None
        }

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=1.0)
        found = await look_at_everything(
            settings.clickhouse,
            now=now,
            since=since,
            unit_sums=settings.worker.unit_sums,
            read_ledger=read_ledger if with_kafka else None,
            progress=lambda table, done: bar.update(task, description=table, completed=done),
        )
    return found, pending


def _as_json(found: Verification, pending: Pending, seconds: float) -> object:
    return {
        "equal": not found.total,
        "differences": [difference._asdict() for difference in found.differences],
        "total": found.total,
        "checked": dict(found.checked),
        "moving": found.moving,
        "in_flight": found.in_flight,
        "pending": pending.records,
        "kafka_problem": pending.problem,
        "seconds": round(seconds, 3),
    }


def _show(found: Verification, pending: Pending, seconds: float) -> None:
    for difference in found.differences:
        print(printable(str(difference)))
    if found.total > len(found.differences):
        print(f"... and {found.total - len(found.differences):,} more")
    checked = ", ".join(f"{table} {rows:,}" for table, rows in found.checked.items())
    said = f"{found.total:,} differences" if found.total else "no differences"
    print(f"{said} in {seconds:.1f} s. Looked at: {checked}")
    if found.in_flight or found.moving:
        print(
            f"under way meanwhile: {found.in_flight:,} rows of batches that are not finished; "
            f"{found.moving:,} sums were held to bounds, since they moved"
        )
    if pending.problem is not None:
        sys.stderr.write(f"anabranch: not compared with the ledger: {pending.problem}\n")
    elif pending.records is not None:
        print(f"waiting in Kafka: {pending.records:,} records")
