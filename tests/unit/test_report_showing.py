"""A report as a terminal and as tables show it; its numbers are made up."""

from __future__ import annotations

import csv
import io
import tracemalloc
from typing import Any

import pytest
from rich.console import Console

from service.commands.intervals import bar, figure, percent, probability, scale
from service.commands.report_printing import print_report
from service.report_formats import parts
from service.report_rows import COLUMNS, rows

OK = {"verdict": "ok", "name": "late_events", "sentence": "Fine.", "what_to_do": ""}


def metric(**fields: Any) -> dict[str, Any]:
    comparison = {
        "variation": "warm",
        "baseline": "control",
        "p_value": 0.02,
        "adjusted_p_value": 0.04,
        "absolute": {"effect": -12.1, "ci": [-20.0, -4.2]},
        "relative": {"effect": -0.0149, "ci": [-0.0245, None]},
        "sequential": {"p_value": 0.31, "ci": [-23.9, 0.3], "adjusted_p_value": None},
        "bayesian": None,
        "cuped": None,
        "no_verdict": None,
        "guardrail": {
            "limit": 0.05,
            "harm": "increase",
            "at_horizon": {"status": "holds"},
            "any_time": {"status": "open"},
        },
    }
    arm = {"units": 5_012, "value": 812.4, "mean": 812.4, "sd": 290.1, "sum": 4.1e6, "se": 4.1}
    return {
        "metric": "turn_ms",
        "kind": "mean",
        "role": "guardrail",
        "direction": "down",
        "arms": [{"variation": name, **arm} for name in ("control", "warm")],
        "comparisons": [comparison | fields],
        "no_verdict": None,
    }


def report(*segments: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": "f" * 32,
        "experiment": "npc_tone",
        "version": 3,
        "status": "running",
        "period": {"first_exposure": "2026-01-01T10:00:00Z", "days": 3.21},
        "freshness": {"watermark": "2026-01-04T15:00:00Z"},
        "health": {"verdict": "ok", "findings": [OK]},
        "method": {"level": 0.95},
        "variations": [
            {"key": name, "units": 5_012, "exposures": 5_400, "weight": 5_000}
            for name in ("control", "warm")
        ],
        "metrics": [metric()],
        "segments": [{"by": "locale", "value": name, "metrics": [metric()]} for name in segments],
        "decision": {"action": "keep_running", "variation": None, "reasons": ["Not yet."]},
        **fields,
    }


def shown(found: dict[str, Any], width: int = 140) -> str:
    out = Console(width=width, file=io.StringIO(), highlight=False, color_system=None)
    print_report(out, found)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_print_has_the_decision_before_health_and_numbers() -> None:
    text = shown(report())
    lines = text.splitlines()
    assert lines[:2] == [
        "npc_tone, running, version 3",
        "3.2 days, since 2026-01-01 10:00 UTC; "
        "all that happened up to 2026-01-04 15:00 UTC is in it",
    ]
    order = [text.index(one) for one in ("KEEP RUNNING", "Not yet.", "health: ok", "turn_ms, ")]
    assert order == sorted(order)
    assert "-12.1" in text
    assert "-20 to -4.2" in text
    assert "warm: an increase of 5% at most: not sure yet" in text
    assert "Fine." not in text


@pytest.mark.parametrize(
    ("width", "there"),
    [
        (140, [True, True, True]),
        (110, [False, True, True]),
        (92, [False, False, True]),
        (80, [False, False, True]),
        (60, [False, False, True]),
    ],
)
def test_print_leaves_out_whole_columns_when_the_terminal_is_narrow(
    width: int, there: list[bool]
) -> None:
    text = shown(report(), width)
    assert [one in text for one in ("●", "chance to beat", "p at any look")] == there
    assert "…" not in text
    headings = ("relative", "p, corrected", "chance to beat", "p at any look")
    assert [text.count(one[:-1]) for one in headings] == [text.count(one) for one in headings]


def test_print_says_why_there_is_no_number() -> None:
    why = {"reason": "no_units", "sentence": "There is nothing to compare."}
    nothing = {"absolute": None, "relative": None, "sequential": None, "guardrail": None}
    found = report(metrics=[metric(**nothing, no_verdict=why)])
    assert "warm: There is nothing to compare." in shown(found)
    bad = {"verdict": "bad", "name": "srm", "sentence": "Units are missing.", "what_to_do": "Look."}
    text = shown(report(health={"verdict": "bad", "findings": [OK, bad]}))
    assert "health: bad\n  bad: Units are missing. Look." in text


def test_print_of_what_somebody_sent_cannot_write_to_the_terminal() -> None:
    assert "\x1b" not in shown(report("\x1b[31mred"))


def test_rows_have_one_for_each_segment_metric_and_variation() -> None:
    made = [
        dict(zip((column.name for column in COLUMNS), row, strict=True))
        for row in rows(report("en", ""))
    ]
    assert [(row["segment"], row["variation"]) for row in made] == [
        (segment, name) for segment in (None, "en", "") for name in ("control", "warm")
    ]
    control, warm, *_ = made
    assert (control["p_value"], control["value"]) == (None, 812.4)
    assert (warm["baseline"], warm["absolute_low"], warm["absolute_high"]) == ("control", -20, -4.2)
    assert (warm["relative_low"], warm["relative_high"]) == (-0.0245, None)
    assert (warm["cuped_effect"], warm["guardrail_status"]) == (None, "holds")


def test_csv_keeps_every_digit_and_runs_no_formula() -> None:
    found = report('=cmd|"/c calc"!A1')
    found["metrics"][0]["arms"][0]["sd"] = 0.1 + 0.2
    text = b"".join(parts(found, "csv")).decode()
    made = list(csv.DictReader(io.StringIO(text, newline="")))
    assert float(made[0]["sd"]) == 0.1 + 0.2
    assert made[2]["segment"] == '\'=cmd|"/c calc"!A1'
    assert (made[0]["p_value"], made[0]["segment"]) == ("", "")


def test_csv_takes_the_memory_of_a_few_rows_however_many_there_are() -> None:
    found = report(*(f"segment {number}" for number in range(5_000)))
    size = sum(map(len, parts(found, "csv")))
    tracemalloc.start()
    for _ in parts(found, "csv"):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 1_000_000
    assert peak < size / 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (812.4, "812.4"),
        (12_345.678, "12,346"),
        (0.0123456, "0.01235"),
        (-3.0, "-3"),
        (1e15, "1.000e+15"),
        (2e-9, "2.000e-09"),
    ],
)
def test_figure_has_four_digits_and_loses_nothing_before_the_point(
    value: float | None, text: str
) -> None:
    assert figure(value) == text


def test_figures_of_other_kinds() -> None:
    assert figure(2.5, sign=True) == "+2.5"
    assert [percent(0.0149), percent(-0.0004), percent(None)] == ["+1.5%", "-0.04%", "-"]
    assert [probability(1.0), probability(0.05), probability(1e-9)] == ["1", "0.05", "<0.0001"]


def test_bar_shows_where_zero_is_and_goes_on_to_the_edge_where_there_is_no_bound() -> None:
    ends = scale([(-1.0, 3.0), (None, 2.0)])
    assert ends == (-1.0, 3.0)
    whole = bar((-1.0, 3.0), 1.0, ends)
    assert (whole[0], whole[-1], whole.index("●"), whole.index("╋")) == ("━", "━", 12, 6)
    right = bar((2.0, 3.0), 2.5, ends)
    assert right.index("┃") == 6
    assert right[:6].isspace()
    assert bar((None, 2.0), 1.0, ends)[0] == "━"
    assert scale([]) == (-1.0, 1.0)
