"""The house itself: every room answers its question, and each guard does stop what it guards."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deploy.main

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "anabranch", "analysis", "streams", "sinks", "service", "deploy", "bench")


@pytest.mark.parametrize("room", [*ROOMS, "tests"])
def test_every_room_answers_its_question_in_its_docstring(room: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert docstring is not None
    assert "?" in docstring.splitlines()[0]


@pytest.mark.parametrize(
    ("room", "line"),
    [
        pytest.param("analysis", "import sinks.settings", id="a layer upwards"),
        pytest.param("analysis", "import aiokafka", id="I/O in the analysis"),
        pytest.param("anabranch", "import httpx", id="a heavy package in the SDK"),
        pytest.param("service", "import clickhouse_connect", id="a second ClickHouse client"),
        pytest.param("streams", "import chdb", id="the engine outside the stack"),
    ],
)
def test_import_contracts_break_when_they_are_violated(
    tmp_path: Path, room: str, line: str
) -> None:
    for name in ROOMS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint_imports(tmp_path).returncode == 0
    (tmp_path / room / "intruder.py").write_text(f"{line}\n")
    answer = lint_imports(tmp_path)
    assert answer.returncode == 1
    assert f"{room}.intruder" in answer.stdout


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", "--config", "pyproject.toml"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


GUARDED = """
import socket

def test_opens_a_socket_and_hides_it():
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    except OSError:
        pass

def test_touches_the_database():
    import chdb

def test_does_no_input_or_output():
    assert 1 + 1 == 2
"""


def test_the_guard_fails_a_unit_test_that_does_io(tmp_path: Path) -> None:
    (tmp_path / "test_guarded.py").write_text(GUARDED)
    shutil.copy(ROOT / "tests/unit/conftest.py", tmp_path / "conftest.py")
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "test_opens_a_socket_and_hides_it is a unit test and did I/O" in answer.stdout
    assert "test_touches_the_database is a unit test and did I/O" in answer.stdout
    assert "3 passed, 2 errors" in answer.stdout


@pytest.mark.parametrize("command", deploy.main.COMMANDS, ids=lambda command: command.name)
def test_every_command_in_the_table_exists(command: deploy.main.Command) -> None:
    module, function = command.function.split(":")
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert function in {node.name for node in functions}
