"""`anabranch experiments ...` as a person types it, on the real service."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from service.access import Role
from tests.live.processes import ANABRANCH
from tests.live.service_fixture import Service


class Terminal:
    def __init__(self, service: Service, folder: Path) -> None:
        self._key_file = folder / "key"
        self._key_file.write_text(f"{service.keys[Role.ADMIN]}\n")
        self._url = service.url

    def run(self, *words: str, given: str = "", status: int = 0) -> str:
        """What it prints; its errors where the status is another than 0."""
        where = ("--url", self._url, "--key-file", str(self._key_file))
        command = [*ANABRANCH, "experiments", *words, *where]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout


@pytest.fixture
def terminal(service: Service, tmp_path: Path) -> Terminal:
    return Terminal(service, tmp_path)


def new_key() -> str:
    return f"c{uuid.uuid4().hex[:10]}"


def test_experiment_is_made_started_stopped_and_brought_back(terminal: Terminal) -> None:
    key = new_key()
    warm = 'warm={"tone": "warm"}'
    made = terminal.run(
        *("create", key, "--variation", "control", "--variation", warm),
        *("--metric", "output_tokens", "--start", "--comment", "to be tried"),
    )
    assert "running, version 2" in made
    assert "warning" not in made
    assert f"{key} is running already" in terminal.run("start", key, status=1)
    assert f"{key} is stopped (version 3)" in terminal.run("stop", key)
    back = json.loads(terminal.run("rollback", key, "1", "--json"))
    assert (back["version"], back["status"]) == (3, "stopped")  # it says the same: nothing to do
    listed = terminal.run("list", "--status", "stopped", "--text", key)
    assert "control:50% warm:50%" in listed
    shown = terminal.run("history", key)
    assert "version 1, draft" in shown
    assert "to be tried" in shown
    assert 'status: "running" -> "stopped"' in shown


def test_files_are_looked_at_then_applied(terminal: Terminal, tmp_path: Path) -> None:
    key, holdout = new_key(), new_key()
    file = tmp_path / "experiments.yaml"
    file.write_text(
        f"""
key: {key}
holdout: {holdout}
locales: {{no: true}}
variations:
  - {{key: control, weight: 5000}}
  - {{key: warm, weight: 5000, params: {{tone: warm}}}}
---
kind: holdout
key: {holdout}
share: 500
"""
    )
    path = str(file)
    looked = terminal.run("apply", path, "--dry-run")
    assert f"+ holdout {holdout}" in looked
    assert f"+ experiment {key}" in looked
    assert "warning: documents.0.metrics.primary: is empty" in looked
    terminal.run("apply", path, "--dry-run", "--exit-code", status=3)
    assert "nobody to ask" in terminal.run("apply", path, status=1)
    assert "2 definitions applied" in terminal.run("apply", path, "--yes")
    assert "= 2 definitions as they are" in terminal.run("apply", path)

    shown = terminal.run("show", key, "--yaml")
    changed = shown.replace("coverage: 10000", "coverage: 2500")
    assert changed != shown
    applied = terminal.run("apply", "-", "--yes", given=changed)
    assert f"~ experiment {key} (version 1)" in applied
    assert "coverage: 10000 -> 2500" in applied

    file.write_text(f"key: {key}\nvariations: [{{key: a, weight: 1}}]\n---\nkind: gruop\n")
    wrong = terminal.run("apply", path, "--yes", status=1)
    assert "documents.0.variations: the weights sum to 1;" in wrong
    assert "documents.1.kind: is 'gruop'" in wrong


def test_service_that_is_not_there_is_named_in_the_error(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 24)
    command = [*ANABRANCH, "experiments", "list", "--url", "http://127.0.0.1:9"]
    done = subprocess.run(
        [*command, "--key-file", str(key)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "the service at http://127.0.0.1:9 does not answer" in done.stderr
