"""The public keys of an identity provider: fetched, kept, and fetched again when it rotates them.

While it is away the keys that are known go on: a token says itself until when it is good.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import jwt
import structlog

from service.access_settings import OidcSettings, is_safe_url
from service.metrics import ServiceMetrics

logger = structlog.get_logger("service.signing_keys")

_LARGEST_ANSWER = 1_000_000
_MOST_KEYS = 100
_FEWEST_RSA_BITS = 2048
_CURVES = {("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}


class IssuerAwayError(Exception):
    """The keys could not be fetched; the text says why."""


class SigningKeys:
    def __init__(
        self,
        settings: OidcSettings,
        metrics: ServiceMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._fetches = metrics.signing_keys_fetched
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._problem: str | None = None
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._client: httpx.AsyncClient | None = None

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """None where the issuer has no such key. IssuerAwayError: it could not be asked."""
        if (known := self._keys.get(kid)) is not None:
            if self._is_old():
                # Nobody waits for it: one that was withdrawn is good for one request too many.
                self._fetch_soon()
            return known
        if self._may_ask():
            self._fetch_soon()
        if self._fetching is not None:
            # Shielded: who came first may leave, the others still wait for the answer.
            await asyncio.shield(self._fetching)
        if (found := self._keys.get(kid)) is None and self._problem is not None:
            raise IssuerAwayError(self._problem)
        return found

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        if self._client is not None:
            await self._client.aclose()

    def _is_old(self) -> bool:
        fetched = self._fetched_at
        old = fetched is None or self._clock() - fetched > self._settings.keys_seconds
        return old and self._may_ask()

    def _may_ask(self) -> bool:
        tried = self._tried_at
        return tried is None or self._clock() - tried >= self._settings.refetch_seconds

    def _fetch_soon(self) -> None:
        if self._fetching is None or self._fetching.done():
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch(), name="signing-keys")

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                found = usable_keys(await self._document(await self._address()), self._settings)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            self._problem = f"{self._settings.issuer}: {str(error) or type(error).__name__}"
            self._fetches.labels("failed").inc()
            logger.warning("the identity provider's keys were not fetched", problem=self._problem)
            return
        if found.keys() != self._keys.keys():
            logger.info("the identity provider has other keys", keys=sorted(found))
        self._keys, self._problem, self._fetched_at = found, None, self._clock()
        self._fetches.labels("ok").inc()

    async def _address(self) -> str:
        settings = self._settings
        if settings.jwks_url is not None:
            return settings.jwks_url
        assert settings.issuer is not None
        place = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        said = await self._document(place)
        if said.get("issuer") != settings.issuer:
            raise ValueError(f"{place} is of the issuer {str(said.get('issuer'))[:200]!r}")
        address = said.get("jwks_uri")
        if not isinstance(address, str) or not is_safe_url(address):
            raise ValueError(f"{place} names no safe jwks_uri: {str(address)[:200]!r}")
        return address

    async def _document(self, address: str) -> Mapping[str, Any]:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._settings.timeout_seconds)
        body = bytearray()
        async with self._client.stream("GET", address) as answer:
            answer.raise_for_status()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _LARGEST_ANSWER:
                    raise ValueError(f"{address} answers more than {_LARGEST_ANSWER:,} bytes")
        # The body decides, not its media type, which issuers get wrong.
        document = httpx.Response(200, content=bytes(body)).json()
        if not isinstance(document, dict):
            raise ValueError(f"{address} does not answer with a JSON object")  # noqa: TRY004
        return document


def usable_keys(document: Mapping[str, Any], settings: OidcSettings) -> dict[str, jwt.PyJWK]:
    """Public keys for signatures of an accepted algorithm, by their ids; others are left out."""
    given = document.get("keys")
    if not isinstance(given, list):
        raise ValueError("the key set has no list of keys")  # noqa: TRY004
    found = {}
    for key in given[:_MOST_KEYS]:
        if not isinstance(key, dict) or not isinstance(key.get("kid"), str):
            continue
        algorithm = _algorithm(key)
        if algorithm not in settings.algorithms or key.get("use", "sig") != "sig":
            continue
        try:
            # By the kind of the key, never by what a token or the key says of itself.
            made = jwt.PyJWK(key, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            logger.warning("a key cannot be read", kid=key["kid"][:100], problem=str(error)[:200])
            continue
        if algorithm != "RS256" or made.key.key_size >= _FEWEST_RSA_BITS:
            found[key["kid"]] = made
    return found


def _algorithm(key: Mapping[str, Any]) -> str | None:
    if key.get("kty") == "RSA":
        algorithm: str | None = "RS256"
    else:
        algorithm = _CURVES.get((str(key.get("kty")), str(key.get("crv"))))
    return algorithm if key.get("alg", algorithm) == algorithm else None
