"""Where the data of an INSERT begin, and what a statement is, without the engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.embedded.errors import ClickHouseError
from sinks.embedded.inserts import Incomplete, read_insert
from sinks.embedded.statements import read_statement


@pytest.mark.parametrize(
    ("sql", "form", "data"),
    [
        (b"INSERT INTO t VALUES (1)", "Values", b" (1)"),
        (b"insert into t(a) values(1)", "Values", b"(1)"),
        (b"INSERT INTO t FORMAT TSV\n1\n", "TSV", b"1\n"),
        (b"INSERT INTO t FORMAT TSV  \r\n\n1", "TSV", b"\n1"),
        (b"INSERT INTO db.format FORMAT CSV\n1", "CSV", b"1"),
        (b"WITH 1 AS insert, (SELECT 2) AS y INSERT INTO t FORMAT CSV\n1;", "CSV", b"1;"),
        (b"INSERT INTO format (`values`) FORMAT CSV\n1", "CSV", b"1"),
        (b"INSERT INTO TABLE db.t -- FORMAT x\n FORMAT CSV\n1", "CSV", b"1"),
        (b"/* values */ INSERT INTO FUNCTION f('x', 'FORMAT y') FORMAT CSV\n1", "CSV", b"1"),
        (b"INSERT INTO t SETTINGS a = 'VALUES' FORMAT Native\n\x00\xff'", "Native", b"\x00\xff'"),
        ("INSERT INTO `tä` FORMAT CSV\nü".encode(), "CSV", "ü".encode()),
    ],
)
def test_insert_data_begin_where_clickhouse_has_them(sql: bytes, form: str, data: bytes) -> None:
    found = read_insert(sql, whole=True)
    assert found is not None
    assert (found.format, sql[found.data_at :]) == (form, data)


@given(st.binary(max_size=200))
def test_insert_data_may_be_any_bytes(data: bytes) -> None:
    head = b"INSERT INTO t (a, `b`) FORMAT RowBinary\n"
    found = read_insert(head + data, whole=True)
    assert found is not None
    assert found.data_at == len(head)


@given(st.integers(min_value=0, max_value=60))
def test_insert_is_never_cut_wrongly_when_it_comes_in_pieces(size: int) -> None:
    whole = b'INSERT INTO t (a) SETTINGS x = \'y\' FORMAT JSONEachRow \r\n{"a": 1} {"a": 2}'
    expected = read_insert(whole, whole=True)
    try:
        found = read_insert(whole[:size], whole=False)
    except Incomplete:
        return
    assert found == expected


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT 1",
        b"INSERT INTO t SELECT 1 FORMAT TSV",
        b"INSERT INTO t (a) (SELECT 1)",
        b"INSERT INTO t",
        b"WITH 1 AS x INSERT INTO t SELECT x",
        b"",
        b"-- nothing",
    ],
)
def test_statement_without_data_is_no_data_insert(sql: bytes) -> None:
    assert read_insert(sql, whole=True) is None


def test_data_of_a_file_on_the_server_are_refused() -> None:
    with pytest.raises(ClickHouseError, match="INFILE is not allowed"):
        read_insert(b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT TSV", whole=True)


def test_insert_keeps_its_settings_in_front_of_the_format() -> None:
    found = read_insert(b"INSERT INTO t SETTINGS a = 1 FORMAT CSV\n1", whole=True)
    assert found is not None
    sql = found.of_file("/dev/fd/9", "/*mark*/").decode()
    assert " ".join(sql.split()) == (
        "INSERT INTO t FROM INFILE '/dev/fd/9' /*mark*/ COMPRESSION 'none'"
        " SETTINGS a = 1 FORMAT CSV"
    )


def test_input_function_reads_the_file() -> None:
    found = read_insert(
        "INSERT INTO `tä` SELECT b FROM input('b UInt8') FORMAT CSV\n1".encode(), whole=True
    )
    assert found is not None
    assert "FROM file('/dev/fd/9', 'CSV', 'b UInt8')" in found.of_file("/dev/fd/9", "").decode()


@pytest.mark.parametrize(
    ("sql", "text", "form", "settings"),
    [
        ("SELECT 1", "SELECT 1", None, ""),
        ("SELECT 1 FORMAT JSON;", "SELECT 1", "JSON", ""),
        ("SELECT 1 format JSON SETTINGS a=1 -- x", "SELECT 1", "JSON", "SETTINGS a=1"),
        ("SELECT format FROM t", "SELECT format FROM t", None, ""),
        ("SELECT * FROM (SELECT 1 FORMAT)", "SELECT * FROM (SELECT 1 FORMAT)", None, ""),
        ("SELECT ';' AS `;` /* ; */", "SELECT ';' AS `;`", None, ""),
        ("SELECT $x$ ; FORMAT JSON $x$", "SELECT $x$ ; FORMAT JSON $x$", None, ""),
    ],
)
def test_format_clause_is_taken_apart(sql: str, text: str, form: str | None, settings: str) -> None:
    found = read_statement(sql.encode())
    assert (found.text, found.format, found.settings) == (text, form, settings)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "empty query"),
        (" ; -- nothing", "empty query"),
        ("SELECT 1; DROP TABLE t", "Multi-statements"),
        ("SELECT 1 INTO OUTFILE 'x'", "INTO OUTFILE is not allowed"),
        ("SELECT 'open", "position 8 is not closed"),
        ("SELECT 1 /* open", "position 10 is not closed"),
    ],
)
def test_statement_that_a_server_refuses_is_refused(sql: str, message: str) -> None:
    with pytest.raises(ClickHouseError, match=message):
        read_statement(sql.encode())


@pytest.mark.parametrize(
    "verb", ["SELECT 1", "WITH 1 AS x SELECT x", "show tables", "(SELECT 1)", "USE x"]
)
def test_reading_changes_nothing(verb: str) -> None:
    assert not read_statement(verb.encode()).changes


@pytest.mark.parametrize(
    "verb",
    ["DROP TABLE t", "INSERT INTO t SELECT 1", "WITH 1 AS x INSERT INTO t SELECT x", "SYSTEM x"],
)
def test_everything_else_changes_something(verb: str) -> None:
    assert read_statement(verb.encode()).changes


def test_statement_may_hold_strings_in_any_encoding() -> None:
    sql = b"SELECT '\xff\xa0\x85' AS `\xc3\xa0`"
    assert read_statement(sql + b" \n").alone == sql


def test_clause_is_added_behind_a_comment_that_ends_the_text() -> None:
    sql = read_statement(b"SELECT 1 -- one\nFORMAT CSV").into("/dev/fd/9", "CSV", "")
    assert sql.index(b"\nINTO OUTFILE") > sql.index(b"-- one")


def test_long_text_with_a_stray_quote_is_read_once() -> None:
    with pytest.raises(ClickHouseError, match="not closed"):
        read_statement(b"SELECT 1, '" + b"'' /* " * 200_000)
