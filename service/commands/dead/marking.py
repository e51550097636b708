"""What `replay` and `drop` have in common: which letters, whether it is meant, and by whom."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from typing import NamedTuple

from service.commands.dead.selecting import Filters, check_found, check_limit, place, selection
from service.errors import CommandError
from sinks.dead_letters import DeadLetter, DeadLetters, MarkName, Selection


class Chosen(NamedTuple):
    letters: list[DeadLetter]
    """As they lay in Kafka."""
    stored: list[DeadLetter]
    """Those that a replay has brought back already: nothing is left to do."""


def wanted(names: Sequence[str], filters: Filters, limit: int | None) -> Selection:
    """What was given, once it is found to make sense."""
    check_limit(limit)
    return selection(filters, [place(name) for name in names])


async def chosen(letters: DeadLetters, which: Selection, limit: int | None) -> Chosen:
    found = await letters.in_order(which, limit)
    if limit is None:
        check_found(which.places, found)
    return Chosen(
        [letter for letter in found if not letter.is_applied],
        [letter for letter in found if letter.is_applied],
    )


def confirm(question: str) -> None:
    """Raises CommandError unless a person at the terminal says yes."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("give --yes: there is no terminal to ask at (--dry-run changes nothing)")
    if input(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was done")


def whoever(by: str | None) -> str:
    if by:
        return by
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name in a container
        return "unknown"


def counted(number: int) -> str:
    return "1 dead letter" if number == 1 else f"{number:,} dead letters"


def has_mark(letter: DeadLetter, name: MarkName) -> bool:
    return any(mark.mark == name for mark in letter.marks)
