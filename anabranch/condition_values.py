"""JSON values as JavaScript compares them, which is what a targeting condition means.

GrowthBook's language was defined by its JavaScript SDK: a text is compared with a number by
turning one into the other as JavaScript does. Every function here is total over JSON values, takes
time linear in the value and does not recurse into it (except along a literal, whose depth is
limited), so that an attribute of any depth or length is safe. A value that JSON does not have
counts as an object.

Numbers beyond 2^53 are compared exactly; JavaScript would round them first.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

KINDS = ("string", "number", "boolean", "array", "object", "null")

# What JavaScript trims before it reads a number; str.strip() takes other characters.
_SPACES = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
# Possessive repeats (`++`): many digits and a letter must not be tried again from each digit.
_DECIMAL = re.compile(r"[+-]?(?:Infinity|(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)")
_BASES = {"0x": 16, "0o": 8, "0b": 2}
_DIGITS = {16: re.compile("[0-9a-fA-F]++"), 8: re.compile("[0-7]++"), 2: re.compile("[01]++")}


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, (list, tuple)) else "object"


def text_of(value: Any) -> str:
    """`String(value)`: null is "null", a list is its items with commas between them."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _text_of_number(value)
    if isinstance(value, (list, tuple)):
        return ",".join(_leaves(value))
    return "[object Object]"


def _leaves(items: Iterable[Any]) -> Iterator[str]:
    # A list in a list is joined with the same comma, so only the leaves and their order matter.
    open_lists = [iter(items)]
    while open_lists:
        for item in open_lists[-1]:
            if isinstance(item, (list, tuple)) and item:
                open_lists.append(iter(item))
                break
            # null and [] are empty here, although String(null) is "null".
            yield "" if item is None or isinstance(item, (list, tuple)) else text_of(item)
        else:
            open_lists.pop()


def _text_of_number(value: float) -> str:
    """ECMAScript Number::toString: the shortest digits, no exponent from 1e-6 up to 1e21."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    significant = (whole + fraction).lstrip("0")
    # The number is 0.<digits> times ten to the power of `point`.
    point = int(exponent or "0") + len(significant) - len(fraction)
    digits = significant.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def number_of(value: Any) -> float:
    """`Number(value)`: null is 0, a text is read as a whole, what is no number is NaN."""
    if isinstance(value, (int, float)):
        return value
    if value is None:
        return 0
    if isinstance(value, (list, tuple)):
        value = text_of(value)
    if not isinstance(value, str):
        return math.nan
    text = value.strip(_SPACES)
    if not text:
        return 0
    base = _BASES.get(text[:2].lower())
    if base is not None:
        return _whole_number(text[2:], base)
    return float(text) if _DECIMAL.fullmatch(text) else math.nan


def _whole_number(digits: str, base: int) -> float:
    if not _DIGITS[base].fullmatch(digits):
        return math.nan
    try:
        return float(int(digits, base))
    except OverflowError:
        return math.inf


def truth_of(value: Any) -> bool:
    """`Boolean(value)`: unlike in Python, an empty list or object is true, and NaN is not."""
    if isinstance(value, str):
        return value != ""
    if isinstance(value, (int, float)):
        # NaN alone differs from itself; math.isnan would not take a number of hundreds of digits.
        return value != 0 and value == value
    return value is not None


def comes_before(one: str, other: str) -> bool:
    """Whether the one sorts before the other by UTF-16 units, as texts do in JavaScript."""
    # Only between two characters beyond ASCII can that differ from the order of code points.
    if one.isascii() or other.isascii():
        return one < other
    return one.encode("utf-16-be", "surrogatepass") < other.encode("utf-16-be", "surrogatepass")


def version_of(value: Any) -> str:
    """A version as a text that sorts: numbers padded, no build, a release after its candidates.

    What is neither text nor number counts as version 0, a missing attribute too.
    """
    if not isinstance(value, str):
        value = text_of(value) if kind_of(value) == "number" else ""
    # Remembered, as services have few versions; but never a text that would fill the memory.
    return _remembered_version(value) if len(value) <= 64 else _padded_version(value)


def _padded_version(text: str) -> str:
    text = text or "0"
    # The build reaches to the end of the text; JavaScript's `.` does not cross a line's end.
    line = max(map(text.rfind, "\n\r\u2028\u2029")) + 1
    build = text.find("+", line)
    if build >= 0:
        text = text[:build]
    parts = text.removeprefix("v").replace("-", ".").split(".")
    if len(parts) == 3:
        parts.append("~")
    return "-".join(part.rjust(5) if part.isdigit() and part.isascii() else part for part in parts)


_remembered_version = functools.lru_cache(maxsize=1024)(_padded_version)


def same_json(literal: Any, value: Any) -> bool:
    """Whether `JSON.stringify` writes both alike: order of keys counts, 1.0 is 1, NaN is null.

    Recurses as deep as the literal goes.
    """
    if isinstance(value, float) and not math.isfinite(value):
        value = None
    kind = kind_of(literal)
    if kind != kind_of(value):
        return False
    if kind == "array":
        return len(literal) == len(value) and all(map(same_json, literal, value))
    if kind == "object":
        # What only looks like an object (no JSON) has no keys to compare.
        return (
            isinstance(value, Mapping)
            and len(literal) == len(value)
            and _keys_in_order(literal) == _keys_in_order(value)
            and all(same_json(literal[key], value[key]) for key in literal)
        )
    return bool(literal == value)


def _keys_in_order(value: Mapping[str, Any]) -> list[str]:
    """JavaScript puts keys that are array indices first, by number, then the others as written."""
    indices = [key for key in value if is_index(key, 2**32 - 1)]
    if not indices:
        return list(value)
    return sorted(indices, key=int) + [key for key in value if not is_index(key, 2**32 - 1)]


def is_index(key: Any, length: int) -> bool:
    """Whether the key is an index below the length, written as JavaScript does: "0", never "00"."""
    return (
        isinstance(key, str)
        and 0 < len(key) <= 10
        and key.isascii()
        and key.isdigit()
        and (key == "0" or key[0] != "0")
        and int(key) < length
    )


def path_of(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))


def at_path(value: Any, path: tuple[str, ...]) -> Any:
    """What is at a dotted path, or None. A list has its indices and `length`.

    Own keys only: the JavaScript SDK also finds what every object inherits (`constructor`).
    """
    for key in path:
        # The class first: to ask an abstract class takes as long as all the rest.
        if value.__class__ is dict or isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, (list, tuple)):
            if key == "length":
                value = len(value)
            elif is_index(key, len(value)):
                value = value[int(key)]
            else:
                return None
        else:
            return None
    return value
