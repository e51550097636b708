"""Regular expressions in time linear in the text, whatever expression and text are.

RE2 reads them. Where it takes what JavaScript reads in another way, or not at all, the expression
is refused, so that one which is taken means the same in a GrowthBook SDK. What remains of
difference: a character beyond U+FFFF counts as one here and as two in JavaScript, and ignoring
case folds a few letters more (the Kelvin sign is a k).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import re2  # type: ignore[import-untyped]

# A step of the compiled expression costs about a nanosecond for each byte of text at worst.
MOST_STEPS = 2_000

# JavaScript's meaning of what RE2 reads as ASCII only, inside and outside of brackets.
_SPACES = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_NO_SPACES = (
    r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}"
    r"\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}"
)
_ANY = r"[^\n\r\x{2028}\x{2029}]"

_PIECE = re.compile(
    r"\\(?:u(?P<unit>[0-9a-fA-F]{4})|x(?P<byte>[0-9a-fA-F]{2})|(?P<escaped>.))|(?P<group>\(\?(?:<[=!]|<|P[<=>]|.|$))|(?P<one>.)",
    re.DOTALL,
)
_LOOKS_AROUND = {"(?=", "(?!", "(?<=", "(?<!"}
# After a backslash: what RE2 and JavaScript agree on, beside punctuation.
_AGREED = frozenset("dDwWbBtnrfv")
_PLAIN = re.compile(
    r"(?P<start>\^?)(?P<text>(?:[^\\.^$*+?()\[\]{}|]|\\[^0-9A-Za-z\s])*)(?P<end>\$?)"
)


def compile_expression(expression: str, *, ignore_case: bool) -> Callable[[str], bool]:
    """Whether the expression is found anywhere in a text; raises ValueError with what is wrong."""
    translated = _translated(expression)
    plain = None if ignore_case else _PLAIN.fullmatch(expression)
    if plain is not None:
        return _compile_plain(plain)
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 2**21
    options.case_sensitive = not ignore_case
    try:
        compiled = re2.compile(translated, options)
    except re2.error as error:
        detail = error.args[0] if error.args else ""
        detail = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
        raise ValueError(f"it is no regular expression that can be run safely ({detail})") from None
    if compiled.programsize > MOST_STEPS:
        raise ValueError(
            f"it is too large ({compiled.programsize:,} steps when written out, the limit is "
            f"{MOST_STEPS:,}): counted repeats such as {{0,500}} are what makes it so; "
            "use * or + instead"
        )
    search = compiled.search

    def found(text: str) -> bool:
        # Bytes: the library is four times as fast with them. Half a surrogate pair becomes a "?".
        return search(text.encode(errors="replace")) is not None

    return found


def _compile_plain(plain: re.Match[str]) -> Callable[[str], bool]:
    """Most expressions in use are a mere text at the start, at the end or anywhere."""
    wanted = re.sub(r"\\(.)", r"\1", plain["text"])
    if plain["start"] and plain["end"]:
        return lambda text: text == wanted
    if plain["start"]:
        return lambda text: text.startswith(wanted)
    if plain["end"]:
        return lambda text: text.endswith(wanted)
    return lambda text: wanted in text


def _translated(expression: str) -> str:
    """The same expression in RE2's words; refuses what RE2 lacks or would read differently."""
    if any("\ud800" <= one <= "\udfff" for one in expression):
        raise ValueError("it holds half of a surrogate pair, which no text can be written with")
    out: list[str] = []
    in_brackets = False
    for piece in _PIECE.finditer(expression):
        kind, text = piece.lastgroup, piece[0]
        if kind in ("unit", "byte"):
            out.append(f"\\x{{{piece[kind]}}}")
        elif kind == "escaped":
            out.append(_escaped(piece["escaped"], in_brackets))
        elif in_brackets:
            if text == "]" and (out[-1] == "[" or out[-2:] == ["[", "^"]):
                raise ValueError("it has empty brackets, [] or [^]: put characters between them")
            # A bracket in brackets is itself in JavaScript; RE2 might read [:alpha:].
            out.append(text.replace("[", r"\["))
            in_brackets = text != "]"
        elif kind == "group":
            out.append(_group(text))
        elif text == "[":
            in_brackets = True
            out.append(text)
        else:
            out.append(_ANY if text == "." else text)
    return "".join(out)


def _escaped(one: str, in_brackets: bool) -> str:
    if one == "s":
        return _SPACES if in_brackets else f"[{_SPACES}]"
    if one == "S":
        return _NO_SPACES if in_brackets else f"[{_NO_SPACES}]"
    if one in "123456789k":
        raise ValueError(
            f"it refers back to a group (\\{one}), which cannot be run in bounded time: "
            "write out what is to be repeated"
        )
    if one in "AZz":
        raise ValueError(
            f"\\{one} is not an anchor for every client: use ^ for the start, $ for the end"
        )
    if one == "b" and in_brackets:
        return r"\x08"
    if one == "0":
        return r"\x00"
    if one.isalnum() and one not in _AGREED:
        raise ValueError(
            f"\\{one} has no meaning that all clients share: leave it out or write {one}"
        )
    return f"\\{one}"


def _group(start: str) -> str:
    if start in _LOOKS_AROUND:
        raise ValueError(
            f"it looks around ({start}...)), which cannot be run in bounded time: "
            "use two expressions, one of them in $not"
        )
    if start not in ("(?:", "(?<"):
        raise ValueError(
            f"a group that starts with {start} is not known to every client: use (...) or (?:...); "
            "$regexi ignores case"
        )
    return start
