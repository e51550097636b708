"""How results settle, from the service, against the same figures made from each unit's events."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import pytest

from analysis.estimates import mean
from analysis.moments import JointMoments, Moments
from analysis.ratios import ratio
from analysis.sequential import AlwaysValid, Tuning, compare_always
from service.access import Role
from tests.live.applied_events import EventApplier
from tests.live.applied_events import events as events
from tests.live.reported_experiment import (
    DAY_MS,
    VARIATIONS,
    Told,
    experiment,
    is_of,
    told,
    units_of,
)
from tests.live.service_fixture import Service

HOUR_MS = 3_600_000
Choose = Callable[[dict[str, Any]], bool]


@pytest.fixture
def begin_ms() -> int:
    """Three whole days before today."""
    return int(time.time() * 1000) // DAY_MS * DAY_MS - 3 * DAY_MS


async def ask(service: Service, key: str, **parameters: Any) -> Any:
    async with service.client(Role.VIEWER) as client:
        answer = await client.get(f"/v1/experiments/{key}/series", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sums(
    given: Told, key: str, variation: str, until_ms: int, name: str, choose: Choose
) -> list[float]:
    """By unit, of its turns before a time; of a unit without turns 0."""
    units = {
        unit: 0.0
        for unit, one in units_of(given, key).items()
        if one["variation"] == variation and one["ts"] < until_ms and choose(one)
    }
    for turn in given.turns:
        unit = turn["exposures"][0]["unit"]
        if unit in units and turn["ts"] < until_ms:
            units[unit] += turn[name] if name != "turns" else 1
    return list(units.values())


def check(points: dict[str, Any], at: int, given: Told, key: str, end: int, choose: Choose) -> None:
    values = {v: sums(given, key, v, end, "output_tokens", choose) for v in VARIATIONS}
    estimates = {variation: mean(Moments.of(values[variation])) for variation in VARIATIONS}
    for variation in VARIATIONS:
        point = points[variation][at]
        assert point["units"] == len(values[variation])
        if values[variation]:
            value = estimates[variation].value
            assert point["value"] == pytest.approx(value, rel=1e-12)
    control, warm = (estimates[variation] for variation in VARIATIONS)
    expected = compare_always(control, warm, Tuning.for_units(None))
    point = points["warm"][at]
    if isinstance(expected, AlwaysValid):
        assert point["sequential"]["p_value"] == pytest.approx(expected.p_value, rel=1e-9)
        interval = [expected.interval.low, expected.interval.high]
        assert point["sequential"]["ci"] == pytest.approx(interval, rel=1e-9)
    else:
        assert point["sequential"] is None
        assert point["no_verdict"]["reason"] == expected.reason


@pytest.mark.parametrize(("step", "length"), [("day", DAY_MS), ("hour", HOUR_MS)])
async def test_series_settles_as_the_events_of_units_do(
    service: Service, events: EventApplier, begin_ms: int, step: str, length: int
) -> None:
    key = await experiment(service)
    given = told(key, begin_ms)
    await given.put(events)
    answer = await ask(service, key, step=step)
    assert (answer["metric"], answer["baseline"]) == ("output_tokens", "control")
    (segment,) = answer["segments"]
    points = {one["variation"]: one["points"] for one in segment["variations"]}
    assert len(points["control"]) == len(points["warm"]) >= (3 if step == "day" else 60)
    times = [point["at"] for point in points["control"]]
    for at in range(0, len(times), 1 if step == "day" else 12):
        end = int(datetime.fromisoformat(times[at]).timestamp() * 1000) + length
        check(points, at, given, key, end, lambda _: True)


async def test_series_by_a_dimension_has_the_segments_of_first_exposures(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    given = told(key, begin_ms)
    await given.put(events)
    answer = await ask(service, key, by="plan")
    assert [one["segment"] for one in answer["segments"]] == ["free", "paid"]
    for segment in answer["segments"]:
        points = {one["variation"]: one["points"] for one in segment["variations"]}
        of_plan = partial(is_of, segment["segment"])
        check(points, -1, given, key, begin_ms + 3 * DAY_MS, of_plan)


async def test_series_by_days_since_exposure_has_units_that_lived_through_the_day(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    given = told(key, begin_ms)
    await given.put(events)
    answer = await ask(service, key, step="days_since_exposure")
    points = {one["variation"]: one["points"] for one in answer["segments"][0]["variations"]}
    assert [point["day"] for point in points["control"]] == [0, 1, 2]
    for variation in VARIATIONS:
        units = {u: o for u, o in units_of(given, key).items() if o["variation"] == variation}
        for day in range(3):
            first_day = {unit: one["ts"] // DAY_MS for unit, one in units.items()}
            lived = {u: 0 for u, d in first_day.items() if d + day < begin_ms // DAY_MS + 3}
            for turn in given.turns:
                unit = turn["exposures"][0]["unit"]
                if unit in lived and turn["ts"] // DAY_MS - first_day[unit] == day:
                    lived[unit] += turn["output_tokens"]
            point = points[variation][day]
            assert point["units"] == len(lived)
            assert point["value"] == pytest.approx(np.mean(list(lived.values())), rel=1e-12)


async def test_series_of_every_kind_ends_at_what_units_did(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    given = told(key, begin_ms)
    await given.put(events)
    outcome = {"outcome": f"revenue_{key}"}
    kinds: dict[str, dict[str, Any]] = {
        "mean": {"source": outcome},
        "capped": {"kind": "mean", "source": outcome, "cap": {"absolute": 4.0}},
        "proportion": {"source": outcome},
        "count": {"source": outcome, "conversion_window_hours": 6},
        "ratio": {"numerator": {"turn": "turn_ms"}, "denominator": {"turn": "output_tokens"}},
    }
    units = {u: o for u, o in units_of(given, key).items() if o["variation"] == "warm"}
    found: dict[str, list[float]] = {unit: [] for unit in units}
    early: dict[str, int] = dict.fromkeys(units, 0)
    for one in given.outcomes:
        if one["unit"] in units and one["ts"] >= units[one["unit"]]["ts"]:
            found[one["unit"]].append(one["values"][0]["value"])
            early[one["unit"]] += one["ts"] < units[one["unit"]]["ts"] + 6 * HOUR_MS
    end = begin_ms + 3 * DAY_MS
    above, below = (
        sums(given, key, "warm", end, name, lambda _: True) for name in ("turn_ms", "output_tokens")
    )
    ratio_ = ratio(JointMoments.of(above, below))
    expected = {
        "mean": np.mean([sum(values) for values in found.values()]),
        "capped": np.mean([min(4.0, sum(values)) for values in found.values()]),
        "proportion": np.mean([bool(values) for values in found.values()]),
        "count": np.mean(list(early.values())),
        "ratio": getattr(ratio_, "value", None),
    }
    async with service.client(Role.ADMIN) as client:
        for name, fields in kinds.items():
            body = {"key": f"{name}_{key}", "kind": name, **fields}
            made = await client.post("/v1/metrics", json=body)
            assert made.status_code == 201, made.text
    for name, value in expected.items():
        answer = await ask(service, key, metric=f"{name}_{key}", step="day")
        points = {one["variation"]: one["points"] for one in answer["segments"][0]["variations"]}
        assert points["warm"][-1]["value"] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize(
    ("level", "deviation", "greatest"),
    [
        pytest.param(1e9, 1.0, 0.0, id="1e9"),
        pytest.param(1e-7, 1e-10, 0.0, id="tiny"),
        pytest.param(-1e12, 100.0, 0.0, id="below zero"),
        pytest.param(5.0, 1.0, 1e15, id="beside an outlier of another unit"),
    ],
)
async def test_series_keeps_the_variance_of_fractions_far_from_zero(
    service: Service,
    events: EventApplier,
    begin_ms: int,
    level: float,
    deviation: float,
    greatest: float,
) -> None:
    key = await experiment(service)
    given = told(key, begin_ms)
    units = {u: o for u, o in units_of(given, key).items() if not u.endswith("7")}
    random = np.random.default_rng(8)
    values: dict[str, list[float]] = {variation: [] for variation in VARIATIONS}
    outcomes = []
    for unit, one in units.items():
        value = float(random.normal(level, deviation))
        values[one["variation"]].append(value)
        named = {"name": f"balance_{key}", "value": value}
        outcomes.append({"ts": one["ts"] + HOUR_MS, "unit": unit, "values": [named]})
    others = {"name": f"balance_{key}", "value": greatest}
    outcomes.append({"ts": begin_ms + HOUR_MS, "unit": f"no unit of {key}", "values": [others]})
    exposures = [one for one in given.exposures if one["unit"] in units]
    await Told(exposures, [], outcomes).put(events)
    source = {"outcome": f"balance_{key}"}
    body = {"key": f"balance_{key}", "kind": "mean", "source": source, "cap": {"absolute": 1e13}}
    async with service.client(Role.ADMIN) as client:
        assert (await client.post("/v1/metrics", json=body)).status_code == 201
    answer = await ask(service, key, metric=f"balance_{key}", step="day")
    points = {one["variation"]: one["points"] for one in answer["segments"][0]["variations"]}
    control, warm = (mean(Moments.of(values[variation])) for variation in VARIATIONS)
    expected = compare_always(control, warm, Tuning.for_units(None))
    assert isinstance(expected, AlwaysValid)
    seen = points["warm"][-1]
    assert seen["units"] == len(values["warm"])
    interval = [expected.interval.low, expected.interval.high]
    assert seen["sequential"]["ci"] == pytest.approx(interval, rel=1e-3)


async def test_series_of_an_experiment_without_units_is_empty(service: Service) -> None:
    key = await experiment(service)
    assert (await ask(service, key))["segments"] == []


async def test_wrong_questions_are_told_what_would_be_right(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    await told(key, begin_ms, units=20).put(events)
    async with service.client(Role.ADMIN) as client:
        body = {"key": f"p95_{key}", "kind": "quantile", "q": 0.95, "source": {"turn": "turn_ms"}}
        assert (await client.post("/v1/metrics", json=body)).status_code == 201
        for parameters, status, said in (
            ({"metric": "turn_m"}, 422, "did you mean turn_ms?"),
            ({"metric": f"p95_{key}"}, 422, "is a quantile"),
            ({"by": "country"}, 422, "has segments by locale, plan"),
            ({"step": "minute"}, 422, "take step=hour or step=day"),
            ({"step": "week"}, 422, "step"),
        ):
            answer = await client.get(f"/v1/experiments/{key}/series", params=parameters)
            assert answer.status_code == status, answer.text
            assert said in answer.json()["detail"]
        missing = await client.get(f"/v1/experiments/{key[:-1]}/series")
        assert missing.status_code == 404
        assert f"did you mean {key}?" in missing.json()["detail"]


async def test_series_has_the_units_of_the_weights_of_now(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    weighed = zip(VARIATIONS, (1_000, 9_000), strict=True)
    weights = [{"key": name, "weight": weight} for name, weight in weighed]
    async with service.client(Role.ADMIN) as client:
        assert (await client.post(f"/v1/experiments/{key}/stop", json={})).status_code == 200
        changed = await client.patch(f"/v1/experiments/{key}", json={"variations": weights})
        assert changed.status_code == 200, changed.text
        version = changed.json()["version"]
    given = told(key, begin_ms, units=200)
    for number, exposure in enumerate(given.exposures):
        exposure["version"] = version if number % 2 else 1
    await given.put(events)
    now = {u for u, one in units_of(given, key).items() if one["version"] == version}
    for asked, units in (
        ({}, len(now)),
        ({"from": "2020-01-01T00:00:00Z"}, len(units_of(given, key))),
    ):
        (segment,) = (await ask(service, key, step="day", **asked))["segments"]
        assert sum(one["points"][-1]["units"] for one in segment["variations"]) == units
