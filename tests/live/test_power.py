"""What an experiment can see, from the service, against statsmodels."""

from __future__ import annotations

import time

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from service.access import Role
from tests.live.applied_events import EventApplier
from tests.live.applied_events import events as events
from tests.live.reported_experiment import DAY_MS, experiment, told, units_of
from tests.live.service_fixture import Service


async def test_power_follows_from_the_experiments_own_variance_and_rate(
    service: Service, events: EventApplier
) -> None:
    begin_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - 3 * DAY_MS
    key = await experiment(service)
    given = told(key, begin_ms)
    await given.put(events)
    async with service.client(Role.VIEWER) as client:
        path = f"/v1/experiments/{key}/power"
        answer = await client.get(path, params={"metric": "output_tokens", "effect": 0.1})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        report = (await client.get(f"/v1/reports/{found['report']}")).json()
        always = (await client.get(path, params={"sequential": "true"})).json()
    (metric,) = found["metrics"]
    (one,) = metric["comparisons"]
    control, warm = report["metrics"][0]["arms"]
    assert one["units"] == control["units"] + warm["units"] == len(units_of(given, key))
    assert one["units_per_day"] == pytest.approx(one["units"] / found["days"])

    # Of one variance in both arms, as statsmodels has it: that which gives the same error.
    ratio = warm["units"] / control["units"]
    error = np.hypot(control["sd"] / control["units"] ** 0.5, warm["sd"] / warm["units"] ** 0.5)
    sd = error / np.sqrt(1 / control["units"] + 1 / warm["units"])
    peer = NormalIndPower()
    smallest = peer.solve_power(nobs1=control["units"], alpha=0.05, power=0.8, ratio=ratio)
    assert one["minimum_detectable_effect"] == pytest.approx(smallest * sd, rel=1e-5)
    absolute = 0.1 * control["value"]
    assert one["effect"]["absolute"] == pytest.approx(absolute)
    power = peer.power(absolute / sd, control["units"], 0.05, ratio=ratio)
    assert one["effect"]["power_now"] == pytest.approx(power, rel=1e-6)
    needed = peer.solve_power(absolute / sd, alpha=0.05, power=0.8, ratio=ratio) * (1 + ratio)
    assert one["effect"]["units_needed"] == pytest.approx(needed, rel=1e-5)
    to_go = max(0.0, needed - one["units"]) / one["units_per_day"]
    assert one["effect"]["days_to_go"] == pytest.approx(to_go, rel=1e-4)
    smaller = [horizon["minimum_detectable_effect"] for horizon in one["horizons"]]
    assert smaller == sorted(smaller, reverse=True)
    (also,) = always["metrics"][0]["comparisons"]
    assert also["minimum_detectable_effect"] > one["minimum_detectable_effect"]
    assert also["effect"] is None


async def test_power_of_an_experiment_without_units_says_why_there_is_none(
    service: Service,
) -> None:
    key = await experiment(service)
    async with service.client(Role.VIEWER) as client:
        answer = await client.get(f"/v1/experiments/{key}/power", params={"effect": 0.1})
        assert answer.status_code == 200, answer.text
        for metric in answer.json()["metrics"]:
            (one,) = metric["comparisons"]
            assert one["minimum_detectable_effect"] is None
            assert "no units" in one["no_verdict"]
        wrong = await client.get(f"/v1/experiments/{key}/power", params={"power": 80})
        assert wrong.status_code == 422
