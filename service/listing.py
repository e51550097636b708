"""Pages of a list: sorted, and going on where the page before ended, whatever changed since. Pure.

A cursor holds the place of the last row, not a number of rows: what is added or removed before it
neither repeats a row nor skips one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

import orjson
from fastapi import Request

from service.problems import Kind, Problem, shortened

Row = TypeVar("Row")
Place = tuple[int | str, str]
"""What it is sorted by, and its key, which tells equal ones apart."""

LONGEST_CURSOR = 1_024


class Page(NamedTuple, Generic[Row]):
    rows: list[Row]
    total: int
    next_cursor: str | None


def page(
    rows: Iterable[Row],
    place: Callable[[Row], Place],
    *,
    limit: int,
    sort: str = "",
    descending: bool = False,
    cursor: str | None = None,
) -> Page[Row]:
    """`sort` is the name of the order; a cursor goes on in its own order alone."""
    ordered = sorted(rows, key=place, reverse=descending)
    rest = ordered
    if cursor is not None:
        last = _place_in(cursor, sort)
        try:
            rest = [row for row in ordered if _follows(place(row), last, descending=descending)]
        except TypeError as error:
            raise _wrong(cursor) from error
    shown = rest[:limit]
    more = _cursor(sort, place(shown[-1])) if len(rest) > len(shown) and shown else None
    return Page(shown, len(ordered), more)


def link_to_next(request: Request, cursor: str | None) -> dict[str, str]:
    """The header that leads to the next page; none on the last."""
    if cursor is None:
        return {}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    query = urlencode([*kept, ("cursor", cursor)])
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}


def _follows(place: Place, last: Place, *, descending: bool) -> bool:
    return place < last if descending else place > last


def _cursor(sort: str, place: Place) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([sort, *place])).decode().rstrip("=")


def _place_in(cursor: str, sort: str) -> Place:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        of, value, key = orjson.loads(text)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _wrong(cursor) from error
    if of != sort or not isinstance(value, int | str) or not isinstance(key, str):
        raise _wrong(cursor)
    return value, key


def _wrong(cursor: str) -> Problem:
    return Problem(
        Kind.INVALID_REQUEST,
        f"cursor is {shortened(cursor)!r}; it must be the next_cursor of a page in the same order",
    )
