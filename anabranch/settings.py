"""The settings that a service and the application share, as frozen values.

Nothing here reads the environment: whoever owns the process does that once, and passes them down.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


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
