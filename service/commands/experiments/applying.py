"""`anabranch experiments apply FILE`: definitions that live in git."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from service.commands.dead.printing import console, line
from service.commands.experiments.files import read_documents, without_what_no_file_decides
from service.commands.experiments.showing import Json, change_text, print_warnings
from service.commands.keys.calling import Target
from service.errors import CommandError

WOULD_CHANGE = 3
_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "same": ("=", "dim")}


def apply(
    *files: Annotated[
        Path,
        Parameter(
            help="YAML or JSON, one definition or many; - is stdin.", allow_leading_hyphen=True
        ),
    ],
    yes: Annotated[bool, Parameter(("--yes", "-y"), help="Do not ask.", negative=())] = False,
    dry_run: Annotated[bool, Parameter(help="Only show what would change.", negative=())] = False,
    exit_code: Annotated[
        bool, Parameter(help="With --dry-run: status 3 where something would.", negative=())
    ] = False,
    comment: Annotated[str, Parameter(help="Why; kept in the history.")] = "",
    json_: Json = False,
    target: Target = Target(),  # noqa: B008  # frozen
) -> None:
    """Bring definitions to what files say: show what would change, ask, change it.

    Each document says its `kind`: experiment (when it says none), holdout, group, parameter_set,
    limits; a metric says its own, such as mean. What a definition leaves out takes its default;
    definitions that are in no file stay as they are. Everything is checked before anything changes.
    Whether an experiment runs is not in the file: `start` and `stop` say that.
    """
    if not files:
        raise CommandError("name one or more files; - is the standard input")
    for file in files:
        if str(file).startswith("-") and str(file) != "-":
            raise CommandError(f"{file} is no option of apply; --help lists them")
    given = [document for file in files for document in read_documents(file)]
    documents = without_what_no_file_decides(given)
    asked = {"documents": documents}
    planned = target.ask("POST", "/v1/apply", json=asked, params={"dry_run": True})
    changing = [one for one in planned["applied"] if one["action"] != "same"]
    out = console()
    if not json_:
        _show(out, planned)
    if dry_run or not changing:
        if json_:
            print(json.dumps(planned))
        if exit_code and changing:
            raise SystemExit(WOULD_CHANGE)
        return
    if not yes and not _confirmed(len(changing)):
        raise CommandError("nothing was changed")
    # What was looked at, and nothing that somebody has made of it meanwhile.
    versions = {f"{one['kind']} {one['key']}": one["version"] for one in planned["applied"]}
    done = target.ask(
        "POST", "/v1/apply", json={**asked, "versions": versions}, params={"comment": comment}
    )
    if json_:
        print(json.dumps(done))
    else:
        out.print(line(f"{_counted(len(changing))} applied"))


def _show(out: Console, planned: dict[str, Any]) -> None:
    same = 0
    for one in planned["applied"]:
        if one["action"] == "same":
            same += 1
            continue
        sign, style = _SIGNS[one["action"]]
        version = f" (version {one['version']})" if one["action"] == "change" else ""
        out.print(line(f"{sign} {one['kind']} {one['key']}{version}", f"bold {style}"))
        for change in one["changes"]:
            if one["action"] == "change" or change["after"] not in (None, "", [], {}):
                out.print(line(f"    {change_text(change)}", style))
    if same:
        out.print(line(f"= {_counted(same)} as they are", "dim"))
    print_warnings(out, planned["warnings"])


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("there is nobody to ask; look with --dry-run, then apply with --yes")
    sys.stderr.write(f"Apply {_counted(count)}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _counted(count: int) -> str:
    return "1 definition" if count == 1 else f"{count:,} definitions"
