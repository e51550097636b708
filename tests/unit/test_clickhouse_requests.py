"""Access, parameters, errors, places and replies of the embedded server, without the engine."""

from __future__ import annotations

import asyncio
import base64
import bz2
import lzma
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from sinks.embedded.access import Access
from sinks.embedded.compression import Inflater, chosen, compressor
from sinks.embedded.errors import ClickHouseError, Code, from_engine
from sinks.embedded.parameters import Parameters, read_parameters
from sinks.embedded.places import Places
from sinks.embedded.quoting import identifier, quoted
from sinks.embedded.replies import Reply
from sinks.embedded.results import Result
from sinks.embedded.spool import SpoolSpace


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        (basic("default", "right"), {}),
        ({"x-clickhouse-user": "default", "x-clickhouse-key": "right"}, {}),
        ({"x-clickhouse-key": "right"}, {}),
        ({}, {"user": "default", "password": "right"}),
        ({}, {"password": "right"}),
    ],
)
def test_access_is_given_to_the_right_password(
    headers: dict[str, str], url: dict[str, str]
) -> None:
    assert Access("default", "right").check(headers, url) == "default"


@pytest.mark.parametrize(
    ("headers", "url", "code"),
    [
        ({}, {}, Code.REQUIRED_PASSWORD),
        (basic("default", "wrong"), {}, Code.AUTHENTICATION_FAILED),
        (basic("other", "right"), {}, Code.AUTHENTICATION_FAILED),
        (basic("dëfault", "right"), {}, Code.AUTHENTICATION_FAILED),
        ({}, {"user": "default"}, Code.AUTHENTICATION_FAILED),
        ({"authorization": "Bearer right"}, {}, Code.AUTHENTICATION_FAILED),
        ({"authorization": "Basic ???"}, {}, Code.AUTHENTICATION_FAILED),
        (basic("default", "right"), {"user": "default"}, Code.AUTHENTICATION_FAILED),
    ],
)
def test_access_is_refused_without_naming_what_was_wrong(
    headers: dict[str, str], url: dict[str, str], code: Code
) -> None:
    with pytest.raises(ClickHouseError) as caught:
        Access("default", "right").check(headers, url)
    assert caught.value.code == code
    assert "right" not in str(caught.value)


def test_access_without_a_password_is_open_to_its_user_alone() -> None:
    assert Access("default", None).check({}, {}) == "default"
    with pytest.raises(ClickHouseError):
        Access("default", None).check({}, {"user": "other"})


def test_parameters_are_told_from_settings_and_values() -> None:
    pairs = [("query", "SELECT 1"), ("param_a", "x"), ("max_threads", "2"), ("quota_key", "q")]
    found = read_parameters(
        [*pairs, ("wait_end_of_query", "1"), ("t_format", "CSV")], {}, frozenset({"t"})
    )
    assert (found.query, found.values) == ("SELECT 1", {"a": "x"})
    assert found.settings == {"max_threads": "2"}
    assert found.wait_end_of_query


def test_parameters_give_every_query_an_id() -> None:
    first, second = (read_parameters([], {}, frozenset()).query_id for _ in range(2))
    assert first
    assert first != second


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b", "1"),
        ("a=1, b", "1"),
        ("session_timeout", "-1"),
        ("session_timeout", "3601"),
        ("buffer_size", "much"),
        ("wait_end_of_query", "perhaps"),
        ("default_format", "CSV; DROP"),
        ("compress", "1"),
        ("decompress", "1"),
    ],
)
def test_parameters_that_mean_nothing_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ClickHouseError, match=r"[a-z]"):
        read_parameters([(name, value)], {}, frozenset())


@pytest.mark.parametrize(
    ("text", "code", "name", "status"),
    [
        ("Code: 60. DB::Exception: Unknown table t. (UNKNOWN_TABLE)", 60, "UNKNOWN_TABLE", 404),
        (
            "Code: 241. DB::Exception: (total) limit (x). (MEMORY_LIMIT_EXCEEDED)",
            241,
            "MEMORY_LIMIT_EXCEEDED",
            500,
        ),
        (
            "Streaming failed: Code: 159. DB::Exception: Slow. (TIMEOUT_EXCEEDED)",
            159,
            "TIMEOUT_EXCEEDED",
            408,
        ),
        ("something else", 1002, "UNKNOWN_EXCEPTION", 500),
    ],
)
def test_engine_errors_keep_code_name_and_status(
    text: str, code: int, name: str, status: int
) -> None:
    error = from_engine(text)
    assert (error.code, error.name, error.status) == (code, name, status)
    assert str(error).count(name) == 1


def test_quotes_inside_values_and_names_stay_inside() -> None:
    assert quoted("a'b\\") == "'a\\'b\\\\'"
    assert identifier("a`b\\") == "`a\\`b\\\\`"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("br", None),
        ("", None),
        ("gzip;q=0, zstd;q=0.5", "zstd"),
        ("zstd, lz4", "lz4"),
    ],
)
def test_encoding_is_chosen_from_what_is_accepted(accepted: str, encoding: str | None) -> None:
    assert chosen(accepted) == encoding


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_body_of_several_frames_in_single_bytes_is_whole_again(encoding: str) -> None:
    frames = b""
    for text in (b"first ", b"second"):
        frame = compressor(encoding)
        frames += frame.compress(text) + frame.flush()
    inflater = Inflater(encoding)
    pieces = [p for at in range(len(frames)) for p in inflater.inflate(frames[at : at + 1])]
    assert b"".join(pieces) == b"first second"
    inflater.finish()


@pytest.mark.parametrize(
    ("encoding", "most"),
    [("gzip", 4), ("deflate", 4), ("zstd", 64), ("lz4", 1), ("xz", 1), ("bz2", 1)],
)
def test_body_that_stands_for_far_more_is_inflated_in_pieces(encoding: str, most: int) -> None:
    megabytes = 100
    text = b"\0" * (megabytes << 20)
    if encoding in ("xz", "bz2"):
        bomb = (lzma if encoding == "xz" else bz2).compress(text)
    else:
        frame = compressor(encoding)
        bomb = frame.compress(text) + frame.flush()
    inflater = Inflater(encoding)
    sizes = [len(piece) for piece in inflater.inflate(bomb)]
    inflater.finish()
    assert sum(sizes) == megabytes << 20
    assert max(sizes) <= most << 20


async def test_places_are_bounded_and_so_is_their_queue() -> None:
    places = Places(1, 1, 10)
    release = asyncio.Event()

    async def hold() -> None:
        async with places.taken():
            await release.wait()

    first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
    await asyncio.sleep(0)
    assert (places.running, places.waiting) == (1, 1)
    with pytest.raises(ClickHouseError) as caught:
        async with places.taken():
            pass
    assert caught.value.code == Code.TOO_MANY_SIMULTANEOUS_QUERIES
    release.set()
    await asyncio.gather(first, second)
    assert (places.running, places.waiting) == (0, 0)


async def test_place_is_not_waited_for_without_end() -> None:
    places = Places(1, 5, 0.001)
    async with places.taken():
        with pytest.raises(ClickHouseError, match=r"no place in 0\.001 s"):
            async with places.taken():
                pass
    assert places.waiting == 0


class Wire:
    """What a reply sends."""

    def __init__(self) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.reply = Reply(self._send, SpoolSpace(Path(), 0), {}, "gzip")

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body", True)

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


async def test_reply_that_is_short_comes_whole_with_its_summary() -> None:
    wire = Wire()
    wire.reply.expect(Parameters(), "TabSeparated")
    await wire.reply.write(b"1\n")
    assert wire.sent == []
    await wire.reply.finish(Result(read_rows=7))
    headers = dict(wire.sent[0]["headers"])
    assert b'"read_rows":"7"' in headers[b"X-ClickHouse-Summary"]
    assert headers[b"Content-Length"] == b"2"
    assert (wire.status, wire.body, wire.complete) == (200, b"1\n", True)


async def test_reply_fails_with_a_status_while_nothing_was_sent() -> None:
    wire = Wire()
    wire.reply.expect(Parameters(), "TabSeparated")
    await wire.reply.write(b"half a result")
    await wire.reply.fail(ClickHouseError(60, "Unknown table t.", "UNKNOWN_TABLE"))
    assert wire.status == 404
    assert wire.body == b"Code: 60. DB::Exception: Unknown table t. (UNKNOWN_TABLE)\n"


async def test_reply_that_has_begun_is_never_completed_after_an_error() -> None:
    wire = Wire()
    wire.reply.expect(Parameters(buffer_bytes=1), "TabSeparated")
    await wire.reply.write(b"1\n2\n")
    await wire.reply.fail(ClickHouseError(60, "Unknown table t.", "UNKNOWN_TABLE"))
    assert wire.status == 200
    assert wire.body.startswith(b"1\n2\n\r\n__exception__\r\n")
    assert not wire.complete
