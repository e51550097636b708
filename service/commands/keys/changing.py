"""`anabranch keys create|rotate|revoke`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter

from service.access import Role
from service.commands.keys.calling import Target
from service.commands.keys.listing import the_key

Json = Annotated[bool, Parameter("--json", help="Print JSON.")]
Key = Annotated[str, Parameter(help="Its name or its id.")]


def create(
    name: Annotated[str, Parameter(help="What the audit log calls it.")],
    role: Annotated[Role, Parameter(help="viewer, experimenter, admin, emit or evaluate.")],
    *,
    scope: Annotated[
        tuple[str, ...], Parameter(help="Only this permission of the role; may be repeated.")
    ] = (),
    experiment: Annotated[
        tuple[str, ...], Parameter(help="Only experiments that begin so; may be repeated.")
    ] = (),
    days: Annotated[float | None, Parameter(help="It expires after so many days.")] = None,
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Make an API key and print it, this once: only its hash is kept."""
    wanted: dict[str, Any] = {"name": name, "role": role.value}
    if scope:
        wanted["scopes"] = scope
    if experiment:
        wanted["experiments"] = experiment
    if days is not None:
        wanted["expires_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    _show(target.ask("POST", "/v1/keys", json=wanted), json_=json_)


def rotate(
    key: Key,
    *,
    overlap: Annotated[
        int, Parameter(help="Seconds for which the old secret still works.")
    ] = 86400,
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Give a key another secret and print it, this once."""
    id_ = the_key(target, key)["id"]
    made = target.ask("POST", f"/v1/keys/{id_}/rotate", json={"overlap_seconds": overlap})
    _show(made, json_=json_)


def revoke(key: Key, *, target: Target = Target()) -> None:  # noqa: B008  # frozen
    """Revoke a key at once and for good."""
    found = the_key(target, key)
    target.ask("DELETE", f"/v1/keys/{found['id']}")
    sys.stderr.write(f"anabranch: the key {found['name']} ({found['id']}) is revoked\n")


def _show(made: dict[str, Any], *, json_: bool) -> None:
    """The key alone goes to the output, so that it can stand in `$(...)`."""
    if json_:
        print(json.dumps(made))
        return
    print(made["key"])
    sys.stderr.write(
        f"anabranch: the key {made['name']} ({made['id']}) may {', '.join(made['scopes'])}; "
        "it is not shown again\n"
    )
