"""Settings of who may do what: limits, and the identity provider of people."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from anabranch.settings import Section
from service.loopback import is_loopback


class LimitSettings(Section):
    """Requests a second of one key or person, in each process of the service; then 429."""

    viewer: float = Field(200.0, gt=0, description="Requests a second of a viewer.")
    experimenter: float = Field(200.0, gt=0, description="Requests a second of an experimenter.")
    admin: float = Field(2_000.0, gt=0, description="Requests a second of an admin.")
    emit: float = Field(5_000.0, gt=0, description="Requests a second of a key of the role emit.")
    evaluate: float = Field(
        10_000.0, gt=0, description="Requests a second of a key of the role evaluate."
    )
    burst_seconds: float = Field(
        2.0, gt=0, le=3_600, description="So many seconds' requests may come at once."
    )
    denied_per_minute: int = Field(
        10, ge=1, le=10_000, description="Denied attempts of one source in the audit log a minute."
    )
    denied_per_minute_of_all: int = Field(
        300, ge=1, le=1_000_000, description="The same of all sources together."
    )


class OidcSettings(Section):
    """People who sign in with an identity provider and send its token; off without an issuer."""

    issuer: str | None = Field(
        None, description="The identity provider's address, exactly as its tokens name it."
    )
    audience: str | None = Field(None, description="Whom tokens must be for: this service's name.")
    jwks_url: str | None = Field(
        None, description="Where its public keys are; found by discovery when absent."
    )
    role_claim: str = Field(
        "roles", description="The claim that holds roles or groups; a.b for b inside of a."
    )
    roles: dict[str, Literal["viewer", "experimenter", "admin"]] = Field(
        {"viewer": "viewer", "experimenter": "experimenter", "admin": "admin"},
        description="The role of each value of that claim, as JSON; the highest one counts.",
    )
    account_claim: str = Field(
        "sub", description="The claim that names the person for good in the audit log."
    )
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="How tokens may be signed, as JSON."
    )
    leeway_seconds: float = Field(
        30.0, ge=0, le=300, description="How far the issuer's clock may be from this one."
    )
    keys_seconds: float = Field(
        600.0, gt=0, description="How old its public keys may get before they are asked for again."
    )
    refetch_seconds: float = Field(
        10.0, gt=0, description="How often at most an unknown key makes the service ask for keys."
    )
    timeout_seconds: float = Field(5.0, gt=0, le=30, description="How long it may take to answer.")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if (self.issuer is None) != (self.audience is None):
            raise ValueError("issuer and audience must be given together")
        for url in (self.issuer, self.jwks_url):
            if url is not None and not is_safe_url(url):
                raise ValueError(f"{url} must begin with https:// (http:// on loopback alone)")
        return self


def is_safe_url(url: str) -> bool:
    """Public keys that come by plain HTTP are whoever's who sits between; loopback has nobody."""
    try:
        address = urlsplit(url)
    except ValueError:
        return False
    host = address.hostname or ""
    return bool(host) and (
        address.scheme == "https" or (address.scheme == "http" and is_loopback(host))
    )
