"""Which dead letters a command is about: by what they are, or by where they lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from schemas.topics import TOPICS
from service.commands.tail import moment
from service.errors import CommandError
from sinks.clickhouse import (
    UNKNOWN_DATABASE,
    UNKNOWN_TABLE,
    ClickHouseRefused,
    ClickHouseUnavailable,
    connected,
)
from sinks.dead_letters import DeadLetter, DeadLetters, Place, Selection
from sinks.settings import ClickHouseSettings
from streams.reasons import BadEventReason

_LARGEST_PARTITION, _LARGEST_OFFSET = 2**31 - 1, 2**63 - 1


@Parameter(name="*")
@dataclass(frozen=True)
class Filters:
    topic: Annotated[str | None, Parameter(help="Only those of this topic.")] = None
    reason: Annotated[str | None, Parameter(help="Only those that died of this.")] = None
    since: Annotated[
        str | None, Parameter(help="Died then or later: 10m, 2h, 1d ago, or 2026-01-31T12:00:00Z.")
    ] = None
    until: Annotated[str | None, Parameter(help="Died before then; as --since.")] = None
    partition: Annotated[int | None, Parameter(help="Only those of this partition.")] = None
    offset: Annotated[int | None, Parameter(help="Only those at this offset.")] = None
    all_: Annotated[
        bool, Parameter("--all", negative=(), help="Those replayed or dropped already, too.")
    ] = False


def selection(filters: Filters, places: Sequence[Place] = ()) -> Selection:
    """Letters that are named are meant whatever marks they have."""
    if filters.topic is not None:
        _check(filters.topic, "--topic", (topic.name for topic in TOPICS))
    if filters.reason is not None:
        _check(filters.reason, "--reason", BadEventReason)
    _check_number(filters.partition, "--partition", _LARGEST_PARTITION)
    _check_number(filters.offset, "--offset", _LARGEST_OFFSET)
    now = datetime.now(UTC)
    since = None if filters.since is None else moment(filters.since, now)
    until = None if filters.until is None else _until(filters.until, now)
    if since is not None and until is not None and since >= until:
        raise CommandError(f"--since {filters.since} is not before --until {filters.until}")
    return Selection(
        topic=filters.topic,
        reason=filters.reason,
        since=since,
        until=until,
        partition=filters.partition,
        offset=filters.offset,
        places=tuple(places),
        marked=filters.all_ or bool(places),
    )


def place(text: str) -> Place:
    """`TOPIC/PARTITION/OFFSET`, as `list` shows it."""
    topic, *numbers = text.split("/")
    if len(numbers) != 2:
        raise CommandError(f"{text!r} is not TOPIC/PARTITION/OFFSET, like turn-metrics.v1/0/1234")
    _check(topic, text, (known.name for known in TOPICS))
    partition, offset = (_number(number, text) for number in numbers)
    _check_number(partition, f"the partition in {text}", _LARGEST_PARTITION)
    _check_number(offset, f"the offset in {text}", _LARGEST_OFFSET)
    return Place(topic, partition, offset)


def check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise CommandError(f"--limit is {limit}; it must be 1 or more")


def check_found(places: Iterable[Place], found: Iterable[DeadLetter]) -> None:
    there = {letter.place for letter in found}
    for wanted in places:
        if wanted not in there:
            raise CommandError(f"there is no dead letter {wanted}; `anabranch dead list --all`")


@asynccontextmanager
async def dead_letters(settings: ClickHouseSettings) -> AsyncIterator[DeadLetters]:
    """What stands in ClickHouse's way is told to the person."""
    try:
        async with connected(settings) as client:
            yield DeadLetters(client)
    except ClickHouseRefused as error:
        if error.code in {UNKNOWN_DATABASE, UNKNOWN_TABLE}:
            raise CommandError(
                f"ClickHouse at {settings.url} has no dead letters yet: `anabranch migrate` makes "
                "the tables"
            ) from error
        raise CommandError(str(error)) from error
    except ClickHouseUnavailable as error:
        raise CommandError(str(error)) from error


def _until(text: str, now: datetime) -> datetime:
    try:
        return moment(text, now)
    except CommandError as error:
        raise CommandError(str(error).replace("--since", "--until")) from error


def _check(given: str, where: str, known: Iterable[str]) -> None:
    names = list(known)
    if given not in names:
        raise CommandError(f"{where}: {given!r} is none of {', '.join(names)}")


def _check_number(given: int | None, where: str, largest: int) -> None:
    if given is not None and not 0 <= given <= largest:
        raise CommandError(f"{where} is {given}; it must lie between 0 and {largest}")


def _number(given: str, where: str) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) < 20):
        raise CommandError(f"{where}: {given!r} is no number")
    return int(given)
