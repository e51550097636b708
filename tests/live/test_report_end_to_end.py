"""Events with a known effect, through HTTP, Kafka and a worker; the report against pandas.

Nothing of ours computes what is expected: pandas, scipy and statsmodels do, from the same events.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import test_proportions_2indep as proportions_test

from analysis.windows import TURN_METRICS
from service.access import Role
from tests.live.reported_experiment import DAY_MS, VARIATIONS, Told, experiment, told
from tests.live.worker_fixture import Surroundings, WorkerProcess

Floats = npt.NDArray[np.float64]


def others(given: Told, key: str) -> list[dict[str, Any]]:
    """What `told` leaves out: the other measurements of turns, and invites."""
    random = np.random.default_rng(3)
    for turn in given.turns:
        turn |= {"player": turn["session"], **{n: 0 for n in TURN_METRICS if n not in turn}}
        for name in ("model_ms", "bundle_tokens", "fallbacks", "tool_calls", "acts", "choices"):
            turn[name] = int(random.poisson(3))
    rates = {"control": 0.8, "warm": 1.2}
    return [
        _invite(exposure, number, f"loop_{key}")
        for exposure in given.exposures
        for number in range(int(random.poisson(rates[exposure["variation"]])))
    ]


def _invite(exposure: Mapping[str, Any], number: int, loop: str) -> dict[str, Any]:
    reference = {name: exposure[name] for name in ("experiment", "variation", "unit")}
    return {
        "ts": exposure["ts"] + 1_000 * number,
        "kind": "sent",
        "invite_id": f"{exposure['unit']}-{number}",
        "loop": loop,
        "inviter": exposure["unit"],
        "locale": "en",
        "exposures": [{**reference, "version": 1}],
    }


def send(around: Surroundings, kind: str, events: Iterable[Mapping[str, Any]]) -> None:
    pairs = ("attributes", "values", "dimensions")
    body = [
        {
            "type": kind,
            **{
                name: {pair["name"]: pair["value"] for pair in value} if name in pairs else value
                for name, value in event.items()
            },
        }
        for event in events
    ]
    for at in range(0, len(body), 1_000):
        answer = httpx.post(
            f"{around.service.url}/v1/events",
            json={"events": body[at : at + 1_000]},
            headers=around.service.headers(Role.EMIT),
            timeout=60,
        )
        assert answer.json()["rejected"] == [], answer.text


def wait_until_applied(around: Surroundings) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        headers = around.service.headers(Role.VIEWER)
        stats_ = httpx.get(f"{around.service.url}/v1/stats", headers=headers, timeout=20)
        if stats_.json().get("pending") == 0:
            return
        time.sleep(0.2)
    raise AssertionError("events are still pending")


def unit_frame(given: Told, invites: list[dict[str, Any]], key: str) -> pd.DataFrame:
    """A row for each unit that saw one variation, with all that it did."""
    exposures = pd.DataFrame(given.exposures)
    seen = exposures.groupby("unit")["variation"].nunique()
    first = exposures.sort_values("ts").drop_duplicates("unit").set_index("unit")
    units = first.loc[seen[seen == 1].index, ["variation", "ts", "locale"]]
    turns = pd.DataFrame(given.turns)
    sums = turns.groupby("session")[list(TURN_METRICS)].sum()
    units = units.join(sums).fillna(dict.fromkeys(TURN_METRICS, 0))
    units["turns"] = turns.groupby("session").size().reindex(units.index).fillna(0)
    outcomes = pd.DataFrame(given.outcomes)
    outcomes["value"] = [values[0]["value"] for values in outcomes["values"]]
    outcomes = outcomes.join(units["ts"].rename("first"), on="unit")
    after = outcomes[outcomes["ts"] >= outcomes["first"]]
    soon = after[after["ts"] < after["first"] + 6 * 3_600_000]
    units["revenue"] = after.groupby("unit")["value"].sum().reindex(units.index).fillna(0.0)
    units["bought_soon"] = soon.groupby("unit").size().reindex(units.index).fillna(0) > 0
    sent = pd.DataFrame(invites).groupby("inviter").size()
    units["invites"] = sent.reindex(units.index).fillna(0)
    return units


def check_mean(metric: dict[str, Any], values: Mapping[str, Floats]) -> None:
    for arm in metric["arms"]:
        known = values[arm["variation"]]
        assert arm["units"] == len(known)
        assert arm["mean"] == pytest.approx(known.mean(), rel=1e-9)
        assert arm["sd"] == pytest.approx(known.std(ddof=1), rel=1e-9)
        assert arm["sum"] == pytest.approx(known.sum(), rel=1e-9)
    test = stats.ttest_ind(values["warm"], values["control"], equal_var=False)
    check_test(metric, test.pvalue, test.confidence_interval())


def check_test(metric: dict[str, Any], p_value: float, interval: tuple[float, float]) -> None:
    (comparison,) = metric["comparisons"]
    assert comparison["p_value"] == pytest.approx(p_value, rel=1e-7)
    assert comparison["absolute"]["ci"] == pytest.approx(list(interval), rel=1e-7)


def test_report_equals_what_pandas_makes_of_the_same_events(
    around: Surroundings, worker: WorkerProcess
) -> None:
    own = {
        "revenue": {"kind": "mean", "source": {"outcome": "revenue_{key}"}, "direction": "up"},
        "capped": {
            "kind": "mean",
            "source": {"outcome": "revenue_{key}"},
            "cap": {"percentile": 0.9},
        },
        "bought_soon": {
            "kind": "proportion",
            "source": {"outcome": "revenue_{key}"},
            "conversion_window_hours": 6,
        },
        "tokens_per_act": {
            "kind": "ratio",
            "numerator": {"turn": "output_tokens"},
            "denominator": {"turn": "acts"},
        },
    }
    key = asyncio.run(experiment(around.service))
    begin_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - 5 * DAY_MS
    given = told(key, begin_ms, units=600, effect=0.3)
    invites = others(given, key)
    headers = around.service.headers(Role.ADMIN)
    with httpx.Client(base_url=around.service.url, headers=headers, timeout=60) as client:
        for name, metric in own.items():
            body = {"key": f"{name}_{key}", **_filled(metric, key)}
            made = client.post("/v1/metrics", json=body)
            assert made.status_code == 201, made.text
        exposures = [
            {"exposure_id": "x", "version": 1, "source": "test", **e} for e in given.exposures
        ]
        send(around, "exposure", exposures)
        send(around, "turn_metric", given.turns)
        send(around, "outcome", given.outcomes)
        send(around, "invite", invites)
        wait_until_applied(around)
        wanted = [*TURN_METRICS, "exposures", "invites_sent", *(f"{name}_{key}" for name in own)]
        answer = client.get(f"/v1/experiments/{key}/report", params={"metric": wanted})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    units = unit_frame(given, invites, key)
    arms = {name: units[units["variation"] == name] for name in VARIATIONS}
    metrics = {one["metric"]: one for one in report["metrics"]}
    assert metrics.keys() == set(wanted)

    for name in TURN_METRICS:
        if name != "time_ticks":
            check_mean(metrics[name], {of: arm[name].to_numpy(float) for of, arm in arms.items()})
    (nothing,) = metrics["time_ticks"]["comparisons"]
    assert nothing["no_verdict"]["reason"] == "zero_variance"
    check_mean(
        metrics["invites_sent"], {of: arm["invites"].to_numpy(float) for of, arm in arms.items()}
    )
    revenue = {of: arm["revenue"].to_numpy() for of, arm in arms.items()}
    check_mean(metrics[f"revenue_{key}"], revenue)
    capped = metrics[f"capped_{key}"]
    assert capped["cap"] == pytest.approx(np.quantile(units["revenue"], 0.9), rel=0.05)
    check_mean(capped, {of: np.minimum(values, capped["cap"]) for of, values in revenue.items()})

    share = metrics[f"bought_soon_{key}"]
    for arm in share["arms"]:
        assert arm["value"] == pytest.approx(
            arms[arm["variation"]]["bought_soon"].mean(), rel=1e-12
        )
    counts = [int(arms[of]["bought_soon"].sum()) for of in ("warm", "control")]
    sizes = [len(arms[of]) for of in ("warm", "control")]
    peer = proportions_test(
        counts[0], sizes[0], counts[1], sizes[1], method="score", compare="diff", correction=False
    )
    assert share["comparisons"][0]["p_value"] == pytest.approx(peer.pvalue, rel=1e-6)

    ratio = metrics[f"tokens_per_act_{key}"]
    for arm in ratio["arms"]:
        one = arms[arm["variation"]]
        above, below = one["output_tokens"].to_numpy(float), one["acts"].to_numpy(float)
        value = above.sum() / below.sum()
        influence = (above - value * below) / below.mean()
        assert arm["value"] == pytest.approx(value, rel=1e-12)
        assert arm["se"] == pytest.approx(influence.std(ddof=1) / len(one) ** 0.5, rel=1e-9)

    several = len({e["unit"] for e in given.exposures}) - len(units)
    assert report["health"]["multiple_exposures"] == several
    firsts = pd.DataFrame(given.exposures).sort_values("ts").drop_duplicates("unit")["variation"]
    chi_squared = stats.chisquare([int((firsts == name).sum()) for name in VARIATIONS])
    assert report["health"]["srm"]["p_value"] == pytest.approx(chi_squared.pvalue, rel=1e-6)
    low, high = metrics["output_tokens"]["comparisons"][0]["relative"]["ci"]
    assert low < 0.3 < high
    assert metrics["output_tokens"]["comparisons"][0]["p_value"] < 0.001


def _filled(metric: Any, key: str) -> Any:
    if isinstance(metric, dict):
        return {name: _filled(value, key) for name, value in metric.items()}
    return metric.format(key=key) if isinstance(metric, str) else metric
