"""`anabranch dead replay`: put dead letters into their topics again, as they were."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from anabranch.registry import Registry, RegistryError
from service.commands.dead.marking import chosen, confirm, counted, wanted, whoever
from service.commands.dead.printing import console, line
from service.commands.dead.selecting import Filters, dead_letters
from service.errors import CommandError
from service.settings import DEFAULT_STATE, Settings, load_settings
from sinks.dead_letters import Body, DeadLetter, DeadLetters
from streams.reinsertion import Returned, reinsertion
from streams.replay_headers import Origin
from streams.topic_admin import TopicError

_SHOWN = 50
# What is held at a time.
_PART_LETTERS, _PART_BYTES = 100, 16 << 20


@dataclass(slots=True)
class _Outcome:
    stored_before: list[DeadLetter]
    verdicts: list[tuple[DeadLetter, str | None]] = field(default_factory=list)
    """Of each: why it would die again, or None."""
    replayed: list[tuple[DeadLetter, int]] = field(default_factory=list)
    failed: list[tuple[DeadLetter, str]] = field(default_factory=list)
    left: int = 0
    """Not tried, since Kafka took nothing any more."""


def replay(
    *letters: Annotated[str, Parameter(help="TOPIC/PARTITION/OFFSET of each; or use filters.")],
    filters: Filters = Filters(),  # noqa: B008  # frozen
    limit: Annotated[int | None, Parameter(help="So many at most, the first in Kafka.")] = None,
    only_good: Annotated[
        bool, Parameter(negative=(), help="Leave out those that would die again.")
    ] = False,
    note: Annotated[str, Parameter(help="Why; it is kept.")] = "",
    by: Annotated[str | None, Parameter(help="Who; the user's name when absent.")] = None,
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Say what would be done, and what would die again.")
    ] = False,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
    json_: Annotated[bool, Parameter("--json", help="Print JSON.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Put dead letters into their topics again: the same bytes, into the same partition.

    However often one is replayed, by whomever, its event is stored once. One that dies again is a
    dead letter of its own. Without names or filters, all that were neither replayed nor dropped.
    """
    which = wanted(letters, filters, limit)
    settings = load_settings(state=state)

    async def run() -> _Outcome:
        async with dead_letters(settings.clickhouse) as table:
            found, stored = await chosen(table, which, limit)
            outcome = _Outcome(stored)
            if dry_run or only_good:
                outcome.verdicts = await _tried(settings, table, found)
                if only_good:
                    found = [letter for letter, problem in outcome.verdicts if problem is None]
            if found and not dry_run:
                if not yes:
                    confirm(f"Replay {counted(len(found))}?")
                await _replay(settings, table, found, outcome, by=whoever(by), note=note)
            return outcome

    try:
        outcome = asyncio.run(run())
    except TopicError as error:
        raise CommandError(f"nothing was replayed: {error}") from error
    except RegistryError as error:
        raise CommandError(f"nobody can say what would die again: {error}") from error
    if json_:
        print(json.dumps(_as_json(outcome, dry_run=dry_run)))
    else:
        _print(outcome, dry_run=dry_run, only_good=only_good)
    if outcome.failed:
        left = f", {outcome.left:,} not tried" if outcome.left else ""
        raise CommandError(
            f"{counted(len(outcome.failed))} not replayed{left}: {outcome.failed[-1][1]}"
        )


async def _tried(
    settings: Settings, table: DeadLetters, found: Sequence[DeadLetter]
) -> list[tuple[DeadLetter, str | None]]:
    # Here, since the worker's decoding takes long to import.
    from streams.trial import Trial

    trial = Trial(Registry(settings.registry).schema)
    verdicts: list[tuple[DeadLetter, str | None]] = []
    for topic in dict.fromkeys(letter.place.topic for letter in found):
        for some in _parts([letter for letter in found if letter.place.topic == topic]):
            records = [(body.key, body.value) for body in await table.bodies(some)]
            now_ms = int(time.time() * 1000)
            problems = await asyncio.to_thread(trial.problems, topic, records, now_ms)
            verdicts += zip(some, problems, strict=True)
    return verdicts


async def _replay(
    settings: Settings,
    table: DeadLetters,
    found: Sequence[DeadLetter],
    outcome: _Outcome,
    *,
    by: str,
    note: str,
) -> None:
    tried = 0
    async with reinsertion(settings.kafka) as topics:
        for some in _parts(found):
            bodies = await table.bodies(some)
            answers = await topics.put(
                [_returned(*pair) for pair in zip(some, bodies, strict=True)]
            )
            pairs = list(zip(some, answers, strict=True))
            replayed = [(letter, at) for letter, at in pairs if isinstance(at, int)]
            # A crash before this line leaves letters without their marks: whoever replays them
            # again does no harm.
            await table.mark("replayed", replayed, by=by, note=note, at=datetime.now(UTC))
            outcome.replayed += replayed
            outcome.failed += [(letter, why) for letter, why in pairs if isinstance(why, str)]
            tried += len(some)
            if not replayed:
                break
    outcome.left = len(found) - tried


def _returned(letter: DeadLetter, body: Body) -> Returned:
    topic, partition, offset = letter.place
    return Returned(Origin(topic, partition, letter.epoch, offset), *body)


def _parts(letters: Sequence[DeadLetter]) -> Iterator[Sequence[DeadLetter]]:
    part: list[DeadLetter] = []
    for letter in letters:
        part.append(letter)
        size = sum(one.value_bytes or 0 for one in part)
        if len(part) >= _PART_LETTERS or size >= _PART_BYTES:
            yield part
            part = []
    if part:
        yield part


def _as_json(outcome: _Outcome, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "stored_before": [str(letter.place) for letter in outcome.stored_before],
        "verdicts": [
            {"id": str(letter.place), "good": problem is None, "problem": problem}
            for letter, problem in outcome.verdicts
        ],
        "replayed": [{"id": str(letter.place), "at_offset": at} for letter, at in outcome.replayed],
        "failed": [{"id": str(letter.place), "problem": why} for letter, why in outcome.failed],
        "left": outcome.left,
    }


def _print(outcome: _Outcome, *, dry_run: bool, only_good: bool) -> None:
    out = console()
    for letter, problem in outcome.verdicts[:_SHOWN]:
        verdict = "would be stored" if problem is None else f"would die again, {problem}"
        out.print(line(f"{letter.place} {verdict}"))
    if (more := len(outcome.verdicts) - _SHOWN) > 0:
        out.print(f"and {more:,} more; --json has them all")
    for letter, why in outcome.failed[:_SHOWN]:
        out.print(line(f"{letter.place} not replayed: {why}"))
    if outcome.stored_before:
        out.print(f"{counted(len(outcome.stored_before))} left out: stored by an earlier replay")
    good = sum(problem is None for _, problem in outcome.verdicts)
    bad = len(outcome.verdicts) - good
    if dry_run:
        would = good if only_good else good + bad
        dying = f", {bad:,} would die again" if bad else ""
        left_out = " and be left out" if bad and only_good else ""
        out.print(f"would replay {counted(would)}{dying}{left_out}")
    else:
        out.print(f"replayed {counted(len(outcome.replayed))}; workers store each event once")
