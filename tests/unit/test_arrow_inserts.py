"""What ClickHouse is sent: one batch of rows, and fields that are null only where a value is."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from streams.arrow_inserts import arrow_insert


def read(data: memoryview) -> pa.RecordBatchReader:
    return pa.ipc.open_stream(pa.py_buffer(data))


def rows(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def test_rows_arrive_as_they_were_in_one_batch_without_a_byte_too_many() -> None:
    frame = pl.DataFrame({"unit": ["a", "ü", ""], "n": [1, 2, 3]})
    parts = rows(pl.concat([frame, frame], rechunk=False))
    insert = arrow_insert("turns", parts)
    assert (insert.table, insert.format, insert.rows) == ("turns", "ArrowStream", 6)
    batches = list(read(insert.data))
    assert [len(batch) for batch in batches] == [6]
    assert batches[0].to_pydict() == parts.to_pydict()
    end_of_stream = b"\xff\xff\xff\xff\x00\x00\x00\x00"
    assert bytes(insert.data).endswith(end_of_stream)


def test_fields_are_nullable_only_where_there_is_a_null() -> None:
    frame = pl.DataFrame(
        {
            "always": [1, 2],
            "sometimes": [None, 2],
            "exposures": [
                [{"experiment": "e", "version": 1}],
                [{"experiment": "f", "version": None}],
            ],
        }
    )
    schema = read(arrow_insert("turns", rows(frame)).data).schema
    assert [field.nullable for field in schema] == [False, True, False]
    item = schema.field("exposures").type.value_field
    assert not item.nullable
    assert [item.type.field(n).nullable for n in range(2)] == [False, True]
