"""What an experiment is: the fields that people write, and what must hold between them.

Each rule says in a sentence what is wrong and what would be right. `read_definition` gathers all of
them, so that nobody has to find one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
    model_validator,
)

from anabranch.bucketing import WHOLE, HashVersion
from anabranch.conditions import compile_condition
from anabranch.errors import ConditionError
from anabranch.parameters import Limit, Limits, mistyped

MOST_VARIATIONS = 100
MOST_FORCED = 1_000

Key = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", min_length=1, max_length=128),
]
"""No colon: the definition log tells kinds of documents by it."""
Kind = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=128)]
"""Of units. No dot: some SDKs would take it for a path into the attributes, others would not."""
Text = Annotated[str, StringConstraints(max_length=4_000)]
Locale = Annotated[
    str, StringConstraints(pattern=r"^(\*|[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4})$", max_length=35)
]
Parts = Annotated[int, Field(strict=True, ge=0, le=WHOLE)]
"""Of 10,000."""
Params = dict[Annotated[str, StringConstraints(min_length=1, max_length=128)], JsonValue]


def _condition(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        compile_condition(given)
    except ConditionError as error:
        raise ValueError(str(error)) from error
    return given


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"is {at.isoformat()}, which is no time in UTC") from None


Condition = Annotated[dict[str, JsonValue], AfterValidator(_condition)]
Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class Part(BaseModel):
    """Of a definition: never changed in place, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Variation(Part):
    key: Key = Field(description="What exposures and reports call it.")
    name: Text = Field("", description="For people.")
    description: Text = Field("", description="For people.")
    weight: Parts = Field(description="Its share of the covered units, in parts of 10,000.")
    params: Params = Field(default_factory=dict, description="What services are told in it.")
    parameter_set: Key | None = Field(
        None, description="A named set of parameters that `params` are laid over."
    )


class Namespace(Part):
    """A stretch of a space that experiments share out, so that no unit is in two of them."""

    name: Key = Field(description="Of the space that is shared out.")
    start: Parts = Field(description="Where its part begins, of 10,000.")
    end: Parts = Field(description="Where its part ends; this one is not in it.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError(
                f"starts at {self.start} and ends at {self.end}: the end must be the greater one"
            )
        return self


class RampStep(Part):
    at: Moment = Field(description="From when on.")
    coverage: Parts = Field(description="The share of units that take part then, of 10,000.")


class Prerequisite(Part):
    experiment: Key = Field(description="Its key.")
    variations: tuple[Key, ...] = Field(
        min_length=1, max_length=MOST_VARIATIONS, description="One of which the unit must be in."
    )


class Guardrail(Part):
    """How much worse a metric may become."""

    metric: Key = Field(description="One of the metric catalogue.")
    max_relative_increase: float | None = Field(
        None, allow_inf_nan=False, description="0.05 where it may grow by 5 %."
    )
    max_relative_decrease: float | None = Field(
        None, allow_inf_nan=False, description="0.05 where it may fall by 5 %."
    )

    @field_validator("max_relative_increase", "max_relative_decrease")
    @classmethod
    def _positive(cls, limit: float | None) -> float | None:
        if limit is not None and limit < 0:
            raise ValueError(
                f"is {limit:g}, below zero: a guardrail is how much worse the metric may become, "
                "such as 0.05 for 5 %"
            )
        return limit

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.max_relative_increase is None) == (self.max_relative_decrease is None):
            raise ValueError("needs one of max_relative_increase and max_relative_decrease")
        return self


class KillSwitch(Part):
    """Harm that stops the experiment without asking anybody."""

    metric: Key = Field(description="One of the metric catalogue; a quantile cannot be watched.")
    direction: Literal["increase", "decrease"] = Field(description="Which way is harm.")
    threshold: float = Field(
        allow_inf_nan=False,
        description="How far a variation may go that way, of the control's value: 0.2 for 20 %.",
    )
    level: float = Field(
        0.95,
        description="How sure it has to be, however often it looks: with 0.95 at most 5 % of "
        "harmless experiments are ever stopped.",
    )

    @field_validator("threshold")
    @classmethod
    def _a_share(cls, threshold: float) -> float:
        if threshold < 0:
            raise ValueError(
                f"is {threshold:g}, below zero: say which way is harm by `direction`, and here how "
                "much of it is too much, such as 0.2 for 20 %"
            )
        return threshold

    @field_validator("level")
    @classmethod
    def _sure_enough(cls, level: float) -> float:
        if not 0.5 <= level <= 0.9999:
            raise ValueError(
                f"is {level:g}: it is how sure the switch has to be, from 0.5 to 0.9999, such as "
                "0.95 for at most 5 % of harmless experiments stopped"
            )
        return level

    @model_validator(mode="after")
    def _can_trip(self) -> Self:
        if self.direction == "decrease" and self.threshold >= 1:
            raise ValueError(
                f"threshold {self.threshold:g} can never be passed: a metric cannot fall by more "
                "than all of it; give less than 1, such as 0.2 for 20 %"
            )
        return self


class Metrics(Part):
    primary: tuple[Key, ...] = Field((), max_length=20, description="Those that decide.")
    secondary: tuple[Key, ...] = Field((), max_length=100, description="Those that explain.")
    guardrails: tuple[Guardrail, ...] = Field(
        (), max_length=50, description="Those that must not become much worse."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if twice := _twice([*self.primary, *self.secondary]):
            raise ValueError(f"the metric {twice} is named twice; once is enough")
        if twice := _twice([guardrail.metric for guardrail in self.guardrails]):
            raise ValueError(f"the metric {twice} has two guardrails; keep the stricter one")
        return self


class Phase(Part):
    """A time with the same weights. Units that met an earlier one keep their variation."""

    number: int = Field(ge=1, description="From 1 on.")
    weights: tuple[Parts, ...] = Field(description="Of the variations, in parts of 10,000.")
    opened_at: Moment = Field(description="When its weights came into force.")
    members: int = Field(0, ge=0, description="Units that keep what earlier phases gave them.")
    opening: bool = Field(
        False, description="Whether units of the last seconds before it are still being gathered."
    )


class Definition(Part):
    key: Key = Field(description="What services ask for; it never changes.")
    name: Text = Field("", description="For people.")
    hypothesis: Text = Field("", description="What is expected to happen, and why.")
    description: Text = Field("", description="For people.")
    owner: Annotated[str, StringConstraints(max_length=256)] = Field(
        "", description="Whom to ask about it."
    )
    tags: tuple[Key, ...] = Field((), max_length=50, description="To find it by.")
    unit: Kind = Field(
        "session",
        description="What is assigned: session, player, user, device or any other attribute.",
    )
    variations: tuple[Variation, ...] = Field(
        description="The first is the control and the default."
    )
    params: Params = Field(
        default_factory=dict, description="Parameters of all variations; theirs are laid over."
    )
    limits: dict[Annotated[str, StringConstraints(min_length=1, max_length=128)], Limit] = Field(
        default_factory=dict, description="Of parameters, beside the installation's."
    )
    coverage: Parts = Field(WHOLE, description="The share of units that take part, of 10,000.")
    ramp: tuple[RampStep, ...] = Field(
        (), max_length=50, description="Other coverages from times on; nobody moves by them."
    )
    hash_version: HashVersion = Field(2, description="Of GrowthBook's hash; 1 is the older one.")
    seed: Annotated[str, StringConstraints(max_length=128)] | None = Field(
        None, description="Of the hash; the key when absent. Experiments must not share one."
    )
    namespace: Namespace | None = Field(
        None, description="So that no unit is in two experiments with other parts of it."
    )
    holdout: Key | None = Field(None, description="Key of a holdout whose units stay out.")
    targeting: Condition = Field(
        default_factory=dict, description="Who takes part, in GrowthBook's condition language."
    )
    locales: dict[Locale, bool] = Field(
        default_factory=dict,
        description='On or off by the attribute `locale`; "*" is for those not named (on).',
    )
    prerequisites: tuple[Prerequisite, ...] = Field(
        (), max_length=10, description="Variations of others that the unit must be in, all of them."
    )
    forced: dict[Annotated[str, StringConstraints(min_length=1, max_length=256)], Key] = Field(
        default_factory=dict,
        max_length=MOST_FORCED,
        description="Units that get a variation whatever else holds, unlogged: for trying it out.",
    )
    starts_at: Moment | None = Field(None, description="Before it, a started one is scheduled.")
    stops_at: Moment | None = Field(None, description="From then on it is stopped.")
    metrics: Metrics = Field(default_factory=Metrics, description="What it is judged by.")
    kill_switch: KillSwitch | None = Field(
        None, description="A rule that stops it by itself when a variation does harm."
    )
    dimensions: tuple[Key, ...] = Field(
        (), max_length=20, description="Attributes kept with exposures, for reports by segment."
    )
    planned_units: int | None = Field(
        None, ge=1, le=10_000_000_000, description="How many units the experiment is to reach."
    )
    phases: tuple[Phase, ...] = Field((), description="Kept by the system; weights open a new one.")

    @property
    def hash_seed(self) -> str:
        return self.key if self.seed is None else self.seed

    @property
    def weights(self) -> tuple[int, ...]:
        return tuple(variation.weight for variation in self.variations)

    @field_validator("variations")
    @classmethod
    def _weights_add_up(cls, variations: tuple[Variation, ...]) -> tuple[Variation, ...]:
        if not variations:
            raise ValueError("is empty; an experiment has a control and what it is compared with")
        if len(variations) > MOST_VARIATIONS:
            raise ValueError(f"has {len(variations)} variations; the limit is {MOST_VARIATIONS}")
        if twice := _twice([variation.key for variation in variations]):
            raise ValueError(f"the key {twice} is there twice; each variation needs its own")
        total = sum(variation.weight for variation in variations)
        if total != WHOLE:
            raise ValueError(
                f"the weights sum to {total:,}; they are parts of 10,000 and must sum to 10,000"
            )
        return variations

    @model_validator(mode="after")
    def _times_follow(self) -> Self:
        if self.starts_at and self.stops_at and self.stops_at <= self.starts_at:
            raise ValueError(
                f"stops_at ({self.stops_at:%Y-%m-%d %H:%M} UTC) must come after starts_at "
                f"({self.starts_at:%Y-%m-%d %H:%M} UTC)"
            )
        moments = [step.at for step in self.ramp]
        if moments != sorted(set(moments)):
            raise ValueError("ramp: the steps must be in the order of their times, each time once")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        keys = [variation.key for variation in self.variations]
        for unit, variation in self.forced.items():
            if variation not in keys:
                raise ValueError(
                    f"forced: {unit!r} is to get {variation!r}, and the variations are "
                    f"{', '.join(keys)}"
                )
        if any(prerequisite.experiment == self.key for prerequisite in self.prerequisites):
            raise ValueError("prerequisites: an experiment cannot be its own prerequisite")
        if self.kill_switch is not None and len(keys) < 2:
            raise ValueError(
                "kill_switch: it compares variations with the control, and there is none beside it"
            )
        if self.phases and len(self.phases[-1].weights) != len(keys):
            raise ValueError("phases: the last one has another number of weights than variations")
        return self

    @model_validator(mode="after")
    def _parameters_have_their_types(self) -> Self:
        sources: list[tuple[str, Params]] = [("params", self.params)]
        sources += [(f"variations.{one.key}.params", one.params) for one in self.variations]
        for place, params in sources:
            for name, value in params.items():
                if name in self.limits and (problem := mistyped(self.limits[name], value)):
                    raise ValueError(f"{place}.{name} {problem}")
        return self

    def coverage_at(self, now: datetime) -> int:
        """The ramp's newest step counts, before the first the coverage itself."""
        passed = [step.coverage for step in self.ramp if step.at <= now]
        return passed[-1] if passed else self.coverage


class Holdout(Part):
    """Units that stay out of every experiment that names it, to see what all did together."""

    name: Text = Field("", description="For people.")
    unit: Kind = Field("player", description="What is held out: player, user, device, ...")
    share: Parts = Field(description="Of all units, in parts of 10,000.")
    seed: Annotated[str, StringConstraints(max_length=128)] | None = Field(
        None, description="Of the hash; `holdout:` and the key when absent."
    )


class Group(Part):
    """A named list for targeting's `$inGroup`."""

    name: Text = Field("", description="For people.")
    values: tuple[str | int | float, ...] = Field(
        max_length=10_000, description="Of the attribute that a condition compares with it."
    )


class ParameterSet(Part):
    """Parameters under a name, and what to take instead when something that they need is away."""

    name: Text = Field("", description="For people.")
    params: Params = Field(description="Laid under those of the variation that names it.")
    needs: tuple[Key, ...] = Field((), max_length=50, description="Sources, such as `maps_api`.")
    fallback: Key | None = Field(None, description="The set to take when a needed source is away.")


class InstallationLimits(Part):
    limits: Limits = Field(description="By the parameter's name.")


def _twice(names: list[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


DocumentKind = Literal["holdout", "group", "parameter_set", "limits", "members"]

MODELS: Mapping[str, type[Part]] = {
    "holdout": Holdout,
    "group": Group,
    "parameter_set": ParameterSet,
    "limits": InstallationLimits,
}


def as_json(part: Part) -> dict[str, Any]:
    """As the log and the API write it."""
    return part.model_dump(mode="json")
