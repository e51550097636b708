"""The audit log as ClickHouse has it: pages for people, and all of it in its order for proof."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sinks.clickhouse import LastingClient, typed_errors
from sinks.settings import ClickHouseSettings

_FIELDS = (
    *("event_id", "ts", "actor", "action", "target", "before", "after", "request_id", "comment"),
    *("chain", "sequence", "previous_hash", "hash"),
)
_COLUMNS = ", ".join(
    "toUnixTimestamp64Milli(ts) AS ts_ms" if field == "ts" else field for field in _FIELDS
)
# An entry may hold states of 800,000 characters.
_ROWS_AT_ONCE = 500
_QUERY_SECONDS = 30
_LATEST_MS = 10_413_791_999_000


class AuditRow(NamedTuple):
    offset: int
    fields: Mapping[str, Any]
    """As in Kafka: `ts` in milliseconds since 1970."""


class AuditFilter(NamedTuple):
    actor: str | None = None
    action: str | None = None
    """One that ends with `*` stands for all that begin like it."""
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Not included."""


class AuditLog:
    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client = LastingClient(settings)

    async def page(self, wanted: AuditFilter, before: int | None, limit: int) -> list[AuditRow]:
        """The newest first; `before` is the last offset of the page before."""
        where, parameters = _conditions(wanted, before)
        # The first of several with one id: it was sent again after an answer that was lost.
        rows = await self._rows(
            f"SELECT _offset, {_COLUMNS} FROM audit_log {where} "  # noqa: S608  # names are ours
            "ORDER BY _offset DESC LIMIT 1 BY event_id LIMIT {limit:UInt32}",
            {**parameters, "limit": limit},
        )
        return [_row(row) for row in rows]

    async def heads(self, most: int = 200) -> dict[str, tuple[int, str]]:
        """The last sequence and hash of the chains that were written to last."""
        rows = await self._rows(
            "SELECT chain, max(sequence), argMax(hash, sequence) FROM audit_log "
            "WHERE chain != '' GROUP BY chain ORDER BY max(ts) DESC LIMIT {most:UInt32}",
            {"most": most},
        )
        return {chain: (sequence, hash_) for chain, sequence, hash_ in rows}

    async def of_action(self, action: str) -> list[AuditRow]:
        rows = await self._rows(
            f"SELECT _offset, {_COLUMNS} FROM audit_log "  # noqa: S608  # names are ours
            "WHERE action = {action:String} ORDER BY _offset",
            {"action": action},
        )
        return [_row(row) for row in rows]

    async def everything(self) -> AsyncIterator[AuditRow]:
        """In the order of the log."""
        place = (-1, "", 0)
        while True:
            rows = await self._rows(
                f"SELECT _offset, {_COLUMNS} FROM audit_log "  # noqa: S608  # names are ours
                "WHERE (_offset, chain, sequence) > "
                "({offset:Int64}, {chain:String}, {sequence:Int64}) "
                "ORDER BY _offset, chain, sequence LIMIT {limit:UInt32}",
                dict(zip(("offset", "chain", "sequence"), place, strict=True))
                | {"limit": _ROWS_AT_ONCE},
            )
            for found in map(_row, rows):
                place = (found.offset, found.fields["chain"], found.fields["sequence"])
                yield found
            if len(rows) < _ROWS_AT_ONCE:
                return

    async def close(self) -> None:
        await self._client.close()

    async def _rows(self, statement: str, parameters: dict[str, Any]) -> Sequence[Any]:
        with typed_errors(self._settings):
            client = await self._client.get()
            answer = await client.query(
                statement, parameters=parameters, settings={"max_execution_time": _QUERY_SECONDS}
            )
            return answer.result_rows


def _conditions(wanted: AuditFilter, before: int | None) -> tuple[str, dict[str, Any]]:
    action, action_is = wanted.action, "action = {action:String}"
    if action is not None and action.endswith("*"):
        action, action_is = action[:-1], "startsWith(action, {action:String})"
    possible: tuple[tuple[str, str, Any], ...] = (
        ("actor = {actor:String}", "actor", wanted.actor),
        (action_is, "action", action),
        ("target = {target:String}", "target", wanted.target),
        ("ts >= fromUnixTimestamp64Milli({since:Int64})", "since", _ms(wanted.since)),
        ("ts < fromUnixTimestamp64Milli({until:Int64})", "until", _ms(wanted.until)),
        ("_offset < {before:Int64}", "before", before),
    )
    given = [(text, name, value) for text, name, value in possible if value is not None]
    where = "WHERE " + " AND ".join(text for text, _, _ in given) if given else ""
    return where, {name: value for _, name, value in given}


def _ms(at: datetime | None) -> int | None:
    """Within what a DateTime64 can hold, which no entry lies outside of."""
    return None if at is None else min(max(0, int(at.timestamp() * 1000)), _LATEST_MS)


def _row(row: Sequence[Any]) -> AuditRow:
    offset, *values = row
    return AuditRow(offset, dict(zip(_FIELDS, values, strict=True)))
