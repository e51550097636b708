"""`anabranch experiments show|history`."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter
from rich.console import Console

from service.commands.dead.printing import console, line, shortened, table
from service.commands.experiments.files import as_yaml
from service.commands.keys.calling import Target

_LONGEST_VALUE = 60
_ELSEWHERE = frozenset(
    {"key", "name", "variations", "status", "version", "changed_by", "changed_at", "comment"}
    | {"warnings", "coverage"}
)

Key = Annotated[str, Parameter(help="The experiment's key.")]
Json = Annotated[bool, Parameter("--json", help="Print JSON.")]


def show(
    key: Key,
    *,
    json_: Json = False,
    yaml: Annotated[bool, Parameter(help="Print a file for `apply`.")] = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Show one experiment, with what there is to warn of."""
    found = target.ask("GET", path_of(key))
    if json_:
        print(json.dumps(found))
    elif yaml:
        print(as_yaml(found), end="")
    else:
        print_experiment(console(), found)


def history(
    key: Key,
    *,
    limit: Annotated[int, Parameter(help="Show so many versions, the newest.")] = 20,
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Show who changed what, and when. A deleted experiment has its history, too."""
    found = target.ask("GET", f"{path_of(key)}/history", params={"limit": limit})
    if json_:
        print(json.dumps(found))
        return
    out = console()
    for version in found["versions"]:
        at = version["changed_at"][:19].replace("T", " ")
        said = f": {version['comment']}" if version["comment"] else ""
        head = f"version {version['version']}, {version['status']}, {at} by {version['changed_by']}"
        out.print(line(f"{head}{said}", "bold"))
        if version["changes"] is None:
            out.print(line("  the version before it is not known any more", "dim"))
        for change in version["changes"] or ():
            out.print(line(f"  {change_text(change)}"))
    if found["next_cursor"] is not None:
        out.print(line("... and earlier ones; --limit shows more", "dim"))


def print_experiment(out: Console, found: dict[str, Any]) -> None:
    name = f", {found['name']}" if found["name"] else ""
    out.print(line(f"{found['key']}{name}", "bold"))
    at = found["changed_at"][:19].replace("T", " ")
    said = f": {found['comment']}" if found["comment"] else ""
    out.print(
        line(f"{found['status']}, version {found['version']}, {at} by {found['changed_by']}{said}")
    )
    shown = table("variation", "weight", "parameters")
    for one in found["variations"]:
        params = json.dumps(one["params"], ensure_ascii=False)
        shown.add_row(*map(line, (one["key"], f"{one['weight'] / 100:g}%", params)))
    out.print(shown)
    out.print(line(f"coverage: {found['coverage'] / 100:g}%"))
    for field, value in found.items():
        if field not in _ELSEWHERE and value not in (None, "", [], {}):
            out.print(line(f"{field}: {_value(value, 200)}"))
    print_warnings(out, found["warnings"])


def print_warnings(out: Console, warnings: list[dict[str, Any]]) -> None:
    for warning in warnings:
        out.print(line(f"warning: {warning['place']}: {warning['problem']}", "yellow"))


def change_text(change: dict[str, Any]) -> str:
    before, after = _value(change["before"]), _value(change["after"])
    if change["before"] is None:
        return f"{change['place']}: {after}"
    if change["after"] is None:
        return f"{change['place']}: {before} is gone"
    return f"{change['place']}: {before} -> {after}"


def path_of(key: str) -> str:
    return f"/v1/experiments/{quote(key, safe='')}"


def _value(value: Any, length: int = _LONGEST_VALUE) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), length)
