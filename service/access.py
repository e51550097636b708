"""Who may do what: a permission on every route, and who it is that asks.

Keys of the credentials file (one a role), keys that were made over the API (service/api_keys.py),
and people (service/people.py).

Deny by default: a route that declares no permission cannot even be made.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from service.audit import KEY_IN_PATH, Audit
from service.callers import ANYONE, Caller, actor_of, caller_of, set_caller
from service.loopback import is_loopback
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, shortened
from service.rate_limits import RateLimits
from service.requests import RATE_HEADERS
from service.role_keys import load_keys
from service.roles import ABOUT_EXPERIMENTS, PERMISSIONS, Permission, Role
from service.straight_routes import Handle, takes_bare_request
from service.tokens import Accounts, MadeKeys, Refusal, presented

__all__ = [
    "CHECKED_WITHIN",
    "PERMISSIONS",
    "Access",
    "Permission",
    "Role",
    "actor_of",
    "caller_of",
    "is_loopback",
    "load_keys",
    "needs",
]

logger = structlog.get_logger("service.access")

CHECKED_WITHIN = "(checked within)"
"""Instead of a path parameter: the endpoint calls `may` for each experiment it is about."""
_EXPERIMENT_PATH = "/v1/experiments/{key}"
_OPENAPI_SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"basic": []}]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(
    permission: Permission, *, experiment: str | None = None
) -> Callable[[Endpoint], Endpoint]:
    """Declares what a caller needs for this endpoint; stands below the route's decorator.

    `experiment` is the path parameter with the key of the experiment it is about (found by itself
    below /v1/experiments/{key}), or CHECKED_WITHIN. A key that is limited to some experiments is
    refused where neither is known.
    """

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["permission"] = permission
        endpoint.__dict__["experiment"] = experiment
        return endpoint

    return declare


class Access:
    """The keys of this process, held as keyed hashes; without any (`None`) everyone is an admin."""

    def __init__(
        self,
        keys: Mapping[Role, str] | None,
        metrics: ServiceMetrics,
        *,
        made_keys: MadeKeys | None = None,
        people: Accounts | None = None,
        limits: RateLimits | None = None,
        audit: Audit | None = None,
    ) -> None:
        self._salt = secrets.token_bytes(32)
        self._roles = None if keys is None else [(self._hash(k), role) for role, k in keys.items()]
        self._callers = {role: Caller.of_role(role) for role in Role}
        self._made_keys = made_keys
        self._people = people
        self._limits = limits
        self._audit = audit
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
                self.experiment: str | None = getattr(endpoint, "experiment", None)
                if self.experiment is None and path.startswith(_EXPERIMENT_PATH):
                    self.experiment = "key"
                if declared is not Permission.PUBLIC:
                    details["openapi_extra"] = {
                        "security": _OPENAPI_SECURITY,
                        **(details.get("openapi_extra") or {}),
                    }
                self.straight: Handle | None = None
                super().__init__(path, endpoint, **details)
                if takes_bare_request(path, endpoint):
                    self.straight = self._guarded(endpoint)

            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                return self._guarded(super().get_route_handler())

            def _guarded(
                self, handle: Callable[[Request], Coroutine[Any, Any, Response]]
            ) -> Callable[[Request], Coroutine[Any, Any, Response]]:

                async def guarded(request: Request) -> Response:
                    # Before the body is read: a stranger's megabytes are not worth parsing.
                    await access.admit(request, self.permission, self.experiment)
                    return await handle(request)

                return guarded

        return APIRouter(route_class=GuardedRoute, **options)

    async def admit(
        self, request: Request, permission: Permission, parameter: str | None = None
    ) -> None:
        """Finds out who it is, and lets in or raises a Problem."""
        if permission is Permission.PUBLIC:
            return
        if self._roles is None:
            self._let_anyone_in(request)
            return
        token = presented(request.headers.get("authorization", ""))
        if token is None:
            self._refuse(request, "no_key", permission)
            raise _unauthenticated("this needs a key; send `Authorization: Bearer <key>`")
        try:
            if self._people is not None and self._people.knows(token):
                role = self._role_of(token)  # whose key may have the form of a token by chance
                caller = self._callers[role] if role else await self._people.caller(token)
            else:
                caller = self._owner(token)
        except Refusal as refusal:
            raise self._refused(request, permission, refusal) from refusal
        self._let_in(request, caller, permission, parameter)

    def check_key(self, request: Request, key: str, permission: Permission) -> None:
        """For a route that is public by itself and has the key in its path, as some SDKs send it.
        The path is then kept out of logs."""
        request.scope[KEY_IN_PATH] = True
        if self._roles is None:
            self._let_anyone_in(request)
            return
        try:
            caller = self._owner(key)
        except Refusal as refusal:
            raise self._refused(request, permission, refusal) from refusal
        self._let_in(request, caller, permission, None)

    def _let_anyone_in(self, request: Request) -> None:
        _refuse_rebinding(request)
        set_caller(request, ANYONE)

    def _let_in(
        self, request: Request, caller: Caller, permission: Permission, parameter: str | None
    ) -> None:
        set_caller(request, caller)
        if self._limits is not None:
            taken, headers = self._limits.take(caller)
            if not taken.allowed:
                detail = f"more requests than a caller of the role {caller.role.value} may make"
                raise Problem(Kind.RATE_LIMITED, detail, headers=headers)
            request.scope[RATE_HEADERS] = headers
        if parameter == CHECKED_WITHIN:
            self.may(request, permission)
        elif parameter is not None:
            self.may(request, permission, request.path_params[parameter])
        elif caller.experiments is not None and permission in ABOUT_EXPERIMENTS:
            raise self._forbidden(
                request,
                "experiment",
                permission,
                f"this key is for the experiments {_prefixes(caller)} alone, and this is not about "
                "one of them",
            )
        else:
            self.may(request, permission)

    def may(self, request: Request, permission: Permission, experiment: str | None = None) -> bool:
        """True, or a Problem is raised: forgetting to look at the answer lets nobody in.

        For what an endpoint finds only in the body: another permission, the key of an experiment.
        """
        caller = caller_of(request)
        if permission not in PERMISSIONS[caller.role]:
            able = " or ".join(r.value for r in Role if permission in PERMISSIONS[r])
            detail = f"this needs a key of the role {able}; yours is {caller.role.value}"
            raise self._forbidden(request, "role", permission, detail)
        if permission not in caller.permissions:
            had = ", ".join(sorted(p.value for p in caller.permissions))
            detail = f"this needs the scope {permission.value}; this key has {had}"
            raise self._forbidden(request, "scope", permission, detail)
        if experiment is not None and not caller.covers(experiment):
            detail = (
                f"this key is for the experiments {_prefixes(caller)} alone, not for "
                f"{shortened(experiment)!r}"
            )
            raise self._forbidden(request, "experiment", permission, detail)
        return True

    def _owner(self, key: str) -> Caller:
        role = self._role_of(key)
        if role is not None:
            return self._callers[role]
        if self._made_keys is not None and self._made_keys.knows(key):
            return self._made_keys.caller(key)
        raise Refusal("unknown_key", "the key is not one of this service")

    def _refused(self, request: Request, permission: Permission, refusal: Refusal) -> Problem:
        self._refuse(request, refusal.reason, permission, actor=refusal.actor)
        if refusal.kind is Kind.UNAUTHENTICATED:
            return _unauthenticated(str(refusal))
        return Problem(refusal.kind, str(refusal))

    def _role_of(self, key: str) -> Role | None:
        presented = self._hash(key)
        found = None
        for known, role in self._roles or ():  # all of them, so that time tells nothing
            if hmac.compare_digest(presented, known):
                found = role
        return found

    def _hash(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode("utf-8", "replace"), key=self._salt).digest()

    def _forbidden(
        self, request: Request, reason: str, permission: Permission, detail: str
    ) -> Problem:
        self._refuse(request, reason, permission, caller_of(request))
        return Problem(Kind.FORBIDDEN, detail)

    def _refuse(
        self,
        request: Request,
        reason: str,
        permission: Permission,
        caller: Caller | None = None,
        actor: str | None = None,
    ) -> None:
        actor = caller.actor if caller else actor
        self._denied.labels(reason).inc()
        logger.warning(
            "denied",
            reason=reason,
            needs=permission.value,
            role=caller.role.value if caller else None,
            actor=actor,
        )
        if self._audit is not None:
            self._audit.denied(request, reason, permission.value, actor, caller)


def _prefixes(caller: Caller) -> str:
    return ", ".join(f"{prefix}*" for prefix in caller.experiments or ())


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
