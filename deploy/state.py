"""The state folder: one stack at a time, its keys, and what it says of itself in stack.json."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.plan import Addresses
from service.errors import CommandError

ROLES = ("admin", "experimenter", "viewer", "evaluate", "emit")
# Below it a start is refused: a broker that runs out of space in the middle ends itself.
NEEDED_MB = 128


class StateError(CommandError):
    """The state folder cannot be used. The text names it."""


class RunningPart(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    started: float  # the process's start time: a pid alone may be another's by now
    restarts: int


class StackRecord(BaseModel):
    """What stack.json holds, for `status`, `down` and every command that looks for addresses."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: float
    service: str
    kafka: str
    clickhouse: str
    environment: dict[str, str]
    processes: tuple[RunningPart, ...] = ()

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.service, self.kafka, self.clickhouse)


class StateFolder(NamedTuple):
    root: Path

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def credentials(self) -> Path:
        return self.root / "credentials.json"

    @property
    def record(self) -> Path:
        return self.root / "stack.json"


def open_state(path: Path) -> StateFolder:
    """The folder, made when absent, with room to write."""
    state = StateFolder(path.resolve())
    try:
        state.logs.mkdir(parents=True, exist_ok=True)
        with state.lock.open("a"):
            pass
        free_mb = shutil.disk_usage(state.root).free >> 20
    except OSError as error:
        raise StateError(
            f"the state folder {state.root} cannot be written: {error.strerror}; "
            "--state names another"
        ) from error
    if free_mb < NEEDED_MB:
        raise StateError(
            f"the state folder {state.root} has {free_mb} MB of free space left, "
            f"{NEEDED_MB} MB are needed; free some, or --state names another"
        )
    return state


@contextmanager
def state_to_myself(state: StateFolder) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process however that ends."""
    with state.lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(already_runs(state, file.read().strip())) from None
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def already_runs(state: StateFolder, pid: str) -> str:
    record = read_record(state)
    where = f": {', '.join(record.addresses)}" if record else ""
    return (
        f"a stack runs in {state.root} already (pid {pid}){where}\n"
        f"  what to do: use it, stop it by `anabranch down --state {state.root}`, or start another "
        "by --state and other ports"
    )


def make_credentials(path: Path) -> None:
    """A key for every role and ClickHouse's password; those of an earlier start are kept."""
    if path.exists():
        return
    made = {role: f"ab_{role}_{secrets.token_urlsafe(24)}" for role in ROLES}
    made["clickhouse"] = secrets.token_urlsafe(24)
    write_whole(path, json.dumps(made, indent=2) + "\n")


def read_record(state: StateFolder) -> StackRecord | None:
    """None when there is none, or one that is not ours to understand."""
    try:
        return StackRecord.model_validate_json(state.record.read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(state: StateFolder, record: StackRecord) -> None:
    write_whole(state.record, record.model_dump_json(indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """All of it or nothing, since the disk may be full; for this user alone from the first byte."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise StateError(f"{path} cannot be written: {error.strerror}") from error


def start_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:  # it ended at once
        return 0.0


def running(pid: int, started: float) -> psutil.Process | None:
    """The process when it is the very one that was recorded, and not a later one of that pid."""
    try:
        process = psutil.Process(pid)
        # The kernel counts from the boot, whose time moves a little when the clock is set.
        other = abs(process.create_time() - started) > 2
        if other or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    return process
