"""Which sums a report asks for, and how its query is written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from analysis.metric_catalogue import BUILT_IN, Cap, Metric, Source
from analysis.unit_statistics import Multiple, StatisticsRequest
from sinks.statistics_answer import TooManySegmentsError, gathered
from sinks.statistics_sql import Known, preparation, sums
from sinks.unit_columns import Sum, columns_of

TURNS = Source(turn="turn_ms")
REVENUE = Source(outcome="revenue")


def test_columns_are_shared_by_metrics_that_need_the_same() -> None:
    columns = columns_of(
        {
            "turn_ms": BUILT_IN["turn_ms"],
            "again": Metric(kind="mean", source=TURNS),
            "capped": Metric(kind="mean", source=TURNS, cap=Cap(absolute=10)),
        }
    )
    assert len(columns.raws) == 1
    assert len(columns.values) == 2
    assert columns.of_metrics["turn_ms"] == columns.of_metrics["again"]


def test_sums_are_of_the_pairs_that_a_metric_needs_and_no_others() -> None:
    ratio = Metric(kind="ratio", numerator=Source(turn="retries"), denominator=TURNS)
    columns = columns_of({"acts": BUILT_IN["acts"], "ratio": ratio})
    assert columns.sums() == (
        Sum(0, None, True),
        Sum(0, 0, True),
        *(Sum(1, None, True), Sum(2, None, True)),
        *(Sum(1, 1, True), Sum(1, 2, True), Sum(2, 2, True)),
    )


def test_only_outcomes_have_a_past() -> None:
    mixed = Metric(kind="ratio", numerator=REVENUE, denominator=TURNS)
    columns = columns_of({"revenue": Metric(kind="mean", source=REVENUE), "mixed": mixed})
    assert len(columns.of_metrics["revenue"]) == 2
    assert len(columns.of_metrics["mixed"]) == 2
    assert [raw.past for raw in columns.raws] == [False, True, False]


def test_whole_numbers_need_no_preparation() -> None:
    request = StatisticsRequest("npc_tone", ("control", "warm"), BUILT_IN)
    assert preparation(request, columns_of(request.metrics)) is None


def test_nothing_that_people_wrote_is_in_the_text_of_a_query() -> None:
    written = "Robert'); DROP TABLE outcomes"
    metrics = {
        written: Metric(kind="mean", source=Source(outcome="DROP.TABLE"), cap=Cap(percentile=0.5))
    }
    request = StatisticsRequest(
        written,
        (written, "b"),
        metrics,
        since=datetime(2026, 5, 4, tzinfo=UTC),
        multiple=Multiple.BOTH,
        by=written,
    )
    columns = columns_of(metrics)
    before = preparation(request, columns)
    assert before
    for query in (before, sums(request, columns, Known())):
        assert "DROP" not in query.text
        assert "DROP.TABLE" in query.parameters.values()


def test_whole_numbers_lose_nothing_however_large_they_are() -> None:
    request = StatisticsRequest("npc_tone", ("control",), {"turn_ms": BUILT_IN["turn_ms"]})
    values = [10**15 + place for place in (0, 1, 2, 3)]
    row = [1, "", 4, 4, 0, 0, 0, sum(values), sum(value * value for value in values)]
    found = gathered(request, columns_of(request.metrics), Known(), [row])
    moments = found.arms["control"].metrics["turn_ms"].moments
    assert moments.means == (1e15 + 1.5,)
    assert moments.products == ((5.0,),)


def test_too_many_segments_are_refused_when_most_rows_are_of_no_variation() -> None:
    request = StatisticsRequest("tone", ("control",), {}, by="locale")
    columns = columns_of(request.metrics)
    rows = [(place, f"l{n}", 1, 1, 0, 0, 0) for n in range(201) for place in (-1, 0, 1)]
    with pytest.raises(TooManySegmentsError, match="locale has more than 200 values"):
        gathered(request, columns, Known(), [row for row in rows if row[0] < 1] + rows[:201])
    assert f"LIMIT {len(rows)}" in sums(request, columns, Known()).text
