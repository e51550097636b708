"""The Python type of a field, with its constraints in pydantic's words."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from schemas.record import Field, Kind

# Wide enough to read, and narrow enough to stay in the line at any depth that ruff indents to.
TEXT_WIDTH = 72


def annotation(field: Field) -> str:
    described: dict[str, Any] = {"description": _description(field)}
    if "example" in field.attributes:
        described["examples"] = [field.attributes["example"]]
    items = field.items.fields if field.items is not None else ()
    match field.kind:
        case Kind.TIME:
            return _annotated("Moment", described)
        case Kind.RECORDS if field.items is not None:
            return _annotated(f"tuple[{field.items.name}, ...]", _counts(field) | described)
        case Kind.TEXTS:
            return _annotated(f"tuple[{_scalar(items[0])}, ...]", _counts(field) | described)
        case Kind.PAIRS:
            mapping = f"Mapping[{_scalar(items[0])}, {_scalar(items[1])}]"
            return _annotated(mapping, _counts(field) | described)
    return _scalar(field, described) + (" | None" if field.nullable else "")


def default(field: Field) -> str:
    factories = {"id": "new_id", "now": "now_ms"}
    if generated := field.attributes.get("generated"):
        return f" = field(default_factory={factories[generated]})"
    if not field.attributes.get("optional"):
        return ""
    if field.nullable:
        return " = None"
    if field.kind is Kind.PAIRS:
        return " = field(default_factory=dict)"
    return ' = ""' if field.kind is Kind.TEXT else " = ()"


def quoted(text: str) -> str:
    """A literal, in several parts when it is long."""
    if len(text) <= TEXT_WIDTH:
        return literal(text)
    parts = textwrap.wrap(text, TEXT_WIDTH, drop_whitespace=False, break_long_words=False)
    return "(" + " ".join(map(literal, parts)) + ")"


def literal(value: Any) -> str:
    match value:
        case bool():
            return str(value)
        case int():
            return f"{value:_}"
        case float():
            return f"{value:g}".replace("e+", "e")
        case str():
            return repr(value) if '"' in value else json.dumps(value, ensure_ascii=False)
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case dict():
            return repr(value)
    return str(value)


def _scalar(field: Field, described: dict[str, Any] | None = None) -> str:
    if "enum" in field.attributes:
        choices = ", ".join(map(literal, field.attributes["enum"]))
        return _annotated(f"Literal[{choices}]", described or {})
    names = {Kind.TEXT: "str", Kind.INTEGER: "int", Kind.NUMBER: "float"}
    return _annotated(names[field.kind], _constraints(field) | (described or {}))


def _annotated(python_type: str, arguments: dict[str, Any]) -> str:
    listed = ", ".join(
        f"{name}={_argument(name, value)}" for name, value in arguments.items() if value is not None
    )
    return f"Annotated[{python_type}, Field({listed})]"


def _argument(name: str, value: Any) -> str:
    if name == "pattern" and value in {"LINE", "LINES"}:
        return str(value)
    return quoted(value) if isinstance(value, str) else literal(value)


def _constraints(field: Field) -> dict[str, Any]:
    """Strict, so that "5" is no number and true is not 1."""
    limits = field.attributes
    if field.kind is Kind.TEXT:
        return {
            "strict": True,
            "min_length": limits.get("minLength"),
            "max_length": limits["maxLength"],
            "pattern": limits.get("pattern", "LINES" if limits.get("multiline") else "LINE"),
        }
    return {
        "strict": True,
        "ge": limits["minimum"],
        "le": limits["maximum"],
        "allow_inf_nan": False if field.kind is Kind.NUMBER else None,
    }


def _counts(field: Field) -> dict[str, Any]:
    return {
        "min_length": field.attributes.get("minItems"),
        "max_length": field.attributes["maxItems"],
    }


def _description(field: Field) -> str:
    unit = field.attributes.get("unit")
    return field.doc if unit is None else f"{field.doc} Unit: {unit}."
