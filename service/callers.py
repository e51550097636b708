"""Who makes a request: a role's key, a key that was made over the API, or a person."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from service.roles import PERMISSIONS, Permission, Role

_SCOPE = "anabranch.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    id: str
    """What its requests are counted by; tells apart a person and a key of the same name."""
    actor: str
    """What the audit log calls it: a role, the name of a key, a person's account."""
    role: Role
    permissions: frozenset[Permission]
    experiments: tuple[str, ...] | None = None
    """It is limited to experiments whose keys begin with one of these; None: to none."""

    @classmethod
    def of_role(cls, role: Role) -> Caller:
        return cls(f"role:{role.value}", role.value, role, PERMISSIONS[role])

    def covers(self, experiment: str) -> bool:
        return self.experiments is None or experiment.startswith(self.experiments)


ANYONE = Caller("open", "anyone", Role.ADMIN, PERMISSIONS[Role.ADMIN])
"""Who calls where there are no keys at all."""


def set_caller(request: Request, caller: Caller) -> None:
    request.scope[_SCOPE] = caller


def caller_of(request: Request) -> Caller:
    """Of a request that came through a guarded route that is not public."""
    caller = request.scope.get(_SCOPE)
    if not isinstance(caller, Caller):
        path = request.scope["path"]
        raise LookupError(f"nobody was let in to {path}: is its route guarded?")  # noqa: TRY004
    return caller


def actor_of(request: Request) -> str:
    """The name of the key, or the person's account."""
    return caller_of(request).actor
