"""Where ClickHouse is. Apart from `clickhouse.py`, since its client takes long to import."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from anabranch.settings import Section


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or too large
        sound = False
    if not sound:
        raise ValueError("it is not an address like http://127.0.0.1:8123")
    return url


class ClickHouseSettings(Section):
    url: Annotated[str, AfterValidator(_address)] = Field(
        "http://127.0.0.1:8123", description="The address of ClickHouse's HTTP port."
    )
    username: str = Field("default", description="The user.")
    password: SecretStr | None = Field(
        None, description="The user's password; the credentials file's when absent."
    )
    database: str = Field(
        "anabranch",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        description="The database of all tables.",
    )
    cluster: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$",
        description="A cluster's name makes replicated, sharded tables; absent: one node.",
    )
    deduplication_window: int = Field(
        10_000,
        ge=1_000,
        description="How many inserts a new table remembers, so that one repeated changes nothing.",
    )
    timeout_seconds: float = Field(30.0, gt=0, description="How long one request may take.")
