"""The tokens of ClickHouse's SQL, as far as quotes, comments and brackets go.

The text is bytes decoded as Latin-1, one character a byte: what follows an INSERT may be binary,
and a query may hold strings in any encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

BLANKS = " \t\r\n\f"
# `open` is a quote or comment that never ends: it takes the rest, so that a long text with a stray
# quote is still read once.
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
    re.VERBOSE | re.DOTALL | re.ASCII,
)


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int
    depth: int

    def says(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word


def tokens(text: str) -> Iterator[Token]:
    depth = 0
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup or "sign"
        if kind == "space":
            continue
        if kind == "sign" and found[0] in ")]}":
            depth -= 1
        yield Token(kind, found[0], found.start(), found.end(), depth)
        if kind == "sign" and found[0] in "([{":
            depth += 1
