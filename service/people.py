"""People with accounts at an identity provider, who send its signed token (OpenID Connect)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from service.access_settings import OidcSettings
from service.audit_texts import line
from service.callers import Caller
from service.problems import Kind, Problem, shortened
from service.roles import PERMISSIONS, Role
from service.signing_keys import IssuerAwayError, SigningKeys
from service.tokens import Refusal

_LONGEST_TOKEN = 16_384
_LONGEST_ACCOUNT = 200
# The highest first. Machines have keys: nobody is given the roles emit or evaluate.
_ROLES = (Role.ADMIN, Role.EXPERIMENTER, Role.VIEWER)


class People:
    def __init__(self, settings: OidcSettings, keys: SigningKeys) -> None:
        self._settings = settings
        self._keys = keys

    def knows(self, token: str) -> bool:
        return self._settings.issuer is not None and token.count(".") == 2

    async def caller(self, token: str) -> Caller:
        claims = await self._claims(token)
        account = _claim(claims, self._settings.account_claim)
        if not isinstance(account, str) or not 0 < len(account) <= _LONGEST_ACCOUNT:
            raise _bad(f"its claim {self._settings.account_claim} names no account")
        actor = _actor(account)
        role = self._role(claims, actor)
        return Caller(f"person:{account}", actor, role, PERMISSIONS[role])

    async def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > _LONGEST_TOKEN:
            raise _bad(f"it has more than {_LONGEST_TOKEN:,} characters")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _bad(f"it is not a JSON web token: {error}") from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms:
            accepted = ", ".join(self._settings.algorithms)
            raise _bad(f"it is signed by {shortened(str(algorithm))!r}; accepted are {accepted}")
        if not isinstance(kid, str):
            raise _bad("its header has no kid, the id of the key that signed it")
        if "crit" in header:
            raise _bad("its header has crit, and no extension is understood")
        try:
            key = await self._keys.key(kid)
        except IssuerAwayError as error:
            raise Problem(
                Kind.IDENTITY_UNAVAILABLE, str(error), headers={"Retry-After": "10"}
            ) from error
        if key is None:
            raise Refusal(
                "unknown_signer",
                f"the token is signed with the key {shortened(kid)!r}, which "
                f"{self._settings.issuer} does not have",
            )
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise _bad(shortened(str(error), 200)) from error
        return claims

    def _role(self, claims: Mapping[str, Any], actor: str) -> Role:
        given = _claim(claims, self._settings.role_claim)
        values = given if isinstance(given, list) else [given]
        found = {self._settings.roles.get(value) for value in values if isinstance(value, str)}
        for role in _ROLES:
            if role.value in found:
                return role
        raise Refusal(
            "role",
            f"the claim {self._settings.role_claim} gives this account no role here; it needs one "
            f"of {', '.join(sorted(self._settings.roles))}",
            kind=Kind.FORBIDDEN,
            actor=actor,
        )


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """By its whole name first: some are addresses, with dots of their own."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _actor(account: str) -> str:
    """In the audit log nobody is taken for a key: an account that could be a key's name is told."""
    safe = line(account, 240)
    return safe if any(char in safe for char in "@|:/ ") else f"person:{safe}"


def _bad(text: str) -> Refusal:
    return Refusal("bad_token", f"the token is not good: {text}")
