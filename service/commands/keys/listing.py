"""`anabranch keys list`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from service.commands.dead.printing import console, line, table
from service.commands.keys.calling import Target
from service.errors import CommandError


def list_(
    *,
    revoked: Annotated[bool, Parameter(help="Show revoked ones, too.")] = False,
    json_: Annotated[bool, Parameter("--json", help="Print JSON.")] = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """List the API keys: what each may do, when it ends and when it was last used."""
    found = target.ask("GET", "/v1/keys", params={"revoked": revoked})
    if json_:
        print(json.dumps(found))
        return
    out = console()
    if not found["keys"]:
        out.print("no API keys; `anabranch keys create NAME ROLE` makes one")
    else:
        shown = table("name", "id", "role", "may", "experiments", "expires", "last used")
        for key in found["keys"]:
            shown.add_row(*map(line, _cells(key)))
        out.print(shown)
    if found["uses_problem"]:
        sys.stderr.write(f"anabranch: last uses may be older: {found['uses_problem']}\n")


def the_key(target: Target, wanted: str) -> dict[str, Any]:
    keys = target.ask("GET", "/v1/keys")["keys"]
    for key in keys:
        if wanted in (key["id"], key["name"]):
            found: dict[str, Any] = key
            return found
    there = ", ".join(key["name"] for key in keys) or "none"
    raise CommandError(f"there is no valid key {wanted!r}; there are: {there}")


def _cells(key: dict[str, Any]) -> tuple[str, ...]:
    return (
        key["name"],
        key["id"],
        key["role"],
        "nothing, it is revoked" if key["revoked"] else ", ".join(key["scopes"]),
        ", ".join(f"{prefix}*" for prefix in key["experiments"] or ()) or "all",
        (key["expires_at"] or "never")[:19],
        (key["last_used_at"] or "never")[:19],
    )
