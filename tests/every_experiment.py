"""Experiments of every shape, and units to decide for: all who decide must agree on them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

NOW = datetime.now(UTC)
_PAST, _FUTURE = (NOW - timedelta(days=1)).isoformat(), (NOW + timedelta(days=1)).isoformat()


class Document(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


def _experiment(key: str, /, status: str = "running", **fields: Any) -> Document:
    variations = fields.pop("variations", None) or [
        {"key": "control", "weight": 5_000, "params": {"tone": "plain"}},
        {"key": "warm", "weight": 5_000, "params": {"tone": "warm", "max_output_tokens": 600}},
    ]
    return Document(key, 3, status, {"key": key, "variations": variations, **fields})


def _weights(*weights: int) -> list[dict[str, Any]]:
    return [
        {"key": f"v{number}", "weight": weight, "params": {"max_acts": number}}
        for number, weight in enumerate(weights)
    ]


DOCUMENTS: tuple[Document, ...] = (
    _experiment("plain"),
    _experiment("first_hash", hash_version=1),
    _experiment("seeded", seed="another seed, with spaces and ü"),
    _experiment("three", variations=_weights(3_333, 3_333, 3_334)),
    _experiment("many", variations=_weights(*[500] * 20), coverage=7_777),
    _experiment("one_takes_all", variations=_weights(0, 10_000)),
    _experiment("covered", coverage=2_500),
    _experiment("uncovered", coverage=0),
    _experiment("ramped", coverage=0, ramp=[{"at": _PAST, "coverage": 4_000}]),
    _experiment("of_players", unit="player"),
    _experiment("targeted", targeting={"locale": {"$in": ["en", "de"]}, "level": {"$gte": 10}}),
    _experiment(
        "nested",
        targeting={
            "$or": [
                {"device.os": {"$regex": "^(ios|android)$"}, "app": {"$vgte": "2.10.0"}},
                {"$not": {"tags": {"$elemMatch": {"$eq": "beta"}}}, "level": {"$exists": True}},
            ]
        },
    ),
    _experiment("not_apple", targeting={"device.os": {"$notRegex": "^i", "$exists": True}}),
    _experiment("grouped", targeting={"locale": {"$inGroup": "western"}}),
    _experiment("languages", locales={"de": False, "de-AT": True, "fr-CA": False}),
    _experiment("only_german", locales={"*": False, "de": True}),
    _experiment("left", namespace={"name": "chat", "start": 0, "end": 5_000}),
    _experiment("right", namespace={"name": "chat", "start": 5_000, "end": 10_000}),
    _experiment("held", holdout="winter"),
    _experiment("forced", forced={"u1": "warm", "u2": "control", "u3": "warm"}, coverage=1_000),
    _experiment("asking", prerequisites=[{"experiment": "plain", "variations": ["warm"]}]),
    _experiment("asking_forced", prerequisites=[{"experiment": "forced", "variations": ["warm"]}]),
    _experiment("phased", variations=_weights(1_000, 9_000), coverage=8_000),
    _experiment(
        "opening",
        variations=_weights(2_000, 8_000),
        phases=[
            {"number": 1, "weights": [5_000, 5_000], "opened_at": _PAST},
            {"number": 2, "weights": [2_000, 8_000], "opened_at": _PAST, "opening": True},
        ],
    ),
    _experiment(
        "everything",
        unit="player",
        coverage=9_000,
        holdout="winter",
        hash_version=1,
        namespace={"name": "chat", "start": 2_000, "end": 9_000},
        targeting={"level": {"$exists": True, "$lt": 50}},
        locales={"fr": False},
    ),
    _experiment("scheduled", "scheduled", starts_at=_PAST, stops_at=_FUTURE),
    _experiment("later", "scheduled", starts_at=_FUTURE),
    _experiment("over", stops_at=_PAST),
    _experiment("draft", "draft"),
    _experiment("stopped", "stopped"),
    _experiment("archived", "archived"),
    Document("holdout:winter", 1, "running", {"unit": "player", "share": 1_500}),
    Document("group:western", 1, "running", {"values": ["en", "fr"]}),
    Document(
        *("members:phased:0", 1, "running"),
        {"experiment": "phased", "variation": "v0", "units": [f"u{n}" for n in range(0, 500, 3)]},
    ),
    Document(
        *("members:phased:1", 1, "running"),
        {"experiment": "phased", "variation": "v1", "units": [f"u{n}" for n in range(1, 500, 3)]},
    ),
)

EXPERIMENTS = tuple(one.key for one in DOCUMENTS if ":" not in one.key)


def units(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """The attributes of so many units; session and player are what is assigned."""
    chosen = random.Random(seed)
    for number in range(count):
        attributes: dict[str, Any] = {"session": f"u{number}", "player": f"p{number // 3}"}
        attributes["locale"] = chosen.choice(["en", "de", "de-AT", "fr", "fr-CA", "pt-BR"])
        if number % 7:
            attributes["level"] = chosen.randrange(100)
        if number % 5:
            attributes["device"] = {"os": chosen.choice(["ios", "android", "web"])}
        if number % 3:
            attributes["app"] = chosen.choice(["1.9.9", "2.9.1", "2.10.0", "2.10.0-beta", "3.0"])
        attributes["tags"] = chosen.choice([[], ["beta"], ["new", "beta"], ["new"]])
        yield attributes
