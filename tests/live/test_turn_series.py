"""Turns over time from the service, against what polars makes of the same events."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from schemas.topics import TURN_METRICS
from service.access import Role
from service.turn_series import MOST_POINTS
from sinks.turn_series import AMOUNTS, QUANTILES
from tests.live.applied_events import EventApplier
from tests.live.applied_events import events as events
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service

HOUR_MS = 3_600_000
_REFERENCES = [
    {"experiment": name, "version": 1, "variation": "a", "unit": "u"} for name in ("one", "two")
]


@pytest.fixture
def locales() -> list[str]:
    """Of this test alone, for the tables are shared."""
    mark = uuid.uuid4().hex[:6]
    return [f"en-{mark}", f"de-{mark}"]


@pytest.fixture
def begin_ms() -> int:
    return (int(time.time() * 1000) - 48 * HOUR_MS) // (24 * HOUR_MS) * (24 * HOUR_MS)


def turns(locales: list[str], begin_ms: int, count: int = 2_000) -> list[dict[str, Any]]:
    """Over four hours, most of them in one or two experiments."""
    random = np.random.default_rng(7)
    return [
        {
            "ts": begin_ms + int(random.integers(4 * HOUR_MS)),
            "locale": locales[int(random.integers(2))],
            "exposures": _REFERENCES[: int(random.integers(3))],
            "turn_ms": int(random.lognormal(6.5, 0.6)),
            "model_ms": int(random.lognormal(6.2, 0.6)),
            **{name: int(random.poisson(0.7)) for name in AMOUNTS},
        }
        for _ in range(count)
    ]


async def ask(service: Service, **parameters: Any) -> Any:
    async with service.client(Role.VIEWER) as client:
        answer = await client.get("/v1/turns/series", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(service: Service, **parameters: Any) -> str:
    async with service.client(Role.VIEWER) as client:
        answer = await client.get("/v1/turns/series", params=parameters)
    assert answer.status_code == 422, answer.text
    return str(answer.json()["detail"])


def moments(begin_ms: int, hours: int) -> dict[str, str]:
    start = np.datetime64(begin_ms, "ms")
    return {"from": f"{start}Z", "to": f"{start + np.timedelta64(hours, 'h')}Z"}


async def test_series_by_hour_is_what_the_turns_say_each_once(
    service: Service, events: EventApplier, locales: list[str], begin_ms: int
) -> None:
    given = turns(locales, begin_ms)
    await events.put(TURN_METRICS.name, given[:1_200])
    await events.put(TURN_METRICS.name, given[1_200:])
    answer = await ask(service, step="hour", by="locale", locale=locales, **moments(begin_ms, 4))
    frame = pl.DataFrame([{k: v for k, v in turn.items() if k != "exposures"} for turn in given])
    hours = frame.with_columns(hour=(pl.col("ts") - begin_ms) // HOUR_MS)
    groups = hours.group_by("hour", "locale").agg(pl.all()).sort("hour", "locale")
    assert len(answer["points"]) == len(groups) == 8
    for point, group in zip(answer["points"], groups.iter_rows(named=True), strict=True):
        assert np.datetime64(point["at"].rstrip("Z"), "ms") == np.datetime64(
            begin_ms + group["hour"] * HOUR_MS, "ms"
        )
        assert (point["locale"], point["turns"]) == (group["locale"], len(group["ts"]))
        for name in ("turn_ms", "model_ms"):
            values = sorted(group[name])
            found = point[name]
            assert found["mean"] == pytest.approx(np.mean(values), rel=1e-12)
            assert found["max"] == values[-1]
            expected = [values[int(q * len(values))] for q in QUANTILES]
            assert [found[p] for p in ("p50", "p90", "p95", "p99")] == expected
        for name in AMOUNTS:
            values = group[name]
            assert point[name]["sum"] == sum(values)
            assert point[name]["per_turn"] == pytest.approx(np.mean(values), rel=1e-12)
            assert point[name]["turns_with_any"] == sum(value > 0 for value in values)


@pytest.mark.parametrize(("step", "points"), [("minute", 240), ("hour", 4), ("day", 1)])
async def test_series_has_all_turns_at_every_step_and_only_steps_with_turns(
    service: Service,
    events: EventApplier,
    locales: list[str],
    begin_ms: int,
    step: str,
    points: int,
) -> None:
    given = [{"ts": begin_ms + 60_000 * n, "locale": locales[0]} for n in range(240)]
    given.append({"ts": begin_ms + 24 * HOUR_MS - 1, "locale": locales[1], "turn_ms": 2**31 - 1})
    await events.put(TURN_METRICS.name, given)
    answer = await ask(service, step=step, locale=locales[0], **moments(begin_ms, 24))
    assert [point["turns"] for point in answer["points"]] == [240 // points] * points
    assert {point["locale"] for point in answer["points"]} == {None}
    last = await ask(service, step=step, locale=locales[1], **moments(begin_ms, 24))
    assert [point["turn_ms"]["max"] for point in last["points"]] == [2**31 - 1]


async def test_series_follows_new_turns_and_is_not_sent_twice(
    service: Service, events: EventApplier, locales: list[str], begin_ms: int
) -> None:
    asked = {"step": "day", "locale": locales[0], **moments(begin_ms, 24)}
    async with service.client(Role.VIEWER) as client:
        empty = await client.get("/v1/turns/series", params=asked)
        assert empty.json()["points"] == []
        assert empty.headers["cache-control"] == "private, no-cache"
        tag = {"If-None-Match": empty.headers["etag"]}
        assert (await client.get("/v1/turns/series", params=asked, headers=tag)).status_code == 304
        await events.put(TURN_METRICS.name, [{"ts": begin_ms, "locale": locales[0]}])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            answer = await client.get("/v1/turns/series", params=asked, headers=tag)
            if answer.status_code == 200:
                break
        assert answer.json()["points"][0]["turns"] == 1


async def test_wrong_questions_are_told_what_would_be_right(service: Service) -> None:
    long = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:01Z"}
    detail = await refused(service, step="minute", **long)
    assert "are 2.001 days; by minute it may be 1 day" in detail
    assert "step=hour" in detail
    assert "400 days" in await refused(service, step="day", **{"from": "2020-01-01T00:00:00Z"})
    early = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    assert "from must come before to" in await refused(service, **early)
    assert "of the year 1901" in await refused(service, **{"from": "1901-01-01T00:00:00Z"})
    assert "timezone" in await refused(service, **{"from": "2026-01-01T00:00:00"})
    assert "step" in await refused(service, step="week")


async def test_a_series_of_too_many_points_says_so(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    mark = uuid.uuid4().hex[:4]
    at = begin_ms - 240 * HOUR_MS
    given = [{"ts": at, "locale": f"{mark}-{n}"} for n in range(MOST_POINTS + 1)]
    await events.put(TURN_METRICS.name, given)
    detail = await refused(service, step="minute", by="locale", **moments(at, 1))
    assert "more than 20,000 points; name some locales" in detail


async def test_series_needs_the_permission_to_view(service: Service) -> None:
    async with service.client(Role.EMIT) as client:
        assert (await client.get("/v1/turns/series")).status_code == 403


async def test_series_that_takes_too_long_says_which_limit_it_met(
    kafka: Broker, clickhouse: ClickHouse, events: EventApplier, tmp_path: Path
) -> None:
    alone = Service(
        tmp_path,
        ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=clickhouse.password,
        ANABRANCH_REPORTS__QUERY_SECONDS="0.000001",
    )
    alone.start()
    try:
        async with alone.client(Role.VIEWER) as client:
            answer = await client.get("/v1/turns/series")
    finally:
        alone.stop()
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/query-limit"
    assert "longer than 1e-06 s" in answer.json()["detail"]
    assert "ANABRANCH_REPORTS__QUERY_SECONDS" in answer.json()["detail"]
