"""Reports from the service: their numbers, formats, ids and caching."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import stats

from analysis.report_document import Report
from schemas.topics import EXPOSURES
from service.access import Role
from service.report_rows import COLUMNS
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


@pytest.fixture
def begin_ms() -> int:
    return int(time.time() * 1000) // DAY_MS * DAY_MS - 3 * DAY_MS


async def ask(service: Service, key: str, **parameters: Any) -> httpx.Response:
    async with service.client(Role.VIEWER) as client:
        answer = await client.get(f"/v1/experiments/{key}/report", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer


def totals(given: Told, key: str, name: str, plan: str | None = None) -> dict[str, list[float]]:
    """By variation, of each unit that saw just that one."""
    units = {
        unit: one for unit, one in units_of(given, key).items() if plan is None or is_of(plan, one)
    }
    sums = dict.fromkeys(units, 0.0)
    for turn in given.turns:
        unit = turn["exposures"][0]["unit"]
        if unit in sums:
            sums[unit] += turn[name]
    return {
        variation: [sums[unit] for unit, one in units.items() if one["variation"] == variation]
        for variation in VARIATIONS
    }


def check(metric: dict[str, Any], values: dict[str, list[float]]) -> None:
    """As scipy has it of the same units."""
    for arm, variation in zip(metric["arms"], VARIATIONS, strict=True):
        known = values[variation]
        assert (arm["variation"], arm["units"]) == (variation, len(known))
        assert arm["mean"] == pytest.approx(np.mean(known), rel=1e-12)
        assert arm["sd"] == pytest.approx(np.std(known, ddof=1), rel=1e-9)
        assert arm["sum"] == pytest.approx(sum(known), rel=1e-12)
    test = stats.ttest_ind(values["warm"], values["control"], equal_var=False)
    (comparison,) = metric["comparisons"]
    assert comparison["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
    interval = test.confidence_interval()
    assert comparison["absolute"]["ci"] == pytest.approx([interval.low, interval.high], rel=1e-9)


async def test_report_says_what_the_events_of_units_say_whole_and_by_segment(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    given = told(key, begin_ms)
    await given.put(events)
    report = (await ask(service, key, by="plan")).json()
    Report.model_validate(report)
    assert (report["experiment"], report["status"]) == (key, "running")
    several = {e["unit"] for e in given.exposures} - units_of(given, key).keys()
    assert report["health"]["multiple_exposures"] == len(several) == 8
    assert [one["key"] for one in report["variations"]] == list(VARIATIONS)
    assert [one["metric"] for one in report["metrics"]] == ["output_tokens", "turn_ms", "retries"]
    for metric in report["metrics"]:
        check(metric, totals(given, key, metric["metric"]))
    assert [segment["value"] for segment in report["segments"]] == ["free", "paid"]
    for segment in report["segments"]:
        for metric in segment["metrics"]:
            check(metric, totals(given, key, metric["metric"], segment["value"]))
    assert report["decision"]["reasons"]
    names = {finding["name"] for finding in report["health"]["findings"]}
    assert {
        "sample_ratio",
        "multiple_exposures",
        "late_events",
        "dead_letters",
        "freshness",
    } <= names
    offsets = {one["topic"] for one in report["origin"]["offsets"] if one["epoch"] == events.epoch}
    assert "turn-metrics.v1" in offsets


async def test_report_can_be_had_again_byte_by_byte_and_is_not_sent_twice(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    await told(key, begin_ms, units=40).put(events)
    answer = await ask(service, key)
    report_id = answer.json()["id"]
    without = Report.model_validate_json(answer.content).model_copy(update={"id": None})
    content = without.model_dump_json(by_alias=True).encode()
    assert hashlib.sha256(content).hexdigest().startswith(report_id)
    assert answer.headers["etag"] == f'"{report_id}"'
    assert answer.headers["cache-control"] == "private, no-cache"
    async with service.client(Role.VIEWER) as client:
        again = await client.get(f"/v1/experiments/{key}/report")
        assert again.content == answer.content
        tag = {"If-None-Match": f'"{report_id}"'}
        unchanged = await client.get(f"/v1/experiments/{key}/report", headers=tag)
        assert (unchanged.status_code, unchanged.content) == (304, b"")

        await events.put(
            EXPOSURES.name,
            [{"ts": begin_ms, "experiment": key, "variation": "warm", "unit": "newcomer"}],
        )
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            changed = await client.get(f"/v1/experiments/{key}/report", headers=tag)
            if changed.status_code == 200:
                break
        assert changed.json()["id"] != report_id

        stored = await client.get(f"/v1/reports/{report_id}")
        assert stored.content == answer.content
        assert "immutable" in stored.headers["cache-control"]
        assert (await client.get(f"/v1/reports/{report_id}", headers=tag)).status_code == 304
        first = (await client.get(f"/v1/reports/{report_id}", params={"format": "csv"})).text
        assert first.splitlines()[1].startswith(f"{key},{report_id},")
        missing = await client.get(f"/v1/reports/{'0' * 32}")
        assert missing.status_code == 404
        assert "kept for 400 days" in missing.json()["detail"]


async def test_report_follows_a_change_of_the_definition_at_once(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    await told(key, begin_ms, units=40).put(events)
    before = (await ask(service, key)).json()
    async with service.client(Role.ADMIN) as client:
        metrics = {"metrics": {"primary": ["acts"]}}
        changed = await client.patch(f"/v1/experiments/{key}", json=metrics)
        assert changed.status_code == 200, changed.text
    after = (await ask(service, key)).json()
    assert after["metrics"][0]["metric"] == "acts"
    assert after["version"] == before["version"] + 1


async def test_tables_have_the_numbers_of_the_json(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    await told(key, begin_ms).put(events)
    report = (await ask(service, key, by="locale")).json()
    answers = {
        form: await ask(service, key, by="locale", format=form)
        for form in ("csv", "arrow", "parquet")
    }
    for form, answer in answers.items():
        assert answer.headers["etag"] == f'"{report["id"]}.{form}"'
        assert f'filename="{key}.{form}"' in answer.headers["content-disposition"]
    assert answers["csv"].headers["content-type"] == "text/csv; charset=utf-8"
    from_csv = list(csv.DictReader(io.StringIO(answers["csv"].text)))
    arrow = pa.ipc.open_stream(answers["arrow"].content).read_all()
    assert arrow.equals(parquet.read_table(io.BytesIO(answers["parquet"].content)))
    assert arrow.schema.names == list(from_csv[0]) == [column.name for column in COLUMNS]
    assert pl.DataFrame(arrow).height == len(from_csv) == 3 * 3 * 2
    metrics = [*report["metrics"]]
    for segment in report["segments"]:
        metrics += segment["metrics"]
    arms = [(metric, arm) for metric in metrics for arm in metric["arms"]]
    for row, typed, (metric, arm) in zip(from_csv, arrow.to_pylist(), arms, strict=True):
        assert (row["report"], row["metric"]) == (report["id"], metric["metric"])
        assert (row["variation"], int(row["units"])) == (arm["variation"], arm["units"])
        assert float(row["mean"]) == typed["mean"] == arm["mean"]
        if arm["variation"] == "control":
            assert (row["baseline"], row["p_value"], typed["p_value"]) == ("", "", None)
            continue
        (comparison,) = metric["comparisons"]
        assert float(row["p_value"]) == typed["p_value"] == comparison["p_value"]
        low, high = comparison["absolute"]["ci"]
        assert [float(row["absolute_low"]), typed["absolute_high"]] == [low, high]


async def test_report_is_made_once_when_many_ask_for_it_at_the_same_time(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    await told(key, begin_ms).put(events)

    def made(text: str) -> float:
        name = 'anabranch_reports_total{outcome="made",route="report"} '
        return sum(float(one[len(name) :]) for one in text.splitlines() if one.startswith(name))

    async with service.client(Role.VIEWER) as client:
        before = made((await client.get("/metrics")).text)
        asking = [client.get(f"/v1/experiments/{key}/report") for _ in range(30)]
        answers = await asyncio.gather(*asking)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert made((await client.get("/metrics")).text) == before + 1


async def test_report_of_an_experiment_without_units_says_so(service: Service) -> None:
    key = await experiment(service)
    report = (await ask(service, key)).json()
    assert [one["units"] for one in report["variations"]] == [0, 0]
    assert report["metrics"][0]["comparisons"][0]["no_verdict"]["reason"] == "no_units"
    assert report["decision"]["action"] in ("keep_running", "no_decision")


async def test_wrong_questions_are_told_what_would_be_right(service: Service) -> None:
    key = await experiment(service)
    async with service.client(Role.VIEWER) as client:
        path = f"/v1/experiments/{key}/report"
        for parameters, said in (
            ({"metric": "turn_m"}, "did you mean turn_ms?"),
            ({"by": "country"}, f"{key} has segments by locale, plan"),
            ({"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from must come"),
            ({"format": "xml"}, "format"),
            ({"multiple": "some"}, "multiple"),
            ({"level": "95"}, "level"),
            ({"from": "yesterday"}, "from"),
        ):
            answer = await client.get(path, params=parameters)
            assert answer.status_code == 422, answer.text
            assert said in answer.json()["detail"]
        missing = await client.get(f"/v1/experiments/{key[:-1]}/report")
        assert missing.status_code == 404
        assert f"did you mean {key}?" in missing.json()["detail"]
    async with service.client(Role.EMIT) as client:
        assert (await client.get(path)).status_code == 403
        assert (await client.get(f"/v1/reports/{'0' * 32}")).status_code == 403


async def test_key_of_some_experiments_gets_no_stored_report_of_another(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    key = await experiment(service)
    report_id = (await ask(service, key)).json()["id"]
    async with service.client(Role.ADMIN) as client:
        body = {"name": f"only-{key}", "role": "viewer", "experiments": ["other_"]}
        made = await client.post("/v1/keys", json=body)
        assert made.status_code == 201, made.text
        headers = {"Authorization": f"Bearer {made.json()['key']}"}
        refused = await client.get(f"/v1/reports/{report_id}", headers=headers)
    assert refused.status_code == 403


async def test_report_counts_units_of_the_weights_of_now_and_names_the_others(
    service: Service, events: EventApplier, begin_ms: int
) -> None:
    # Nothing has an effect. But early units do more, and most of control's are early.
    key = f"tilt_{uuid.uuid4().hex[:8]}"

    def weighing(control: int) -> dict[str, Any]:
        weights = zip(VARIATIONS, (control, 10_000 - control), strict=True)
        return {"variations": [{"key": name, "weight": weight} for name, weight in weights]}

    async with service.client(Role.ADMIN) as client:
        body = {"key": key, **weighing(5_000), "metrics": {"primary": ["acts"]}}
        assert (await client.post("/v1/experiments", json=body)).status_code == 201
        changed = await client.patch(f"/v1/experiments/{key}", json=weighing(1_000))
        assert changed.status_code == 200, changed.text
        assert (await client.post(f"/v1/experiments/{key}/start", json={})).status_code == 200
    random = np.random.default_rng(7)
    exposures, turns = [], []
    for number in range(2_000):
        version, share = (1, 0.5) if number < 1_000 else (3, 0.1)
        variation = VARIATIONS[int(random.random() > share)]
        seen = {"experiment": key, "version": version, "variation": variation}
        seen["unit"] = unit = f"{key}-{number}"
        ts = begin_ms + version * 3_600_000
        acts = int(random.poisson(14 if version == 1 else 10))
        exposures.append({"ts": ts, **seen})
        turns.append({"ts": ts + 10, "session": unit, "exposures": [seen], "acts": acts})
    await Told(exposures, turns, []).put(events)

    report = (await ask(service, key)).json()
    assert report["period"]["versions"] == [2, 3]
    assert sum(one["units"] for one in report["variations"]) == 1_000
    assert report["metrics"][0]["comparisons"][0]["p_value"] > 0.001
    (weights,) = (one for one in report["health"]["findings"] if one["name"] == "weights")
    assert (weights["verdict"], weights["figures"]["left_out"]) == ("warning", 1_000)

    begin = datetime.fromtimestamp(begin_ms / 1000, UTC).isoformat()
    whole = (await ask(service, key, **{"from": begin})).json()
    assert whole["period"]["versions"] is None
    assert whole["metrics"][0]["comparisons"][0]["p_value"] < 1e-6
    (weights,) = (one for one in whole["health"]["findings"] if one["name"] == "weights")
    assert weights["forbids_decision"]
    assert whole["decision"]["action"] == "no_decision"
