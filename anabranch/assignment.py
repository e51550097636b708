"""Which variation does a unit get, with which parameters, and why?

One function for all doors: in process, over HTTP, over Kafka, and behind the SDKs of others. It is
total and deterministic: the same definition, unit, attributes and time give the same answer, and
whatever goes wrong gives the default variation with the reason.

What is decided in which order, the first that applies:

1. not running, or no unit: the default
2. forced: the variation that the allow list names, unlogged
3. language off, not targeted, prerequisite not met, held out, outside the namespace: the default
4. met an earlier phase: the variation of then
5. the bucket of the unit, against the ranges of the variations as far as coverage goes
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anabranch.parameters import Adjustment

if TYPE_CHECKING:
    from anabranch.plans import Plan


class Reason(StrEnum):
    ASSIGNED = "assigned"
    FORCED = "forced"
    EARLIER_PHASE = "earlier_phase"
    PHASE_OPENING = "phase_opening"
    NOT_COVERED = "not_covered"
    NOT_TARGETED = "not_targeted"
    LOCALE_OFF = "locale_off"
    PREREQUISITE = "prerequisite"
    HELD_OUT = "held_out"
    NAMESPACE = "namespace"
    NOT_RUNNING = "not_running"
    NO_UNIT = "no_unit"
    UNKNOWN_EXPERIMENT = "unknown_experiment"
    INVALID_DEFINITION = "invalid_definition"
    DEADLINE = "deadline"
    FAILED = "failed"


_ASSIGNED, _EARLIER_PHASE = Reason.ASSIGNED, Reason.EARLIER_PHASE

_SENTENCES: Final[Mapping[Reason, str]] = {
    Reason.ASSIGNED: "bucket {0} falls to this variation",
    Reason.FORCED: "the allow list names this unit",
    Reason.EARLIER_PHASE: "an earlier phase gave the unit this variation",
    Reason.PHASE_OPENING: "bucket {0} changes hands in an opening phase; try again shortly",
    Reason.NOT_COVERED: "bucket {0} is not covered",
    Reason.NOT_TARGETED: "the unit's attributes do not match the targeting",
    Reason.LOCALE_OFF: "the experiment is off for the locale {0}",
    Reason.PREREQUISITE: "the unit is not in a wanted variation of {0}",
    Reason.HELD_OUT: "the holdout {0} keeps the unit out of experiments",
    Reason.NAMESPACE: "another part of the namespace {0} has the unit",
    Reason.NOT_RUNNING: "the experiment is {0}",
    Reason.NO_UNIT: "there is no {0} to decide by",
    Reason.UNKNOWN_EXPERIMENT: "no experiment has this key",
    Reason.INVALID_DEFINITION: "the definition cannot be used: {0}",
    Reason.DEADLINE: "the answer was not there in time",
    Reason.FAILED: "the decision failed: {0}",
}


class Step(NamedTuple):
    """One question of the trace."""

    question: str
    passed: bool
    found: str


class Assignment(NamedTuple):
    """A tuple by its names alone: one is made for every decision, four times as fast as else."""

    experiment: str
    version: int
    """Of the definition; 0 where there is none."""
    variation: str
    """Empty where not even a default is known."""
    params: Mapping[str, Any]
    reason: Reason
    unit: str
    detail: str | float = ""
    """What the sentence of the reason has to name."""
    adjustments: tuple[Adjustment, ...] = ()
    """Parameters that are not passed on as they were written."""
    trace: tuple[Step, ...] = ()

    @property
    def in_experiment(self) -> bool:
        """Whether the unit counts: its exposure is to be logged."""
        # By identity: the hash of an enum's member, which a set asks for, is written in Python.
        return self.reason is _ASSIGNED or self.reason is _EARLIER_PHASE

    @property
    def rationale(self) -> str:
        found = self.detail
        return _SENTENCES[self.reason].format(f"{found:.4f}" if isinstance(found, float) else found)

    @property
    def exposure_id(self) -> str:
        """The same for the same experiment, version and unit."""
        return exposure_id(self.experiment, self.version, self.unit)


def exposure_id(experiment: str, version: int, unit: str) -> str:
    text = f"{experiment}\0{version}\0{unit}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def assign(
    plan: Plan,
    unit: str,
    attributes: Mapping[str, Any],
    at: float,
    parent: Callable[[str], Assignment],
    held_unit: str = "",
    away: Collection[str] = (),
    explain: bool = False,
) -> Assignment:
    """Never raises. `at` is in seconds since 1970; `parent` decides another experiment for the
    same unit; `held_unit` is of the kind that the holdout goes by; `away` names the sources that
    parameter sets cannot count on now.
    """
    trace: list[Step] | None = [] if explain else None
    try:
        index, reason, detail = plan.decide(unit, attributes, at, parent, held_unit, trace)
        shared, adjustments = plan.params(index, away)
        params = dict(shared)  # the caller's own: what it changes there is nobody else's
        variation = plan.keys[index]
    except Exception as error:
        # Somebody's request path: the default, and what went wrong for whoever looks.
        detail = f"{type(error).__name__}: {error}"[:200]
        reason, variation = Reason.FAILED, plan.keys[0]
        shared, adjustments = plan.params(0, away)
        params = dict(shared)
    return _made(
        Assignment,
        (
            plan.key,
            plan.version,
            variation,
            params,
            reason,
            unit,
            detail,
            adjustments,
            () if trace is None else tuple(trace),
        ),
    )


# Without the call in Python that a named tuple is made by otherwise.
_made = tuple.__new__
