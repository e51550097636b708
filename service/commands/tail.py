"""`anabranch tail TOPIC`: decoded events as they come."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.text import Text

from anabranch.registry import Registry
from service.errors import CommandError
from service.settings import DEFAULT_STATE, load_settings
from streams.decoding import Decoder
from streams.tail import Tail, TailedRecord, limited
from streams.topic_admin import TopicError

_HEX_BYTES = 32
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def tail(
    topic: Annotated[str, Parameter(help="The topic; `anabranch topics` lists them.")],
    *,
    from_beginning: Annotated[bool, Parameter(help="Begin with the oldest record.")] = False,
    since: Annotated[
        str | None, Parameter(help="Begin there: 10m, 2h, 1d ago, or 2026-01-31T12:00:00Z.")
    ] = None,
    count: Annotated[int | None, Parameter(help="End after so many records.")] = None,
    json_: Annotated[bool, Parameter("--json", help="JSON lines, as when piped.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Show a topic's events as they come, until Ctrl-C. Dead-letter topics show their headers.

    While Kafka is away it goes on trying, and says so.
    """
    if from_beginning and since is not None:
        raise CommandError("--from-beginning and --since exclude each other: give one")
    if count is not None and count < 1:
        raise CommandError(f"--count is {count}; it must be 1 or more")
    start: datetime | Literal["beginning", "end"] = "beginning" if from_beginning else "end"
    if since is not None:
        start = moment(since, datetime.now(UTC))
    settings = load_settings(state=state)
    # aiokafka repeats itself while Kafka is away; the notice below says it once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    show = _json_printer() if json_ or not sys.stdout.isatty() else _terminal_printer()

    async def run() -> None:
        source = Tail(settings.kafka, Decoder(Registry(settings.registry)), _notice)
        async for record in limited(source.records(topic, start), count):
            show(record)

    try:
        asyncio.run(run())
    except TopicError as error:
        raise CommandError(str(error)) from error


def moment(since: str, now: datetime) -> datetime:
    """`10m` before `now`, or a time with a timezone."""
    if since[:-1].isdecimal() and since[-1] in _UNITS:
        try:
            return now - timedelta(**{_UNITS[since[-1]]: int(since[:-1])})
        except OverflowError as error:
            raise CommandError(f"--since {since} lies before all time") from error
    try:
        at = TypeAdapter(datetime).validate_strings(since)
    except ValidationError as error:
        raise CommandError(
            f"--since {since!r} is neither 30s, 10m, 2h, 1d nor a time like 2026-01-31T12:00:00Z"
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def as_json(record: TailedRecord) -> str:
    """One line of ASCII: nothing in an event can write to a terminal or break a line."""
    line: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": _time(record.timestamp_ms),
        "key": None if record.key is None else _readable(record.key),
    }
    if record.headers:
        line["headers"] = {name: _readable(value) for name, value in record.headers}
    if record.problem is None:
        line["event"] = record.event
    else:
        line |= {"problem": record.problem, "hex": _hex(record.payload)}
    return json.dumps(line)


def as_text(record: TailedRecord) -> Text:
    line = Text(overflow="ignore", no_wrap=True)
    line.append(_time(record.timestamp_ms)[11:23], style="dim")
    line.append(f" {record.partition}/{record.offset} ", style="cyan")
    line.append("no key" if record.key is None else printable(_readable(record.key)), style="green")
    for name, value in record.headers:
        line.append(f" {printable(name)}=", style="dim")
        line.append(printable(_readable(value)), style="yellow")
    if record.problem is not None:
        line.append(f" {printable(record.problem)}", style="red")
        line.append(f" {_hex(record.payload)}", style="dim")
    elif record.event is None:
        line.append(" tombstone", style="magenta")
    else:
        line.append(" " + printable(json.dumps(record.event, ensure_ascii=False)))
    return line


def printable(text: str) -> str:
    """With escapes for what a terminal would obey or hide: controls, direction marks, the like."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _readable(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _hex(payload: bytes | None) -> str:
    payload = payload or b""
    return payload[:_HEX_BYTES].hex() + ("..." if len(payload) > _HEX_BYTES else "")


def _time(timestamp_ms: int) -> str:
    # Plain addition: fromtimestamp refuses times that a broken producer can well have sent.
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return f"{timestamp_ms} ms since 1970"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_printer() -> Any:
    return lambda record: print(as_json(record), flush=True)


def _terminal_printer() -> Any:
    console = Console(highlight=False)
    return lambda record: console.print(as_text(record), soft_wrap=True)


def _notice(text: str) -> None:
    sys.stderr.write(f"anabranch: {text}\n")
    sys.stderr.flush()
