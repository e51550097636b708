"""What a metric is: where its values come from, how they become one figure, which way is good.

The built-in ones are what every turn, exposure and invite carries. People add their own from
outcomes, invites and turns; those rest in the definition log under `metric:<key>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from anabranch.definitions import Part, Text

TurnMetric = Literal[
    "turn_ms",
    "model_ms",
    "bundle_tokens",
    "output_tokens",
    "retries",
    "fallbacks",
    "tool_calls",
    "acts",
    "choices",
    "time_ticks",
]
"""As analysis/windows.py has them, which a test holds it to: that one needs polars."""
InviteStep = Literal["sent", "joined", "fvm"]
Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*$", min_length=1, max_length=128)
]
"""Of an outcome's value or a growth loop, as the events have it."""

_FORMS = 'such as {"outcome": "revenue"}, {"turn": "turn_ms"} or {"invite": {"step": "joined"}}'


class InviteSource(Part):
    step: InviteStep = Field(description="fvm is the invitee's first valuable moment.")
    loop: Name | None = Field(None, description="Of one growth loop; of all when absent.")


class Source(Part):
    """Where the values come from: one of them."""

    outcome: Name | None = Field(None, description="The name of a value in outcomes.")
    turn: TurnMetric | None = Field(None, description="A measurement of every turn.")
    invite: InviteSource | None = Field(None, description="1 for each invite of a step.")
    exposures: Literal[True] | None = Field(None, description="1 for each exposure.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        given = [name for name in Source.model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"names {' and '.join(given)}" if given else "names nothing"
            raise ValueError(f"{said}; a source is one thing, {_FORMS}")
        return self


class Cap(Part):
    """Values above it count as it: a few very large ones would drown the rest."""

    absolute: float | None = Field(None, gt=0, allow_inf_nan=False, description="In its own unit.")
    percentile: float | None = Field(
        None, gt=0, lt=1, description="Of all units' values, such as 0.99."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.absolute is None) == (self.percentile is None):
            raise ValueError("needs one of absolute and percentile")
        return self


Direction = Literal["up", "down"]
Kind = Literal["mean", "proportion", "ratio", "quantile", "count"]


class Metric(Part):
    name: Text = Field("", description="For people; the key when absent.")
    description: Text = Field("", description="For people.")
    kind: Kind = Field(
        description="What is compared. `mean`: the sum of a unit's values, averaged over units. "
        "`count`: how many values a unit has, averaged. `proportion`: the share of units that have "
        "any. `ratio`: the sum of the numerator over that of the denominator. `quantile`: of all "
        "values."
    )
    source: Source | None = Field(None, description="Of every kind but `ratio`.")
    numerator: Source | None = Field(None, description="Of a `ratio`.")
    denominator: Source | None = Field(None, description="Of a `ratio`.")
    q: float | None = Field(
        None, gt=0, lt=1, description="Which quantile, such as 0.95. Of a `quantile`."
    )
    direction: Direction | None = Field(
        None, description="Which way is better; null where neither is by itself."
    )
    cap: Cap | None = Field(None, description="Of a `mean` or a `ratio`.")
    conversion_window_hours: float | None = Field(
        None,
        gt=0,
        le=24 * 365,
        description="Only what a unit does within so long after its first exposure counts.",
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needed = {"ratio": {"numerator", "denominator"}, "quantile": {"source", "q"}}.get(
            self.kind, {"source"}
        )
        for name in ("source", "numerator", "denominator", "q"):
            given = getattr(self, name) is not None
            if given and name not in needed:
                takes = " and ".join(sorted(needed))
                raise ValueError(f"a {self.kind} has no {name}; it takes {takes}")
            if not given and name in needed:
                form = "such as 0.95" if name == "q" else _FORMS
                raise ValueError(f"a {self.kind} needs {name}, {form}")
        if self.cap is not None and self.kind not in ("mean", "ratio"):
            raise ValueError(f"a {self.kind} has no cap: large values do not move it")
        return self


def _of_turns(turn: TurnMetric, description: str, direction: Direction | None) -> Metric:
    source = Source(turn=turn)
    return Metric(kind="mean", source=source, description=description, direction=direction)


def _of_invites(step: InviteStep, description: str) -> Metric:
    source = Source(invite=InviteSource(step=step))
    return Metric(kind="count", source=source, description=description, direction="up")


BUILT_IN: Mapping[str, Metric] = {
    "turn_ms": _of_turns(
        "turn_ms", "Wall time of a turn, from the player's input to the last output, in ms.", "down"
    ),
    "model_ms": _of_turns("model_ms", "Time spent waiting for models in a turn, in ms.", "down"),
    "bundle_tokens": _of_turns(
        "bundle_tokens", "Size of the context bundle given to the model, in tokens.", "down"
    ),
    "output_tokens": _of_turns("output_tokens", "Tokens that models wrote in a turn.", None),
    "retries": _of_turns("retries", "Model calls repeated after a failure.", "down"),
    "fallbacks": _of_turns(
        "fallbacks", "Times that a cheaper or canned answer stood in for the model's.", "down"
    ),
    "tool_calls": _of_turns("tool_calls", "Tools called by models.", None),
    "acts": _of_turns("acts", "Acts performed by characters.", None),
    "choices": _of_turns("choices", "Choices offered to the player.", None),
    "time_ticks": _of_turns("time_ticks", "How far the story's own clock went on, in ticks.", None),
    "exposures": Metric(
        kind="count", source=Source(exposures=True), description="How often units were exposed."
    ),
    "invites_sent": _of_invites("sent", "Invites that units sent."),
    "invites_joined": _of_invites("joined", "Invited people who joined."),
    "invites_fvm": _of_invites("fvm", "Invited people who reached their first valuable moment."),
}
"""They cannot be changed: reports of the past would mean something else."""
