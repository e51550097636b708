from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.commands.key import key
from service.errors import CommandError


def test_key_prints_the_key_alone_when_the_stack_is_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"emit": "ab_emit_1", "viewer": "v"}))
    key("emit", state=tmp_path)
    assert capsys.readouterr().out == "ab_emit_1\n"


def test_key_names_the_roles_when_there_is_none_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"emit": "secret", "viewer": "hidden"}))
    with pytest.raises(CommandError, match=r"'emitter'.*emit, viewer") as caught:
        key("emitter", state=tmp_path)
    assert "secret" not in str(caught.value)


def test_key_says_where_it_looked_when_no_stack_has_run(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=str(tmp_path)):
        key("emit", state=tmp_path)
