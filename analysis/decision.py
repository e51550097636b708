"""What should be done with an experiment now?

The rule, in the order in which it is applied:

1. Bad health, or nothing to decide by: **no decision**.
2. Fewer units in a variation than the minimum: **keep running**.
3. A variation that breaches a guardrail or is worse in a primary metric is *harmful*. One that is
   better in a primary metric, worse in none, and shown to be within all guardrails is *ready*.
4. A ready one: **ship** it; of several, the one that gains most in the first primary metric. Before
   the minimum of days: **keep running**.
5. Otherwise a harmful one: **roll back**. That does not wait for the minimum of days.
6. Otherwise, before the planned end: **keep running**; after it: **no decision** can come of it.

Where it says keep running and the experiment has ended, there is **no decision**.

What counts as better, worse or breached: before the planned end the always-valid p-value, since the
report is looked at all the time; at the planned end the one for a single look. That one is right
for the first look after the planned number: an experiment should stop there.

The planned end is the planned number of units, or the time at which the experiment was to stop by
itself. Stopping it early is no planned end: who looks at a result may stop because of it, so what
holds at any time still counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from analysis.guardrail import Answer, Guarded, Status
from analysis.verdict import NoVerdict


class Action(StrEnum):
    SHIP = "ship"
    ROLL_BACK = "roll_back"
    KEEP_RUNNING = "keep_running"
    NO_DECISION = "no_decision"


@dataclass(frozen=True, slots=True)
class Rule:
    level: float = 0.95
    minimum_units: int = 100
    """In each variation."""
    minimum_days: float = 7.0
    """A whole week by default: people do other things on Saturdays."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A primary metric of one variation against the baseline."""

    metric: str
    variation: str
    gain: float
    """The effect, turned so that above zero is better; comparable between variations."""
    p_value: float
    """Adjusted for its family; for a single look."""
    always_valid_p: float | NoVerdict


@dataclass(frozen=True, slots=True)
class Unfound:
    metric: str
    variation: str
    why: NoVerdict


@dataclass(frozen=True, slots=True)
class GuardrailFinding:
    metric: str
    variation: str
    guarded: Guarded | NoVerdict


@dataclass(frozen=True, slots=True)
class Situation:
    baseline: str
    units: Mapping[str, int]
    """Of every variation, in the definition's order."""
    days: float
    """Since the first exposure; of one that has ended, until its newest unit came."""
    planned_units: int | None
    """In all variations; None when nobody planned."""
    ended: bool
    """Stopped, by plan or by a person: no more units come."""
    health_problems: Sequence[str]
    """As sentences; anything here forbids a decision."""
    primary: Sequence[Finding | Unfound]
    guardrails: Sequence[GuardrailFinding]
    ran_its_time: bool = False
    """It has ended at the time that was set before, and not sooner."""

    @property
    def at_horizon(self) -> bool:
        planned = self.planned_units
        return self.ran_its_time or (planned is not None and sum(self.units.values()) >= planned)

    @property
    def stopped_early(self) -> bool:
        return self.ended and not self.at_horizon


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    variation: str | None
    """Which to ship or to take out."""
    reasons: tuple[str, ...]


def decide(situation: Situation, rule: Rule | None = None) -> Decision:
    rule = rule or Rule()
    if situation.health_problems:
        return Decision(Action.NO_DECISION, None, tuple(situation.health_problems))
    if not situation.primary:
        return Decision(Action.NO_DECISION, None, ("No primary metric is declared to decide by.",))
    few = {key: n for key, n in situation.units.items() if n < rule.minimum_units}
    if few:
        key, units = min(few.items(), key=lambda pair: pair[1])
        sentence = f"{key} has {units} units; a decision takes {rule.minimum_units} in each."
        return Decision(*_waiting(situation), (sentence,))
    found = [one for one in situation.primary if isinstance(one, Finding)]
    if not found:
        return Decision(*_waiting(situation), tuple(_unanswered(situation)))
    return _weighed(situation, found, rule)


def _weighed(situation: Situation, found: Sequence[Finding], rule: Rule) -> Decision:
    others = [key for key in situation.units if key != situation.baseline]
    harm = {key: _harm(situation, found, key, rule) for key in others}
    gains = {key: _gains(situation, found, key, rule) for key in others}
    doubts = {key: _doubts(situation, key) for key in others}
    ready = [key for key in others if gains[key] and not harm[key] and not doubts[key]]
    harmful = [key for key in others if harm[key]]
    if ready:
        best = max(ready, key=lambda key: _first_gain(found, key))
        reasons = [*gains[best], *_within(situation, best)]
        reasons += [sentence for key in harmful for sentence in harm[key]]
        reasons += _early(situation)
        if situation.days < rule.minimum_days:
            reasons.append(_too_short(situation, rule))
            action = Action.NO_DECISION if situation.ended else Action.KEEP_RUNNING
            return Decision(action, None, tuple(reasons))
        return Decision(Action.SHIP, best, tuple(reasons))
    if harmful:
        reasons = [sentence for key in harmful for sentence in harm[key]]
        return Decision(Action.ROLL_BACK, harmful[0], (*reasons, *_early(situation)))
    reasons = [sentence for key in others for sentence in (*gains[key], *doubts[key])]
    if not any(gains.values()):
        reasons.insert(0, "No primary metric differs from the baseline for sure yet.")
    reasons += _unanswered(situation)
    return Decision(*_waiting(situation), (*reasons, _where_it_stands(situation)))


def _harm(situation: Situation, found: Sequence[Finding], variation: str, rule: Rule) -> list[str]:
    reasons = [
        f"{one.variation} is worse in {one.metric} ({_how(situation, one)})."
        for one in found
        if one.variation == variation and one.gain < 0 and _is_sure(situation, one, rule)
    ]
    for guardrail in situation.guardrails:
        answer = _answer(situation, guardrail)
        if guardrail.variation != variation or isinstance(answer, NoVerdict):
            continue
        if answer.status is Status.BREACHED:
            reasons.append(
                f"{variation} breaches the guardrail on {guardrail.metric} "
                f"(p = {answer.p_breached:.2g}, {_when(situation)})."
            )
    return reasons


def _gains(situation: Situation, found: Sequence[Finding], variation: str, rule: Rule) -> list[str]:
    return [
        f"{one.variation} is better in {one.metric} ({_how(situation, one)})."
        for one in found
        if one.variation == variation and one.gain > 0 and _is_sure(situation, one, rule)
    ]


def _doubts(situation: Situation, variation: str) -> list[str]:
    """Guardrails that are not shown to hold."""
    doubts = []
    for guardrail in situation.guardrails:
        if guardrail.variation != variation:
            continue
        answer = _answer(situation, guardrail)
        if isinstance(answer, NoVerdict):
            doubts.append(f"The guardrail on {guardrail.metric}: {answer.sentence}")
        elif answer.status is Status.OPEN:
            doubts.append(
                f"The guardrail on {guardrail.metric} is neither breached by {variation} "
                "nor shown to hold."
            )
    return doubts


def _unanswered(situation: Situation) -> list[str]:
    unfound = [one for one in situation.primary if isinstance(one, Unfound)]
    return list(dict.fromkeys(f"{one.metric}: {one.why.sentence}" for one in unfound))


def _within(situation: Situation, variation: str) -> list[str]:
    metrics = [one.metric for one in situation.guardrails if one.variation == variation]
    return [f"The guardrails on {', '.join(metrics)} hold."] if metrics else []


def _is_sure(situation: Situation, finding: Finding, rule: Rule) -> bool:
    if situation.at_horizon:
        return finding.p_value < 1 - rule.level
    early = finding.always_valid_p
    return not isinstance(early, NoVerdict) and early < 1 - rule.level


def _answer(situation: Situation, guardrail: GuardrailFinding) -> Answer | NoVerdict:
    if isinstance(guardrail.guarded, NoVerdict):
        return guardrail.guarded
    return guardrail.guarded.at_horizon if situation.at_horizon else guardrail.guarded.any_time


def _first_gain(found: Sequence[Finding], variation: str) -> float:
    return next(one.gain for one in found if one.variation == variation)


def _waiting(situation: Situation) -> tuple[Action, None]:
    is_over = situation.ended or situation.at_horizon
    return (Action.NO_DECISION if is_over else Action.KEEP_RUNNING), None


def _how(situation: Situation, finding: Finding) -> str:
    early = finding.always_valid_p
    if situation.at_horizon or isinstance(early, NoVerdict):
        return f"p = {finding.p_value:.2g}, {_when(situation)}"
    return f"p = {early:.2g}, {_when(situation)}"


def _when(situation: Situation) -> str:
    return "at the planned end" if situation.at_horizon else "valid at any time"


def _early(situation: Situation) -> list[str]:
    return [_stopped_early(situation)] if situation.stopped_early else []


def _stopped_early(situation: Situation) -> str:
    units, planned = sum(situation.units.values()), situation.planned_units
    of = "none were planned" if planned is None else f"{planned:,} were planned"
    return (
        f"It was stopped early, with {units:,} units ({of}), so only what is valid at any time "
        "counts."
    )


def _too_short(situation: Situation, rule: Rule) -> str:
    return f"It has run for {situation.days:.1f} days; shipping takes {rule.minimum_days:g}."


def _where_it_stands(situation: Situation) -> str:
    units = sum(situation.units.values())
    if situation.stopped_early:
        return _stopped_early(situation)
    if situation.ended:
        return f"It has ended with {units:,} units and no clear result."
    if situation.planned_units is None:
        return f"It has {units:,} units; no number was planned."
    if situation.at_horizon:
        return f"The planned {situation.planned_units:,} units are reached with no clear result."
    return f"It has {units:,} of {situation.planned_units:,} planned units."
