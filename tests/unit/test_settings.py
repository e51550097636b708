from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.commands.settings import rows
from service.settings import SettingsError, known_variables, load_settings


def test_settings_read_nested_variables_and_keep_defaults(tmp_path: Path) -> None:
    settings = load_settings({"ANABRANCH_KAFKA__BOOTSTRAP": "broker:9093"}, state=tmp_path)
    assert settings.kafka.bootstrap == "broker:9093"
    assert settings.kafka.security_protocol == "PLAINTEXT"


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        pytest.param(
            "ANABRANCH_CLICKHOUSE__PORTT", "ANABRANCH_CLICKHOUSE__", id="in a nested section"
        ),
        pytest.param("ANABRANCH_LOGLEVEL", "ANABRANCH_LOG_LEVEL", id="at the top level"),
        pytest.param("ANABRANCH_KAFKA", "ANABRANCH_KAFKA__BOOTSTRAP", id="a whole section"),
    ],
)
def test_settings_refuse_an_unknown_variable_and_name_the_closest(
    tmp_path: Path, variable: str, hint: str
) -> None:
    with pytest.raises(SettingsError, match=hint) as caught:
        load_settings({variable: "1"}, state=tmp_path)
    assert variable in str(caught.value)


def test_settings_name_the_variable_whose_value_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ANABRANCH_SERVICE__PORT.*70000"):
        load_settings({"ANABRANCH_SERVICE__PORT": "70000"}, state=tmp_path)


def test_settings_do_not_show_a_secret_that_is_wrong() -> None:
    with pytest.raises(SettingsError, match="ANABRANCH_KAFKA__SASL_PASSWORD") as caught:
        load_settings({}, kafka={"sasl_password": 123456})
    assert "123456" not in str(caught.value)


def test_settings_let_a_flag_win_over_the_environment_and_the_environment_over_the_stack(
    tmp_path: Path,
) -> None:
    (tmp_path / "stack.json").write_text(
        json.dumps(
            {
                "environment": {
                    "ANABRANCH_KAFKA__BOOTSTRAP": "stack:1",
                    "ANABRANCH_SERVICE__PORT": "1111",
                    "ANABRANCH_CLICKHOUSE__URL": "http://stack:8123",
                }
            }
        )
    )
    environment = {"ANABRANCH_KAFKA__BOOTSTRAP": "environment:1", "ANABRANCH_SERVICE__PORT": "2222"}
    settings = load_settings(environment, state=tmp_path, service={"port": 3333, "host": None})
    assert settings.service.port == 3333
    assert settings.service.host == "127.0.0.1"
    assert settings.kafka.bootstrap == "environment:1"
    assert settings.clickhouse.url == "http://stack:8123"


def test_settings_take_the_database_password_from_the_credentials_file(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"clickhouse": "s3cret"}))
    settings = load_settings({"ANABRANCH_CREDENTIALS": str(credentials)}, state=tmp_path)
    assert settings.clickhouse.password is not None
    assert settings.clickhouse.password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "cannot be read", id="absent"),
        pytest.param("[1]", "not a JSON object", id="a list"),
        pytest.param("{", "not a JSON object", id="cut off"),
    ],
)
def test_settings_say_what_is_wrong_with_the_credentials_file(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    credentials = tmp_path / "credentials.json"
    if content is not None:
        credentials.write_text(content)
    with pytest.raises(SettingsError, match=f"ANABRANCH_CREDENTIALS.*{reason}"):
        load_settings({"ANABRANCH_CREDENTIALS": str(credentials)}, state=tmp_path)


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load_settings({}, state=tmp_path)
    with pytest.raises(ValidationError):
        settings.log_level = "debug"  # type: ignore[misc]  # mypy sees it, too


def test_every_setting_says_what_it_means(tmp_path: Path) -> None:
    listed = rows(load_settings({}, state=tmp_path))
    assert {variable for variable, _, _ in listed} == known_variables()
    assert [variable for variable, field, _ in listed if not field.description] == []
