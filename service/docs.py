"""The documentation of the API, complete without the internet."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field

from service.access import Access, Permission, needs
from service.problems import Kind, Problem, shortened

# Swagger UI writes style attributes; scripts and connections are the page's own alone.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_KEPT = {"Cache-Control": "public, max-age=86400"}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Anabranch API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; <a href="/openapi.json">the document</a> does not.</noscript>
<script src="/docs/swagger-ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

# A file of its own: the page's policy allows no inline script.
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""

_FILES = {
    "swagger-ui.js": ("swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger-ui.css", "text/css"),
    "favicon.png": ("favicon-32x32.png", "image/png"),
}


class ProblemKind(BaseModel):
    type: str = Field(description="What the member `type` of such a problem holds; never changes.")
    status: int
    title: str
    meaning: str = Field(description="What happened and what to do about it.")


def docs_routes(access: Access) -> APIRouter:
    router = access.router()
    bundled = resources.files("fastapi_swagger").joinpath("resources")
    files = {
        name: (bundled.joinpath(source).read_bytes(), kind)
        for name, (source, kind) in _FILES.items()
    }
    files["start.js"] = (_START.encode(), "text/javascript")
    kinds = {kind.slug: _described(kind) for kind in Kind}

    @router.get("/", include_in_schema=False)
    @needs(Permission.PUBLIC)
    async def root() -> Response:
        return RedirectResponse("/docs", 307)

    @router.get("/docs", include_in_schema=False)
    @needs(Permission.PUBLIC)
    async def page() -> Response:
        return Response(
            _PAGE, media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY}
        )

    @router.get("/docs/{name}", include_in_schema=False)
    @needs(Permission.PUBLIC)
    async def page_file(name: str) -> Response:
        if name not in files:
            raise Problem(Kind.NOT_FOUND, f"/docs/{shortened(name)} does not exist")
        content, kind = files[name]
        return Response(content, media_type=kind, headers=_KEPT)

    @router.get("/openapi.json", include_in_schema=False)
    @needs(Permission.PUBLIC)
    async def document(request: Request) -> Response:
        return JSONResponse(request.app.openapi())

    @router.get("/problems", tags=["problems"])
    @needs(Permission.PUBLIC)
    async def problems() -> list[ProblemKind]:
        """Every kind of problem that an answer can carry."""
        return list(kinds.values())

    @router.get("/problems/{slug}", tags=["problems"])
    @needs(Permission.PUBLIC)
    async def problem(slug: str) -> ProblemKind:
        """What one kind of problem means."""
        if slug not in kinds:
            raise Problem(
                Kind.NOT_FOUND, f"there is no problem {shortened(slug)}; /problems lists all"
            )
        return kinds[slug]

    return router


def add_document(app: FastAPI) -> None:
    """OpenAPI as FastAPI makes it, and how to give a key."""
    make = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            make().setdefault("components", {})["securitySchemes"] = {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key, or the token of a person.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The same key as the password, with any name.",
                },
            }
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.__dict__["openapi"] = document


def _described(kind: Kind) -> ProblemKind:
    return ProblemKind(
        type=f"/problems/{kind.slug}", status=kind.status, title=kind.title, meaning=kind.meaning
    )
