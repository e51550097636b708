"""`anabranch dead list`: how many dead letters there are, of which kinds, and the youngest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from service.commands.dead.printing import as_json, console, line, shortened, table, time_of
from service.commands.dead.selecting import Filters, check_limit, dead_letters, selection
from service.settings import DEFAULT_STATE, load_settings
from sinks.dead_letters import Count, DeadLetter

_DETAIL_LENGTH = 120


def list_(
    *,
    filters: Filters = Filters(),  # noqa: B008  # frozen
    limit: Annotated[int, Parameter(help="Show so many, the youngest.")] = 20,
    json_: Annotated[bool, Parameter("--json", help="Print JSON.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Count dead letters by topic and reason, and show the youngest.

    Those that were replayed or dropped are left out; --all shows them with their marks.
    """
    wanted = selection(filters)
    check_limit(limit)
    settings = load_settings(state=state)

    async def read() -> tuple[list[Count], list[DeadLetter]]:
        async with dead_letters(settings.clickhouse) as letters:
            return await letters.counts(wanted), await letters.youngest(wanted, limit)

    counts, letters = asyncio.run(read())
    if json_:
        print(json.dumps(_as_json(counts, letters)))
    else:
        _print(counts, letters)


def _as_json(counts: Sequence[Count], letters: Sequence[DeadLetter]) -> dict[str, Any]:
    return {
        "total": sum(count.letters for count in counts),
        "counts": [
            {
                **count._asdict(),
                "oldest": time_of(count.oldest),
                "youngest": time_of(count.youngest),
            }
            for count in counts
        ],
        "letters": [as_json(letter) for letter in letters],
    }


def _print(counts: Sequence[Count], letters: Sequence[DeadLetter]) -> None:
    out = console()
    if not counts:
        out.print("no dead letters")
        return
    kinds = table("topic", "reason", "letters", "oldest", "youngest")
    for count in counts:
        times = (time_of(count.oldest), time_of(count.youngest))
        kinds.add_row(*map(line, (count.topic, count.reason, f"{count.letters:,}", *times)))
    out.print(kinds)
    out.print()
    shown = table("died at", "dead letter", "reason", "detail", "marks")
    for letter in letters:
        marks = ", ".join(dict.fromkeys(mark.mark for mark in letter.marks))
        detail = shortened(letter.detail, _DETAIL_LENGTH)
        cells = (time_of(letter.died_at), str(letter.place), letter.reason, detail, marks)
        shown.add_row(*map(line, cells))
    out.print(shown)
    if more := sum(count.letters for count in counts) - len(letters):
        out.print(f"and {more:,} more; --limit shows more of them")
