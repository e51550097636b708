"""Every setting there is: one frozen object, read once at the start and passed down.

The order: a flag of the command line, an `ANABRANCH_...` variable, what the running stack in the
state folder says of itself, the default. A wrong or unknown name stops the start.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from anabranch.settings import EmitterSettings, KafkaSettings, RegistrySettings, Section
from service.errors import CommandError
from service.loopback import is_loopback
from sinks.settings import ClickHouseSettings
from streams.settings import DefinitionSettings, WorkerSettings

PREFIX = "ANABRANCH_"
DEFAULT_STATE = Path(".anabranch")


class ServiceSettings(Section):
    host: str = Field("127.0.0.1", description="The address to listen on; loopback by default.")
    port: int = Field(8080, ge=0, le=65535, description="The port; 0 takes a free one.")
    max_body_bytes: int = Field(
        10_000_000, gt=0, description="The largest request body; a larger one is refused."
    )
    max_json_depth: int = Field(32, gt=0, le=500, description="The deepest JSON nesting.")
    max_events_in_flight: int = Field(
        50_000, gt=0, description="Events accepted and not yet stored by Kafka; above it: 503."
    )
    max_events_per_request: int = Field(
        10_000, gt=0, description="Events in one request; more are refused (413)."
    )
    produce_timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="How long a request waits for Kafka; then 503, in seconds."
    )
    shutdown_timeout_seconds: float = Field(
        15.0, gt=0, le=300, description="How long running requests may take to end at a stop."
    )
    open_access: bool = Field(
        False, description="Serve without keys where there are none; on a loopback address alone."
    )


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


class TopicSettings(Section):
    partitions: int = Field(4, ge=1, le=10_000, description="Partitions of a new event topic.")
    replication: int = Field(
        1, ge=1, le=15, description="Replicas of a new topic; 3 where there are three brokers."
    )


class EmbeddedSettings(Section):
    """The embedded stack alone; production has none of it."""

    kafka_heap_mb: int = Field(512, ge=128, description="The broker's Java heap.")
    cache: Path | None = Field(
        None, description="Where jars are kept, per user; ~/.cache/anabranch when absent."
    )
    maven_url: str = Field(
        "https://repo.maven.apache.org/maven2", description="Where Kafka's jars come from."
    )
    clickhouse_threads: int = Field(4, ge=1, le=64, description="Queries run in parallel.")
    clickhouse_queue: int = Field(
        100, ge=0, description="Queries that may wait for a place; more are refused (code 202)."
    )
    clickhouse_memory_mb: int = Field(2048, ge=256, description="The engine's memory limit.")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: a settings object never reads the environment by itself."""
        return (init_settings,)

    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    registry: RegistrySettings = RegistrySettings()
    emitter: EmitterSettings = EmitterSettings()
    service: ServiceSettings = ServiceSettings()
    limits: LimitSettings = LimitSettings()
    oidc: OidcSettings = OidcSettings()
    topics: TopicSettings = TopicSettings()
    definitions: DefinitionSettings = DefinitionSettings()
    worker: WorkerSettings = WorkerSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    credentials: Path | None = Field(
        None, description="A JSON file (mode 600) with a key per role and ClickHouse's password."
    )
    pseudonym_key: SecretStr | None = Field(
        None, description="The secret key of pseudonyms: 32 bytes or more, base64 or text."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log line that is written."
    )
    log_format: Literal["json", "text"] = Field("json", description="The form of log lines.")


class SettingsError(CommandError):
    """A setting is wrong or unknown. The text names it and says what would be right."""

    status = 2


def known_variables() -> frozenset[str]:
    """Every variable that has a meaning, nested ones with a double underscore."""
    names = set()
    for name, field in Settings.model_fields.items():
        variable = f"{PREFIX}{name.upper()}"
        names.add(variable)
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            names.remove(variable)
            names |= {f"{variable}__{inner.upper()}" for inner in section.model_fields}
    return frozenset(names)


def load_settings(
    environment: Mapping[str, str] | None = None, *, state: Path = DEFAULT_STATE, **flags: Any
) -> Settings:
    """The settings of this process. `flags` are nested mappings and win over everything else."""
    given = dict(os.environ if environment is None else environment)
    unknown = sorted(
        name for name in given if name.startswith(PREFIX) and name not in known_variables()
    )
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]}; {_closest(unknown[0])}")
    variables = {**_stack_environment(state), **given}

    source = EnvSettingsSource(Settings)
    # The source reads os.environ when it is made; here it gets what this function was given.
    source.env_vars = {name.lower(): value for name, value in variables.items()}
    try:
        settings = Settings.model_validate(_merged(source(), flags))
    except ValidationError as error:
        raise SettingsError(_explained(error)) from error
    return _with_credentials(settings)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, Mapping):
            merged[name] = _merged(merged.get(name, {}), value)
        elif value is not None:  # a flag that was not given
            merged[name] = value
    return merged


def _stack_environment(state: Path) -> dict[str, str]:
    """What the stack in this state folder says of its addresses; nothing when there is none."""
    try:
        said = json.loads((state / "stack.json").read_text())["environment"]
        return {str(name): str(value) for name, value in said.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # whatever stands there, no stack of ours wrote it


def _with_credentials(settings: Settings) -> Settings:
    if settings.credentials is None or settings.clickhouse.password is not None:
        return settings
    password = read_credentials(settings.credentials).get("clickhouse")
    if password is None:
        return settings
    clickhouse = settings.clickhouse.model_copy(update={"password": SecretStr(password)})
    return settings.model_copy(update={"clickhouse": clickhouse})


def read_credentials(path: Path) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in json.loads(path.read_text()).items()}
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}CREDENTIALS: {path} cannot be read: {error.strerror}"
        ) from error
    except (ValueError, AttributeError) as error:
        raise SettingsError(
            f"{PREFIX}CREDENTIALS: {path} is not a JSON object of names and keys"
        ) from error


def _closest(name: str) -> str:
    near = difflib.get_close_matches(name, known_variables(), n=1)
    return f"did you mean {near[0]}?" if near else "`anabranch settings` lists them all"


def _explained(error: ValidationError) -> str:
    lines = []
    for detail in error.errors():
        name = PREFIX + "__".join(str(part).upper() for part in detail["loc"])
        given = "a secret, not shown" if _is_secret(detail["loc"]) else repr(detail["input"])
        lines.append(f"{name}: {detail['msg']} (given: {given})")
    return "; ".join(lines)


def _is_secret(place: tuple[int | str, ...]) -> bool:
    section: type[BaseModel] = Settings
    for name in place:
        annotation = section.model_fields[str(name)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return "SecretStr" in str(annotation)
        section = annotation
    return False
