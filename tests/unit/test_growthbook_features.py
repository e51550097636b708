"""GrowthBook's own Python SDK, given our features, decides as we do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import growthbook
import pytest

from anabranch.definition_set import DefinitionSet
from service.growthbook_features import features
from tests.every_experiment import DOCUMENTS, EXPERIMENTS, NOW, Document, units

DEFINITIONS = DefinitionSet.of(DOCUMENTS)
PAYLOAD = json.loads(json.dumps(features(DEFINITIONS, NOW.timestamp(), 0).payload))
UNITS = list(units(400))


def by_growthbook(attributes: dict[str, Any], key: str) -> tuple[Any, str | None, bool]:
    """Value, variation and whether the unit is in the experiment."""
    sdk: Any = growthbook.GrowthBook(
        attributes=attributes,
        features=PAYLOAD["features"],
        savedGroups=PAYLOAD["savedGroups"],
    )
    found = sdk.eval_feature(key)
    inside = found.experimentResult is not None and found.experimentResult.inExperiment
    return found.value, found.experimentResult.key if inside else None, inside


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_growthbook_decides_as_we_do(key: str) -> None:
    inside = 0
    for attributes in UNITS:
        ours = DEFINITIONS.assign(key, {}, attributes, at=NOW.timestamp())
        value, variation, is_inside = by_growthbook(attributes, key)
        assert value == dict(ours.params), (attributes, ours)
        assert is_inside == ours.in_experiment, (attributes, ours)
        if is_inside:
            assert variation == ours.variation, (attributes, ours)
            inside += 1
    outside = {"uncovered", "later", "over", "draft", "stopped", "archived"}
    assert (inside == 0) == (key in outside)


def test_payload_says_until_when_it_holds() -> None:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    definition = {
        "key": "tone",
        "variations": [{"key": "a", "weight": 10_000}],
        "starts_at": (at - timedelta(hours=1)).isoformat(),
        "stops_at": (at + timedelta(hours=2)).isoformat(),
        "ramp": [{"at": (at + timedelta(hours=1)).isoformat(), "coverage": 5_000}],
    }
    definitions = DefinitionSet.of([Document("tone", 1, "running", definition)])
    until = [
        features(definitions, (at + timedelta(hours=n)).timestamp(), 0).until for n in (0, 1, 2)
    ]
    hours = [(moment - at.timestamp()) / 3_600 for moment in until]
    assert hours == [1, 2, float("inf")]
