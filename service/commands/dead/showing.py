"""`anabranch dead show`: everything there is about one dead letter."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from anabranch.registry import Registry
from service.commands.dead.printing import (
    as_json,
    body_as_json,
    console,
    hex_lines,
    line,
    readable,
    shortened,
    time_of,
)
from service.commands.dead.selecting import (
    Filters,
    check_found,
    dead_letters,
    place,
    selection,
)
from service.errors import CommandError
from service.settings import DEFAULT_STATE, load_settings
from sinks.dead_letters import Body, DeadLetter
from streams.decoding import Decoder, UndecodableError

_MOST_BYTES = 4_096
_HEADER_LENGTH = 200
_LONGEST_ROW = 2_000


def show(
    *letter: Annotated[
        str, Parameter(help="TOPIC/PARTITION/OFFSET, or the three with spaces between them.")
    ],
    json_: Annotated[bool, Parameter("--json", help="Print JSON, with all bytes.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Show one dead letter: why it died, where, its headers, the event or its bytes, its marks."""
    if len(letter) not in {1, 3}:
        raise CommandError("name one dead letter: TOPIC/PARTITION/OFFSET, as `dead list` shows it")
    wanted = place("/".join(letter))
    settings = load_settings(state=state)

    async def read() -> list[tuple[DeadLetter, Body]]:
        async with dead_letters(settings.clickhouse) as letters:
            found = await letters.in_order(selection(Filters(), [wanted]))
            check_found([wanted], found)
            return list(zip(found, await letters.bodies(found), strict=True))

    decoder = Decoder(Registry(settings.registry))
    out = console()
    for number, (found, body) in enumerate(asyncio.run(read())):
        event, problem = _decoded(decoder, body)
        if json_:
            said = {**as_json(found), **body_as_json(body), "event": event, "problem": problem}
            print(json.dumps(said))
        else:
            if number:
                out.print()  # a topic made anew has each place once more
            _print(out, found, body, event, problem)


def _decoded(decoder: Decoder, body: Body) -> tuple[dict[str, Any] | None, str | None]:
    try:
        return decoder.decode(body.value), None
    except UndecodableError as error:
        return None, str(error)


def _print(
    out: Console,
    letter: DeadLetter,
    body: Body,
    event: dict[str, Any] | None,
    problem: str | None,
) -> None:
    out.print(line(f"{letter.place}  {letter.reason}", "bold"))
    out.print(line(letter.detail, "red"))
    out.print()
    schema = "none" if letter.schema_id is None else str(letter.schema_id)
    for name, text in (
        ("in Kafka", f"{time_of(letter.timestamp)}, epoch {letter.epoch}"),
        ("died", f"{time_of(letter.died_at)}, {letter.worker}, release {letter.worker_version}"),
        ("schema", schema),
        ("key", readable(body.key)),
        *((f"header {name}", readable(value)) for name, value in body.headers),
        *(
            (
                mark.mark,
                _mark_text(time_of(mark.marked_at), mark.at_offset, mark.marked_by, mark.note),
            )
            for mark in letter.marks
        ),
    ):
        out.print(line(f"{name}: {shortened(text, _HEADER_LENGTH)}"))
    out.print()
    if event is not None:
        for row in json.dumps(event, indent=2, ensure_ascii=False).splitlines():
            out.print(line(shortened(row, _LONGEST_ROW)))
    elif body.value is None:
        out.print(line("a tombstone: there is no value"))
    else:
        if problem is not None:
            out.print(line(f"{len(body.value):,} bytes; {problem}", "red"))
        for row in hex_lines(body.value, _MOST_BYTES):
            out.print(line(row))


def _mark_text(at: str, offset: int | None, by: str, note: str) -> str:
    where = "" if offset is None else f", at offset {offset}"
    why = f": {note}" if note else ""
    return f"{at}, by {by}{where}{why}"
