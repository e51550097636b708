"""The definitions on disk: what a process serves when it starts while Kafka is away.

The time of the file is when its content was last known to be the newest. Only for this user: keys
of the API are among the definitions, if only as hashes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson
import structlog

from anabranch.definition_records import Document, Documents, documents_of
from streams.metrics import DefinitionMetrics

log = structlog.get_logger("streams.definition_snapshot")

FILE = "definitions.json"
_FORMAT = 1
_SAVE_AFTER_SECONDS = 1.0  # several changes in a row are written once
_CONFIRM_SECONDS = 10.0
_FIELDS = ("key", "version", "status", "text", "changed_by", "changed_at_ms", "comment", "offset")


class SnapshotError(Exception):
    """The text names the file and what is wrong with it."""


class Loaded(NamedTuple):
    documents: Documents
    as_of: float
    """Seconds since 1970."""


class DefinitionSnapshot:
    """Blocking: to be called in a thread."""

    def __init__(self, folder: Path, topic: str) -> None:
        self._path = folder / FILE
        self._topic = topic
        self._writing = threading.Lock()  # a write whose task was cancelled goes on in its thread

    def load(self) -> Loaded | None:
        """None when there is no file."""
        try:
            as_of = self._path.stat().st_mtime
            found = orjson.loads(self._path.read_bytes())
            if found["format"] != _FORMAT or found["topic"] != self._topic:
                raise SnapshotError(f"{self._path} is not a snapshot of {self._topic}")
            documents = [Document(*(entry[f] for f in _FIELDS)) for entry in found["documents"]]
            for document in documents:
                _ = document.definition  # parsed now, so that nobody meets a bad one later
            return Loaded(documents_of(documents, int(found["revision"])), as_of)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotError(f"{self._path} cannot be read: {error.strerror}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise SnapshotError(f"{self._path} is damaged and is not used: {error}") from error

    def save(self, documents: Documents) -> None:
        """All of it or nothing."""
        entries = [
            {field: getattr(document, field) for field in _FIELDS}
            for document in documents.values()
        ]
        content = orjson.dumps(
            {
                "format": _FORMAT,
                "topic": self._topic,
                "revision": documents.revision,
                "documents": entries,
            }
        )
        fresh = self._path.with_name(f"{FILE}.{os.getpid()}.new")
        with self._writing:
            try:
                fresh.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
                fresh.replace(self._path)
            except OSError as error:
                with suppress(OSError):
                    fresh.unlink(missing_ok=True)
                raise SnapshotError(f"{self._path} cannot be written: {error.strerror}") from error

    def confirm(self) -> None:
        """It is still the newest."""
        try:
            os.utime(self._path)
        except OSError as error:
            raise SnapshotError(f"{self._path} cannot be touched: {error.strerror}") from error


class KeptSnapshot:
    """Writes the snapshot some time after each change. What goes wrong with the disk is counted,
    logged and tried again; nothing waits for it."""

    def __init__(
        self,
        snapshot: DefinitionSnapshot,
        newest: Callable[[], Documents | None],
        metrics: DefinitionMetrics,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`newest` gives None while nobody knows."""
        self._snapshot = snapshot
        self._newest = newest
        self._metrics = metrics
        self._sleep = sleep
        self._changed = asyncio.Event()
        self._saved: Documents | None = None
        self._problem: str | None = None

    async def load(self) -> Loaded | None:
        try:
            return await asyncio.to_thread(self._snapshot.load)
        except SnapshotError as error:
            self._failed(error)
            return None

    def changed(self) -> None:
        self._changed.set()

    async def keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CONFIRM_SECONDS):
                    await self._changed.wait()
                await self._sleep(_SAVE_AFTER_SECONDS)
            self._changed.clear()
            await self._write()

    async def close(self) -> None:
        """After the end of `keep`."""
        await self._write()

    async def _write(self) -> None:
        newest = self._newest()
        if newest is None:
            return
        try:
            if newest is self._saved:
                await asyncio.to_thread(self._snapshot.confirm)
            else:
                await asyncio.to_thread(self._snapshot.save, newest)
        except SnapshotError as error:
            self._saved = None
            self._failed(error)
        else:
            self._saved, self._problem = newest, None

    def _failed(self, error: SnapshotError) -> None:
        self._metrics.snapshot_failures.inc()
        if str(error) != self._problem:  # said once, counted each time
            log.warning("the snapshot of the definitions cannot be used", problem=str(error))
        self._problem = str(error)
