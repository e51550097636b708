"""Reads what people wrote into a definition, and says everything that is wrong with it at once."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from anabranch.errors import AnabranchError

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 60
_MOST_WRONG = 100
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
}


class Wrong(NamedTuple):
    """One thing that is wrong, and where."""

    place: str
    """A path such as `variations.1.weight`; empty for the whole."""
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" if self.place else self.problem


class DefinitionError(AnabranchError, ValueError):
    """A definition that cannot be used, with all that is wrong with it."""

    def __init__(self, wrong: tuple[Wrong, ...]) -> None:
        super().__init__("; ".join(map(str, wrong)))
        self.wrong = wrong


def read(model: type[Model], given: Any) -> Model:
    """Raises DefinitionError."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
        wrong = [_wrong(model, one) for one in found[:_MOST_WRONG]]
        if more := len(found) - len(wrong):
            wrong.append(Wrong("", f"there are {more:,} more problems"))
        raise DefinitionError(tuple(wrong)) from error


def _wrong(model: type[BaseModel], error: Mapping[str, Any]) -> Wrong:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        return Wrong(place, _unknown(name, _fields_at(model, error["loc"][:-1])))
    return Wrong(place, _sentence(error))


def _sentence(error: Mapping[str, Any]) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind in _TYPES:
        return f"is {_shown(given)}, and must be {_TYPES[kind]}"
    if kind == "value_error":
        return str(context["error"])
    if kind in _SAID:
        return _SAID[kind](context, given)
    return f"is {_shown(given)}: {error['msg'][:1].lower()}{error['msg'][1:]}"


_SAID: Mapping[str, Callable[[Mapping[str, Any], Any], str]] = {
    "greater_than_equal": lambda of, given: f"is {_shown(given)}, and must be {of['ge']} or more",
    "less_than_equal": lambda of, given: f"is {_shown(given)}, and must be {of['le']} or less",
    "finite_number": lambda of, given: f"is {_shown(given)}, and must be a finite number",
    "string_too_long": lambda of, given: (
        f"has {len(given):,} characters, and may have {of['max_length']:,}"
    ),
    "string_too_short": lambda of, given: "is empty",
    "too_long": lambda of, given: (
        f"has {of['actual_length'] or 'too many'} entries, and may have {of['max_length']:,}"
    ),
    "too_short": lambda of, given: f"must have {of['min_length']} or more entries",
    "string_pattern_mismatch": lambda of, given: (
        f"is {_shown(given)}; it may hold letters, digits, _, . and -, and begins with a letter, "
        "a digit or _"
        if "_.-" in of["pattern"]
        else f"is {_shown(given)}, and must look like {of['pattern']}"
    ),
    "literal_error": lambda of, given: f"is {_shown(given)}, and must be {of['expected']}",
    "timezone_aware": lambda of, given: (
        f"is {_shown(given)}, which says no time zone; end it with Z or +00:00"
    ),
    "datetime_from_date_parsing": lambda of, given: _no_time(given),
    "datetime_parsing": lambda of, given: _no_time(given),
    "datetime_type": lambda of, given: _no_time(given),
}


def _no_time(given: Any) -> str:
    return f"is {_shown(given)}, which is no time; write it as 2026-01-31T12:00:00Z"


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"no field has this name; {hint}"


def _fields_at(model: Any, path: tuple[int | str, ...]) -> list[str]:
    """The fields of the model that stands at a path; none where it is not found."""
    schema = _schema_of(model)
    node: Any = schema
    for part in path:
        node = _followed(schema, node)
        if isinstance(part, int) and "items" in node:
            node = node["items"]
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
    return sorted(_followed(schema, node).get("properties", {}))


@functools.cache
def _schema_of(model: Any) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = model.model_json_schema()
    return schema


def _followed(schema: Mapping[str, Any], node: Any) -> Mapping[str, Any]:
    """Through references, and through `... or null`."""
    while True:
        if not isinstance(node, dict):
            return {}
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in node:
            node = next((one for one in node["anyOf"] if one.get("type") != "null"), {})
        else:
            return node


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
