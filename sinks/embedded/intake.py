"""A body as it arrives: the text of a query, or an INSERT and its data in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.inserts import DataInsert, Incomplete, read_insert
from sinks.embedded.spool import Spool, SpoolSpace

_MAX_TEXT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class TextQuery:
    text: bytes


@dataclass(frozen=True, slots=True)
class InsertQuery:
    """The data are whole in the file before the engine sees any: a client that goes away half-way
    has inserted nothing."""

    insert: DataInsert
    data: Spool


async def take_in(
    body: AsyncIterator[bytes], query: str, space: SpoolSpace
) -> TextQuery | InsertQuery:
    """The query of the URL, which the body continues, or the body alone."""
    held = bytearray(f"{query}\n".encode() if query else b"")
    undecided = True
    look_at = 0
    async for chunk in body:
        held += chunk
        # Doubled each time: a long text that stays undecided is not read again for every chunk.
        if undecided and len(held) >= look_at:
            look_at = 2 * len(held)
            try:
                insert = read_insert(bytes(held), whole=False)
            except Incomplete:
                pass
            else:
                if insert is not None:
                    return await _with_data(insert, held, body, space)
                undecided = False
        if len(held) > _MAX_TEXT_BYTES:
            raise ClickHouseError(
                Code.QUERY_IS_TOO_LARGE,
                f"The text of the query is longer than {_MAX_TEXT_BYTES} bytes.",
            )
    insert = read_insert(bytes(held), whole=True) if undecided else None
    if insert is not None:
        return await _with_data(insert, held, body, space)
    return TextQuery(bytes(held))


async def _with_data(
    insert: DataInsert, held: bytearray, rest: AsyncIterator[bytes], space: SpoolSpace
) -> InsertQuery:
    data = space.new()
    try:
        data.write(bytes(held[insert.data_at :]))
        held.clear()
        async for chunk in rest:
            data.write(chunk)
    except BaseException:
        data.close()
        raise
    return InsertQuery(insert, data)
