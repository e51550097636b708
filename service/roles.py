"""Five roles and what each may do; deny by default."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Permission(StrEnum):
    PUBLIC = "public"  # no key: what says nothing of anyone's experiments
    EMIT = "emit"  # write events
    EVALUATE = "evaluate"  # ask for assignments
    VIEW = "view"  # read experiments, reports and figures
    EXPERIMENT = "experiment"  # make, start and stop experiments
    AUDIT = "audit"  # read who did what
    ADMINISTER = "administer"  # everything that is left


class Role(StrEnum):
    VIEWER = "viewer"
    EXPERIMENTER = "experimenter"
    ADMIN = "admin"
    EMIT = "emit"
    EVALUATE = "evaluate"


# An experimenter may not emit: whoever decides on an experiment should not write its numbers.
PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.EXPERIMENTER: frozenset(
        {Permission.VIEW, Permission.EXPERIMENT, Permission.EVALUATE, Permission.AUDIT}
    ),
    Role.ADMIN: frozenset(Permission) - {Permission.PUBLIC},
    Role.EMIT: frozenset({Permission.EMIT}),
    Role.EVALUATE: frozenset({Permission.EVALUATE}),
}

# What a key that is limited to some experiments is held to; events name none that could be checked.
ABOUT_EXPERIMENTS = frozenset({Permission.EVALUATE, Permission.VIEW, Permission.EXPERIMENT})
