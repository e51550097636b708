"""A report in the terminal: the decision first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.commands.dead.printing import line, table
from service.commands.intervals import bar, figure, percent, probability, scale

Answer = Mapping[str, Any]


class Column(NamedTuple):
    name: str
    dropped: int = 0
    """Where the terminal is too narrow for all: the highest goes first, and 0 never."""
    justify: Literal["left", "right"] = "right"


_ENDLESS = 10_000

_ACTIONS = {
    "ship": ("SHIP", "bold green"),
    "roll_back": ("ROLL BACK", "bold red"),
    "keep_running": ("KEEP RUNNING", "bold yellow"),
    "no_decision": ("NO DECISION", "bold red"),
}
_VERDICTS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "bad": ("bad", "bold red")}
_STATUSES = {
    "holds": ("it is within", "green"),
    "open": ("not sure yet", "dim"),
    "breached": ("BREACHED", "bold red"),
}
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
        text = f"{_duration(period['days'])}, since {_time(since)}"
        if freshness["watermark"] is not None:
            text += f"; all that happened up to {_time(freshness['watermark'])} is in it"
        out.print(line(text))


def _print_decision(out: Console, decision: Answer) -> None:
    said, style = _ACTIONS[decision["action"]]
    out.print()
    out.print(line(f"{said} {decision['variation'] or ''}".strip(), style))
    for reason in decision["reasons"]:
        out.print(Padding(line(reason), (0, 0, 0, 2), expand=False))


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
        out.print(Padding(text, (0, 0, 0, 2), expand=False))


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
    out.print(_arms(metric, level, out))
    for sentence, style in [*_guardrails(metric), *_why_not(metric)]:
        out.print(Padding(line(sentence, style), (0, 0, 0, 2), expand=False))


def _arms(metric: Answer, level: float, out: Console) -> Table:
    """What a narrow terminal has no room for is left out; --json has all of it."""
    compared = {one["variation"]: one for one in metric["comparisons"]}
    known = [one["absolute"] for one in metric["comparisons"] if one["absolute"] is not None]
    ends = scale([*(one["ci"] for one in known), *([one["effect"]] * 2 for one in known)])
    columns = [
        Column("variation", 0, "left"),
        Column("units", 2),
        Column("value"),
        Column("effect"),
        Column("relative", 1),
        Column(f"{level:.0%} interval"),
        Column("", 5, "left"),
        Column("p, corrected", 3),
        Column("p at any look"),
        Column("chance to beat", 4),
    ]
    rows: list[list[Text | str]] = []
    for arm in metric["arms"]:
        units, value = f"{arm['units']:,}", figure(arm["value"])
        comparison = compared.get(arm["variation"])
        rest: list[Text | str] = [""] * 7
        if comparison is not None:
            rest = _compared(comparison, metric["direction"], ends)
        rows.append([line(arm["variation"]), units, value, *rest])
    for most_dropped in range(max(column.dropped for column in columns), -1, -1):
        kept = [place for place, column in enumerate(columns) if column.dropped <= most_dropped]
        shown = _table([columns[place] for place in kept], rows, kept)
        wanted = Measurement.get(out, out.options.update(width=_ENDLESS), shown).maximum
        if wanted <= out.width:
            break
    return shown


def _table(
    columns: Sequence[Column], rows: Sequence[Sequence[Text | str]], kept: Sequence[int]
) -> Table:
    shown = table(*(column.name for column in columns))
    for column, made in zip(columns, shown.columns, strict=True):
        made.justify = column.justify
        made.no_wrap = True
    for row in rows:
        shown.add_row(*(row[place] for place in kept))
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
    if p_value is None:  # of a guardrail, which is in no family
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


def _guardrails(metric: Answer) -> list[tuple[str, str]]:
    found = []
    for comparison in metric["comparisons"]:
        guardrail = comparison["guardrail"]
        if guardrail is None:
            continue
        bound = guardrail["any_time"] or guardrail["at_horizon"]
        said, style = _STATUSES[bound["status"]]
        article = "an" if guardrail["harm"] == "increase" else "a"
        allowed = f"{article} {guardrail['harm']} of {guardrail['limit'] * 100:g}%"
        found.append((f"{comparison['variation']}: {allowed} at most: {said}", style))
    return found


def _style(low: float | None, high: float | None, direction: str | None) -> str:
    """Green for better, red for worse, plain where zero is in the interval."""
    rises, falls = low is not None and low > 0, high is not None and high < 0
    if not (rises or falls):
        return ""
    if direction is None:
        return "bold"
    return "green" if rises == (direction == "up") else "red"


def _why_not(metric: Answer) -> list[tuple[str, str]]:
    """Sentences for what is missing."""
    if metric["no_verdict"] is not None:
        return [(metric["no_verdict"]["sentence"], "yellow")]
    return [
        (f"{comparison['variation']}: {comparison['no_verdict']['sentence']}", "yellow")
        for comparison in metric["comparisons"]
        if comparison["no_verdict"] is not None
    ]


def _duration(days: float) -> str:
    for size, unit in ((1.0, "days"), (1 / 24, "hours"), (1 / 1440, "minutes")):
        if days >= 2 * size:
            return f"{days / size:.1f} {unit}"
    return f"{days * 86_400:.0f} seconds"


def _time(moment: str) -> str:
    return f"{moment[:16].replace('T', ' ')} UTC"
