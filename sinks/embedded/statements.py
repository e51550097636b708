"""What a statement is, as far as a server has to know before the engine parses it.

The engine has no call that takes a statement apart, and it must be known what kind it is, where its
FORMAT clause stands, and whether there is more than one. Everything else is left to the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.tokens import BLANKS, Token, tokens

_SELECTS = frozenset({"SELECT", "WITH", "FROM", "("})
_READS = _SELECTS | {"SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK"}
# Allowed in a GET beside what reads, as on a server: they change the session alone.
_SESSION = frozenset({"SET", "USE"})
_KEPT, _KEPT_BYTES = 256, 32_768


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its closing semicolon, its FORMAT clause taken apart."""

    text: str  # as tokens.py has it
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

    @property
    def alone(self) -> bytes:
        """As its author wrote it, but for comments at its end."""
        clause = f"\nFORMAT {self.format} {self.settings}" if self.format else ""
        return f"{self.text}{clause}".encode("latin-1")

    def into(self, path: str, output_format: str, mark: str) -> bytes:
        return (
            # A new line first: the text may end in a comment that goes to the end of its line.
            f"{self.text}\nINTO OUTFILE '{path}' APPEND COMPRESSION 'none'"
            f" FORMAT {output_format} {self.settings} {mark}"
        ).encode("latin-1")

    def plain(self, mark: str) -> bytes:
        # The mark goes first: behind an INSERT it could be taken for data.
        return mark.encode() + b" " + self.alone


def read_statement(query: bytes) -> Statement:
    """Statements come again and again with other parameters; a report's takes 8 ms to read."""
    return _read_again(query) if len(query) <= _KEPT_BYTES else _read(query)


def _read(query: bytes) -> Statement:
    text = query.decode("latin-1")
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
        text[: found[cut].start].rstrip(BLANKS),
        verb,
        found[cut + 1].text,
        text[found[cut + 1].end : found[-1].end].strip(BLANKS),
    )


_read_again = lru_cache(maxsize=_KEPT)(_read)


def _verb(found: list[Token]) -> str:
    if found[0].says("WITH") and any(
        token.says("INSERT") and token.depth == 0 and found[at + 1].says("INTO")
        for at, token in enumerate(found[:-1])
    ):
        return "INSERT"
    return found[0].text.upper()


def _format_clause(found: list[Token]) -> int | None:
    """Where `FORMAT name` stands when only SETTINGS, or nothing, comes after it."""
    for at in range(len(found) - 2, 0, -1):
        if found[at].says("FORMAT") and found[at].depth == 0 and found[at + 1].kind == "word":
            rest = found[at + 2 :]
            return at if not rest or rest[0].says("SETTINGS") else None
    return None
