"""An INSERT whose data come with it: where the text ends and the data, maybe binary, begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.tokens import BLANKS, Token, tokens


@dataclass(frozen=True, slots=True)
class DataInsert:
    """An INSERT whose data follow its text, `data_at` bytes from the start."""

    head: str  # as tokens.py has it
    settings: str
    format: str
    data_at: int
    input_call: tuple[int, int] | None  # where `input(` stands in the head

    @property
    def alone(self) -> bytes:
        return f"{self.head} {self.settings} FORMAT {self.format}".encode("latin-1")

    def of_file(self, path: str, mark: str) -> bytes:
        if self.input_call is not None:
            start, end = self.input_call
            call = f"file('{path}', '{self.format}', "
            return f"{mark} {self.head[:start]}{call}{self.head[end:]}".encode("latin-1")
        return (
            f"{self.head}\nFROM INFILE '{path}' {mark} COMPRESSION 'none'"
            f" {self.settings} FORMAT {self.format}"
        ).encode("latin-1")


class Incomplete(Exception):  # noqa: N818  # not an error: more bytes will decide
    """The bytes end before it is certain what they are."""


def read_insert(prefix: bytes, *, whole: bool) -> DataInsert | None:
    """The INSERT that the bytes begin with; None when they are none that carries data.

    Raises Incomplete when more bytes are needed to say so, which is never when it is the whole.
    """
    text = prefix.decode("latin-1")
    walk = tokens(text)
    begins = _begin(walk, text)
    found = _data_of(text, walk) if begins else None
    if whole or begins is False:
        return found
    # The three bytes: a keyword that goes on, or blanks and a line end that belong to it.
    if found is None or found.data_at + 3 > len(text):
        raise Incomplete
    return found


def _begin(walk: Iterator[Token], text: str) -> bool | None:
    """Past INSERT, or WITH ... INSERT: yes or no, and None where the bytes end too early."""
    first = next(walk, None)
    if first is None or first.end == len(text):
        return None
    if not first.says("WITH"):
        return first.says("INSERT")
    inserts = False
    for token in walk:
        if inserts and token.says("INTO"):
            return True
        inserts = token.depth == 0 and token.says("INSERT")
        if token.depth == 0 and token.says("SELECT"):
            return False
    return None


def _data_of(text: str, walk: Iterator[Token]) -> DataInsert | None:
    _skip_target(walk)
    settings_at: int | None = None
    selects = False
    input_call: tuple[int, int] | None = None
    before: Token | None = None
    for token in walk:
        if before is not None and before.says("INPUT") and token.text == "(":
            input_call = (before.start, token.end)
        elif before is not None and before.text == ".":
            pass  # a name, whatever it says
        elif token.depth == 0 and token.kind == "word":
            word = token.text.upper()
            if word == "INFILE":
                raise ClickHouseError(Code.NOT_IMPLEMENTED, "FROM INFILE is not allowed over HTTP.")
            if word in {"SELECT", "WITH", "WATCH"}:
                selects = True
            elif word == "SETTINGS" and not selects:
                settings_at = token.start
            elif word == "VALUES" and not selects:
                cut = (token.start if settings_at is None else settings_at, token.start)
                return _insert(text, cut, "Values", token.end, None)
            elif word == "FORMAT" and (input_call or not selects):
                name = next(walk, None)
                if name is not None and name.kind == "word":
                    cut = (token.start if settings_at is None else settings_at, token.start)
                    return _insert(text, cut, name.text, _after_format(text, name.end), input_call)
        elif token.text == "(" and token.depth == 0 and before is not None and before.text == ")":
            selects = True  # INSERT INTO t (a) (SELECT ...)
        before = token
    return None


def _skip_target(walk: Iterator[Token]) -> None:
    """Past INTO [TABLE] [FUNCTION] name, so that a table may be called `format`."""
    for token in walk:
        if not (token.says("INTO") or token.says("TABLE") or token.says("FUNCTION")):
            return


def _insert(
    text: str, cut: tuple[int, int], name: str, data_at: int, input_call: tuple[int, int] | None
) -> DataInsert:
    head, settings = text[: cut[0]].rstrip(BLANKS), text[cut[0] : cut[1]].strip(BLANKS)
    return DataInsert(head, settings, name, data_at, input_call)


def _after_format(text: str, at: int) -> int:
    """As ClickHouse has it: blanks, then one line end, belong to the statement."""
    while text[at : at + 1] in (" ", "\t", "\f"):
        at += 1
    if text[at : at + 1] == "\r":
        at += 1
    if text[at : at + 1] == "\n":
        at += 1
    return at
