"""`anabranch dead drop`: say of dead letters that nobody wants them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service.commands.dead.marking import chosen, confirm, counted, has_mark, wanted, whoever
from service.commands.dead.selecting import Filters, dead_letters
from service.settings import DEFAULT_STATE, load_settings
from sinks.dead_letters import DeadLetter


def drop(
    *letters: Annotated[str, Parameter(help="TOPIC/PARTITION/OFFSET of each; or use filters.")],
    filters: Filters = Filters(),  # noqa: B008  # frozen
    limit: Annotated[int | None, Parameter(help="So many at most, the first in Kafka.")] = None,
    note: Annotated[str, Parameter(help="Why; it is kept.")] = "",
    by: Annotated[str | None, Parameter(help="Who; the user's name when absent.")] = None,
    dry_run: Annotated[bool, Parameter(negative=(), help="Say what would be done.")] = False,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
    json_: Annotated[bool, Parameter("--json", help="Print JSON.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Mark dead letters as not wanted. They stay where they are, and `list` leaves them out.

    A dropped letter can still be replayed by its name.
    """
    which = wanted(letters, filters, limit)
    settings = load_settings(state=state)

    async def run() -> list[DeadLetter]:
        async with dead_letters(settings.clickhouse) as table:
            found = (await chosen(table, which, limit)).letters
            to_drop = [letter for letter in found if not has_mark(letter, "dropped")]
            if to_drop and not dry_run:
                if not yes:
                    confirm(f"Drop {counted(len(to_drop))}?")
                await table.mark(
                    "dropped",
                    [(letter, None) for letter in to_drop],
                    by=whoever(by),
                    note=note,
                    at=datetime.now(UTC),
                )
            return to_drop

    dropped = asyncio.run(run())
    if json_:
        names = [str(letter.place) for letter in dropped]
        print(json.dumps({"dry_run": dry_run, "dropped": names}))
        return
    for letter in dropped if dry_run else ():
        print(f"{letter.place} {letter.reason}")
    print(f"{'would drop' if dry_run else 'dropped'} {counted(len(dropped))}")
