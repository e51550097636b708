"""The bytes of the definition log as fields, whichever of our schemas they were written with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, cast

from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException

from anabranch.definition_records import LogRecord, Unreadable
from anabranch.encoding import without_logical_types
from anabranch.events import ExperimentRecord
from anabranch.registry import Registry, RegistryUnavailableError, UnknownSchemaError
from schemas.releases import releases

SchemaOf = Callable[[int], str]
"""Raises UnknownSchemaError, or RegistryUnavailableError: then nothing is known of the id."""

_PREFIX_BYTES = 5


def released_schema(schema_id: int) -> str:
    """Where the registry is our own."""
    for release in releases():
        if release.id == schema_id:
            return release.schema_text
    raise UnknownSchemaError(f"schema {schema_id} is none of our releases")


def registered_schema(registry: Registry) -> SchemaOf:
    """Our own releases while the registry does not answer."""

    def schema_of(schema_id: int) -> str:
        try:
            return registry.schema(schema_id)
        except RegistryUnavailableError as error:
            try:
                return released_schema(schema_id)
            except UnknownSchemaError:
                raise error from None

    return schema_of


class DefinitionDecoder:
    def __init__(self, schema_of: SchemaOf) -> None:
        self._schema_of = schema_of
        self._reader = _parsed(ExperimentRecord.SCHEMA)
        self._writers: dict[int, Any] = {}

    async def decode(self, offset: int, key: bytes | None, value: bytes | None) -> LogRecord:
        """Raises RegistryUnavailableError: the record may be a good one."""
        return LogRecord(offset, key, await self._content(value))

    async def _content(self, value: bytes | None) -> Mapping[str, Any] | Unreadable:
        if value is None:
            return Unreadable("it has no value; a deletion is a record with the status deleted")
        if len(value) < _PREFIX_BYTES or value[0] != 0:
            return Unreadable("it does not begin with a zero and a schema id")
        schema_id = int.from_bytes(value[1:_PREFIX_BYTES], "big")
        writer = await self._writer(schema_id)
        if isinstance(writer, Unreadable):
            return writer
        body = BytesIO(value[_PREFIX_BYTES:])
        try:
            fields = cast(dict[str, Any], schemaless_reader(body, writer, self._reader))
        except (SchemaResolutionError, ValueError, TypeError, LookupError, EOFError) as error:
            why = str(error) or type(error).__name__
            return Unreadable(f"it is not a record of schema {schema_id}: {why}")
        if rest := len(body.read()):
            return Unreadable(f"{rest} bytes are left over after schema {schema_id}")
        return fields

    async def _writer(self, schema_id: int) -> Any:
        if schema_id not in self._writers:
            try:
                # In a thread: it may ask the registry.
                text = await asyncio.to_thread(self._schema_of, schema_id)
                self._writers[schema_id] = _parsed(text)
            except UnknownSchemaError as error:
                return Unreadable(f"its schema is not known: {error}")
            except (SchemaParseException, ValueError, LookupError, TypeError) as error:
                return Unreadable(f"its schema {schema_id} cannot be used: {error}")
        return self._writers[schema_id]


def _parsed(schema_text: str) -> Any:
    return parse_schema(without_logical_types(json.loads(schema_text)))
