"""What a statement is, as far as a server has to know before the engine parses it.

The engine has no call that takes a statement apart, and three things must be known: where the data
of an INSERT begin (they may be binary), where the FORMAT clause of a SELECT is, and whether there
is more than one statement. A tokenizer answers them; everything else is left to the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sinks.embedded.errors import ClickHouseError, Code

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|\#[!\ ][^\n]*|/\*.*?\*/)
    | (?P<string>'(?:[^'\\]|\\.|'')*')
    | (?P<name>"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
    | (?P<open>['"`].*|/\*.*)
    | (?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<number>\d\w*)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# `open` is a quote or comment that never ends: it takes the rest, so that a long text with a stray
# quote is still read once.
_SELECTS = frozenset({"SELECT", "WITH", "FROM", "("})
_READS = _SELECTS | {"SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK"}
# Allowed in a GET beside what reads, as on a server: they change the session alone.
_SESSION = frozenset({"SET", "USE"})


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int
    depth: int

    def says(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    depth = 0
    for found in _TOKEN.finditer(text, start):
        kind = found.lastgroup or "sign"
        if kind == "space":
            continue
        if kind == "sign" and found[0] in ")]}":
            depth -= 1
        yield Token(kind, found[0], found.start(), found.end(), depth)
        if kind == "sign" and found[0] in "([{":
            depth += 1


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its closing semicolon, its FORMAT clause taken apart."""

    text: str
    verb: str
    format: str | None
    settings: str

    @property
    def selects(self) -> bool:
        return self.verb in _SELECTS

    @property
    def answers(self) -> bool:
        """Whether it has a result, be it empty."""
        return self.verb in _READS or self.verb == "KILL"

    @property
    def changes(self) -> bool:
        return self.verb not in _READS and self.verb not in _SESSION

    def into(self, path: str, output_format: str, mark: str) -> str:
        return (
            # A new line first: the text may end in a comment that goes to the end of its line.
            f"{self.text}\nINTO OUTFILE '{path}' APPEND COMPRESSION 'none'"
            f" FORMAT {output_format} {self.settings} {mark}"
        )

    def plain(self, mark: str) -> str:
        clause = f"FORMAT {self.format}" if self.format else ""
        return f"{self.text}\n{clause} {self.settings} {mark}"


def read_statement(text: str) -> Statement:
    found = list(tokens(text))
    if found and found[-1].kind == "open":
        raise ClickHouseError(
            Code.SYNTAX_ERROR,
            f"Syntax error: the quote or comment at position {found[-1].start + 1} is not closed.",
        )
    end = next((at for at, token in enumerate(found) if token.text == ";"), len(found))
    if any(token.text != ";" for token in found[end:]):
        raise ClickHouseError(Code.SYNTAX_ERROR, "Multi-statements are not allowed.")
    found = found[:end]
    if not found:
        raise ClickHouseError(Code.SYNTAX_ERROR, "Syntax error: empty query.")
    verb = _verb(found)
    if any(
        token.says("INTO") and found[at + 1].says("OUTFILE")
        for at, token in enumerate(found[:-1])
        if token.depth == 0
    ):
        raise ClickHouseError(Code.INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed.")
    cut = _format_clause(found) if verb in _READS else None
    if cut is None:
        return Statement(text[: found[-1].end], verb, None, "")
    return Statement(
        text[: found[cut].start].rstrip(),
        verb,
        found[cut + 1].text,
        text[found[cut + 1].end : found[-1].end].strip(),
    )


def _verb(found: list[Token]) -> str:
    if found[0].says("WITH") and any(t.says("INSERT") and t.depth == 0 for t in found):
        return "INSERT"
    return found[0].text.upper()


def _format_clause(found: list[Token]) -> int | None:
    """Where `FORMAT name` stands when only SETTINGS, or nothing, comes after it."""
    for at in range(len(found) - 2, 0, -1):
        if found[at].says("FORMAT") and found[at].depth == 0 and found[at + 1].kind == "word":
            rest = found[at + 2 :]
            return at if not rest or rest[0].says("SETTINGS") else None
    return None


@dataclass(frozen=True, slots=True)
class DataInsert:
    """An INSERT whose data follow its text, `data_at` bytes from the start."""

    head: str
    settings: str
    format: str
    data_at: int
    input_call: tuple[int, int] | None  # where `input(` stands in the head

    def of_file(self, path: str, mark: str) -> str:
        if self.input_call is not None:
            start, end = self.input_call
            call = f"file('{path}', '{self.format}', "
            return f"{self.head[:start]}{call}{self.head[end:]}\n{mark}"
        return (
            f"{self.head}\nFROM INFILE '{path}' {mark} COMPRESSION 'none'"
            f" {self.settings} FORMAT {self.format}"
        )


class Incomplete(Exception):  # noqa: N818  # not an error: more bytes will decide
    """The bytes end before it is certain what they are."""


def read_insert(prefix: bytes, *, whole: bool) -> DataInsert | None:
    """The INSERT that the bytes begin with; None when they are none that carries data.

    Raises Incomplete when more bytes are needed to say so, which is never when it is the whole.
    """
    text = prefix.decode("latin-1")  # one character a byte: what follows may be binary
    walk = tokens(text)
    first = next(walk, None)
    if first is not None and first.end < len(text) and not first.says("INSERT"):
        return None
    found = _data_of(prefix, walk) if first is not None and first.says("INSERT") else None
    # The three bytes: a keyword that goes on, or blanks and a line end that belong to it.
    if not whole and (found is None or found.data_at + 3 > len(prefix)):
        raise Incomplete
    return found


def _data_of(prefix: bytes, walk: Iterator[Token]) -> DataInsert | None:
    _skip_target(walk)
    settings_at: int | None = None
    selects = False
    input_call: tuple[int, int] | None = None
    before: Token | None = None
    for token in walk:
        if before is not None and before.says("INPUT") and token.text == "(":
            input_call = (before.start, token.end)
        elif token.depth == 0 and token.kind == "word":
            word = token.text.upper()
            if word == "INFILE":
                raise ClickHouseError(Code.NOT_IMPLEMENTED, "FROM INFILE is not allowed over HTTP.")
            if word in {"SELECT", "WITH", "WATCH"}:
                selects = True
            elif word == "SETTINGS" and not selects:
                settings_at = token.start
            elif word == "VALUES" and not selects:
                return _insert(prefix, token.start, settings_at, "Values", token.end, None)
            elif word == "FORMAT" and (input_call or not selects):
                name = next(walk, None)
                if name is not None and name.kind == "word":
                    data_at = _after_format(prefix, name.end)
                    return _insert(prefix, token.start, settings_at, name.text, data_at, input_call)
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
    prefix: bytes,
    head_end: int,
    settings_at: int | None,
    name: str,
    data_at: int,
    input_call: tuple[int, int] | None,
) -> DataInsert:
    cut = head_end if settings_at is None else settings_at
    try:
        head = prefix[:cut].decode()
        settings = prefix[cut:head_end].decode()
    except UnicodeDecodeError as error:
        raise ClickHouseError(
            Code.INCORRECT_DATA, f"The query is not UTF-8: {error.reason} at byte {error.start}."
        ) from error
    if input_call is not None:
        # The offsets are in bytes; the head is text now.
        input_call = (
            len(prefix[: input_call[0]].decode()),
            len(prefix[: input_call[1]].decode()),
        )
    return DataInsert(head.rstrip(), settings.strip(), name, data_at, input_call)


def _after_format(prefix: bytes, at: int) -> int:
    """As ClickHouse has it: blanks, then one line end, belong to the statement."""
    while prefix[at : at + 1] in (b" ", b"\t", b"\f"):
        at += 1
    if prefix[at : at + 1] == b"\r":
        at += 1
    if prefix[at : at + 1] == b"\n":
        at += 1
    return at
