from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.commands.tail import as_json, as_text, moment, printable
from service.errors import CommandError
from streams.tail import TailedRecord

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def record(text: str, timestamp_ms: int = 0) -> TailedRecord:
    raw = text.encode(errors="replace")
    return TailedRecord(
        topic="outcomes.v1",
        partition=0,
        offset=1,
        timestamp_ms=timestamp_ms,
        key=raw,
        headers=(("dlq.reason", raw),),
        payload=raw,
        event={"unit": text},
        problem=None,
    )


@given(st.text())
def test_no_event_can_write_to_the_terminal(text: str) -> None:
    assert printable(text).isprintable()
    for line in (as_json(record(text)), as_text(record(text)).plain):
        assert line.isprintable()
    assert json.loads(as_json(record(text)))["event"] == {"unit": text}


def test_record_that_cannot_be_decoded_shows_the_reason_and_how_it_begins() -> None:
    bad = record("x" * 40)._replace(event=None, problem="not Avro")
    assert json.loads(as_json(bad))["problem"] == "not Avro"
    assert as_text(bad).plain.endswith("not Avro " + "78" * 32 + "...")


@pytest.mark.parametrize("timestamp_ms", [-1, 2**62, -(2**62)])
def test_record_with_an_absurd_timestamp_is_shown(timestamp_ms: int) -> None:
    assert as_text(record("u", timestamp_ms)).plain
    assert json.loads(as_json(record("u", timestamp_ms)))["time"]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("10m", NOW - timedelta(minutes=10)),
        ("1d", NOW - timedelta(days=1)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_moment_reads_a_distance_or_a_time(since: str, expected: datetime) -> None:
    assert moment(since, NOW) == expected


@pytest.mark.parametrize("since", ["", "m", "soon", "10x", "9999999999d", "999999d"])
def test_moment_says_what_would_be_right(since: str) -> None:
    with pytest.raises(CommandError, match="--since"):
        moment(since, NOW)
