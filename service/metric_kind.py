"""The metric catalogue: the built-in ones, and those that people make."""

from __future__ import annotations

from typing import Any

from anabranch.definition_set import DefinitionSet
from anabranch.plans import Status
from analysis.metric_catalogue import BUILT_IN, Metric
from service.access import Permission
from service.experiment_states import ChangeRefusedError
from service.named_documents import NamedKind


def _nothing_to_check(_: str, __: Any, ___: DefinitionSet) -> None:
    """A metric of an outcome that nobody has sent yet is no mistake."""


def _check_change(key: str, before: Any, after: Any, definitions: DefinitionSet) -> None:
    if after is not None:
        return
    if users := [of for of, names in _named_by(definitions).items() if key in names]:
        raise ChangeRefusedError(
            f"the metric {key} is of the experiments {', '.join(users[:5])}; take it out of them "
            "first"
        )


def _named_by(definitions: DefinitionSet) -> dict[str, set[str]]:
    """By experiment, of those that are not archived."""
    return {
        key: {
            *plan.definition.metrics.primary,
            *plan.definition.metrics.secondary,
            *(guardrail.metric for guardrail in plan.definition.metrics.guardrails),
            *([plan.definition.kill_switch.metric] if plan.definition.kill_switch else ()),
        }
        for key, plan in definitions.plans.items()
        if plan.status is not Status.ARCHIVED
    }


METRICS = NamedKind(
    kind="metric",
    plural="metrics",
    noun="metric",
    model=Metric,
    permission=Permission.EXPERIMENT,
    check=_nothing_to_check,
    check_change=_check_change,
    example={
        "key": "revenue",
        "name": "Revenue of a player",
        "kind": "mean",
        "source": {"outcome": "revenue"},
        "direction": "up",
        "cap": {"percentile": 0.99},
        "conversion_window_hours": 72,
    },
    built_in=BUILT_IN,
)
