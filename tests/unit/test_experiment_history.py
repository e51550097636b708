from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anabranch.definition_records import Document
from service.experiment_history import comparable, ran_its_time, splits

BEGIN = datetime(2026, 5, 4, tzinfo=UTC)
EVEN, TILTED = (5_000, 5_000), (1_000, 9_000)
PLANNED = (BEGIN + timedelta(days=14)).isoformat()


def version(
    number: int, status: str, weights: tuple[int, int] = EVEN, *, day: float = 0, **also: Any
) -> Document:
    """Written on a day after the begin."""
    keys = ("control", "warm")
    variations = [{"key": key, "weight": n} for key, n in zip(keys, weights, strict=True)]
    text = json.dumps({"key": "npc_tone", "variations": variations, **also})
    at = round((BEGIN + timedelta(days=day)).timestamp() * 1000)
    return Document("npc_tone", number, status, text, "jo", at, "", number)


def phase(*, opening: bool) -> list[dict[str, bool]]:
    return [{"opening": False}, {"opening": opening}]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param(
            [version(1, "draft"), version(2, "running"), version(3, "stopped")], None,
            id="weights never changed",
        ),
        pytest.param(
            [version(1, "running"), version(2, "running", TILTED), version(3, "stopped", TILTED)],
            (2, 3), id="weights changed while it ran",
        ),
        pytest.param(
            [version(1, "running"), version(2, "running", TILTED), version(3, "running")],
            (3, 3), id="weights as they were before another change",
        ),
        pytest.param(
            [
                version(1, "running"),
                version(2, "running", TILTED, phases=phase(opening=True)),
                version(3, "running", TILTED, phases=phase(opening=False)),
            ],
            (3, 3), id="a phase that was opening",
        ),
        pytest.param(
            [version(1, "deleted"), version(2, "draft"), version(3, "running")], (2, 3),
            id="another experiment had the key before",
        ),
        pytest.param(
            [version(7, "running"), version(8, "running")], (7, 8), id="older ones are not known"
        ),
    ],
)  # fmt: skip
def test_comparable_are_the_versions_that_share_units_out_as_now(
    history: list[Document], expected: tuple[int, int] | None
) -> None:
    assert comparable(history) == expected


def test_splits_are_alike_when_weights_are() -> None:
    found = splits([version(1, "draft"), version(2, "running", TILTED), version(3, "running")])
    assert found[1] == found[3] != found[2]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([version(1, "running", stops_at=PLANNED)], True, id="by the clock"),
        pytest.param(
            [version(1, "running", stops_at=(BEGIN + timedelta(days=30)).isoformat())],
            False, id="its time has not come",
        ),
        pytest.param(
            [
                version(1, "running", stops_at=PLANNED),
                version(2, "stopped", day=3, stops_at=PLANNED),
            ],
            False, id="stopped before, the time has passed since",
        ),
        pytest.param(
            [
                version(1, "running", stops_at=PLANNED),
                version(2, "archived", day=15, stops_at=PLANNED),
            ],
            True, id="archived after it",
        ),
        pytest.param([version(1, "running")], False, id="no time was given"),
        pytest.param([version(1, "draft", stops_at=PLANNED)], False, id="it never ran"),
    ],
)  # fmt: skip
def test_ran_its_time_when_nothing_stopped_it_before(
    history: list[Document], expected: bool
) -> None:
    assert ran_its_time(history, BEGIN + timedelta(days=20)) is expected
