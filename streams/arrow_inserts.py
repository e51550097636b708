"""Rows as ClickHouse reads them cheapest: one Arrow record batch, whose fields are not nullable.

ClickHouse reads a field that may be null as two columns and puts them together again, which costs
as much as the rest of its reading. So only a field that has nulls in these rows is declared so.
"""

from __future__ import annotations

import pyarrow as pa

from sinks.writer import Insert


def arrow_insert(table: str, rows: pa.Table) -> Insert:
    """Of one row at least. One record batch, so that it arrives as one block."""
    rows = rows.combine_chunks()
    (batch,) = rows.cast(_as_it_is(rows)).to_batches()
    size = pa.MockOutputStream()
    _write(batch, size)
    data = pa.allocate_buffer(size.size())  # as much as it takes: one that grows takes twice that
    _write(batch, pa.FixedSizeBufferWriter(data))
    return Insert(table, "ArrowStream", memoryview(data), len(rows))


def _write(batch: pa.RecordBatch, out: pa.NativeFile) -> None:
    with pa.ipc.new_stream(out, batch.schema) as stream:
        stream.write_batch(batch)


def _as_it_is(rows: pa.Table) -> pa.Schema:
    return pa.schema(
        _field(field.name, column.chunk(0))
        for field, column in zip(rows.schema, rows.columns, strict=True)
    )


def _field(name: str, values: pa.Array) -> pa.Field:
    kind = values.type
    if pa.types.is_large_list(kind):
        kind = pa.large_list(_field("item", values.values))
    elif pa.types.is_struct(kind):
        kind = pa.struct([_field(at.name, values.field(n)) for n, at in enumerate(kind)])
    return pa.field(name, kind, nullable=values.null_count > 0)
