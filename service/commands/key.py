"""`anabranch key ROLE`: print one role's key, for `curl` and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service.errors import CommandError
from service.settings import DEFAULT_STATE, load_settings, read_credentials


def key(
    role: Annotated[str, Parameter(help="admin, experimenter, viewer, evaluate or emit.")],
    *,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Print the key of a role, and nothing else, so that it can stand in `$(...)`.

    It is read from the credentials file of the stack, or the one in ANABRANCH_CREDENTIALS.
    """
    # A stack that is down has left its keys; only a running one says where they are.
    credentials = load_settings(state=state).credentials or state / "credentials.json"
    if not credentials.exists():
        raise CommandError(
            f"there are no keys in {credentials}: start a stack with `anabranch up`, "
            "name its folder with --state, or set ANABRANCH_CREDENTIALS"
        )
    keys = read_credentials(credentials)
    if role not in keys:
        raise CommandError(f"there is no key for {role!r}; there are: {', '.join(sorted(keys))}")
    print(keys[role])
