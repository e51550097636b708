"""Who asks: one user, with a password or open, in any of the three ways that ClickHouse knows."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping

from sinks.embedded.errors import ClickHouseError, Code


class Access:
    def __init__(self, username: str, password: str | None) -> None:
        self._username = username
        self._password = password

    def check(self, headers: Mapping[str, str], url: Mapping[str, str]) -> str:
        """The user's name, or a refusal that does not tell which of the two was wrong."""
        user, password = _credentials(headers, url)
        if user is None and password is None and self._password:
            raise ClickHouseError(
                Code.REQUIRED_PASSWORD, "Authentication required: no user and password were given."
            )
        user = self._username if user is None else user
        # Both are compared, always and in constant time.
        known = hmac.compare_digest(user.encode(), self._username.encode())
        matches = not self._password or hmac.compare_digest(
            (password or "").encode(), self._password.encode()
        )
        if not (known and matches):
            raise ClickHouseError(
                Code.AUTHENTICATION_FAILED,
                f"{user[:64]}: Authentication failed: password is incorrect, or there is no user"
                " with such name.",
            )
        return user


def _credentials(
    headers: Mapping[str, str], url: Mapping[str, str]
) -> tuple[str | None, str | None]:
    by_header = (headers.get("x-clickhouse-user"), headers.get("x-clickhouse-key"))
    by_url = (url.get("user"), url.get("password"))
    authorization = headers.get("authorization")
    ways = [any(by_header), any(part is not None for part in by_url), authorization is not None]
    if sum(ways) > 1:
        raise ClickHouseError(
            Code.AUTHENTICATION_FAILED,
            "Invalid authentication: use one of X-ClickHouse-User headers, the Authorization header"
            " and URL parameters, not several at once.",
        )
    if authorization is not None:
        return _basic(authorization)
    return by_header if any(by_header) else by_url


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    refusal = ClickHouseError(
        Code.AUTHENTICATION_FAILED,
        "Invalid authentication: the Authorization header is not 'Basic' and base64.",
    )
    if scheme.lower() != "basic":
        raise refusal
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error) as error:
        raise refusal from error
    return user, password
