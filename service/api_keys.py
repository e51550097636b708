"""API keys that are made, rotated and revoked while the service runs; documents of the definition
log, so that every instance knows of a change within a second.

A secret is 256 random bits, kept as its plain SHA-256. A slow hash with a salt protects passwords,
which people choose and which can be guessed; nobody guesses 256 bits, and a slow hash would cost
every request its time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from anabranch.definition_set import Written
from anabranch.fields import now_ms
from service.callers import Caller
from service.key_uses import UseCounts
from service.roles import PERMISSIONS, Permission, Role
from service.tokens import Refusal

PREFIX = "ab_"
KIND = "api_key"
MOST_SECRETS = 10
"""Valid at a time of one key; a rotation adds one."""

KeyStatus = Literal["running", "deleted"]
ACTIVE: KeyStatus = "running"
REVOKED: KeyStatus = "deleted"


class Documents(Protocol):
    def get(self, key: str, /) -> Written | None: ...

    def of_kind(self, kind: str) -> Iterable[Written]: ...


class DocumentLog(Protocol):
    """The definition log, as far as keys need it."""

    @property
    def documents(self) -> Documents: ...

    async def change(
        self,
        key: str,
        based_on_version: int,
        status: KeyStatus,
        definition: Mapping[str, Any],
        by: str,
        comment: str = "",
    ) -> Written: ...


@dataclass(frozen=True, slots=True)
class Secret:
    hash: str
    until_ms: int | None
    """It works before this time; None: as long as the key."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    name: str
    role: Role
    scopes: frozenset[Permission]
    experiments: tuple[str, ...] | None
    secrets: tuple[Secret, ...]
    expires_at_ms: int | None
    created_by: str
    created_at_ms: int
    revoked: bool = False
    version: int = 0

    @classmethod
    def of(cls, document: Written) -> ApiKey:
        given = document.definition
        prefixes = given["experiments"]
        return cls(
            id=document.key.partition(":")[2],
            name=given["name"],
            role=Role(given["role"]),
            # What a role may no longer do, its keys may not either.
            scopes=frozenset(map(Permission, given["scopes"])) & PERMISSIONS[Role(given["role"])],
            experiments=None if prefixes is None else tuple(prefixes),
            secrets=tuple(Secret(kept["hash"], kept["until"]) for kept in given["secrets"]),
            expires_at_ms=given["expires_at"],
            created_by=given["created_by"],
            created_at_ms=given["created_at"],
            revoked=document.status == REVOKED,
            version=document.version,
        )

    def definition(self) -> dict[str, Any]:
        return {
            **self.shown(),
            "secrets": [{"hash": kept.hash, "until": kept.until_ms} for kept in self.secrets],
        }

    def shown(self) -> dict[str, Any]:
        """What is no secret."""
        return {
            "name": self.name,
            "role": self.role.value,
            "scopes": sorted(scope.value for scope in self.scopes),
            "experiments": None if self.experiments is None else list(self.experiments),
            "expires_at": self.expires_at_ms,
            "created_by": self.created_by,
            "created_at": self.created_at_ms,
        }

    def secrets_at(self, now_ms: int) -> list[Secret]:
        """Those that work then, if the key does."""
        return [kept for kept in self.secrets if kept.until_ms is None or kept.until_ms > now_ms]

    @property
    def caller(self) -> Caller:
        return Caller(f"key:{self.id}", self.name, self.role, self.scopes, self.experiments)


class ApiKeys:
    def __init__(self, log: DocumentLog, uses: UseCounts, now: Callable[[], int] = now_ms) -> None:
        self._log = log
        self._uses = uses
        self._now = now
        self._read: dict[str, tuple[Written, ApiKey, Caller]] = {}

    def knows(self, token: str) -> bool:
        return token.startswith(PREFIX)

    def caller(self, token: str) -> Caller:
        id_, _, secret = token.removeprefix(PREFIX).partition("_")
        known = self._known(id_)
        now = self._now()
        fitting = [kept for kept in known[1].secrets if _is(kept, secret)] if known else []
        if known is None or not fitting:
            raise Refusal("unknown_key", "the key is not one of this service")
        _, key, caller = known
        if key.revoked:
            raise Refusal("revoked_key", f"the key {key.name} was revoked", actor=key.name)
        if key.expires_at_ms is not None and key.expires_at_ms <= now:
            raise Refusal("expired_key", f"the key {key.name} has expired", actor=key.name)
        if not any(kept in key.secrets_at(now) for kept in fitting):
            said = f"the key {key.name} was rotated and its overlap is over"
            raise Refusal("expired_key", said, actor=key.name)
        self._uses.note(key.id, now)
        return caller

    def find(self, id_: str) -> ApiKey | None:
        known = self._known(id_)
        return known[1] if known else None

    def every(self) -> list[ApiKey]:
        keys = [ApiKey.of(document) for document in self._log.documents.of_kind(KIND)]
        return sorted(keys, key=lambda key: (key.created_at_ms, key.id))

    async def create(
        self,
        name: str,
        role: Role,
        scopes: frozenset[Permission],
        experiments: tuple[str, ...] | None,
        expires_at_ms: int | None,
        by: str,
    ) -> tuple[ApiKey, str]:
        """The key, and what its owner sends: never shown again."""
        id_ = secrets.token_hex(8)
        token, kept = _made(id_)
        made = ApiKey(id_, name, role, scopes, experiments, (kept,), expires_at_ms, by, self._now())
        return await self._change(made, ACTIVE, by), token

    async def rotate(self, key: ApiKey, overlap_ms: int, by: str) -> tuple[ApiKey, str]:
        """With another secret; the ones before work until the overlap is over, if not less long."""
        now = self._now()
        end = now + overlap_ms
        token, kept = _made(key.id)
        before = (
            replace(old, until_ms=end if old.until_ms is None else min(end, old.until_ms))
            for old in key.secrets
        )
        valid = tuple(old for old in before if old.until_ms is not None and old.until_ms > now)
        return await self._change(replace(key, secrets=(*valid, kept)), ACTIVE, by), token

    async def revoke(self, key: ApiKey, by: str) -> ApiKey:
        """Its hashes stay, so that the audit log can name the key when somebody still tries it."""
        return await self._change(key, REVOKED, by)

    async def _change(self, key: ApiKey, status: KeyStatus, by: str) -> ApiKey:
        place = f"{KIND}:{key.id}"
        return ApiKey.of(await self._log.change(place, key.version, status, key.definition(), by))

    def _known(self, id_: str) -> tuple[Written, ApiKey, Caller] | None:
        """Taken apart once for each version of its document."""
        document = self._log.documents.get(f"{KIND}:{id_}")
        if document is None:
            return None
        known = self._read.get(id_)
        if known is None or known[0] is not document:
            key = ApiKey.of(document)
            known = self._read[id_] = (document, key, key.caller)
        return known


def _made(id_: str) -> tuple[str, Secret]:
    secret = secrets.token_urlsafe(32)
    return f"{PREFIX}{id_}_{secret}", Secret(_hash(secret), None)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _is(kept: Secret, secret: str) -> bool:
    return hmac.compare_digest(kept.hash, _hash(secret))
