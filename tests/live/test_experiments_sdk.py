"""Assignment in process, from definitions over real HTTP and from files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from anabranch import AssignmentReason, Event, Experiments, ExperimentsSettingsError
from anabranch.intake import Intake
from anabranch.metrics import expose_experiments
from tests.live.definition_server import (
    KEY,
    DefinitionServer,
    body_of,
    definition_server,
    document,
)

WARM, PLAIN = "u3", "u2"
"""Units of the variations warm and control."""


class Kept:
    """An emitter's queue, and nobody who delivers."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.intake = Intake(capacity, strict=False, wake=lambda: None)

    def emit(self, event: Event) -> bool:
        return self.intake.offer(event)

    def events(self) -> list[Any]:
        return [taken.event for taken in self.intake.take(10_000)]


@pytest.fixture
def server() -> Iterator[DefinitionServer]:
    with definition_server() as serving:
        serving.change(document())
        yield serving


def until(holds: Callable[[], object], seconds: float = 10.0) -> float:
    """Returns how long it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, "it did not come about in time"
        time.sleep(0.005)
    return time.monotonic() - started


def test_change_is_there_in_less_than_a_second_by_the_stream(server: DefinitionServer) -> None:
    with Experiments.from_url(server.url, KEY, poll_seconds=3_600) as experiments:
        assert experiments.wait(10)
        until(lambda: experiments.streaming)
        assert experiments.assign("tone", WARM).params == {"tone": "warm"}
        for revision in range(2, 12):
            server.change(document(version=revision), document("other"))
            took = until(lambda now=revision: experiments.revision == now)  # type: ignore[misc]
            assert took < 1
            assert experiments.assign("tone", WARM).version == revision
        assert [one.experiment for one in experiments.assign_all(WARM)] == ["tone", "other"]
        assert experiments.problem is None


def test_stream_that_breaks_is_followed_again_and_misses_nothing(server: DefinitionServer) -> None:
    with Experiments.from_url(server.url, KEY, poll_seconds=3_600) as experiments:
        until(lambda: experiments.streaming)
        server.cut_streams()
        until(lambda: not experiments.streaming)
        server.change(document(version=2))
        until(lambda: experiments.revision == 2)
        until(lambda: experiments.streaming)


@pytest.mark.parametrize("streaming", ["missing", "silent"])
def test_change_is_found_by_asking_when_the_stream_is(
    server: DefinitionServer, streaming: Any
) -> None:
    server.streaming = streaming
    with Experiments.from_url(server.url, KEY, poll_seconds=0.1) as experiments:
        assert experiments.wait(10)
        until(lambda: server.asked.count(304) >= 3)
        server.change(document(version=2))
        assert until(lambda: experiments.revision == 2) < 2
        assert not experiments.streaming
        assert set(server.asked) == {200, 304}


def test_copy_on_disk_serves_when_the_service_is_away_at_the_start(
    server: DefinitionServer, tmp_path: Path
) -> None:
    cache = tmp_path / "not" / "there" / "definitions.json"
    with Experiments.from_url(server.url, KEY, cache=cache) as experiments:
        assert experiments.wait(10)
        until(cache.exists)
    assert cache.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in cache.parent.iterdir()] == [cache.name]
    server.shutdown()
    server.server_close()
    hour_ago = time.time() - 3_600
    os.utime(cache, (hour_ago, hour_ago))
    with Experiments.from_url(server.url, KEY, cache=cache) as experiments:
        assert experiments.assign("tone", WARM).variation == "warm"  # at once
        until(lambda: experiments.problem)
        assert experiments.age_seconds == pytest.approx(3_600, abs=20)
        assert "refused; revision 1 goes on, 360" in str(experiments.problem)
        with definition_server(server.port) as again:
            again.revision = 6
            again.change(document(version=2))
            until(lambda: experiments.revision == 7)
            until(lambda: b'"revision": 7' in cache.read_bytes())
            assert experiments.problem is None
            assert (experiments.age_seconds or 99) < 20


def test_copy_that_is_broken_or_cannot_be_written_is_a_problem_and_no_more(
    server: DefinitionServer, tmp_path: Path
) -> None:
    broken, folder = tmp_path / "broken.json", tmp_path / "folder"
    broken.write_bytes(b'{"documents": [')
    folder.mkdir()
    with Experiments.from_url(server.url, KEY, cache=broken) as experiments:
        assert experiments.wait(10)
        until(lambda: experiments.problem is None)
    with Experiments.from_url(server.url, KEY, cache=folder) as experiments:
        assert "folder cannot be read" in str(experiments.problem)
        assert experiments.wait(10)
        until(lambda: "no copy of the definitions can be kept" in str(experiments.problem))
        assert experiments.assign("tone", WARM).in_experiment


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        pytest.param((401, b"", {}), "answered 401: the key is missing or not known", id="401"),
        pytest.param((404, b"", {}), "answered 404: there is nothing; is it the", id="404"),
        pytest.param((503, b"", {}), "answered 503: Service Unavailable", id="503"),
        pytest.param((200, b"<html>hello</html>", {}), "holds no JSON", id="a portal"),
        pytest.param((200, b'{"documents"', {"Content-Length": "99"}), "broke off after", id="cut"),
        pytest.param((200, b"", {"Content-Length": "99"}), "broke off after 0", id="cut at once"),
        pytest.param((302, b"", {"Location": "http://127.0.0.1:1/"}), "refused", id="elsewhere"),
    ],
)
def test_problem_says_what_is_wrong_while_the_definitions_go_on(
    server: DefinitionServer, answer: tuple[int, bytes, dict[str, str]], sentence: str
) -> None:
    with Experiments.from_url(server.url, KEY, poll_seconds=0.1) as experiments:
        assert experiments.wait(10)
        server.answer = answer
        until(lambda: experiments.problem)
        assert sentence in str(experiments.problem)
        assert "revision 1 goes on" in str(experiments.problem)
        assert experiments.assign("tone", WARM).variation == "warm"
        server.answer = None
        until(lambda: experiments.problem is None)
        assert experiments.counters.failures > 0


def test_assignment_without_definitions_says_that_and_why(server: DefinitionServer) -> None:
    with Experiments.from_url(server.url, "wrong") as experiments:
        until(lambda: experiments.problem)
        assert not experiments.wait(0.01)
        found = experiments.assign("tone", WARM)
        assert (found.variation, found.params, found.in_experiment) == ("", {}, False)
        assert found.reason is AssignmentReason.FAILED
        assert "the key is missing or not known; there are no definitions" in found.rationale
        assert (experiments.revision, experiments.age_seconds) == (0, None)
        assert experiments.assign_all(WARM) == []


def test_exposures_are_logged_once_for_units_in_the_experiment(server: DefinitionServer) -> None:
    server.change(document(dimensions=["level"]), document("nobody", coverage=0))
    emitter = Kept()
    with Experiments.from_url(server.url, KEY, emitter=emitter, source="test/1") as experiments:
        assert experiments.wait(10)
        attributes = {"locale": "de", "level": 7}
        for _ in range(3):
            found = experiments.assign("tone", WARM, attributes)
            experiments.assign("nobody", WARM)
            experiments.assign_all(PLAIN)
        experiments.assign("tone", "not logged", log=False)
        first, second = emitter.events()
        assert (first.exposure_id, first.variation) == (found.exposure_id, "warm")
        assert (first.attributes, first.locale, first.source) == ({"level": "7"}, "de", "test/1")
        assert (second.unit, second.variation) == (PLAIN, "control")
        counters = experiments.counters
        assert (counters.exposures_logged, counters.exposures_repeated) == (2, 4)


def test_assignments_go_on_undisturbed_while_definitions_change(server: DefinitionServer) -> None:
    emitter, ended, wrong = Kept(), threading.Event(), list[object]()
    experiments = Experiments.from_url(server.url, KEY, emitter=emitter, poll_seconds=3_600)
    with experiments:
        assert experiments.wait(10)
        until(lambda: experiments.streaming)

        def ask() -> None:
            while not ended.is_set():
                for unit, variation in ((WARM, "warm"), (PLAIN, "control")):
                    found = experiments.assign("tone", unit)
                    if found.variation != variation:
                        wrong.append(found)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in range(2, 42):
            server.change(document(version=version), document(f"other{version}"))
            until(lambda now=version: experiments.revision >= now)  # type: ignore[misc]
        ended.set()
        for thread in threads:
            thread.join()
        assert not wrong
        exposures = emitter.events()
        assert len({one.exposure_id for one in exposures}) == len(exposures)


def test_file_is_read_again_when_it_changes_and_kept_when_it_breaks(tmp_path: Path) -> None:
    path = tmp_path / "definitions.json"
    path.write_bytes(body_of(1, document()))
    with Experiments.from_file(path, poll_seconds=0.1) as experiments:
        assert experiments.assign("tone", WARM).version == 1  # nothing to wait for
        path.write_bytes(b"{")
        until(lambda: experiments.problem)
        assert "definitions.json holds no JSON" in str(experiments.problem)
        path.write_bytes(body_of(1, document(version=2)))
        until(lambda: experiments.assign("tone", WARM).version == 2)
        path.unlink()
        until(lambda: "cannot be read: No such file" in str(experiments.problem))
        assert experiments.assign("tone", WARM).version == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"[]", "holds no definitions; they are"),
    ],
)
def test_file_that_cannot_be_used_stops_the_start(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "definitions.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExperimentsSettingsError) as raised:
        Experiments.from_file(path)
    assert str(raised.value).startswith(f"file: {path} {sentence}")


@pytest.mark.parametrize(
    ("arguments", "attributes"),
    [
        (("tone", None), {}),
        (("tone", 7), None),
        (("tone", b"u"), {"a": object()}),
        ((None, WARM), {}),
        (({}, WARM), {}),
        (("tone", WARM), [1, 2]),
        (("tone", WARM), "text"),
        (("tone\ud800", "u\ud800"), {"locale": "\ud800"}),
    ],
)
def test_assignment_never_raises_whatever_it_is_asked(
    tmp_path: Path, arguments: Any, attributes: Any
) -> None:
    path = tmp_path / "definitions.json"
    path.write_bytes(body_of(1, document(targeting={"level": {"$gt": 1}}, dimensions=["level"])))
    with Experiments.from_file(path, emitter=Kept()) as experiments:
        found = experiments.assign(arguments[0], arguments[1], attributes)
        assert not found.in_experiment
        assert isinstance(found.rationale, str)
        assert isinstance(experiments.assign_all(arguments[1], attributes), list)


def test_settings_come_from_the_environment(server: DefinitionServer) -> None:
    environment = {
        "ANABRANCH_EXPERIMENTS__URL": server.url,
        "ANABRANCH_EXPERIMENTS__KEY": KEY,
        "ANABRANCH_EXPERIMENTS__STREAM": "false",
        "ANABRANCH_EXPERIMENTS__POLL_SECONDS": "0.1",
    }
    with Experiments.from_environment(environment=environment) as experiments:
        assert experiments.wait(10)
        assert KEY not in repr(experiments.settings)


def test_metrics_show_the_definitions_and_what_of_them_is_invalid(
    server: DefinitionServer,
) -> None:
    server.change(document(params={"max_acts": 99}), {**document("bad"), "status": "dancing"})
    registry = CollectorRegistry()
    with Experiments.from_url(server.url, KEY, emitter=Kept()) as experiments:
        expose_experiments(experiments, registry=registry)
        assert experiments.wait(10)
        experiments.assign("tone", WARM)
        text = generate_latest(registry).decode()
        for line in (
            'anabranch_invalid_params_total{experiment="tone",parameter="max_acts",'
            'reason="clamped"} 1.0',
            "anabranch_experiments_revision 2.0",
            "anabranch_experiments_unusable 1.0",
            "anabranch_experiments_exposures_logged_total 1.0",
            "anabranch_experiments_failures_total 0.0",
        ):
            assert line in text
        assert "anabranch_experiments_age_seconds 0." in text


PROGRAM = """
import os, sys, threading, time
from anabranch import Event, Experiments
from anabranch.intake import Intake

class Kept:
    def __init__(self):
        self.intake = Intake(100, strict=False, wake=lambda: None)
    def emit(self, event: Event) -> bool:
        return self.intake.offer(event)

url, key = sys.argv[1:]
experiments = Experiments.from_url(url, key, emitter=Kept(), poll_seconds=0.1)
assert experiments.wait(10)
experiments.assign("tone", "u3")
"""


def run(server: DefinitionServer, program: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program, server.url, KEY]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_forked_child_refreshes_and_counts_by_itself(server: DefinitionServer) -> None:
    program = """
children = []
for _ in range(3):
    if not (pid := os.fork()):
        children = []
        assert experiments.counters.exposures_logged == 0
        break
    children.append(pid)
else:
    assert experiments.counters.exposures_logged == 1
assert experiments.assign("tone", "u3").version == 1
os.write(1, b"ready\\n")
deadline = time.monotonic() + 20
while experiments.assign("tone", "u3").version != 2:
    assert time.monotonic() < deadline, experiments.problem
    time.sleep(0.01)
os.write(1, b"changed\\n")
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
    with run(server, program) as forked:
        assert forked.stdout is not None
        for _ in range(4):
            assert forked.stdout.readline() == "ready\n"
        server.change(document(version=2))
        rest, errors = forked.communicate(timeout=60)
    assert (forked.returncode, errors, rest) == (0, "", "changed\n" * 4)


def test_process_ends_at_once_though_nobody_closes(server: DefinitionServer) -> None:
    with run(server, "print(threading.active_count())") as ending:
        output, errors = ending.communicate(timeout=60)
    assert (ending.returncode, errors, output) == (0, "", "3\n")
