"""Each table's rows against an oracle of plain loops, and against those of a batch in two parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.sketches import bucket_of, merge
from analysis.windows import (
    INVITE_STEPS,
    TURN_METRICS,
    invite_units,
    restatements,
    unit_exposures,
    unit_metrics,
    windows_of_exposures,
    windows_of_invites,
    windows_of_outcomes,
    windows_of_turns,
)
from schemas.record import Kind, parse, schema_text

MIGRATIONS = Path(__file__).parents[2] / "sinks" / "migrations"
Event = dict[str, Any]
Rows = dict[tuple[Any, ...], dict[str, Any]]
TableOf = Callable[[pl.DataFrame], pa.Table]

# 20 seconds before a midnight, so that batches reach over minutes and over days.
START_MS = 1_767_225_580_000
TIMES = st.integers(START_MS, START_MS + 200_000)
KEYS: st.SearchStrategy[Any] = st.sampled_from(["", "a", "b", "ä", "\uffff", "\U0001f600"])
VERSIONS = st.integers(1, 3)
# Few whole numbers are counted one by one, many by bucket: both have to come up.
COUNTS: st.SearchStrategy[Any] = st.one_of(st.integers(0, 2), st.integers(0, 10**9))
PAIRS = st.lists(st.fixed_dictionaries({"name": KEYS, "value": KEYS}), max_size=2)
REFERENCE: dict[str, st.SearchStrategy[Any]] = {
    "experiment": KEYS,
    "version": VERSIONS,
    "variation": KEYS,
    "unit": KEYS,
}
REFERENCES: st.SearchStrategy[Any] = st.lists(st.fixed_dictionaries(REFERENCE), max_size=3)
MEASUREMENT: dict[str, st.SearchStrategy[Any]] = {"name": KEYS, "value": st.floats(-1e15, 1e15)}

TEXT_PAIR = pl.Struct({"name": pl.String, "value": pl.String})
EXPOSURE_REF = pl.Struct(
    {"experiment": pl.String, "version": pl.Int32, "variation": pl.String, "unit": pl.String}
)
TURN = pl.Schema(
    {"ts": pl.Int64(), "locale": pl.String(), "exposures": pl.List(EXPOSURE_REF)}
    | dict.fromkeys(TURN_METRICS, pl.Int32())
)
EXPOSURE = pl.Schema(
    {"ts": pl.Int64, "experiment": pl.String, "version": pl.Int32, "variation": pl.String}
    | {"unit": pl.String, "locale": pl.String, "attributes": pl.List(TEXT_PAIR)}
)
INVITE = pl.Schema(
    {"ts": pl.Int64, "kind": pl.String, "loop": pl.String, "inviter": pl.String}
    | {"locale": pl.String, "exposures": pl.List(EXPOSURE_REF)}
)
OUTCOME = pl.Schema(
    {"ts": pl.Int64, "unit": pl.String}
    | {"values": pl.List(pl.Struct({"name": pl.String, "value": pl.Float64}))}
)


def batch(fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[Event]]:
    return st.lists(st.fixed_dictionaries({"ts": TIMES, **fields}), max_size=30)


TURNS = batch({"locale": KEYS, "exposures": REFERENCES} | dict.fromkeys(TURN_METRICS, COUNTS))
EXPOSURES = batch(REFERENCE | {"locale": KEYS, "attributes": PAIRS})
STEPS = st.sampled_from([*INVITE_STEPS, "reached_later"])
INVITES = batch(
    {"kind": STEPS, "loop": KEYS, "inviter": KEYS, "locale": KEYS, "exposures": REFERENCES}
)
OUTCOMES = batch({"unit": KEYS, "values": st.lists(st.fixed_dictionaries(MEASUREMENT), max_size=3)})

# The first example pays for what polars and pyarrow load only when they are used.
examples = settings(deadline=None, max_examples=50)


def at(ts: int) -> datetime:
    return datetime.fromtimestamp(ts // 1000, UTC).replace(microsecond=ts % 1000 * 1000)


def minute(ts: int) -> datetime:
    return at(ts).replace(second=0, microsecond=0)


def references(event: Event) -> list[tuple[str, int, str]]:
    found = [(ref["experiment"], ref["version"], ref["variation"]) for ref in event["exposures"]]
    return found or [("", 0, "")]


def turn_windows(turns: list[Event]) -> Rows:
    return window_rows(
        (turn, (*reference, turn["locale"], metric), turn[metric])
        for turn in turns
        for reference in references(turn)
        for metric in TURN_METRICS
    )


def exposure_windows(events: list[Event]) -> Rows:
    names = ("experiment", "version", "variation", "locale")
    return window_rows((one, (*(one[name] for name in names), "exposures"), 1) for one in events)


def invite_windows(events: list[Event]) -> Rows:
    return window_rows(
        (event, (*reference, event["locale"], f"invites_{event['kind']}"), 1)
        for event in events
        for reference in references(event)
        if event["kind"] in INVITE_STEPS
    )


def outcome_windows(events: list[Event]) -> Rows:
    return window_rows(
        (event, ("", 0, "", "", value["name"]), value["value"])
        for event in events
        for value in event["values"]
    )


def window_rows(contributions: Iterable[tuple[Event, tuple[Any, ...], float]]) -> Rows:
    seen: dict[tuple[Any, ...], list[float]] = {}
    for event, key, value in contributions:
        seen.setdefault((minute(event["ts"]), *key), []).append(value)
    return {
        key: {
            "n": len(values),
            "sum": float(sum(values)),
            "sum_sq": float(sum(value * value for value in values)),
            "min": min(values),
            "max": max(values),
            "histogram": dict(Counter(bucket_of(np.array(values)).tolist())),
        }
        for key, values in seen.items()
    }


def expected_unit_metrics(turns: list[Event]) -> Rows:
    rows: Rows = {}
    for turn in turns:
        for ref in turn["exposures"]:
            key = (at(turn["ts"]).date(), *(ref[name] for name in REFERENCE))
            row = rows.setdefault(key, {"n": 0} | {f"{metric}_sum": 0 for metric in TURN_METRICS})
            row["n"] += 1
            for metric in TURN_METRICS:
                row[f"{metric}_sum"] += turn[metric]
    return rows


def expected_unit_exposures(exposures: list[Event]) -> Rows:
    seen: dict[tuple[Any, ...], list[Event]] = {}
    for event in exposures:
        seen.setdefault((event["experiment"], event["unit"]), []).append(event)
    return {
        key: {
            "first": min(first_of(event) for event in events),
            "last_ts": max(at(event["ts"]) for event in events),
            "variations": {event["variation"] for event in events},
            "n": len(events),
        }
        for key, events in seen.items()
    }


def first_of(event: Event) -> tuple[Any, ...]:
    attributes = [(pair["name"], pair["value"]) for pair in event["attributes"]]
    when = event["ts"] if isinstance(event["ts"], datetime) else at(event["ts"])
    return (when, event["version"], event["variation"], event["locale"], attributes)


def expected_invite_units(invites: list[Event]) -> Rows:
    rows: Rows = {}
    for event in invites:
        if event["kind"] in INVITE_STEPS:
            key = (at(event["ts"]).date(), event["loop"], event["inviter"], event["locale"])
            rows.setdefault(key, dict.fromkeys(INVITE_STEPS, 0))[event["kind"]] += 1
    return rows


def merged(tables: Iterable[pa.Table], keys: int) -> Rows:
    """As the engine merges rows of one key: its aggregate function for each column, by hand."""
    rows: Rows = {}
    for table in tables:
        for found in table.to_pylist():
            row = plain(found)
            key = tuple(row.pop(name) for name in table.column_names[:keys])
            seen = rows.setdefault(key, row)
            if seen is not row:
                rows[key] = {name: MERGED.get(name, added)(seen[name], row[name]) for name in row}
    return rows


def plain(row: dict[str, Any]) -> dict[str, Any]:
    if "histogram" in row:
        assert len(dict(row["histogram"])) == len(row["histogram"])
        row["histogram"] = dict(row["histogram"])
    if "first" in row:
        row["first"] = first_of(row["first"])
        assert len(set(row["variations"])) == len(row["variations"])
        row["variations"] = set(row["variations"])
    return row


def added(one: Any, other: Any) -> Any:
    return one + other


MERGED: dict[str, Callable[[Any, Any], Any]] = {
    "min": min,
    "max": max,
    "histogram": merge,
    "first": min,
    "last_ts": max,
    "variations": set.union,
}


def assert_equal(found: Rows, expected: Rows) -> None:
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for name, value in row.items():
            # The sums of doubles depend on their order: on the scale of what was added, no more.
            if name in ("sum", "sum_sq") and row["n"] > 1:
                scale = row["sum_sq"] if name == "sum_sq" else (row["sum_sq"] * row["n"]) ** 0.5
                value = pytest.approx(value, rel=0, abs=1e-12 * scale)
            assert found[key][name] == value, (key, name)


def assert_rows(
    table_of: TableOf,
    expected: Rows,
    keys: int,
    frame: pl.DataFrame,
    cut: int,
) -> None:
    whole = table_of(frame)
    assert len(whole) == len(expected)
    assert all(column.num_chunks <= 1 for column in whole.columns)
    assert whole.equals(table_of(frame.clone()))
    assert_equal(merged([whole], keys), expected)
    parts = [table_of(frame.head(cut)), table_of(frame.slice(cut))]
    assert parts[0].schema == parts[1].schema == whole.schema
    assert_equal(merged(parts, keys), expected)


@pytest.mark.parametrize(
    ("table_of", "keys", "schema", "events", "expected"),
    [
        pytest.param(windows_of_turns, 6, TURN, TURNS, turn_windows, id="turns"),
        pytest.param(
            windows_of_exposures, 6, EXPOSURE, EXPOSURES, exposure_windows, id="exposures"
        ),
        pytest.param(windows_of_invites, 6, INVITE, INVITES, invite_windows, id="invites"),
        pytest.param(windows_of_outcomes, 6, OUTCOME, OUTCOMES, outcome_windows, id="outcomes"),
        pytest.param(unit_metrics, 5, TURN, TURNS, expected_unit_metrics, id="unit metrics"),
        pytest.param(
            unit_exposures, 2, EXPOSURE, EXPOSURES, expected_unit_exposures, id="unit exposures"
        ),
        pytest.param(invite_units, 4, INVITE, INVITES, expected_invite_units, id="invite units"),
    ],
)
@examples
@given(data=st.data(), cut=st.integers(0, 30))
def test_rows_equal_the_oracle_and_those_of_two_parts_add_up_to_them(
    data: st.DataObject,
    cut: int,
    table_of: TableOf,
    keys: int,
    schema: pl.Schema,
    events: st.SearchStrategy[list[Event]],
    expected: Callable[[list[Event]], Rows],
) -> None:
    drawn = data.draw(events)
    assert_rows(table_of, expected(drawn), keys, pl.DataFrame(drawn, schema=schema), cut)


def test_first_exposure_is_the_least_in_any_order_when_times_are_equal() -> None:
    one = {"ts": START_MS, "experiment": "a", "version": 1, "variation": "b", "unit": "c"}
    least = one | {"locale": "d", "attributes": [{"name": "e", "value": "f"}]}
    for greater in (
        {"version": 2, "variation": "a"},
        {"variation": "c", "locale": "a"},
        {"locale": "e", "attributes": []},
        {"attributes": [{"name": "e", "value": "g"}]},
        {"attributes": [{"name": "e", "value": "f"}, {"name": "a", "value": "a"}]},
    ):
        for events in ([least, least | greater], [least | greater, least]):
            (row,) = unit_exposures(pl.DataFrame(events, schema=EXPOSURE)).to_pylist()
            assert first_of(row["first"]) == first_of(least)


@pytest.mark.parametrize(
    "minutes", [pytest.param(1, id="few groups"), pytest.param(900, id="many groups")]
)
@pytest.mark.parametrize("greatest", [1, 3_000, 10**9], ids=lambda value: f"up to {value}")
def test_windows_of_turns_equal_the_oracle_whatever_the_groups_and_values(
    minutes: int, greatest: int
) -> None:
    random = np.random.default_rng(minutes + greatest)
    exposure = {"experiment": "a", "version": 1, "variation": "b", "unit": "c"}
    turns: list[Event] = [
        {"ts": START_MS + int(random.integers(minutes)) * 60_000, "locale": "", "exposures": refs}
        | {name: int(random.integers(greatest + 1)) for name in TURN_METRICS}
        for refs in [[exposure], [], [exposure, exposure]] * 200
    ]
    expected = turn_windows(turns)
    assert_rows(windows_of_turns, expected, 6, pl.DataFrame(turns, schema=TURN), 250)


@examples
@given(batch({}), st.none() | TIMES, st.integers(0, 120_000))
def test_restatements_count_events_in_windows_that_had_closed(
    events: list[Event], highest: int | None, grace: int
) -> None:
    late = Counter(
        minute(event["ts"])
        for event in events
        if highest is not None and event["ts"] // 60_000 * 60_000 + 60_000 + grace <= highest
    )
    found = restatements(pl.DataFrame(events, schema={"ts": pl.Int64}), highest, grace).to_pylist()
    assert [(row["window"], row["events"]) for row in found] == sorted(late.items())


def test_window_closes_with_its_last_millisecond_and_the_grace() -> None:
    frame = pl.DataFrame({"ts": [60_000, 119_999, 120_000]})
    assert restatements(frame, 119_999).to_pylist() == []
    assert restatements(frame, 120_000)["events"].to_pylist() == [2]
    assert restatements(frame, 120_999, 1_000).to_pylist() == []
    assert restatements(frame, 121_000, 1_000)["events"].to_pylist() == [2]


def test_unit_sums_hold_what_exceeds_32_bits() -> None:
    exposure = {"experiment": "a", "version": 1, "variation": "b", "unit": "c"}
    turn = {"ts": START_MS, "locale": "", "exposures": [exposure]}
    turns = [turn | dict.fromkeys(TURN_METRICS, 10**9)] * 5
    assert unit_metrics(pl.DataFrame(turns, schema=TURN))["turn_ms_sum"].to_pylist() == [5 * 10**9]


def test_metrics_and_steps_are_those_of_the_schemas() -> None:
    turn, invite = parse(schema_text("turn_metric.avsc")), parse(schema_text("invite.avsc"))
    assert [f.name for f in turn.fields if f.kind is Kind.INTEGER] == list(TURN_METRICS)
    (kind,) = (field for field in invite.fields if field.name == "kind")
    assert kind.attributes["enum"] == list(INVITE_STEPS)


@pytest.mark.parametrize(
    ("file", "table_of", "schema"),
    [
        pytest.param("0005_metric_windows.sql", windows_of_turns, TURN, id="windows of turns"),
        pytest.param("0005_metric_windows.sql", windows_of_outcomes, OUTCOME, id="of outcomes"),
        pytest.param("0006_unit_metrics.sql", unit_metrics, TURN, id="unit metrics"),
        pytest.param("0007_unit_exposures.sql", unit_exposures, EXPOSURE, id="unit exposures"),
        pytest.param("0008_invite_units.sql", invite_units, INVITE, id="invite units"),
    ],
)
def test_columns_are_those_of_the_table(file: str, table_of: TableOf, schema: pl.Schema) -> None:
    table = (MIGRATIONS / file).read_text().split("ENGINE")[0]
    stored = re.findall(r"^    (\w+) (?!\w+ ALIAS)", table, re.MULTILINE)
    assert set(table_of(pl.DataFrame(schema=schema)).column_names) == set(stored)
