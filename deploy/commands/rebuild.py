"""`anabranch rebuild`: make every table anew from the log, while the workers go on."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from deploy.commands.rebuild_progress import Shown, progress
from service.commands.tail import moment
from service.errors import CommandError
from service.logs import configure_logs
from service.settings import DEFAULT_STATE, Settings, load_settings
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.migrate import MigrationError
from sinks.writer import SinkRejected
from streams.memory import give_memory_back
from streams.rebuild.claim import SILENT_SECONDS, may_run
from streams.rebuild.fresh import RebuildError, Said, State
from streams.rebuild.planning import Planned
from streams.rebuild.running import Rebuild
from streams.topic_admin import TopicError

# Parts of both databases are merged meanwhile, for which there has to be room, too.
_ROOM = 1.2


def rebuild(
    *,
    from_: Annotated[
        str | None,
        Parameter(
            "--from",
            help="EARLIEST, or a time: 2h, 7d ago, 2026-01-31T12:00:00Z. Records of that time and "
            "later are read again from Kafka, older rows are carried over.",
        ),
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Say what would happen, and change nothing.")] = False,
    yes: Annotated[bool, Parameter(help="Do not ask.")] = False,
    restart: Annotated[
        bool, Parameter(help="Drop first what an earlier rebuild has left behind.")
    ] = False,
    continue_: Annotated[
        bool, Parameter("--continue", help="Finish a swap that was cut short.")
    ] = False,
    drop_old: Annotated[bool, Parameter(help="Drop the old tables at the end.")] = False,
    clean: Annotated[
        bool, Parameter(help="Only drop what an earlier rebuild has left behind.")
    ] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Replay the log into fresh tables beside the live ones, and swap them.

    Workers go on meanwhile. What Kafka has deleted already is carried over from the live tables,
    and its sums are made anew. The old tables stay in the database <name>_rebuild until --clean.
    """
    given = [from_ is not None, continue_, clean]
    if sum(given) != 1:
        raise CommandError("give one of --from EARLIEST, --from TIME, --continue and --clean")
    settings = load_settings(state=state)
    configure_logs(settings.model_copy(update={"log_level": "warning"}))
    give_memory_back()
    # aiokafka repeats itself while Kafka is away.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    command = _Command(settings, ask=not yes, drop_old=drop_old)
    if clean:
        _run(command.clean())
    elif continue_:
        _run(command.go_on())
    else:
        assert from_ is not None
        since = None if from_.upper() == "EARLIEST" else moment(from_, datetime.now(UTC))
        _run(command.rebuild(since, dry_run=dry_run, restart=restart))


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except (
        RebuildError,
        MigrationError,
        TopicError,
        SinkRejected,
        ClickHouseUnavailable,
        ClickHouseRefused,
    ) as error:
        raise CommandError(str(error)) from error


class _Command:
    def __init__(self, settings: Settings, *, ask: bool, drop_old: bool) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._settings = settings
        self._ask = ask
        self._drop_old = drop_old

    async def rebuild(self, since: datetime | None, *, dry_run: bool, restart: bool) -> None:
        with progress(self._console) as shown:
            work = self._rebuild(shown)
            try:
                said = await work.said()
                if not dry_run:
                    self._refuse(said, work, restart=restart)
                planned = await work.plan(since)
                self._tell(planned, work)
                if dry_run:
                    return
                refuse_too_little_room(planned)
                self._confirm(f"Rebuild {self._settings.clickhouse.database}?")
                if said.state is not State.ABSENT:
                    await work.drop()
                await self._through(work, work.run(planned))
            finally:
                await work.close()

    async def go_on(self) -> None:
        with progress(self._console) as shown:
            work = self._rebuild(shown)
            try:
                said = await work.said()
                if said.state is not State.SWAPPING:
                    raise CommandError(f"no swap was cut short: {_state(said, work)}")
                refuse_a_second(said)
                await self._through(work, work.go_on(said))
            finally:
                await work.close()

    async def clean(self) -> None:
        with progress(self._console) as shown:
            work = self._rebuild(shown)
            try:
                said = await work.said()
                if said.state is State.ABSENT:
                    self._console.print(f"nothing to do: {_state(said, work)}")
                    return
                self._refuse(said, work, restart=True)
                self._confirm(f"{_state(said, work)}. Drop it?")
                await work.drop()
                self._console.print(f"dropped {work.fresh.name}")
            finally:
                await work.close()

    def _rebuild(self, shown: Shown) -> Rebuild:
        own = self._settings
        return Rebuild(own.worker, own.kafka, own.clickhouse, own.registry, shown)

    async def _through(self, work: Rebuild, running: Coroutine[Any, Any, None]) -> None:
        try:
            await running
        except (asyncio.CancelledError, Exception):
            with_state = await _state_now(work)
            sys.stderr.write(f"anabranch: the rebuild did not end well: {with_state}\n")
            raise
        if self._drop_old:
            await work.drop()
            self._console.print("done; the old tables are dropped")
        else:
            self._console.print(
                f"done; the old tables are in {work.fresh.name}: look at the new ones, then "
                "`anabranch rebuild --clean`"
            )

    def _refuse(self, said: Said, work: Rebuild, *, restart: bool) -> None:
        if said.state is State.SWAPPING:
            raise CommandError(_state(said, work))
        refuse_a_second(said)
        if said.state is not State.ABSENT and not restart:
            raise CommandError(f"{_state(said, work)}; --restart drops it first")

    def _tell(self, planned: Planned, work: Rebuild) -> None:
        say = self._console.print
        for place, share in planned.shares.items():
            span = share.span
            older = f", epochs before it: {', '.join(span.older)}" if span.older else ""
            replayed = (
                f"{share.replayed:,} records from {span.start} to {share.last}"
                if share.last >= span.start
                else "nothing"
            )
            say(f"{place.topic}/{place.partition}: replays {replayed} (epoch {span.epoch}{older})")
        for table, rows in planned.carried.items():
            if rows:
                say(f"{table}: carries over {rows:,} rows, and makes their sums anew")
        for notice in planned.notices:
            say(f"[yellow]{notice}[/]")
        needed, free = planned.room
        say(
            f"in all {planned.replayed:,} records and {sum(planned.carried.values()):,} rows, "
            f"about {planned.seconds + 5:,.0f} s and {needed / 1e6:,.0f} MB in {work.fresh.name}, "
            f"{free / 1e6:,.0f} MB are free"
        )

    def _confirm(self, question: str) -> None:
        if not self._ask:
            return
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to ask: --yes goes on without a question")
        if self._console.input(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
            raise CommandError("nothing was changed")


def refuse_a_second(said: Said) -> None:
    if may_run(said):
        raise CommandError(
            f"a rebuild seems to be running ({said.by}): its last sign of life is "
            f"{said.silent_seconds:.0f} s old. Stop it; one that ran on another "
            f"host counts as ended when it was silent for {SILENT_SECONDS:.0f} s"
        )


def refuse_too_little_room(planned: Planned) -> None:
    needed, free = planned.room
    if needed * _ROOM > free:
        raise CommandError(
            f"the fresh tables need about {needed * _ROOM / 1e6:,.0f} MB beside the live ones, "
            f"and ClickHouse has {free / 1e6:,.0f} MB: make room first"
        )


async def _state_now(work: Rebuild) -> str:
    try:
        return _state(await work.said(), work)
    except (RebuildError, ClickHouseUnavailable, ClickHouseRefused) as error:
        return f"and in what state it is cannot be said now: {error}"


def _state(said: Said, work: Rebuild) -> str:
    name = work.fresh.name
    match said.state:
        case State.ABSENT:
            return f"there is no {name}"
        case State.UNFINISHED:
            return f"{name} holds an unfinished rebuild; the live tables are untouched"
        case State.SWAPPING:
            return (
                f"a swap was cut short: live and old tables lie in {work.fresh.live.database} and "
                f"{name}; drop neither, and run `anabranch rebuild --continue`"
            )
        case State.DONE:
            return f"{name} holds the old tables of an earlier rebuild, which went well"
