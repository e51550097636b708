"""Which units a kill switch watches, who stopped an experiment, and what is told of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from anabranch.definition_records import Document
from anabranch.definitions import KillSwitch
from anabranch.plans import Status
from analysis.kill_switch import Watched, said

ACTOR = "kill switch"
"""What the log of definitions and the audit log call it."""

_LIVE = (Status.RUNNING.value, Status.SCHEDULED.value)
_AT_REST = (Status.STOPPED.value, Status.ARCHIVED.value)


def watched_since(history: Sequence[Document]) -> int:
    """The version with which the watch begins: the last start, or the last change of variations.

    Units that came before a stop were judged then. Units that came under other weights are not
    comparable: what changes from day to day would look like an effect. Units that got other
    parameters say nothing of the present ones, which may be the cure. `history` ends with the
    current version.
    """
    current = history[-1]
    treatment = _treatment(current)
    same = takewhile(
        lambda one: one.status in _LIVE and _treatment(one) == treatment, reversed(history)
    )
    return min((one.version for one in same), default=current.version)


def _treatment(document: Document) -> list[Any]:
    """Weights, and what units get. Names and descriptions change nothing for them."""
    definition = document.definition
    variations = [
        {name: one.get(name) for name in ("key", "weight", "params", "parameter_set")}
        for one in definition.get("variations") or ()
    ]
    return [variations, definition.get("params")]


def stopped_by(history: Sequence[Document]) -> Document | None:
    """The version that stopped it, where it has not run since; what was changed later is behind."""
    at_rest = list(takewhile(lambda one: one.status in _AT_REST, reversed(history)))
    return at_rest[-1] if at_rest and len(at_rest) < len(history) else None


class Trip(NamedTuple):
    """The harm was seen; the experiment is to stop."""

    since: int
    """The version with which the watch began that saw it."""
    rule: KillSwitch
    seen: Watched

    @property
    def reason(self) -> str:
        return said(self.rule, self.seen)


def message_id(key: str, stopped_version: int) -> str:
    """The same from every process that could tell of this stop."""
    return f"kill-switch:{key}:{stopped_version}"


def message(key: str, stopped_version: int, trip: Trip) -> dict[str, Any]:
    seen, rule = trip.seen, trip.rule
    return {
        "experiment": key,
        "version": stopped_version,
        "variation": seen.variation,
        "metric": rule.metric,
        "direction": rule.direction,
        "threshold": rule.threshold,
        "level": rule.level,
        "p_value": seen.p_value,
        "value": seen.arm.value,
        "units": seen.arm.units,
        "control_value": seen.control.value,
        "control_units": seen.control.units,
        "reason": trip.reason,
        "undo": f"/v1/experiments/{key}/kill-switch/undo",
    }
