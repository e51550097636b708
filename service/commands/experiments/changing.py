"""`anabranch experiments create|start|stop|schedule|archive|unarchive|clone|rollback|delete`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from anabranch.bucketing import WHOLE
from service.commands.dead.printing import console, line
from service.commands.experiments.files import read_documents, without_what_no_file_decides
from service.commands.experiments.showing import (
    Json,
    Key,
    path_of,
    print_experiment,
    print_warnings,
)
from service.commands.keys.calling import Target
from service.errors import CommandError
from service.variation_changes import shared_out

Comment = Annotated[str, Parameter(help="Why; kept in the history.")]
Flag = Annotated[bool, Parameter(help="One variation is enough: the same for everybody.")]


def create(
    key: Annotated[str | None, Parameter(help="The new experiment's key.")] = None,
    *,
    variation: Annotated[
        tuple[str, ...],
        Parameter(
            help='NAME, or NAME=\'{"tone": "warm"}\' with its parameters; the first is the '
            "control. All weigh the same."
        ),
    ] = (),
    unit: Annotated[str | None, Parameter(help="session, player, user or device.")] = None,
    name: Annotated[str | None, Parameter(help="For people.")] = None,
    metric: Annotated[tuple[str, ...], Parameter(help="A primary metric; may be repeated.")] = (),
    file: Annotated[
        Path | None,
        Parameter(
            help="A whole definition instead, YAML or JSON; - is stdin.", allow_leading_hyphen=True
        ),
    ] = None,
    start: Annotated[bool, Parameter("--start", help="Start it at once.", negative=())] = False,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Make an experiment, as a draft: from a few flags, or from a file."""
    if (file is None) == (key is None):
        raise CommandError("give a key and --variation for each variation, or --file FILE")
    if file is not None:
        documents = without_what_no_file_decides(read_documents(file))
        if len(documents) != 1:
            raise CommandError(f"{file} holds {len(documents)} definitions; `apply` takes many")
        content = documents[0]
    else:
        weights = shared_out([1] * len(variation), WHOLE)
        content = {
            "key": key,
            "variations": [
                _variation(one, weight) for one, weight in zip(variation, weights, strict=True)
            ],
            **({"unit": unit} if unit else {}),
            **({"name": name} if name else {}),
            **({"metrics": {"primary": list(metric)}} if metric else {}),
        }
    params = {"comment": comment}
    made = target.ask("POST", "/v1/experiments", json=content, params=params)
    if start:
        made = target.ask("POST", f"{path_of(made['key'])}/start", params=params)
    _show(made, json_=json_)


def start(
    key: Key,
    *,
    flag: Flag = False,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Start a draft or a stopped experiment; one that is scheduled starts now."""
    _do(target, key, "start", comment, json_=json_, flag=flag)


def stop(
    key: Key,
    *,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Stop one at once: every unit gets the default variation."""
    _do(target, key, "stop", comment, json_=json_)


def schedule(
    key: Key,
    *,
    at: Annotated[str, Parameter(help="When it starts: 2026-01-31T12:00:00Z.")],
    until: Annotated[str | None, Parameter(help="When it stops by itself.")] = None,
    flag: Flag = False,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Have one start, and stop, at a time."""
    times = {"starts_at": at, **({"stops_at": until} if until else {})}
    _do(target, key, "schedule", comment, times, json_=json_, flag=flag)


def archive(
    key: Key,
    *,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Put away a draft or a stopped experiment."""
    _do(target, key, "archive", comment, json_=json_)


def unarchive(
    key: Key,
    *,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Take one out of the archive."""
    _do(target, key, "unarchive", comment, json_=json_)


def clone(
    key: Key,
    new_key: Annotated[str, Parameter(help="The clone's key.")],
    *,
    name: Annotated[str | None, Parameter(help="The clone's name; the same when absent.")] = None,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Make a draft of another key with the same content."""
    wanted = {"key": new_key, **({"name": name} if name else {})}
    _do(target, key, "clone", comment, wanted, json_=json_)


def rollback(
    key: Key,
    version: Annotated[int, Parameter(help="One of the history.")],
    *,
    comment: Comment = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Go back to what an earlier version said; whether it runs stays as it is."""
    _do(target, key, "rollback", comment, {"to_version": version}, json_=json_)


def delete(key: Key, *, comment: Comment = "", target: Target = Target()) -> None:  # noqa: B008
    """Delete a draft or an archived experiment; a rollback brings it back."""
    target.ask("DELETE", path_of(key), params={"comment": comment})
    sys.stderr.write(f"anabranch: {key} is deleted\n")


def _do(
    target: Target,
    key: str,
    verb: str,
    comment: str,
    content: dict[str, Any] | None = None,
    *,
    json_: bool,
    flag: bool = False,
) -> None:
    params = {"comment": comment, **({"flag": True} if flag else {})}
    made = target.ask("POST", f"{path_of(key)}/{verb}", json=content or {}, params=params)
    if json_:
        print(json.dumps(made))
        return
    out = console()
    out.print(line(f"{made['key']} is {made['status']} (version {made['version']})"))
    print_warnings(out, made["warnings"])


def _show(made: dict[str, Any], *, json_: bool) -> None:
    if json_:
        print(json.dumps(made))
    else:
        print_experiment(console(), made)


def _variation(given: str, weight: int) -> dict[str, Any]:
    key, equals, text = given.partition("=")
    made: dict[str, Any] = {"key": key, "weight": weight}
    if equals:
        try:
            made["params"] = json.loads(text)
        except ValueError as error:
            raise CommandError(
                f"--variation {given}: what follows = is no JSON object such as "
                f'{{"tone": "warm"}}: {error}'
            ) from error
    return made
