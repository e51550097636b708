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
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from anabranch.settings import EmitterSettings, KafkaSettings, RegistrySettings, Section
from service.access_settings import LimitSettings, OidcSettings
from service.errors import CommandError
from service.report_settings import ReportSettings
from service.webhook_settings import WebhookSettings
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
    reports: ReportSettings = ReportSettings()
    oidc: OidcSettings = OidcSettings()
    webhook: WebhookSettings = WebhookSettings()
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
    # What was given for a whole section shows all that is in it.
    return any("SecretStr" in str(field.annotation) for field in section.model_fields.values())
