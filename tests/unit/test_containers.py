"""The image and the compose file say what the code says, and are sound as far as paper can tell."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from dockerfile_parse import DockerfileParser

from deploy.bootstrap import UV_VERSION
from deploy.compose_secrets import NAMES, write_secrets
from service.access import Role
from service.settings import ServiceSettings, known_variables, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = ROOT / "deploy/Dockerfile"
INSTRUCTIONS = {
    *{"FROM", "ARG", "ENV", "LABEL", "RUN", "COPY", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL"},
    *{"HEALTHCHECK", "ENTRYPOINT", "CMD", "COMMENT"},
}


@pytest.fixture(scope="module")
def instructions() -> list[dict[str, Any]]:
    parser = DockerfileParser(fileobj=BytesIO(DOCKERFILE.read_bytes()))
    return [step for step in parser.structure if step["instruction"] != "COMMENT"]


def values(instructions: list[dict[str, Any]], name: str) -> list[str]:
    return [step["value"] for step in instructions if step["instruction"] == name]


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    # As JSON, with YAML's merge keys resolved: the parser takes them for extensions.
    PyCompose.from_json(json.dumps(DOCUMENT))
    misspelt = json.dumps(DOCUMENT).replace('"depends_on"', '"depend_on"', 1)
    with pytest.raises(ValueError, match="depend_on"):
        PyCompose.from_json(misspelt)


@pytest.mark.parametrize("name", OURS)
def test_compose_gives_our_containers_settings_that_the_code_knows(name: str) -> None:
    environment = OURS[name]["environment"]
    assert set(environment) <= known_variables()
    given = {key: value for key, value in environment.items() if key != "ANABRANCH_CREDENTIALS"}
    settings = load_settings(given, state=ROOT / "no-stack-here")
    assert settings.kafka.bootstrap == "kafka:19092"
    assert settings.clickhouse.url == "http://clickhouse:8123"


def test_dockerfile_sets_only_settings_that_the_code_knows() -> None:
    named = set(re.findall(r"ANABRANCH_[A-Z_]+", DOCKERFILE.read_text()))
    assert named
    assert named <= known_variables()


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_the_least_privileges_it_can_do_with(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "network_mode" not in service
    if name in OURS:
        assert service["read_only"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_every_port_is_bound_to_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


def test_no_container_is_given_a_password_but_by_a_secret_file() -> None:
    for name, service in SERVICES.items():
        for variable in service["environment"]:
            assert not re.search(r"PASSWORD$|SECRET|_KEY$", variable), f"{name}: {variable}"
    for secret in DOCUMENT["secrets"].values():
        assert secret["file"].startswith("./deploy/secrets/")


def test_every_long_running_container_has_a_health_check(
    instructions: list[dict[str, Any]],
) -> None:
    assert values(instructions, "HEALTHCHECK")
    for name, service in SERVICES.items():
        assert "healthcheck" in service or name == "service", name


def test_containers_wait_for_what_they_need() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            one_shot = SERVICES[needed].get("command") in (["topics", "--create"], ["migrate"])
            expected = "service_completed_successfully" if one_shot else "service_healthy"
            assert how == {"condition": expected}


def test_a_stop_leaves_the_service_the_time_that_it_takes() -> None:
    grace = float(SERVICES["service"]["stop_grace_period"].removesuffix("s"))
    assert grace > ServiceSettings().shutdown_timeout_seconds


def test_compose_volumes_and_secrets_are_all_declared_and_used() -> None:
    mounted = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert mounted == set(DOCUMENT["volumes"])
    assert used == set(DOCUMENT["secrets"])


def test_dockerfile_holds_known_instructions_alone(instructions: list[dict[str, Any]]) -> None:
    assert {step["instruction"] for step in instructions} <= INSTRUCTIONS
    assert len(values(instructions, "FROM")) == 2


def test_dockerfile_copies_only_what_is_there_and_not_ignored(
    instructions: list[dict[str, Any]],
) -> None:
    wanted = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for value in values(instructions, "COPY"):
        if value.startswith("--from="):
            continue
        for source in value.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in wanted, f"{source} is ignored by .dockerignore"


def test_dockerfile_pins_its_base_and_its_uv(instructions: list[dict[str, Any]]) -> None:
    for value in values(instructions, "FROM"):
        assert re.match(r"python:3\.\d+\.\d+-slim-\w+", value), value
    assert f"uv=={UV_VERSION}" in " ".join(values(instructions, "RUN"))


def test_image_installs_from_the_lock_without_the_embedded_stack(
    instructions: list[dict[str, Any]],
) -> None:
    commands = " ".join(values(instructions, "RUN"))
    assert commands.count("uv sync --locked --no-dev --package anabranch-application") == 2
    assert "--extra" not in commands
    assert "--all" not in commands


def test_image_does_not_run_as_root(instructions: list[dict[str, Any]]) -> None:
    last_stage = instructions[
        max(i for i, s in enumerate(instructions) if s["instruction"] == "FROM") :
    ]
    (user,) = values(last_stage, "USER")
    assert user == "10001:10001"


def test_compose_secrets_are_written_once_and_hold_every_role(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert write_secrets(folder)
    made = json.loads((folder / "credentials.json").read_text())
    assert set(made) == {*Role, "clickhouse"} == set(NAMES)
    assert (folder / "clickhouse_password").read_text() == made["clickhouse"]
    assert folder.stat().st_mode & 0o077 == 0
    assert not write_secrets(folder)
    assert json.loads((folder / "credentials.json").read_text()) == made
