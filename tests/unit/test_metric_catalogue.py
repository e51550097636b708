from __future__ import annotations

from typing import Any

import pytest

from anabranch.reading import DefinitionError, read
from analysis.metric_catalogue import BUILT_IN, Metric
from analysis.windows import INVITE_STEPS, TURN_METRICS


def test_built_in_metrics_are_those_that_windows_are_made_of() -> None:
    windows = {*TURN_METRICS, "exposures", *(f"invites_{step}" for step in INVITE_STEPS)}
    assert set(BUILT_IN) == windows
    for name in TURN_METRICS:
        source = BUILT_IN[name].source
        assert source is not None
        assert source.turn == name
    assert all(metric.description for metric in BUILT_IN.values())


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "mean", "source": {"outcome": "revenue"}, "cap": {"absolute": 100}},
        {"kind": "count", "source": {"invite": {"step": "joined", "loop": "share"}}},
        {"kind": "proportion", "source": {"exposures": True}, "direction": "up"},
        {"kind": "ratio", "numerator": {"outcome": "a"}, "denominator": {"turn": "acts"}},
        {"kind": "quantile", "source": {"turn": "turn_ms"}, "q": 0.95},
        {"kind": "mean", "source": {"turn": "acts"}, "conversion_window_hours": 72},
    ],
    ids=lambda given: str(given["kind"]),
)
def test_metric_of_each_kind_is_read(given: dict[str, Any]) -> None:
    assert read(Metric, given).kind == given["kind"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "mean"}, 'a mean needs source, such as {"outcome": "revenue"}'),
        ({"kind": "ratio", "source": {"outcome": "a"}}, "a ratio has no source; it takes denom"),
        ({"kind": "ratio", "numerator": {"outcome": "a"}}, "a ratio needs denominator"),
        ({"kind": "quantile", "source": {"turn": "acts"}}, "a quantile needs q, such as 0.95"),
        ({"kind": "quantile", "source": {"turn": "acts"}, "q": 1}, "q: is 1"),
        ({"kind": "mean", "source": {}}, "source: names nothing; a source is one thing"),
        (
            {"kind": "mean", "source": {"outcome": "a", "turn": "acts"}},
            "source: names outcome and turn",
        ),
        ({"kind": "mean", "source": {"turn": "turns"}}, "source.turn: is 'turns', and must be"),
        (
            {"kind": "count", "source": {"turn": "acts"}, "cap": {"absolute": 1}},
            "a count has no cap",
        ),
        ({"kind": "mean", "source": {"turn": "acts"}, "cap": {}}, "needs one of absolute and"),
        ({"kind": "median", "source": {"turn": "acts"}}, "kind: is 'median'"),
    ],
)
def test_metric_that_means_nothing_is_refused_with_a_sentence(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        read(Metric, given)
    assert said in str(refused.value)
