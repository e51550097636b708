"""What `POST /v1/assign` is asked, read with care: this is on somebody's request path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn

from anabranch.definition_set import Units
from anabranch.pseudonyms import personal_identifier
from service.bodies import json_type
from service.problems import Kind, Problem, shortened

DEADLINE_MS = 150
MOST_EXPERIMENTS = 1_000
_LONGEST_UNIT = 256
_LONGEST_NAME = 128
_LONGEST_DEADLINE_MS = 60_000
_KNOWN = frozenset(
    {"unit", "experiment", "experiments", "attributes", "log", "explain", "away", "deadline_ms"}
)


class Asked(NamedTuple):
    units: Units
    experiments: tuple[str, ...] | None
    """None for all that run."""
    is_single: bool
    attributes: Mapping[str, Any]
    log: bool
    explain: bool
    away: Collection[str]
    deadline_ms: int


def read_request(body: Mapping[str, Any]) -> Asked:
    if unknown := sorted(body.keys() - _KNOWN):
        known = ", ".join(sorted(_KNOWN))
        _refuse(shortened(ascii(unknown[0])), f"is not known here; known are {known}")
    if "experiment" in body and "experiments" in body:
        _refuse("experiment", "stands beside experiments; give one of the two")
    single = "experiment" in body
    experiments: tuple[str, ...] | None = None
    if single:
        experiments = (_text("experiment", body["experiment"], _LONGEST_NAME),)
    elif body.get("experiments"):  # an empty list asks for all that run, as over Kafka
        experiments = _texts("experiments", body["experiments"], MOST_EXPERIMENTS)
    attributes = body.get("attributes", {})
    if not isinstance(attributes, dict):
        _refuse("attributes", f"must be an object, not {json_type(attributes)}")
    return Asked(
        _units(body.get("unit")),
        experiments,
        single,
        attributes,
        _flag(body, "log", default=True),
        _flag(body, "explain", default=False),
        _texts("away", body.get("away", []), 100),
        _deadline(body.get("deadline_ms", DEADLINE_MS)),
    )


def _units(given: Any) -> Units:
    if isinstance(given, dict):
        if not given or len(given) > 20:
            _refuse("unit", "must name between 1 and 20 kinds of units")
        return {
            _text("unit", kind, _LONGEST_NAME): _unit(f"unit.{shortened(kind)}", unit)
            for kind, unit in given.items()
        }
    return _unit("unit", given)


def _unit(place: str, given: Any) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    text = _text(place, given, _LONGEST_UNIT)
    if (kind := personal_identifier(text)) is not None:
        _refuse(place, f"is a raw {kind}; send a pseudonym (the SDK's Pseudonyms makes them)")
    return text


def _text(place: str, given: Any, longest: int) -> str:
    if not isinstance(given, str):
        _refuse(
            place, f"must be text, not {json_type(given)}" if given is not None else "is missing"
        )
    if not given:
        _refuse(place, "is empty")
    if len(given) > longest:
        _refuse(place, f"has {len(given):,} characters, and may have {longest}")
    if not given.isprintable():
        _refuse(place, "holds characters that cannot be printed")
    return given


def _texts(place: str, given: Any, most: int) -> tuple[str, ...]:
    if not isinstance(given, list):
        _refuse(place, f"must be an array of texts, not {json_type(given)}")
    if len(given) > most:
        _refuse(place, f"has {len(given):,} entries, and may have {most:,}")
    return tuple(_text(f"{place}.{index}", one, _LONGEST_NAME) for index, one in enumerate(given))


def _flag(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    given = body.get(name, default)
    if not isinstance(given, bool):
        _refuse(name, f"must be true or false, not {json_type(given)}")
    return given


def _deadline(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        _refuse("deadline_ms", f"must be a whole number, not {json_type(given)}")
    if not 1 <= given <= _LONGEST_DEADLINE_MS:
        _refuse("deadline_ms", f"must be from 1 to {_LONGEST_DEADLINE_MS:,}")
    return given


def _refuse(place: str, problem: str) -> NoReturn:
    raise Problem(
        Kind.INVALID_REQUEST, f"{place} {problem}", errors=[{"place": place, "problem": problem}]
    )
