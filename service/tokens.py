"""What callers send to say who they are, and who can tell whose it is."""

from __future__ import annotations

import base64
from typing import Protocol

from service.callers import Caller
from service.problems import Kind


class Refusal(Exception):  # noqa: N818  # an answer, not a failure
    """A token that is understood and not accepted; the reason is a label of a metric."""

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        kind: Kind = Kind.UNAUTHENTICATED,
        actor: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.kind = kind
        self.actor = actor
        """Whose token it is, where that is proven."""


class MadeKeys(Protocol):
    """Keys that were made over the API."""

    def knows(self, token: str) -> bool:
        """By its form alone."""

    def caller(self, token: str) -> Caller:
        """Raises Refusal."""


class Accounts(Protocol):
    """People, whose tokens somebody else has signed."""

    def knows(self, token: str) -> bool:
        """By its form alone."""

    async def caller(self, token: str) -> Caller:
        """Raises Refusal, or a Problem where it cannot be decided now."""


def presented(authorization: str) -> str | None:
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
