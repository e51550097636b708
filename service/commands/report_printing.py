"""A report in the terminal: the decision first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.commands.dead.printing import line, table
from service.commands.intervals import bar, figure, percent, probability, scale

Answer = Mapping[str, Any]

_ACTIONS = {
    "ship": ("SHIP", "bold green"),
    "roll_back": ("ROLL BACK", "bold red"),
    "keep_running": ("KEEP RUNNING", "bold yellow"),
    "no_decision": ("NO DECISION", "bold red"),
}
_VERDICTS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "bad": ("bad", "bold red")}
_BETTER = {"up": "higher is better", "down": "lower is better", None: "neither way is better"}


def print_report(out: Console, report: Answer) -> None:
    _print_head(out, report)
    _print_decision(out, report["decision"])
    _print_health(out, report["health"])
    _print_variations(out, report["variations"])
    level = report["method"]["level"]
    for metric in report["metrics"]:
        _print_metric(out, metric, level)
    for segment in report["segments"]:
        value = segment["value"] or "(unknown)"
        out.print()
        out.print(line(f"{segment['by']} {value}", "bold underline"))
        for metric in segment["metrics"]:
            _print_metric(out, metric, level)
    out.print()
    out.print(line(f"report {report['id']}: /v1/reports/{report['id']} keeps it", "dim"))


def _print_head(out: Console, report: Answer) -> None:
    out.print(
        line(f"{report['experiment']}, {report['status']}, version {report['version']}", "bold")
    )
    period, freshness = report["period"], report["freshness"]
    since = period["first_exposure"]
    if since is None:
        out.print(line("no unit has been exposed yet"))
    else:
        text = f"{period['days']:.1f} days, since {_time(since)}"
        if freshness["watermark"] is not None:
            text += f"; all that happened up to {_time(freshness['watermark'])} is in it"
        out.print(line(text))


def _print_decision(out: Console, decision: Answer) -> None:
    said, style = _ACTIONS[decision["action"]]
    out.print()
    out.print(line(f"{said} {decision['variation'] or ''}".strip(), style))
    for reason in decision["reasons"]:
        out.print(Padding(line(reason), (0, 0, 0, 2)))


def _print_health(out: Console, health: Answer) -> None:
    out.print()
    said, style = _VERDICTS[health["verdict"]]
    out.print(Text.assemble("health: ", (said, style)))
    for finding in health["findings"]:
        if finding["verdict"] == "ok":
            continue
        said, style = _VERDICTS[finding["verdict"]]
        text = Text.assemble((f"{said}: ", style), line(finding["sentence"]))
        if finding["what_to_do"]:
            text = Text.assemble(text, " ", line(finding["what_to_do"], "dim"))
        out.print(Padding(text, (0, 0, 0, 2)))


def _print_variations(out: Console, variations: Sequence[Answer]) -> None:
    shown = table("variation", "units", "exposures", "weight")
    for column in shown.columns[1:]:
        column.justify = "right"
    for one in variations:
        units, exposures = f"{one['units']:,}", f"{one['exposures']:,}"
        shown.add_row(line(one["key"]), units, exposures, f"{one['weight'] / 100:g}%")
    out.print()
    out.print(shown)


def _print_metric(out: Console, metric: Answer, level: float) -> None:
    out.print()
    head = f", {metric['role']}, {metric['kind']}, {_BETTER[metric['direction']]}"
    out.print(Text.assemble(line(metric["metric"], "bold"), line(head, "dim")))
    out.print(_arms(metric, level))
    for sentence in _why_not(metric):
        out.print(Padding(line(sentence, "yellow"), (0, 0, 0, 2)))


def _arms(metric: Answer, level: float) -> Table:
    compared = {one["variation"]: one for one in metric["comparisons"]}
    known = [one["absolute"] for one in metric["comparisons"] if one["absolute"] is not None]
    ends = scale([*(one["ci"] for one in known), *([one["effect"]] * 2 for one in known)])
    shown = table(
        *("variation", "units", "value", "effect", "relative", f"{level:.0%} interval", ""),
        *("p", "p at any look", "chance to beat"),
    )
    for place, column in enumerate(shown.columns):
        column.justify = "left" if place in (0, 6) else "right"
        column.no_wrap = True
    for arm in metric["arms"]:
        comparison = compared.get(arm["variation"])
        cells: list[Text | str] = [
            line(arm["variation"]),
            f"{arm['units']:,}",
            figure(arm["value"]),
        ]
        if comparison is not None:
            cells += _compared(comparison, metric["direction"], ends)
        shown.add_row(*cells)
    return shown


def _compared(
    comparison: Answer, direction: str | None, ends: tuple[float, float]
) -> list[Text | str]:
    absolute, relative = comparison["absolute"], comparison["relative"]
    if absolute is None:
        return ["-"] * 7
    sequential, bayesian = comparison["sequential"], comparison["bayesian"]
    low, high = absolute["ci"]
    style = _style(low, high, direction)
    p_value = comparison["adjusted_p_value"]
    if p_value is None:
        p_value = comparison["p_value"]
    at_any_look = None if sequential is None else sequential["p_value"]
    chance = None if bayesian is None else bayesian["chance_to_beat_baseline"]
    return [
        Text(figure(absolute["effect"], sign=True), style),
        Text(percent(None if relative is None else relative["effect"]), style),
        f"{figure(low, sign=True)} to {figure(high, sign=True)}",
        Text(bar((low, high), absolute["effect"], ends), style),
        probability(p_value),
        probability(at_any_look),
        "-" if chance is None else f"{chance:.1%}",
    ]


def _style(low: float | None, high: float | None, direction: str | None) -> str:
    """Green for better, red for worse, plain where zero is in the interval."""
    rises, falls = low is not None and low > 0, high is not None and high < 0
    if not (rises or falls):
        return ""
    if direction is None:
        return "bold"
    return "green" if rises == (direction == "up") else "red"


def _why_not(metric: Answer) -> list[str]:
    """Sentences for what is missing, each once."""
    if metric["no_verdict"] is not None:
        return [metric["no_verdict"]["sentence"]]
    found: dict[str, None] = {}
    for comparison in metric["comparisons"]:
        if comparison["no_verdict"] is not None:
            found[f"{comparison['variation']}: {comparison['no_verdict']['sentence']}"] = None
    return list(found)


def _time(moment: str) -> str:
    return f"{moment[:16].replace('T', ' ')} UTC"
