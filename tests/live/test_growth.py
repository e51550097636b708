"""Growth from the service, against figures that are computed from the same invitations."""

from __future__ import annotations

import math
import time
import uuid
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from schemas.topics import INVITES
from service.access import Role
from tests.live.applied_events import EventApplier
from tests.live.applied_events import events as events
from tests.live.service_fixture import Service

DAY_MS = 86_400_000


@pytest.fixture
def loop() -> str:
    return f"loop_{uuid.uuid4().hex[:8]}"


def invitations(loop: str, today_ms: int) -> list[dict[str, Any]]:
    """Of 300 inviters in three days, in two locales; some joins have no invite in the span."""
    random = np.random.default_rng(11)
    made: list[dict[str, Any]] = []
    for number in range(300):
        who = {"loop": loop, "inviter": f"p{number}"}
        for _ in range(int(random.geometric(0.3))):
            at = {"ts": today_ms - int(random.integers(3 * DAY_MS)) - 1}
            locale = {"locale": "en" if random.random() < 0.7 else "de"}
            made.append({**who, **at, **locale, "kind": "sent"})
            if random.random() < 0.35:
                made.append({**who, **at, **locale, "kind": "joined", "invitee": "q"})
                if random.random() < 0.5:
                    made.append({**who, **at, **locale, "kind": "fvm", "invitee": "q"})
    early = {"loop": loop, "locale": "en", "ts": today_ms - 1, "kind": "joined"}
    return [*made, *({**early, "inviter": f"old{n}", "invitee": "q"} for n in range(9))]


def counted(given: list[dict[str, Any]], *keys: str) -> pl.DataFrame:
    frame = pl.DataFrame(given, infer_schema_length=None).with_columns(
        day=pl.col("ts").cast(pl.Datetime("ms")).dt.date()
    )
    steps = [(pl.col("kind") == step).sum().alias(step) for step in ("sent", "joined", "fvm")]
    return frame.group_by("inviter", *keys).agg(*steps)


def check(found: dict[str, Any], units: pl.DataFrame) -> None:
    """By the textbook's formulas, on each inviter's counts."""
    those = units.filter(pl.col("sent") > 0)
    sent, joined, fvm = (those[name].to_numpy().astype(float) for name in ("sent", "joined", "fvm"))
    count = len(those)
    quantile = stats.t.ppf(0.975, count - 1)
    assert found["inviters"] == count
    assert [found[name] for name in ("sent", "joined", "fvm")] == [
        int(values.sum()) for values in (sent, joined, fvm)
    ]
    assert found["joined_of_others"] == units.filter(pl.col("sent") == 0)["joined"].sum()
    for name, values in (("sent_per_inviter", sent), ("k_factor", joined), ("fvm_k_factor", fvm)):
        margin = quantile * values.std(ddof=1) / math.sqrt(count)
        same(found[name], values.mean(), margin)
    for name, values in (("conversion", joined), ("fvm_conversion", fvm)):
        rate = values.sum() / sent.sum()
        influence = (values - rate * sent) / sent.mean()
        same(found[name], rate, quantile * influence.std(ddof=1) / math.sqrt(count))


def same(rate: dict[str, Any], value: float, margin: float) -> None:
    assert rate["value"] == pytest.approx(value, rel=1e-12)
    assert rate["ci"] == pytest.approx([value - margin, value + margin], rel=1e-9)
    assert rate["no_interval"] is None


async def test_growth_is_what_the_invitations_say_whole_and_in_parts(
    service: Service, events: EventApplier, loop: str
) -> None:
    given = invitations(loop, int(time.time() * 1000) // DAY_MS * DAY_MS)
    for part in (given[0::2], given[1::2]):
        await events.put(INVITES.name, part)
    async with service.client(Role.VIEWER) as client:
        answer = await client.get(f"/v1/growth/{loop}", params={"by": "locale"})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        check(found, counted(given))
        by_locale = counted(given, "locale")
        assert [part["locale"] for part in found["parts"]] == ["de", "en"]
        for part in found["parts"]:
            assert part["day"] is None
            check(part, by_locale.filter(pl.col("locale") == part["locale"]))
        k = found["sent_per_inviter"]["value"] * found["conversion"]["value"]
        assert found["k_factor"]["value"] == pytest.approx(k)

        both = await client.get(f"/v1/growth/{loop}", params={"by": ["day", "locale"]})
        parts = {(part["day"], part["locale"]): part for part in both.json()["parts"]}
        expected = counted(given, "day", "locale")
        assert len(parts) == expected.select("day", "locale").n_unique() == 6
        for (day, locale), part in parts.items():
            of = (pl.col("day").cast(pl.String) == day) & (pl.col("locale") == locale)
            check(part, expected.filter(of))

        all_loops = (await client.get("/v1/growth")).json()["loops"]
        (same_one,) = [one for one in all_loops if one["loop"] == loop]
        assert same_one["k_factor"] == found["k_factor"]
        assert same_one["parts"] == []


async def test_growth_says_why_there_is_no_interval(
    service: Service, events: EventApplier, loop: str
) -> None:
    now = int(time.time() * 1000)
    await events.put(INVITES.name, [{"ts": now - 1000, "loop": loop, "inviter": "p"}])
    async with service.client(Role.VIEWER) as client:
        found = (await client.get(f"/v1/growth/{loop}")).json()
        rate = found["k_factor"]
        assert (found["inviters"], rate["value"], rate["ci"]) == (1, 0.0, None)
        assert "needs two" in rate["no_interval"]
        rested = await client.get(
            f"/v1/growth/{loop}",
            params={"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
        )
        assert rested.status_code == 200
        assert (rested.json()["inviters"], rested.json()["k_factor"]["value"]) == (0, None)


async def test_wrong_questions_are_told_what_would_be_right(
    service: Service, events: EventApplier, loop: str
) -> None:
    now = int(time.time() * 1000)
    await events.put(INVITES.name, [{"ts": now - 1000, "loop": loop, "inviter": "p"}])
    async with service.client(Role.VIEWER) as client:
        missing = await client.get(f"/v1/growth/{loop}x")
        assert missing.status_code == 404
        assert f"did you mean {loop}?" in missing.json()["detail"]
        for parameters, said in (
            ({"by": "country"}, "by"),
            ({"level": "1"}, "less than 1"),
            ({"from": "2021-01-01T00:00:00Z"}, "kept for 400"),
        ):
            answer = await client.get("/v1/growth", params=parameters)
            assert answer.status_code == 422
            assert said in answer.json()["detail"]
