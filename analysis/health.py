"""May the numbers of an experiment be believed, and what should somebody do about it?

Each finding says in a plain sentence what was seen and what to do. A *bad* one forbids any
decision, but for a breached guardrail, which is itself a reason to decide.
What is found from arrivals (the sample ratio) is in health_arrivals.py, from effects (novelty,
power, guardrails) in health_effects.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    BAD = "bad"


class Name(StrEnum):
    SAMPLE_RATIO = "sample_ratio"
    WEIGHTS = "weights"
    MULTIPLE_EXPOSURES = "multiple_exposures"
    LATE_EVENTS = "late_events"
    DEAD_LETTERS = "dead_letters"
    FRESHNESS = "freshness"
    NOVELTY = "novelty"
    UNDERPOWERED = "underpowered"
    GUARDRAIL = "guardrail"


Figure = str | int | float | None


@dataclass(frozen=True, slots=True)
class Finding:
    name: Name
    verdict: Verdict
    sentence: str
    what_to_do: str = ""
    """Empty where nothing needs to be done."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """What the sentence says, for programs; never infinite, null where there is no number."""

    @property
    def forbids_decision(self) -> bool:
        return self.verdict is Verdict.BAD and self.name is not Name.GUARDRAIL


@dataclass(frozen=True, slots=True)
class Health:
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        found = {finding.verdict for finding in self.findings}
        return next((one for one in (Verdict.BAD, Verdict.WARNING) if one in found), Verdict.OK)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing may be decided, for `analysis.decision.Situation`."""
        return tuple(finding.sentence for finding in self.findings if finding.forbids_decision)

    def of(self, name: Name) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.name is name)

    def __add__(self, other: Sequence[Finding]) -> Health:
        return Health((*self.findings, *other))


FEW, MANY = 0.001, 0.01
"""Shares above which what is wrong with single events or units is a warning, or bad."""

SLOW_SECONDS, STALE_SECONDS = 60.0, 900.0


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Of the topics that an experiment is measured by, given up in the period of the report."""

    of_experiment: int
    """Exposures of this experiment by what can still be read of them. Where there are very many,
    this and the other numbers of its events are estimated from a sample."""
    unreadable: int
    """Nobody can tell whether they belong to it."""
    turns: int = 0
    """Of units of this experiment; so are invites."""
    invites: int = 0
    turns_stored: int = 0

    @property
    def total(self) -> int:
        return self.of_experiment + self.unreadable + self.turns + self.invites


def multiple_exposures(units: int, in_several: int) -> Finding:
    """`units` are all that were exposed, those in several variations among them."""
    share = in_several / units if units else 0.0
    figures = {"units": units, "in_several": in_several, "share": share}
    if not in_several:
        sentence = "No unit was seen in more than one variation."
        return Finding(Name.MULTIPLE_EXPOSURES, Verdict.OK, sentence, figures=figures)
    # One unit of a small experiment is a large share of it, and still one unit.
    verdict = _by_share(share if in_several > 1 else 0.0)
    sentence = (
        f"{_count(in_several, 'unit was', 'units were')} seen in more than one variation: "
        f"{_percent(share)} of {units:,}."
    )
    what_to_do = (
        ""
        if verdict is Verdict.OK
        else "Look for services that assign with another seed, unit or definition than the rest, "
        "and for weights changed by hand; these units are left out unless the report is told to "
        "keep them."
    )
    return Finding(Name.MULTIPLE_EXPOSURES, verdict, sentence, what_to_do, figures)


def late_events(late: int, events: int) -> Finding:
    """`late` of `events` of the period came after their minute had been closed."""
    share = min(1.0, late / events) if events else float(late > 0)
    figures = {"late": late, "events": events, "share": share}
    if not late:
        sentence = "No event came after its minute had been closed."
        return Finding(Name.LATE_EVENTS, Verdict.OK, sentence, figures=figures)
    sentence = (
        f"{_count(late, 'event', 'events')} came after their minute had been closed "
        f"({_percent(share)} of the period's); they count, so earlier reports said something else."
    )
    if share < MANY:
        return Finding(Name.LATE_EVENTS, Verdict.OK, sentence, figures=figures)
    what_to_do = (
        "Read the result again later, and find out which service sends late: the table "
        "`restatements` says which minutes were changed, and when."
    )
    return Finding(Name.LATE_EVENTS, Verdict.WARNING, sentence, what_to_do, figures)


def dead_letters(dead: DeadLetters, exposures: int) -> Finding:
    """`exposures` is how many of the experiment were stored in the period."""
    share = dead.of_experiment / (dead.of_experiment + exposures) if dead.of_experiment else 0.0
    of_turns = dead.turns / (dead.turns + dead.turns_stored) if dead.turns else 0.0
    figures = {
        "of_experiment": dead.of_experiment,
        "unreadable": dead.unreadable,
        "share": share,
        "turns": dead.turns,
        "share_of_turns": of_turns,
        "invites": dead.invites,
    }
    if not dead.total:
        sentence = "No event that could belong to the experiment was given up."
        return Finding(Name.DEAD_LETTERS, Verdict.OK, sentence, figures=figures)
    sentences = []
    if dead.of_experiment:
        counted = _count(dead.of_experiment, "exposure", "exposures")
        sentences.append(f"{counted} of the experiment could not be stored ({_percent(share)}).")
    if dead.turns:
        counted = _count(dead.turns, "turn", "turns")
        sentences.append(f"{counted} of its units could not be stored ({_percent(of_turns)}).")
    if dead.invites:
        counted = _count(dead.invites, "invite", "invites")
        sentences.append(f"{counted} of its units could not be stored.")
    if dead.unreadable:
        counted = _count(dead.unreadable, "event", "events")
        sentences.append(f"{counted} could not be read at all and may possibly belong to it.")
    verdict = Verdict.BAD if max(share, of_turns) >= MANY else Verdict.WARNING
    what_to_do = (
        "`anabranch dead list` says what is wrong with them; once the cause is mended, "
        "`anabranch dead replay` brings back those that can be stored."
    )
    return Finding(Name.DEAD_LETTERS, verdict, " ".join(sentences), what_to_do, figures)


def freshness(lag_seconds: float | None, pending: int | None = None) -> Finding:
    """`pending` are offsets in Kafka that are not applied; None where it does not say."""
    figures = {"lag_seconds": lag_seconds, "pending": pending}
    if lag_seconds is None and pending is not None:
        return Finding(
            Name.FRESHNESS,
            Verdict.WARNING,
            f"{_count(pending, 'event waits', 'events wait')} to be applied; it is not known for "
            "how long.",
            "Look again in a minute; `anabranch status` shows whether the workers run.",
            figures,
        )
    if lag_seconds is None:
        return Finding(
            Name.FRESHNESS,
            Verdict.WARNING,
            "It is not known how fresh the numbers are: Kafka does not say what it holds.",
            "See whether Kafka answers (/readyz).",
            figures,
        )
    if lag_seconds <= SLOW_SECONDS:
        sentence = f"The numbers are {lag_seconds:.1f} s behind what Kafka holds."
        return Finding(Name.FRESHNESS, Verdict.OK, sentence, figures=figures)
    verdict = Verdict.BAD if lag_seconds > STALE_SECONDS else Verdict.WARNING
    return Finding(
        Name.FRESHNESS,
        verdict,
        f"The numbers are {_duration(lag_seconds)} behind what Kafka holds.",
        "Wait until the workers have caught up; `anabranch status` shows whether they run, and "
        "docs/scaling.md says how many it takes.",
        figures,
    )


def _by_share(share: float) -> Verdict:
    if share >= MANY:
        return Verdict.BAD
    return Verdict.WARNING if share >= FEW else Verdict.OK


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 or not share else "under 0.01%"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
