"""One record's bytes as a value, for people: `tail`, and whoever looks at dead letters."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, cast

import fastavro
from fastavro.schema import SchemaParseException

from anabranch.registry import Registry, RegistryError, RegistryUnavailableError
from schemas.releases import Release, releases

_PREFIX = struct.Struct(">bI")
_ASK_AGAIN_SECONDS = 10.0


class UndecodableError(Exception):
    """The bytes are no event. The text says why."""


class _Reader(NamedTuple):
    parsed: Any
    pairs: frozenset[str]
    """Fields that are objects in JSON."""


class Decoder:
    """Schemas by id: from the registry, or our own releases while it does not answer."""

    def __init__(
        self,
        registry: Registry,
        own: tuple[Release, ...] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._own = {release.id: release for release in (releases() if own is None else own)}
        self._clock = clock
        self._readers: dict[int, _Reader] = {}
        self._refused: dict[int, tuple[float, str]] = {}

    def decode(self, payload: bytes | None) -> dict[str, Any] | None:
        """The event in the form it has in JSON; None for a tombstone."""
        if payload is None:
            return None
        if len(payload) < _PREFIX.size:
            raise UndecodableError(f"{len(payload)} bytes are too few for an event")
        magic, schema_id = _PREFIX.unpack_from(payload)
        if magic != 0:
            raise UndecodableError(f"the first byte is {magic & 255}, and should be 0")
        reader = self._reader(schema_id)
        body = io.BytesIO(payload[_PREFIX.size :])
        try:
            event: dict[str, Any] = cast(Any, fastavro.schemaless_reader(body, reader.parsed, None))
        except (EOFError, ValueError, IndexError, TypeError, OverflowError) as error:
            reason = str(error) or type(error).__name__
            raise UndecodableError(f"not a record of schema {schema_id}: {reason}") from error
        if rest := len(body.read()):
            raise UndecodableError(f"{rest} bytes are left over after schema {schema_id}")
        return {name: _in_json(name, value, reader.pairs) for name, value in event.items()}

    def _reader(self, schema_id: int) -> _Reader:
        if schema_id not in self._readers:
            until, reason = self._refused.get(schema_id, (0.0, ""))
            if self._clock() < until:
                raise UndecodableError(reason)
            try:
                text = self._schema_text(schema_id)
            except RegistryError as error:
                reason = f"schema {schema_id} is not known: {error}"
                self._refused[schema_id] = (self._clock() + _ASK_AGAIN_SECONDS, reason)
                raise UndecodableError(reason) from error
            try:
                schema = json.loads(text)
                pairs = frozenset(field["name"] for field in schema["fields"] if field.get("pairs"))
                self._readers[schema_id] = _Reader(fastavro.parse_schema(schema), pairs)
            except (SchemaParseException, ValueError, LookupError, TypeError) as error:
                raise UndecodableError(f"schema {schema_id} is not of a record") from error
        return self._readers[schema_id]

    def _schema_text(self, schema_id: int) -> str:
        try:
            return self._registry.schema(schema_id)
        except RegistryUnavailableError:
            if schema_id not in self._own:
                raise
            return self._own[schema_id].schema_text


def _in_json(name: str, value: Any, pairs: frozenset[str]) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if name in pairs:
        return {pair["name"]: pair["value"] for pair in value}
    return value
