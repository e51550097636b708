from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from service.bodies import BodyLimitMiddleware, parse_json
from service.problems import Problem, add_problem_handlers

LIMIT = 1000


def client() -> httpx.AsyncClient:
    app = FastAPI()

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    add_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=LIMIT)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


class Chunks:
    """A body of unknown length that counts what was taken of it."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.taken += 1
            yield chunk


@pytest.mark.parametrize("size", [0, 1, LIMIT])
async def test_body_up_to_the_limit_passes(size: int) -> None:
    answer = await client().post("/length", content=b"x" * size)
    assert answer.json() == size


async def test_body_of_a_declared_length_above_the_limit_is_refused_by_its_head() -> None:
    body = Chunks(b"x" * (LIMIT + 1))
    answer = await client().post(
        "/length", content=body, headers={"Content-Length": str(LIMIT + 1)}
    )
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["detail"]
    # What is declared is refused by the head: the rest is only thrown away, never held.
    assert answer.headers["connection"] == "close"


async def test_body_in_chunks_is_refused_where_it_passes_the_limit() -> None:
    body = Chunks(*[b"x" * 300] * 100)
    answer = await client().post("/length", content=body)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_gzip_body_is_unpacked() -> None:
    answer = await client().post(
        "/length", content=gzip.compress(b"x" * LIMIT), headers={"Content-Encoding": "gzip"}
    )
    assert answer.json() == LIMIT


async def test_gzip_body_is_refused_when_it_unpacks_to_more_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 500_000)
    assert len(bomb) < LIMIT
    answer = await client().post("/length", content=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413
    assert "after decompression" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"plain", "not gzip", id="not gzip at all"),
        pytest.param(gzip.compress(b"x" * 100)[:-9], "ends in the middle", id="cut off"),
        pytest.param(gzip.compress(b"x") + b"more", "goes on after", id="something behind it"),
    ],
)
async def test_gzip_body_that_is_broken_is_refused(body: bytes, said: str) -> None:
    answer = await client().post("/length", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


async def test_unknown_content_encoding_is_refused_and_says_what_is_taken() -> None:
    answer = await client().post("/length", content=b"x", headers={"Content-Encoding": "br"})
    assert answer.status_code == 415
    assert "gzip" in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b'{"a": tru}', "line 1, column 7", id="a misspelt literal"),
        pytest.param(b'{"a":\n1,}', "line 2", id="a comma too many"),
        pytest.param(b'{"a": NaN}', "line 1, column 7", id="NaN"),
        pytest.param(b'{"a": Infinity}', "line 1, column 7", id="Infinity"),
        pytest.param(b'{"a": -Infinity}', "line 1", id="minus Infinity"),
        pytest.param(b"[1e999]", "infinity", id="a number beyond a double"),
        pytest.param(b"1" * 5000, "infinity", id="a huge whole number"),
        pytest.param(b'"\\ud800"', "surrogate", id="a lone surrogate"),
        pytest.param(b'"\xff"', "UTF-8", id="bytes that are no text"),
        pytest.param(b'"a\x00b"', "control character", id="a raw null byte"),
        pytest.param(b"[" * 100_000, "depth", id="an endless nesting"),
        pytest.param(b'{"a":' * 33 + b"1" + b"}" * 33, "32 levels", id="one level too many"),
        pytest.param(b'{"a":1,"b":{"c":1,"c":1}}', "'c' twice", id="a name twice"),
        pytest.param(b'{"a" :1, "a"\n:2}', "'a' twice", id="a name twice, with spaces"),
        pytest.param(b'{"a":1,"\\u0061":2}', "'a' twice", id="a name twice, once escaped"),
    ],
)
def test_parse_json_refuses_and_says_why(body: bytes, said: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_json(body, max_depth=32)
    assert said in refused.value.detail
    assert refused.value.status_code in {400, 422}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a\\":b":1}',
        b'{"a":"\\":"}',
        b'[{"a":1},{"a":2}]',
        b'{"":{"":{}}}',
        b'"\\":"',
        b"1",
        b"[]",
    ],
)
def test_parse_json_takes_what_only_looks_like_a_name_twice(body: bytes) -> None:
    assert parse_json(body, max_depth=32) == json.loads(body)


def test_parse_json_takes_nesting_up_to_the_limit() -> None:
    assert parse_json(b"[" * 32 + b"]" * 32, max_depth=32)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_parse_json_reads_what_json_writes(value: Any, indent: int | None, escaped: bool) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=escaped).encode()
    assert parse_json(body, max_depth=100) == value


@given(st.binary(max_size=200))
def test_parse_json_raises_nothing_but_problems_whatever_the_bytes(body: bytes) -> None:
    with contextlib.suppress(Problem):
        parse_json(body, max_depth=32)
