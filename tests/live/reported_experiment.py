"""An experiment in the shared service, and events of its units with a known effect."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.topics import EXPOSURES, OUTCOMES, TURN_METRICS
from service.access import Role
from tests.live.applied_events import EventApplier
from tests.live.service_fixture import Service

DAY_MS = 86_400_000
VARIATIONS = ("control", "warm")
METRICS = {"primary": ["output_tokens"], "secondary": ["turn_ms", "retries"]}


class Told(NamedTuple):
    """What is sent, by topic, and so what a report should say."""

    exposures: list[dict[str, Any]]
    turns: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]

    async def put(self, events: EventApplier) -> None:
        topics = (EXPOSURES.name, TURN_METRICS.name, OUTCOMES.name)
        for topic, given in zip(topics, self, strict=True):
            for part in (given[0::2], given[1::2]):  # parts that the engine has to add up
                if part:
                    await events.put(topic, part)


async def experiment(service: Service, **fields: Any) -> str:
    """Started; its key."""
    key = f"tone_{uuid.uuid4().hex[:8]}"
    body = {
        "key": key,
        "variations": [{"key": name, "weight": 5_000} for name in VARIATIONS],
        "metrics": METRICS,
        "dimensions": ["plan"],
        **fields,
    }
    async with service.client(Role.ADMIN) as client:
        made = await client.post("/v1/experiments", json=body)
        assert made.status_code == 201, made.text
        started = await client.post(f"/v1/experiments/{key}/start", json={})
        assert started.status_code == 200, started.text
    return key


def told(
    key: str, begin_ms: int, units: int = 400, days: int = 3, effect: float = 0.15, seed: int = 5
) -> Told:
    """Units arrive over all days, and take turns until the end. Some are in both variations, some
    do nothing. The outcomes of some come before their exposure."""
    random = np.random.default_rng(seed)
    found = Told([], [], [])
    for number in range(units):
        unit = f"{key}-{number}"
        variation = VARIATIONS[int(random.integers(2))]
        first = begin_ms + int(random.integers(days * DAY_MS - 3_600_000))
        locale = ("en", "de")[int(random.integers(2))]
        plan = ("free", "paid")[int(random.integers(2))]
        seen = VARIATIONS if number % 50 == 0 else (variation,)
        for place, one in enumerate(seen):
            found.exposures.append(
                {
                    "ts": first + place,
                    "experiment": key,
                    "variation": one,
                    "unit": unit,
                    "locale": locale,
                    "attributes": [{"name": "plan", "value": plan}],
                }
            )
        taste = float(random.normal(100, 30)) * (1 + effect * (variation == "warm"))
        reference = {"experiment": key, "version": 1, "variation": variation, "unit": unit}
        for _ in range(int(random.poisson(4))):
            at = int(random.integers(first + 10, begin_ms + days * DAY_MS))
            found.turns.append(
                {
                    "ts": at,
                    "session": unit,
                    "locale": locale,
                    "exposures": [reference],
                    "output_tokens": max(1, int(random.normal(taste, 20))),
                    "turn_ms": int(random.lognormal(6.5, 0.5)),
                    "retries": int(random.poisson(0.2)),
                }
            )
        for _ in range(int(random.poisson(0.8))):
            at = first + int(random.integers(-DAY_MS, DAY_MS))
            value = {"name": f"revenue_{key}", "value": float(random.gamma(2, 3))}
            found.outcomes.append({"ts": at, "unit": unit, "values": [value]})
    return found


def units_of(told: Told, key: str) -> Mapping[str, dict[str, Any]]:
    """Those that saw one variation, with their first exposure."""
    found: dict[str, dict[str, Any]] = {}
    for exposure in sorted(told.exposures, key=lambda one: one["ts"]):
        unit = found.setdefault(exposure["unit"], {**exposure, "seen": set()})
        unit["seen"].add(exposure["variation"])
    return {unit: one for unit, one in found.items() if len(one["seen"]) == 1}


def is_of(plan: str, exposure: Mapping[str, Any]) -> bool:
    pairs: Sequence[Mapping[str, str]] = exposure["attributes"]
    return pairs[0]["value"] == plan
