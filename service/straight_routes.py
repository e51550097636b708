"""Requests that take the straight way to their endpoint, past the framework's routing.

An endpoint that takes the bare request needs nothing of what the framework prepares: arguments,
stacks for what they open, models for answers. On `POST /v1/assign` all that took half of the time.
The routes stay routes, for documentation and tests; here they are found by method and path alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import http_problem

Handle = Callable[[Request], Awaitable[Response]]


@runtime_checkable
class Straight(Protocol):
    """A route that may be called so, under its guard."""

    path: str
    methods: set[str]
    straight: Handle | None


def takes_bare_request(path: str, endpoint: Callable[..., Any]) -> bool:
    """Whether the endpoint reads the request itself, and makes the response itself."""
    taken = signature(endpoint, eval_str=True)
    kinds = [parameter.annotation for parameter in taken.parameters.values()]
    return kinds == [Request] and taken.return_annotation is Response and "{" not in path


class StraightRoutes:
    """The innermost middleware: limits of bodies, ids and headers are those of every request."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self._routes: Mapping[tuple[str, str], Straight] = {
            (method, route.path): route
            for route in routes
            if isinstance(route, Straight) and route.straight is not None
            for method in route.methods
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = None
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None or route.straight is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.straight(request)
        except HTTPException as error:
            response = http_problem(request, error)
        await response(scope, receive, send)
