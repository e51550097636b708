"""Settings from ANABRANCH_... variables, without pydantic-settings, for services that use the SDK.

The names are those of the application, which owns more of them: others are left alone, except in
ANABRANCH_EMITTER__... and ANABRANCH_EXPERIMENTS__..., where a misspelt one is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from anabranch.errors import EmitterSettingsError, ExperimentsSettingsError
from anabranch.settings import (
    EmitterSettings,
    ExperimentsSettings,
    KafkaSettings,
    RegistrySettings,
    Section,
)

AnySection = TypeVar("AnySection", bound=Section)


class SdkSettings(NamedTuple):
    kafka: KafkaSettings
    registry: RegistrySettings
    emitter: EmitterSettings


def sdk_settings(environment: Mapping[str, str] | None = None) -> SdkSettings:
    given = os.environ if environment is None else environment
    return SdkSettings(
        _section(KafkaSettings, "ANABRANCH_KAFKA__", given),
        _section(RegistrySettings, "ANABRANCH_REGISTRY__", given),
        _section(EmitterSettings, "ANABRANCH_EMITTER__", given),
    )


def experiments_settings(environment: Mapping[str, str] | None = None) -> ExperimentsSettings:
    given = os.environ if environment is None else environment
    prefix = "ANABRANCH_EXPERIMENTS__"
    try:
        return ExperimentsSettings.model_validate(_values(prefix, given))
    except ValidationError as error:
        sentence = _sentence(prefix, error, ExperimentsSettings)
        raise ExperimentsSettingsError(sentence) from None  # may hold a secret


def _section(kind: type[AnySection], prefix: str, given: Mapping[str, str]) -> AnySection:
    values = _values(prefix, given)
    try:
        if "schema_ids" in values:
            values["schema_ids"] = json.loads(str(values["schema_ids"]))
        return kind.model_validate(values)
    except ValidationError as error:
        sentence = _sentence(prefix, error, kind)
        raise EmitterSettingsError(sentence) from None  # may hold a secret
    except ValueError as error:
        raise EmitterSettingsError(
            f'{prefix}SCHEMA_IDS must be JSON, {{"turn-metrics.v1": 4}}: {error}'
        ) from error


def _values(prefix: str, given: Mapping[str, str]) -> dict[str, object]:
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in given.items()
        if name.startswith(prefix)
    }


def _sentence(prefix: str, error: ValidationError, kind: type[Section]) -> str:
    first = error.errors()[0]
    name = prefix + "__".join(str(part).upper() for part in first["loc"])
    known = ", ".join(field.upper() for field in kind.model_fields)
    hint = f"; known: {known}" if first["type"] == "extra_forbidden" else ""
    return f"{name}: {first['msg'].removeprefix('Value error, ')}{hint}"
