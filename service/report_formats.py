"""A report as CSV, as an Arrow stream for notebooks, and as Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal

from service.report_rows import COLUMNS, rows

Format = Literal["json", "csv", "arrow", "parquet"]
MEDIA_TYPES: Mapping[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
_ROWS_AT_ONCE = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def parts(report: Mapping[str, Any], form: Format) -> Iterator[bytes]:
    """Piece by piece: however many segments there are, the memory is that of a few rows. Parquet
    alone has its table of contents at the end, and is made whole."""
    if form == "csv":
        return _csv(report)
    if form == "arrow":
        return _arrow(report)
    if form == "parquet":
        # Made when it is asked for: that is in a thread, and not in the event loop.
        return (_parquet(one) for one in (report,))
    raise ValueError(f"{form} is no table")


def _csv(report: Mapping[str, Any]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180
    writer.writerow([column.name for column in COLUMNS])
    for row in rows(report):
        writer.writerow([_cell(value) for value in row])
        if text.tell() > 16_000:
            yield _taken(text)
    yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    found = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return found


def _cell(value: Any) -> Any:
    """A segment's value is whatever somebody sent: a spreadsheet would run it as a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value


def _batches(report: Mapping[str, Any]) -> tuple[Any, Iterator[Any]]:
    import pyarrow as pa  # a second of imports that no other route needs

    types = {"text": pa.string(), "number": pa.float64(), "count": pa.int64()}
    schema = pa.schema([(column.name, types[column.type]) for column in COLUMNS])

    def made() -> Iterator[Any]:
        left = rows(report)
        while some := list(islice(left, _ROWS_AT_ONCE)):
            columns = [
                pa.array(values, field.type)
                for values, field in zip(zip(*some, strict=True), schema, strict=True)
            ]
            yield pa.record_batch(columns, schema=schema)

    return schema, made()


def _arrow(report: Mapping[str, Any]) -> Iterator[bytes]:
    import pyarrow as pa

    schema, batches = _batches(report)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _parquet(report: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    schema, batches = _batches(report)
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_batches(list(batches), schema), sink)
    return sink.getvalue()
