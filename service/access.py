"""Who may do what: five roles, a permission on every route, keys from the credentials file.

Deny by default: a route that declares no permission cannot even be made.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from service.errors import CommandError
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem
from service.settings import Settings, read_credentials

logger = structlog.get_logger("service.access")

SHORTEST_KEY = 16
_OPENAPI_SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"basic": []}]


class Permission(StrEnum):
    PUBLIC = "public"  # no key: what says nothing of anyone's experiments
    EMIT = "emit"  # write events
    EVALUATE = "evaluate"  # ask for assignments
    VIEW = "view"  # read experiments, reports and figures
    EXPERIMENT = "experiment"  # make, start and stop experiments
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
    Role.EXPERIMENTER: frozenset({Permission.VIEW, Permission.EXPERIMENT, Permission.EVALUATE}),
    Role.ADMIN: frozenset(Permission) - {Permission.PUBLIC},
    Role.EMIT: frozenset({Permission.EMIT}),
    Role.EVALUATE: frozenset({Permission.EVALUATE}),
}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(permission: Permission) -> Callable[[Endpoint], Endpoint]:
    """Declares what a caller needs for this endpoint; stands below the route's decorator."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["permission"] = permission
        return endpoint

    return declare


class Access:
    """The keys of this process, held as keyed hashes; without any (`None`) everyone is an admin."""

    def __init__(self, keys: Mapping[Role, str] | None, metrics: ServiceMetrics) -> None:
        self._salt = secrets.token_bytes(32)
        self._roles = None if keys is None else [(self._hash(k), role) for role, k in keys.items()]
        self._denied = metrics.denied

    def router(self, **options: Any) -> APIRouter:
        """A router whose routes are guarded by these keys."""
        access = self

        class GuardedRoute(APIRoute):
            def __init__(self, path: str, endpoint: Callable[..., Any], **details: Any) -> None:
                declared = getattr(endpoint, "permission", None)
                if not isinstance(declared, Permission):
                    raise TypeError(f"the route {path} declares no permission: add @needs(...)")
                self.permission: Permission = declared
                if declared is not Permission.PUBLIC:
                    details["openapi_extra"] = {
                        "security": _OPENAPI_SECURITY,
                        **(details.get("openapi_extra") or {}),
                    }
                super().__init__(path, endpoint, **details)

            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                handle = super().get_route_handler()

                async def guarded(request: Request) -> Response:
                    # Before the body is read: a stranger's megabytes are not worth parsing.
                    access.check(request, self.permission)
                    return await handle(request)

                return guarded

        return APIRouter(route_class=GuardedRoute, **options)

    def check(self, request: Request, permission: Permission) -> None:
        if permission is Permission.PUBLIC:
            return
        if self._roles is None:
            _refuse_rebinding(request)
            return
        key = _presented_key(request.headers.get("authorization", ""))
        if key is None:
            self._refuse("no_key", permission)
            raise _unauthenticated("this needs a key; send `Authorization: Bearer <key>`")
        role = self._role_of(key)
        if role is None:
            self._refuse("unknown_key", permission)
            raise _unauthenticated("the key is not one of this service")
        if permission not in PERMISSIONS[role]:
            self._refuse("role", permission, role)
            able = " or ".join(r.value for r in Role if permission in PERMISSIONS[r])
            raise Problem(
                Kind.FORBIDDEN, f"this needs a key of the role {able}; yours is {role.value}"
            )

    def _role_of(self, key: str) -> Role | None:
        presented = self._hash(key)
        found = None
        for known, role in self._roles or ():  # all of them, so that time tells nothing
            if hmac.compare_digest(presented, known):
                found = role
        return found

    def _hash(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode("utf-8", "replace"), key=self._salt).digest()

    def _refuse(self, reason: str, permission: Permission, role: Role | None = None) -> None:
        self._denied.labels(reason).inc()
        logger.warning(
            "denied", reason=reason, needs=permission.value, role=role.value if role else None
        )


def _presented_key(authorization: str) -> str | None:
    scheme, _, credentials = authorization.strip().partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials or None
    if scheme.lower() == "basic":  # for tools that know nothing else: the key is the password
        try:
            decoded = base64.b64decode(credentials, validate=True).decode("utf-8", "replace")
        except ValueError:  # of characters that are not ASCII, too
            return None
        return decoded.partition(":")[2] or None
    return None


def _refuse_rebinding(request: Request) -> None:
    """Without keys, a web page could reach the service by a name that resolves to loopback."""
    host = request.url.hostname or ""
    if not is_loopback(host):
        raise Problem(
            Kind.FORBIDDEN, f"without keys the service answers to localhost, not to {host[:80]!r}"
        )


def _unauthenticated(detail: str) -> Problem:
    return Problem(
        Kind.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="anabranch"'}
    )


def load_keys(settings: Settings) -> Mapping[Role, str] | None:
    """The keys, or None where the service is meant to be open; anything unclear stops the start."""
    service = settings.service
    if settings.credentials is not None:
        return _checked_keys(read_credentials(settings.credentials), str(settings.credentials))
    if not service.open_access:
        raise CommandError(
            "no keys: set ANABRANCH_CREDENTIALS to a JSON file with a key per role (`anabranch up` "
            "makes one), or, on this machine alone, ANABRANCH_SERVICE__OPEN_ACCESS=true"
        )
    if not is_loopback(service.host):
        raise CommandError(
            f"ANABRANCH_SERVICE__OPEN_ACCESS=true serves without keys, and --host {service.host} "
            "can be reached from elsewhere: use 127.0.0.1, or set ANABRANCH_CREDENTIALS"
        )
    return None


def _checked_keys(credentials: Mapping[str, str], source: str) -> Mapping[Role, str]:
    keys = {role: credentials[role.value] for role in Role if role.value in credentials}
    if not keys:
        roles = ", ".join(role.value for role in Role)
        raise CommandError(f"{source} holds no key; name at least one of the roles {roles}")
    for role, key in keys.items():
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable():
            raise CommandError(
                f"{source}: the key of {role.value} must have {SHORTEST_KEY} or more printable "
                "ASCII characters"
            )
    if len(set(keys.values())) < len(keys):
        raise CommandError(f"{source}: two roles have the same key; each needs its own")
    return keys


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
