"""`anabranch experiments list`."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import Parameter

from anabranch.plans import Status
from service.commands.dead.printing import console, line, table
from service.commands.keys.calling import Target

_MOST_A_PAGE = 500


def list_(
    *,
    status: Annotated[
        tuple[Status, ...], Parameter(help="Only these; may be repeated. All but deleted ones.")
    ] = (),
    tag: Annotated[str | None, Parameter(help="Only those with this tag.")] = None,
    owner: Annotated[str | None, Parameter(help="Only those of this owner.")] = None,
    text: Annotated[
        str | None, Parameter(help="Only those with this in key, name, hypothesis or description.")
    ] = None,
    sort: Annotated[
        str, Parameter(help="key, name, changed_at or status; with - for descending.")
    ] = "key",
    json_: Annotated[bool, Parameter("--json", help="Print JSON.")] = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """List experiments."""
    query = {"tag": tag, "owner": owner, "text": text, "sort": sort, "limit": _MOST_A_PAGE}
    params: dict[str, Any] = {name: value for name, value in query.items() if value is not None}
    params["status"] = [one.value for one in status]
    found: list[dict[str, Any]] = []
    while True:
        page = target.ask("GET", "/v1/experiments", params=params)
        found += page["experiments"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    if json_:
        print(json.dumps(found))
        return
    out = console()
    if not found:
        out.print("no experiments; `anabranch experiments create` makes one")
        return
    shown = table("experiment", "status", "version", "variations", "coverage", "changed", "by")
    for one in found:
        shown.add_row(*map(line, _cells(one)))
    out.print(shown)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    variations = " ".join(f"{v['key']}:{v['weight'] / 100:g}%" for v in one["variations"])
    return (
        one["key"],
        one["status"],
        str(one["version"]),
        variations,
        f"{one['coverage'] / 100:g}%",
        one["changed_at"][:16].replace("T", " "),
        one["changed_by"],
    )
