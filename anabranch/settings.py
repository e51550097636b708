"""The settings that a service and the application share, as frozen values.

Nothing here reads the environment: whoever owns the process does that once, and passes them down.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Section(BaseModel):
    """A part of the settings: frozen, and an unknown name in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    bootstrap: str = Field(
        "127.0.0.1:9092", description="Kafka's addresses, host:port, separated by commas."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How the brokers are spoken to."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="Used when the protocol is one of SASL."
    )
    sasl_username: str | None = Field(None, description="The name for SASL.")
    sasl_password: SecretStr | None = Field(None, description="The password for SASL.")
    ssl_ca_file: str | None = Field(
        None, description="A file of trusted certificates; the system's when absent."
    )


class RegistrySettings(Section):
    url: str = Field(
        "http://127.0.0.1:8080",
        description="A Confluent-compatible schema registry; the service itself is one.",
    )
    username: str | None = Field(None, description="The name for basic authentication.")
    password: SecretStr | None = Field(None, description="The password for basic authentication.")
    token: SecretStr | None = Field(
        None, description="A bearer token; it goes before a name and password."
    )
    ca_file: str | None = Field(
        None, description="A file of trusted certificates; the system's when absent."
    )
    timeout_seconds: float = Field(5.0, gt=0, description="How long one request may take.")


class EmitterSettings(Section):
    enabled: bool = Field(
        True, description="Off: events are neither checked nor sent, and nothing is started."
    )
    strict: bool = Field(
        False,
        description="For development and tests: a wrong event or a raw e-mail address or phone "
        "number raises an error at the call, instead of being counted.",
    )
    capacity: int = Field(
        100_000,
        gt=0,
        le=10_000_000,
        description="Events taken and not yet stored by Kafka, about 1 KB of memory each; more "
        "are dropped.",
    )
    linger_ms: int = Field(
        50, ge=0, le=10_000, description="How long events wait for company in a batch, in ms."
    )
    batch_bytes: int = Field(
        512 * 1024,
        ge=1024,
        le=1_000_000,
        description="The largest batch before compression; below the topic's max.message.bytes.",
    )
    compression: Literal["lz4", "zstd", "gzip", "none"] = Field(
        "zstd",
        description="How batches are compressed. zstd is smaller and costs less than lz4, which "
        "aiokafka runs at its slowest level.",
    )
    delivery_timeout_seconds: float = Field(
        120.0, gt=0, description="How long delivery of an event is tried; then it is dropped."
    )
    request_timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="How long Kafka may take for one answer."
    )
    close_timeout_seconds: float = Field(
        5.0, ge=0, le=300, description="How long close, exit and SIGTERM wait for delivery."
    )
    flush_on_sigterm: bool = Field(
        True,
        description="Deliver on SIGTERM before the process ends, where nobody else handles it.",
    )
    schema_ids: Mapping[str, Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default_factory=dict,
        description="Schema id per topic; the registry is asked for the others.",
    )


class ExperimentsSettings(Section):
    url: str | None = Field(
        None, description="The service, http://host:port, that definitions are fetched from."
    )
    key: SecretStr | None = Field(None, description="An API key of the service, role evaluate.")
    cache: Path | None = Field(
        None,
        description="A file that keeps the newest definitions, for a start without the service.",
    )
    file: Path | None = Field(
        None, description="A file of definitions in place of the service; read again when changed."
    )
    poll_seconds: float = Field(
        5.0, ge=0.1, le=3600, description="How often is asked for changes while none are told."
    )
    stream: bool = Field(
        True, description="Follow the service's stream of changes; off, it is only asked."
    )
    timeout_seconds: float = Field(5.0, gt=0, le=300, description="How long a request may take.")
    ca_file: Path | None = Field(
        None, description="A file of trusted certificates; the system's when absent."
    )
    exposure_window_seconds: float = Field(
        3600.0, gt=0, description="Within it the same exposure is logged once."
    )
    remembered_exposures: int = Field(
        100_000, gt=0, le=100_000_000, description="Of that window at most, about 0.3 KB each."
    )
    source: str = Field(
        "", max_length=128, description="What exposures say of who logged them: dialogue/2.4."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.file is None):
            raise ValueError("needs one of url (of an Anabranch service) and file")
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError(f"url is {self.url!r}; it must be such as http://host:8080")
        elif self.cache is not None:
            raise ValueError("cache is for definitions from a url; a file needs none")
        return self
