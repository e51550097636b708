"""Kafka's jars: which they are, and the way to a complete, verified set in the user's cache."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from service.errors import CommandError
from service.settings import EmbeddedSettings

LOCK = Path(__file__).with_name("kafka-jars.lock.toml")
KAFKA_VERSION = "4.3.1"
PARALLEL = 4


class Jar(NamedTuple):
    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Its place below the root of a Maven repository, on a server or on disk."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.file}"

    def is_at(self, path: Path) -> bool:
        """Whether the file there is this very jar, byte for byte."""
        try:
            if path.stat().st_size != self.size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


class JarsError(CommandError):
    """Kafka's jars could not be put together. The text says why and what to do."""


def locked_jars() -> tuple[Jar, ...]:
    return tuple(Jar(**entry) for entry in tomllib.loads(LOCK.read_text())["jar"])


def cache_folder(settings: EmbeddedSettings, environment: Mapping[str, str] = os.environ) -> Path:
    root = settings.cache or Path(
        environment.get("XDG_CACHE_HOME") or Path.home() / ".cache", "anabranch"
    )
    return root / f"kafka-{KAFKA_VERSION}"


def missing_jars(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    """Those that are not in the folder, or not whole there."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        whole = pool.map(lambda jar: jar.is_at(folder / jar.file), jars)
        return [jar for jar, there in zip(jars, whole, strict=True) if not there]


def take_from_maven_repository(jars: Sequence[Jar], folder: Path, repository: Path) -> list[Jar]:
    """Copy what Maven or jgo already brought to this machine; return what is still missing."""
    absent = []
    for jar in jars:
        source = repository / jar.path
        if jar.is_at(source):
            copy = folder / f"{jar.file}.copy"
            shutil.copyfile(source, copy)
            copy.replace(folder / jar.file)
        else:
            absent.append(jar)
    return absent


@contextmanager
def cache_to_myself(folder: Path) -> Iterator[None]:
    """Wait until no other process fills this cache; the lock goes with the process that held it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise JarsError(_cannot_write(folder, error)) from error


def _cannot_write(folder: Path, error: OSError) -> str:
    what = f"the cache of Kafka's jars in {folder} cannot be written: {error.strerror}"
    if error.errno == errno.ENOSPC:
        return f"{what}; 45 MB are needed there"
    return f"{what}; ANABRANCH_EMBEDDED__CACHE names another folder"
