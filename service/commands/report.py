"""`anabranch report KEY`: what an experiment did, decision first."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from service.commands.dead.printing import console
from service.commands.experiments.showing import Key, path_of
from service.commands.keys.calling import Target
from service.commands.report_printing import print_report
from service.errors import CommandError
from service.report_formats import parts


def report(
    key: Key,
    *,
    metric: Annotated[
        tuple[str, ...], Parameter(help="Only these; may be repeated. The experiment's own.")
    ] = (),
    by: Annotated[
        str | None, Parameter(help="Segments by locale, or by a dimension of the experiment.")
    ] = None,
    from_: Annotated[
        str | None,
        Parameter("--from", help="Units first exposed from this time on: 2026-01-31T12:00:00Z."),
    ] = None,
    to: Annotated[str | None, Parameter(help="Units first exposed before this time.")] = None,
    multiple: Annotated[
        Literal["exclude", "first", "both"],
        Parameter(help="What becomes of units that saw several variations."),
    ] = "exclude",
    format_: Annotated[
        Literal["table", "json", "csv"], Parameter("--format", help="How it is printed.")
    ] = "table",
    json_: Annotated[bool, Parameter("--json", help="Short for --format json.")] = False,
    csv: Annotated[bool, Parameter(help="Short for --format csv.")] = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Show what an experiment did: the decision and why, whether the data can be trusted, and each
    metric with its effect."""
    if json_ and csv:
        raise CommandError("--json and --csv are two formats; choose one")
    form = "json" if json_ else "csv" if csv else format_
    given = {"by": by, "from": from_, "to": to, "multiple": multiple, "metric": list(metric)}
    params: dict[str, Any] = {name: value for name, value in given.items() if value}
    found = target.ask("GET", f"{path_of(key)}/report", params=params)
    if form == "json":
        print(json.dumps(found))
    elif form == "csv":
        for part in parts(found, "csv"):
            sys.stdout.write(part.decode())
    else:
        print_report(console(), found)
