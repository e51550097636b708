"""A multipart form: the query and its parameters as fields, tables sent along as files."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from sinks.embedded.engine import Connection
from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.quoting import identifier, quoted
from sinks.embedded.spool import Spool, SpoolSpace

_MAX_FIELD_BYTES = 16 << 20
_FORMAT = re.compile(r"^[A-Za-z]\w*$")


@dataclass(frozen=True, slots=True)
class ExternalTable:
    """Data sent along with a query, a temporary table while it runs."""

    name: str
    format: str
    structure: str
    data: Spool

    def make(self, connection: Connection) -> None:
        # The structure is SQL as the client wrote it, by design of the protocol.
        connection.run(f"CREATE TEMPORARY TABLE {identifier(self.name)} ({self.structure})")
        connection.run(
            f"INSERT INTO {identifier(self.name)} FROM INFILE {quoted(self.data.path)}"
            f" COMPRESSION 'none' FORMAT {self.format}"
        )

    def drop(self, connection: Connection) -> None:
        connection.run(f"DROP TEMPORARY TABLE IF EXISTS {identifier(self.name)}")


@dataclass(slots=True)
class Form:
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, Spool] = field(default_factory=dict)

    def tables(self, given: Mapping[str, str]) -> tuple[ExternalTable, ...]:
        return tuple(_table(name, data, given) for name, data in self.files.items())

    def close(self) -> None:
        for data in self.files.values():
            data.close()


def _table(name: str, data: Spool, given: Mapping[str, str]) -> ExternalTable:
    structure = given.get(f"{name}_structure", "")
    types = given.get(f"{name}_types", "")
    if not structure and types:
        structure = ", ".join(f"_{at} {kind}" for at, kind in enumerate(types.split(","), 1))
    if not structure:
        raise ClickHouseError(
            Code.BAD_REQUEST_PARAMETER,
            f"The external table {name} has neither {name}_structure nor {name}_types.",
        )
    output_format = given.get(f"{name}_format", "TabSeparated")
    if not _FORMAT.match(output_format):
        raise ClickHouseError(Code.UNKNOWN_FORMAT, f"Unknown format {output_format}.")
    return ExternalTable(name, output_format, structure, data)


async def read_form(body: AsyncIterator[bytes], content_type: str, space: SpoolSpace) -> Form:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise ClickHouseError(Code.BAD_REQUEST_PARAMETER, "A multipart form without its boundary.")
    reader = _Reader(space)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": reader.begin,
            "on_header_field": reader.header_name_part,
            "on_header_value": reader.header_value_part,
            "on_header_end": reader.header_end,
            "on_headers_finished": reader.headers_end,
            "on_part_data": reader.data,
            "on_part_end": reader.end,
        },
    )
    try:
        async for chunk in body:
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError as error:
        reader.form.close()
        raise ClickHouseError(
            Code.BAD_REQUEST_PARAMETER, f"The multipart form cannot be read: {error}."
        ) from error
    except BaseException:
        reader.form.close()
        raise
    return reader.form


class _Reader:
    def __init__(self, space: SpoolSpace) -> None:
        self.form = Form()
        self._space = space
        self.begin()

    def begin(self) -> None:
        self._header_name = b""
        self._header_value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._value = bytearray()
        self._file: Spool | None = None

    def header_name_part(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def header_value_part(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = parse_options_header(self._header_value)[1]
        self._header_name = self._header_value = b""

    def headers_end(self) -> None:
        if b"filename" in self._disposition:
            self._file = self.form.files[self._name] = self._space.new()

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise ClickHouseError(
                Code.QUERY_IS_TOO_LARGE,
                f"The form's field {self._name} is longer than {_MAX_FIELD_BYTES} bytes.",
            )

    def end(self) -> None:
        if self._file is None:
            self.form.fields[self._name] = self._value.decode(errors="replace")

    @property
    def _name(self) -> str:
        return self._disposition.get(b"name", b"").decode(errors="replace")
