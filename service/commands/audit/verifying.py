"""`anabranch audit verify`: prove that nobody has changed the audit log, or show where."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service.audit_chain import OPEN, Head
from service.audit_verification import ChainWalk, Vouched, vouched_in
from service.commands.tail import printable
from service.errors import CommandError
from service.settings import DEFAULT_STATE, Settings, load_settings
from sinks.audit_log import AuditLog
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable


def verify(
    *,
    against: Annotated[
        Path | None,
        Parameter(help="What an earlier `--json` has printed: its heads must still be there."),
    ] = None,
    json_: Annotated[bool, Parameter("--json", help="Print JSON, with the chains' heads.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Walk the chains of the audit log: every hash, every link, every head that others have seen.

    The status is 1 where anything is broken, and the first broken entry is named. Keep the output
    of `--json` somewhere else and give it with `--against` the next time: then an end that was cut
    off shows, too, and a log that was made anew as a whole.
    """
    settings = load_settings(state=state)
    kept = [] if against is None else list(_kept_heads(against))
    try:
        walk = asyncio.run(_walked(settings, kept))
    except (ClickHouseUnavailable, ClickHouseRefused) as error:
        raise CommandError(str(error)) from error
    if json_:
        print(json.dumps(_as_json(walk)))
    else:
        _show(walk)
    if walk.total:
        raise SystemExit(1)


async def _walked(settings: Settings, kept: list[Vouched]) -> ChainWalk:
    log = AuditLog(settings.clickhouse)
    try:
        openings = [row.fields for row in await log.of_action(OPEN)]
        walk = ChainWalk((*vouched_in(openings), *kept))
        async for offset, fields in log.everything():
            walk.add(offset, fields)
    finally:
        await log.close()
    walk.finish()
    return walk


def _kept_heads(file: Path) -> Iterator[Vouched]:
    try:
        for chain, head in json.loads(file.read_text())["heads"].items():
            yield Vouched(chain, Head(int(head["sequence"]), str(head["hash"])), str(file))
    except OSError as error:
        raise CommandError(f"--against {file} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CommandError(
            f"--against {file} is not what `anabranch audit verify --json` prints"
        ) from error


def _as_json(walk: ChainWalk) -> object:
    return {
        "intact": not walk.total,
        "entries": walk.entries,
        "repeated": walk.repeated,
        "total": walk.total,
        "breaches": [breach._asdict() for breach in walk.breaches],
        "heads": {chain: head._asdict() for chain, head in walk.heads.items()},
    }


def _show(walk: ChainWalk) -> None:
    for breach in walk.breaches:
        print(printable(str(breach)))
    if walk.total > len(walk.breaches):
        print(f"... and {walk.total - len(walk.breaches):,} more")
    said = f"{walk.total:,} broken" if walk.total else "nothing broken"
    print(f"{said}. Looked at: {walk.entries:,} entries of {len(walk.heads):,} chains")
