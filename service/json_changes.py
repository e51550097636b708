"""How a merge patch changes a JSON object (RFC 7396), and what differs between two. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson


class FieldChange(NamedTuple):
    place: str
    """A path such as `variations.warm.weight`: members of a list by their key, where they have
    one."""
    before: Any
    """None where there was nothing."""
    after: Any


def merged(target: Any, patch: Any) -> Any:
    """Null takes a member away; objects are merged, everything else is replaced."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """Field by field, in the order of the fields."""
    return list(_differences("", before, after))


def _differences(place: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _differences(_under(place, name), before.get(name), after.get(name))
        return
    keyed_before, keyed_after = _by_key(before), _by_key(after)
    if keyed_before is not None and keyed_after is not None and (keyed_before or keyed_after):
        yield from _differences(place, keyed_before, keyed_after)
        order = [key for key in keyed_before if key in keyed_after]
        order_after = [key for key in keyed_after if key in keyed_before]
        if order != order_after:
            yield FieldChange(f"{place} (order)", order, order_after)
        return
    if not _same(before, after):
        yield FieldChange(place, before, after)


def _by_key(value: Any) -> dict[str, Any] | None:
    """None where it is no list of things that each have a key of their own."""
    if not isinstance(value, list | tuple):
        return None
    found: dict[str, Any] = {}
    for item in value:
        key = item.get("key") if isinstance(item, Mapping) else None
        if not isinstance(key, str) or key in found:
            return None
        found[key] = {name: inner for name, inner in item.items() if name != "key"}
    return found


def _under(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _same(before: Any, after: Any) -> bool:
    """As JSON: true is not 1."""
    return _text(before) == _text(after)


def _text(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
