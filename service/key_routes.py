"""`/v1/keys`: API keys, for administrators alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from anabranch.fields import milliseconds, now_ms
from service.access import Access, Permission, Role, actor_of, needs
from service.api_keys import MOST_SECRETS, ApiKey, ApiKeys
from service.audit import Audit
from service.definition_errors import LogUnavailableError, VersionConflictError
from service.key_uses import UseCounts
from service.problems import Kind, Problem, problem_answers
from service.roles import ABOUT_EXPERIMENTS, PERMISSIONS
from sinks.key_uses import Use

MOST_KEYS = 1_000
_MONTH_SECONDS = 30 * 86_400
_CENTURY_SECONDS = 36_525 * 86_400
KeyId = Annotated[
    str, Path(alias="id", pattern="^[0-9a-f]{16}$", description="As in `ab_<id>_<secret>`.")
]


Prefix = Annotated[
    str, Field(min_length=1, max_length=128, pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$")
]


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1,
        max_length=64,
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="What the audit log calls it; no other valid key may have it, and no role.",
        examples=["checkout-service"],
    )
    role: Role = Field(examples=["evaluate"])
    scopes: list[Permission] | None = Field(
        None,
        min_length=1,
        max_length=len(Permission),
        description="Which of the role's permissions it has; all of them when absent.",
    )
    experiments: list[Prefix] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="It is limited to experiments whose keys begin with one of these.",
        examples=[["npc_"]],
    )
    expires_at: AwareDatetime | None = Field(None, description="It ends then; never when absent.")


class Rotation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    overlap_seconds: int = Field(
        86_400,
        ge=0,
        le=_MONTH_SECONDS,
        description="How long the secrets before go on working, a month at most.",
    )


class KeyView(BaseModel):
    id: str
    name: str
    role: Role
    scopes: list[Permission]
    experiments: list[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked: bool
    rotated_out: list[datetime] = Field(
        description="When secrets from before a rotation stop working; empty when none is left."
    )
    last_used_at: datetime | None = Field(
        description="Null when it never was, or when `uses_problem` says why it is not known."
    )
    requests: int = Field(description="Requests with it so far.")


class MadeKey(KeyView):
    key: str = Field(description="Shown this once: only its hash is kept.")


class KeyList(BaseModel):
    keys: list[KeyView]
    uses_problem: str | None = Field(
        description="Why the last uses are only those of this process, if so."
    )


def key_routes(access: Access, keys: ApiKeys, uses: UseCounts, audit: Audit) -> APIRouter:
    router = access.router(tags=["keys"])
    answers = (401, 403, 404, 409, 422, 429, 503)

    @router.post(
        "/v1/keys", status_code=201, response_model=MadeKey, responses=problem_answers(*answers)
    )
    @needs(Permission.ADMINISTER)
    async def create(request: Request, response: Response, wanted: NewKey) -> MadeKey:
        """Make a key. The answer is the only place where it can be read."""
        scopes = _scopes(wanted)
        _check_new(wanted, keys.every())
        with changing():
            made, token = await keys.create(
                wanted.name,
                wanted.role,
                scopes,
                None if wanted.experiments is None else tuple(wanted.experiments),
                None if wanted.expires_at is None else milliseconds(wanted.expires_at),
                actor_of(request),
            )
        await audit.record(request, "key.create", _target(made), None, made.shown())
        response.headers["Location"] = f"/v1/keys/{made.id}"
        return MadeKey(**_view(made, None).model_dump(), key=token)

    @router.get("/v1/keys", response_model=KeyList, responses=problem_answers(401, 403, 429))
    @needs(Permission.ADMINISTER)
    async def list_keys(
        revoked: Annotated[bool, Query(description="Revoked ones, too.")] = False,
    ) -> KeyList:
        """All keys but those of the credentials file; never a secret."""
        used, problem = await uses.read()
        return KeyList(
            keys=[
                _view(key, used.get(key.id)) for key in keys.every() if revoked or not key.revoked
            ],
            uses_problem=problem,
        )

    @router.get("/v1/keys/{id}", response_model=KeyView, responses=problem_answers(401, 403, 404))
    @needs(Permission.ADMINISTER)
    async def show(id_: KeyId) -> KeyView:
        """One key, never its secret."""
        used, _ = await uses.read()
        return _view(_found(keys, id_), used.get(id_))

    @router.post(
        "/v1/keys/{id}/rotate", response_model=MadeKey, responses=problem_answers(*answers)
    )
    @needs(Permission.ADMINISTER)
    async def rotate(
        request: Request,
        id_: KeyId,
        rotation: Rotation | None = None,
    ) -> MadeKey:
        """Give it another secret; the one before works until the overlap is over."""
        before = _valid(keys, id_)
        overlap_ms = (rotation or Rotation()).overlap_seconds * 1_000
        if len(before.secrets_at(now_ms())) >= MOST_SECRETS and overlap_ms:
            raise Problem(
                Kind.KEY_CONFLICT,
                f"{MOST_SECRETS} secrets of this key are valid already; rotate it with "
                "overlap_seconds 0, or wait until an overlap is over",
            )
        with changing():
            after, token = await keys.rotate(before, overlap_ms, actor_of(request))
        seen = _view(after, None)
        await audit.record(
            request, "key.rotate", _target(after), before.shown(), seen.model_dump(mode="json")
        )
        return MadeKey(**seen.model_dump(), key=token)

    @router.delete("/v1/keys/{id}", status_code=204, responses=problem_answers(*answers))
    @needs(Permission.ADMINISTER)
    async def revoke(request: Request, id_: KeyId) -> None:
        """Revoke it, for good: at once here, within a second in every other instance."""
        before = _valid(keys, id_)
        with changing():
            await keys.revoke(before, actor_of(request))
        await audit.record(request, "key.revoke", _target(before), before.shown(), None)

    return router


@contextlib.contextmanager
def changing() -> Iterator[None]:
    """What the definition log says to a change, as a problem."""
    try:
        yield
    except VersionConflictError as conflict:
        said = f"somebody else was changing the key just now ({conflict}); look and try again"
        raise Problem(Kind.KEY_CONFLICT, said) from conflict
    except LogUnavailableError as error:
        headers = {"Retry-After": "2"}
        raise Problem(Kind.KAFKA_UNAVAILABLE, str(error), headers=headers) from error


def _scopes(wanted: NewKey) -> frozenset[Permission]:
    able = PERMISSIONS[wanted.role]
    if wanted.experiments is not None:
        able &= ABOUT_EXPERIMENTS
        if not able or wanted.role is Role.ADMIN:
            raise _invalid(
                "experiments",
                f"a key of the role {wanted.role.value} cannot be limited to experiments; use "
                "viewer, experimenter or evaluate",
            )
    scopes = able if wanted.scopes is None else frozenset(wanted.scopes)
    if beyond := scopes - able:
        raise _invalid(
            "scopes",
            f"{', '.join(sorted(beyond))} is not for this key; a key of the role "
            f"{wanted.role.value}{' for some experiments' if wanted.experiments else ''} may have "
            f"{', '.join(sorted(able))}",
        )
    return scopes


def _check_new(wanted: NewKey, there: list[ApiKey]) -> None:
    if wanted.expires_at is not None:
        ahead_seconds = (milliseconds(wanted.expires_at) - now_ms()) / 1_000
        if ahead_seconds <= 0:
            raise _invalid("expires_at", "it lies in the past; name a time to come, or none")
        if ahead_seconds > _CENTURY_SECONDS:
            raise _invalid("expires_at", "it lies more than 100 years ahead; leave it out")
    if wanted.name in {role.value for role in Role}:
        raise _invalid("name", f"{wanted.name} is the name of a role; choose another")
    valid = [key for key in there if not key.revoked]
    if any(key.name == wanted.name for key in valid):
        raise Problem(
            Kind.KEY_CONFLICT,
            f"there is a key {wanted.name} already; revoke or rotate it, or choose another name",
        )
    if len(valid) >= MOST_KEYS:
        raise Problem(Kind.KEY_CONFLICT, f"there are {MOST_KEYS:,} keys already; revoke some")


def _invalid(field: str, text: str) -> Problem:
    return Problem(
        Kind.INVALID_REQUEST, f"{field}: {text}", errors=[{"at": f"body.{field}", "error": text}]
    )


def _found(keys: ApiKeys, id_: str) -> ApiKey:
    key = keys.find(id_)
    if key is None:
        raise Problem(Kind.NOT_FOUND, f"there is no key with the id {id_}")
    return key


def _valid(keys: ApiKeys, id_: str) -> ApiKey:
    key = _found(keys, id_)
    if key.revoked:
        raise Problem(Kind.KEY_CONFLICT, f"the key {key.name} was revoked, which is for good")
    return key


def _target(key: ApiKey) -> str:
    return f"api_key:{key.id}"


def _view(key: ApiKey, use: Use | None) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        role=key.role,
        scopes=sorted(key.scopes),
        experiments=None if key.experiments is None else list(key.experiments),
        created_at=_moment(key.created_at_ms),
        created_by=key.created_by,
        expires_at=None if key.expires_at_ms is None else _moment(key.expires_at_ms),
        revoked=key.revoked,
        rotated_out=[
            _moment(kept.until_ms) for kept in key.secrets_at(now_ms()) if kept.until_ms is not None
        ],
        last_used_at=use.last_used_at if use else None,
        requests=use.requests if use else 0,
    )


def _moment(milliseconds_: int) -> datetime:
    return datetime.fromtimestamp(milliseconds_ / 1000, UTC)
