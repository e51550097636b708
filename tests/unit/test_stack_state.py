from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest
from rich.console import Console

from deploy.log_file import LogFile
from deploy.processes import how_it_ended
from deploy.state import (
    RunningPart,
    StackRecord,
    StateError,
    StateFolder,
    make_credentials,
    open_state,
    read_record,
    running,
    start_time,
    state_to_myself,
    write_record,
)
from deploy.steps import Event, Terminal, lines_to, step

RECORD = StackRecord(
    pid=1,
    started=2.5,
    service="http://127.0.0.1:1",
    kafka="127.0.0.1:2",
    clickhouse="http://127.0.0.1:3",
    environment={"ANABRANCH_KAFKA__BOOTSTRAP": "127.0.0.1:2"},
    processes=(RunningPart(name="kafka", pid=4, started=5.5, restarts=1),),
)


def test_credentials_are_for_their_owner_alone_and_kept_over_starts(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    make_credentials(path)
    made = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(made) == {"admin", "experimenter", "viewer", "evaluate", "emit", "clickhouse"}
    assert len(set(made.values())) == 6
    assert made["emit"].startswith("ab_emit_")
    make_credentials(path)
    assert json.loads(path.read_text()) == made


def test_credentials_say_where_they_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"absent/credentials\.json cannot be written: No such"):
        make_credentials(tmp_path / "absent" / "credentials.json")


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    write_record(state, RECORD)
    assert read_record(state) == RECORD


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_record_that_is_cut_off_or_foreign_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    assert read_record(StateFolder(tmp_path)) is None


def test_state_folder_names_itself_when_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=rf"{tmp_path}/file/state cannot be written.*--state"):
        open_state(tmp_path / "file" / "state")


def test_state_folder_belongs_to_one_stack_and_tells_the_second(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    write_record(state, RECORD)
    with (
        state_to_myself(state),
        pytest.raises(StateError, match=rf"pid {os.getpid()}\): http://127\.0\.0\.1:1, .*:2"),
        state_to_myself(state),
    ):
        pass
    with state_to_myself(state):  # free again
        pass


def test_running_knows_a_process_by_its_start_and_not_by_its_pid_alone() -> None:
    started = start_time(os.getpid())
    assert running(os.getpid(), started) is not None
    assert running(os.getpid(), started - 60) is None


def test_log_file_keeps_a_limited_number_of_limited_files(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "part.log", max_bytes=100)
    for number in range(100):
        log.write(b"line %d\n" % number * 10)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"part.log", "part.log.1", "part.log.2", "part.log.3"}
    assert max(sizes.values()) < 300
    assert "line 99" in (tmp_path / "part.log").read_text()


def test_log_file_has_the_last_lines_at_hand_when_they_came_in_pieces(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "part.log")
    log.write(b"".join(b"%d\n" % number for number in range(20)) + b"the la")
    log.write(b"st\nopen")
    assert log.last_lines() == [*map(str, range(11, 20)), "the last", "open"]


def test_log_file_counts_what_it_could_not_write_and_goes_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "absent" / "part.log")
    log.write(b"seen\n")
    assert log.lost == 5
    assert log.last_lines() == ["seen"]


def test_steps_become_one_line_each_when_they_are_over() -> None:
    file = io.StringIO()
    report = lines_to(file)
    with step(report, "Kafka"):
        report(Event("goes on", "half", "Kafka"))
    report(Event("says", "kafka was killed"))
    first, second = file.getvalue().splitlines()
    assert first == "Kafka: 0.0 s"
    assert second == "kafka was killed"


def test_terminal_shows_each_step_and_gives_the_cursor_back() -> None:
    file = io.StringIO()
    terminal = Terminal(Console(file=file, force_terminal=True, width=40))
    with step(terminal, "Kafka"):
        terminal(Event("goes on", "7 of 42 MB", "Kafka"))
        terminal(Event("says", "a [path] that is longer than the terminal is wide"))
    terminal(Event("stops", "stopping"))
    assert "Kafka" in file.getvalue()
    assert "a [path] that is longer than the terminal is wide\n" in file.getvalue()
    assert file.getvalue().rstrip().endswith("stopping")
    show_cursor = "\x1b[?25h"
    assert show_cursor in file.getvalue()


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exit code 0"), (1, "exit code 1"), (-9, "killed by SIGKILL")]
)
def test_how_it_ended_tells_an_exit_from_a_signal(status: int, words: str) -> None:
    assert words in how_it_ended(status)
