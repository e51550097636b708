"""Definitions in files, read as they look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.commands.experiments.files import (
    as_yaml,
    read_documents,
    without_what_no_file_decides,
)
from service.errors import CommandError


def read(folder: Path, text: str) -> list[Any]:
    path = folder / "definitions.yaml"
    path.write_text(text)
    return read_documents(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("12:30", "12:30"),
        ("007", "007"),
        ("0", 0),
        ("-5000", -5000),
        ("0.05", 0.05),
        ("1e3", 1000.0),
        ("1.10.2", "1.10.2"),
        ("null", None),
        ("'1'", "1"),
    ],
)
def test_value_is_what_it_looks_like(tmp_path: Path, text: str, value: Any) -> None:
    ((found),) = read(tmp_path, f"a: {text}\nlocales: {{no: true}}")
    assert found == {"a": value, "locales": {"no": True}}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("key: a\n---\nkey: b\n---\n", ["a", "b"]),
        ("- key: a\n- key: b\n", ["a", "b"]),
        ('{"key": "a",\n\t"name": "A"}', ["a"]),
        ('[{"key": "a"}, {"key": "b"}]', ["a", "b"]),
    ],
    ids=["documents", "a list", "JSON", "a list in JSON"],
)
def test_file_holds_one_definition_or_many(tmp_path: Path, text: str, keys: list[str]) -> None:
    assert [one["key"] for one in read(tmp_path, text)] == keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key: a\nkey: b", "the name 'key' is there twice (line 2, column 1)"),
        ("a: [", "is neither YAML nor JSON"),
        ("", "holds no definition"),
        ("a: .inf\nb: !!float .inf", "holds what JSON has no form for"),
        ("a: !!python/object:os.system x", "is neither YAML nor JSON"),
        ("a: &a [*a]", "holds what JSON has no form for"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_the_place(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(CommandError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="none cannot be read: No such file"):
        read_documents(tmp_path / "none")


def test_what_is_shown_can_be_applied_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"key": "a", "status": "draft", "version": 3, "locales": {"no": True}, "x": "1e3"}
    assert read(tmp_path, as_yaml(answer)) == [{"key": "a", "locales": {"no": True}, "x": "1e3"}]
    assert without_what_no_file_decides([answer, 3])[1] == 3
    assert "no file decides them: status, version" in capsys.readouterr().err
