"""The read side of a Confluent schema registry, answered from the released schemas.

So any Avro tool can read our topics with this service as its registry. It asks for no key: the
schemas are the public contract. It takes nothing new in: a schema becomes one of ours by a release.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from schemas.compatibility import incompatibilities
from schemas.record import SchemaError
from schemas.releases import Release
from service.access import Access, Permission, needs
from service.bodies import parse_json
from service.problems import Problem
from service.schema_catalogue import INVALID_SCHEMA, Catalogue, RegistryError, canonical

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY = "BACKWARD_TRANSITIVE"
READ_ONLY = 42205
# Several times our largest. Comparing takes the square of the fields in time, and asks for no key.
_MAX_SCHEMA_CHARACTERS = 32_768


class RegistryAnswer(JSONResponse):
    media_type = MEDIA_TYPE


_GIVEN_SCHEMA = {
    "type": "object",
    "required": ["schema"],
    "properties": {
        "schema": {"type": "string", "description": "The Avro schema, as JSON text."},
        "schemaType": {"type": "string", "enum": ["AVRO"]},
    },
}


async def answer_registry_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RegistryError)
    return RegistryAnswer({"error_code": error.code, "message": str(error)}, error.status)


def registry_routes(access: Access, catalogue: Catalogue) -> APIRouter:
    router = access.router(tags=["schema registry"], default_response_class=RegistryAnswer)
    _add_subject_routes(router, catalogue)
    _add_schema_routes(router, catalogue)
    _add_lookup_routes(router, catalogue)
    _add_configuration_routes(router, catalogue)
    return router


def _add_subject_routes(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/subjects")
    @needs(Permission.PUBLIC)
    async def subjects() -> list[str]:
        """Every subject: the value of each topic."""
        return catalogue.subjects()

    @router.get("/subjects/{subject}/versions")
    @needs(Permission.PUBLIC)
    async def versions(subject: str) -> list[int]:
        """The released versions of a subject."""
        return catalogue.versions(subject)

    @router.get("/subjects/{subject}/versions/{version}")
    @needs(Permission.PUBLIC)
    async def version_of(subject: str, version: str) -> dict[str, Any]:
        """One released version; `latest` is the newest."""
        return _described(catalogue.version(subject, version))

    @router.get("/subjects/{subject}/versions/{version}/schema")
    @needs(Permission.PUBLIC)
    async def schema_of(subject: str, version: str) -> Response:
        """The schema alone."""
        release = catalogue.version(subject, version)
        return Response(release.schema_text, media_type=MEDIA_TYPE)


def _add_schema_routes(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/schemas/types")
    @needs(Permission.PUBLIC)
    async def types() -> list[str]:
        """The one kind of schema there is."""
        return ["AVRO"]

    @router.get("/schemas/ids/{schema_id}")
    @needs(Permission.PUBLIC)
    async def with_id(schema_id: int) -> dict[str, Any]:
        """The schema that the five bytes before an event's body name."""
        return {"schema": catalogue.with_id(schema_id)[0].schema_text}

    @router.get("/schemas/ids/{schema_id}/schema")
    @needs(Permission.PUBLIC)
    async def text_with_id(schema_id: int) -> Response:
        """The same without the envelope."""
        return Response(catalogue.with_id(schema_id)[0].schema_text, media_type=MEDIA_TYPE)

    @router.get("/schemas/ids/{schema_id}/versions")
    @needs(Permission.PUBLIC)
    async def versions_with_id(schema_id: int) -> list[dict[str, Any]]:
        """Where the schema is used."""
        return [
            {"subject": release.subject, "version": release.version}
            for release in catalogue.with_id(schema_id)
        ]

    @router.get("/schemas/ids/{schema_id}/subjects")
    @needs(Permission.PUBLIC)
    async def subjects_with_id(schema_id: int) -> list[str]:
        """The subjects that use the schema."""
        return sorted({release.subject for release in catalogue.with_id(schema_id)})


def _add_lookup_routes(router: APIRouter, catalogue: Catalogue) -> None:
    body = {"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": _GIVEN_SCHEMA}}}}

    @router.post("/subjects/{subject}", openapi_extra=body)
    @needs(Permission.PUBLIC)
    async def look_up(subject: str, request: Request) -> dict[str, Any]:
        """The id and version under which a subject has this schema."""
        found = catalogue.with_text(subject, await _given_schema(request))
        if found is None:
            raise RegistryError(404, 40403, "Schema not found")
        return _described(found)

    @router.post("/subjects/{subject}/versions", openapi_extra=body)
    @needs(Permission.PUBLIC)
    async def register(subject: str, request: Request) -> dict[str, int]:
        """The id of a schema that is released already; any other is refused: this is read-only."""
        text = await _given_schema(request)
        found = catalogue.with_text(subject, text) if subject in catalogue.subjects() else None
        if found is None:
            raise RegistryError(
                422,
                READ_ONLY,
                f"Subject {subject} is in read-only mode: schemas are released "
                "with the service, not registered",
            )
        return {"id": found.id}

    @router.post("/compatibility/subjects/{subject}/versions/{version}", openapi_extra=body)
    @needs(Permission.PUBLIC)
    async def compatible_with_one(
        subject: str, version: str, request: Request, verbose: bool = False
    ) -> dict[str, Any]:
        """Whether readers of a new schema could read what one version wrote."""
        text = await _given_schema(request)
        return await _judged(text, [catalogue.version(subject, version)], verbose=verbose)

    @router.post("/compatibility/subjects/{subject}/versions", openapi_extra=body)
    @needs(Permission.PUBLIC)
    async def compatible_with_all(
        subject: str, request: Request, verbose: bool = False
    ) -> dict[str, Any]:
        """Whether readers of a new schema could read what every version wrote."""
        text = await _given_schema(request)
        released = [catalogue.version(subject, str(n)) for n in catalogue.versions(subject)]
        return await _judged(text, released, verbose=verbose)


def _add_configuration_routes(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/config")
    @needs(Permission.PUBLIC)
    async def config() -> dict[str, str]:
        """The rule that releases keep."""
        return {"compatibilityLevel": COMPATIBILITY}

    @router.get("/config/{subject}")
    @needs(Permission.PUBLIC)
    async def config_of(subject: str) -> dict[str, str]:
        """The same rule for every subject."""
        catalogue.versions(subject)
        return {"compatibilityLevel": COMPATIBILITY}

    @router.get("/mode")
    @needs(Permission.PUBLIC)
    async def mode() -> dict[str, str]:
        """READONLY, for good."""
        return {"mode": "READONLY"}

    @router.get("/mode/{subject}")
    @needs(Permission.PUBLIC)
    async def mode_of(subject: str) -> dict[str, str]:
        """READONLY, for good."""
        catalogue.versions(subject)
        return {"mode": "READONLY"}


def _described(release: Release) -> dict[str, Any]:
    return {
        "subject": release.subject,
        "version": release.version,
        "id": release.id,
        "schemaType": "AVRO",
        "schema": release.schema_text,
    }


async def _given_schema(request: Request) -> str:
    try:
        # Clients name several content types, or none: what counts is that it is JSON.
        given = parse_json(await request.body(), max_depth=8)
    except Problem as problem:
        raise RegistryError(problem.status_code, INVALID_SCHEMA, problem.detail) from problem
    text = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(text, str):
        raise RegistryError(
            422, INVALID_SCHEMA, 'Invalid schema: send {"schema": "<Avro as JSON text>"}'
        )
    if len(text) > _MAX_SCHEMA_CHARACTERS:
        raise RegistryError(
            413,
            INVALID_SCHEMA,
            f"Invalid schema: it may have {_MAX_SCHEMA_CHARACTERS:,} characters, not {len(text):,}",
        )
    kind = given.get("schemaType", "AVRO")
    if kind not in (None, "AVRO"):
        raise RegistryError(
            422, INVALID_SCHEMA, f"Invalid schema type {str(kind)[:40]}; there is AVRO alone"
        )
    return text


async def _judged(text: str, released: list[Release], *, verbose: bool) -> dict[str, Any]:
    canonical(text)  # refuses what is no schema at all
    try:
        # In a thread, and version by version: events must not wait for what anyone may ask.
        problems = [
            problem
            for release in released
            for problem in await asyncio.to_thread(incompatibilities, text, release.schema_text)
        ]
    except (SchemaError, LookupError, TypeError, ValueError, AttributeError) as error:
        # The two Avro libraries do not agree on everything that is a schema.
        raise RegistryError(422, INVALID_SCHEMA, f"Invalid schema: {error}") from error
    answer: dict[str, Any] = {"is_compatible": not problems}
    if verbose:
        answer["messages"] = problems
    return answer
