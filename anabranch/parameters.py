"""What a variation tells a service, within limits that no experiment can leave.

A number outside its limit is moved to the nearest allowed one; what nobody declared, or of another
type, is left out. Both are reported, and neither is ever passed on as it came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

ParameterType = Literal["integer", "number", "string", "boolean", "list", "object"]

_TYPES: Mapping[ParameterType, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
_SHOWN = 80
_GREATEST = 2**53


class Limit(BaseModel):
    """What one parameter may be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: ParameterType = Field(description="Of its values.")
    minimum: float | None = Field(None, description="A smaller number is moved to it.")
    maximum: float | None = Field(None, description="A greater number is moved to it.")
    allowed: tuple[JsonValue, ...] | None = Field(
        None, min_length=1, max_length=1_000, description="A number is moved to the nearest one."
    )
    most_characters: int | None = Field(None, ge=0, description="Of a string.")
    description: str = Field("", max_length=1_000, description="For people.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.type not in ("integer", "number"):
            if self.minimum is not None or self.maximum is not None:
                raise ValueError(f"minimum and maximum are for numbers, and this is a {self.type}")
        elif self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"the minimum ({self.minimum:g}) is greater than the maximum ({self.maximum:g})"
            )
        for bound in (self.minimum, self.maximum):
            if bound is not None and abs(bound) > _GREATEST:
                raise ValueError(f"{bound:g} is beyond 2^53: numbers are not exact there")
            if bound is not None and self.type == "integer" and not bound.is_integer():
                raise ValueError(f"{bound:g} is no whole number, and this is an integer")
        for value in self.allowed or ():
            if problem := mistyped(self, value):
                raise ValueError(f"allowed: {problem}")
        return self


Limits = dict[Annotated[str, StringConstraints(min_length=1, max_length=128)], Limit]


def _count(greatest: float, description: str) -> Limit:
    return Limit(type="integer", minimum=0, maximum=greatest, description=description)


DEFAULT_LIMITS: Mapping[str, Limit] = {
    "max_output_tokens": _count(4_096, "What a model may write in a turn, in tokens."),
    "max_acts": _count(32, "Acts of characters in a turn."),
    "tool_max_calls": _count(16, "Tools that models may call in a turn."),
    "time_advance_ticks": _count(1_000, "How far a turn moves the story's clock, in ticks."),
    "sentence_cap": _count(40, "Sentences that a character may say in a turn."),
    "max_choices": _count(8, "Choices offered to the player."),
    "tone": Limit(type="string", most_characters=64, description="How characters speak."),
}
"""Before the installation's own; a limit of the same name takes the place of one here."""


class Adjusted(StrEnum):
    CLAMPED = "clamped"
    UNKNOWN = "unknown"
    MISTYPED = "mistyped"
    NOT_ALLOWED = "not_allowed"
    NO_SET = "no_set"


class Adjustment(NamedTuple):
    """One parameter that is not passed on as it was written."""

    parameter: str
    reason: Adjusted
    sentence: str


class Resolved(NamedTuple):
    params: Mapping[str, Any]
    adjustments: tuple[Adjustment, ...]


def resolve(layers: Iterable[Mapping[str, Any]], limits: Iterable[Mapping[str, Limit]]) -> Resolved:
    """Later layers are laid over earlier ones; a value has to keep to every limit of its name.

    Limits only narrow one another: an experiment cannot widen what the installation allows.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    all_limits = list(limits)
    params: dict[str, Any] = {}
    adjustments: list[Adjustment] = []
    for name, value in merged.items():
        bounds = [limits_of[name] for limits_of in all_limits if name in limits_of]
        if not bounds:
            known = ", ".join(sorted({known for limits_of in all_limits for known in limits_of}))
            adjustments.append(
                Adjustment(
                    name,
                    Adjusted.UNKNOWN,
                    f"{name} is left out: no limit declares it; declared are {known[:500]}",
                )
            )
            continue
        kept, found = value, None
        for bound in bounds:
            kept, found_now = _within(name, kept, bound)
            found = found_now or found
            if found_now and found_now.reason is not Adjusted.CLAMPED:
                break
        if found is not None and found.reason is Adjusted.CLAMPED and len(bounds) > 1:
            # What the last limit moved must not have left an earlier one.
            found = next((left for bound in bounds if (left := _left(name, kept, bound))), found)
        if found is None or found.reason is Adjusted.CLAMPED:
            params[name] = kept
        if found is not None:
            adjustments.append(found)
    return Resolved(params, tuple(adjustments))


def mistyped(limit: Limit, value: Any) -> str | None:
    """What is wrong with the value's type, as the end of a sentence; None when nothing is."""
    fits = isinstance(value, _TYPES[limit.type])
    if isinstance(value, bool) and limit.type != "boolean":
        fits = False
    if limit.type == "integer" and isinstance(value, float) and value.is_integer():
        fits = True  # 600.0 is how some languages write 600
    if isinstance(value, float) and not math.isfinite(value):
        fits = False
    if fits and isinstance(value, int | float) and abs(value) > _GREATEST:
        return f"is {_shown(value)}, and numbers beyond 2^53 are not exact everywhere"
    return None if fits else f"is {_shown(value)}, and must be of the type {limit.type}"


def _within(name: str, value: Any, limit: Limit) -> tuple[Any, Adjustment | None]:
    if problem := mistyped(limit, value):
        return None, Adjustment(name, Adjusted.MISTYPED, f"{name} is left out: it {problem}")
    if limit.type == "integer":
        value = int(value)
    clamped = value
    if limit.minimum is not None and clamped < limit.minimum:
        clamped = _whole(limit.minimum)
    if limit.maximum is not None and clamped > limit.maximum:
        clamped = _whole(limit.maximum)
    if limit.most_characters is not None and isinstance(value, str):
        clamped = clamped[: limit.most_characters]
    if limit.allowed is not None and not any(_same(clamped, one) for one in limit.allowed):
        if limit.type not in ("integer", "number"):
            allowed = ", ".join(_shown(one) for one in limit.allowed[:20])
            sentence = f"{name} is left out: it is {_shown(value)}, and allowed are {allowed}"
            return None, Adjustment(name, Adjusted.NOT_ALLOWED, sentence)
        numbers = [one for one in limit.allowed if isinstance(one, int | float)]
        clamped = min(numbers, key=lambda one: abs(one - value))
    if clamped == value:
        return value, None
    sentence = f"{name} is {_shown(clamped)} instead of {_shown(value)}: the limit"
    return clamped, Adjustment(name, Adjusted.CLAMPED, sentence)


def _left(name: str, value: Any, limit: Limit) -> Adjustment | None:
    """Of limits that contradict one another nothing is made up."""
    if _within(name, value, limit)[1] is None:
        return None
    sentence = f"{name} is left out: its limits contradict one another"
    return Adjustment(name, Adjusted.NOT_ALLOWED, sentence)


def _whole(bound: float) -> float:
    return int(bound) if bound.is_integer() else bound


def _same(value: Any, other: Any) -> bool:
    """True is not 1 here."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
