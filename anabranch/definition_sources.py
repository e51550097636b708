"""Where definitions come from: the service, a file, and the copy of them that is kept on disk.

The document is the same everywhere, and is what `GET /v1/definitions` answers:

    {"revision": 12, "changed_at_ms": 1767225600000, "documents": [
        {"key": "npc_tone", "version": 3, "status": "running", "definition": {...}}]}
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, Request, build_opener

MOST_BYTES = 256 * 1024 * 1024
_PATH = "/v1/definitions"
_CHUNK = 1024 * 1024
_SENTENCES = {
    401: "the key is missing or not known",
    403: "the key may not read definitions: it needs the role evaluate",
    404: "there is nothing; is it the address of an Anabranch service?",
    429: "too many requests for this key",
}


class SourceError(Exception):
    """Nothing usable came. The text says from where, and what did."""


class Document(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


class Snapshot(NamedTuple):
    """All definitions at one moment."""

    revision: int
    changed_at_ms: int
    documents: tuple[Document, ...]
    etag: str = ""
    """By which the source tells whether it has another one."""
    body: bytes = b""


class Source(Protocol):
    def fetch(self, etag: str) -> Snapshot | None:
        """None when that one is still the newest. Raises SourceError."""


def read_snapshot(body: bytes, where: str, etag: str = "") -> Snapshot:
    """Raises SourceError, which names the place of what is wrong."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} holds no JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict) or not isinstance(found.get("documents"), list):
        raise SourceError(
            f'{where} holds no definitions; they are {{"revision": 12, "documents": [...]}}'
        )
    revision, changed_at = found.get("revision", 0), found.get("changed_at_ms", 0)
    for name, value in (("revision", revision), ("changed_at_ms", changed_at)):
        if type(value) is not int:
            raise SourceError(f"{where}: {name} must be a whole number, not {str(value)[:60]!r}")
    documents: dict[str, Document] = {}
    for place, one in enumerate(found["documents"]):
        document = _document(one, f"{where}: documents[{place}]")
        if document.key in documents:
            raise SourceError(f"{where}: documents[{place}]: {document.key!r} is there twice")
        documents[document.key] = document
    return Snapshot(revision, changed_at, tuple(documents.values()), etag, body)


def _document(found: Any, where: str) -> Document:
    if not isinstance(found, dict):
        raise SourceError(f"{where} must be an object with key, version, status and definition")
    for name, kind, kind_name in (
        ("key", str, "a text"),
        ("version", int, "a whole number"),
        ("status", str, "a text such as running"),
        ("definition", dict, "an object"),
    ):
        if type(found.get(name)) is not kind:
            raise SourceError(f"{where}: {name} must be {kind_name}")
    return Document(found["key"], found["version"], found["status"], found["definition"])


class ServiceSource:
    """The service, over HTTP. It knows the proxies that the environment names, as urllib does."""

    def __init__(
        self, url: str, key: str | None, *, timeout: float, ca_file: str | None = None
    ) -> None:
        """Raises OSError when the file of trusted certificates cannot be used."""
        self.url = url.rstrip("/")
        self._key = key
        self._timeout = timeout
        context = ssl.create_default_context(cafile=ca_file)
        self._opener = build_opener(HTTPSHandler(context=context))

    def fetch(self, etag: str) -> Snapshot | None:
        where = self.url + _PATH
        try:
            with self._open(_PATH, {"Accept": "application/json"}, self._timeout, etag) as response:
                body = self._whole_body(response, where)
                return read_snapshot(body, where, response.headers.get("ETag") or "")
        except HTTPError as error:
            error.close()
            if error.code == 304:
                return None
            meaning = _SENTENCES.get(error.code, error.reason)
            raise SourceError(f"{where} answered {error.code}: {meaning}") from error
        except (OSError, HTTPException) as error:
            raise SourceError(f"{where}: {_said(error)}") from error

    def follow(self, silence_seconds: float) -> HTTPResponse:
        """The stream of changes. Raises OSError and HTTPException."""
        return self._open(f"{_PATH}/stream", {"Accept": "text/event-stream"}, silence_seconds)

    def _open(
        self, path: str, headers: Mapping[str, str], timeout: float, etag: str = ""
    ) -> HTTPResponse:
        # The scheme was checked where the settings were.
        request = Request(self.url + path, headers={**headers, "Cache-Control": "no-cache"})  # noqa: S310
        if self._key is not None:
            # Unredirected: the key never follows to another address.
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        if etag:
            request.add_header("If-None-Match", etag)
        return cast(HTTPResponse, self._opener.open(request, timeout=timeout))

    def _whole_body(self, response: HTTPResponse, where: str) -> bytes:
        """In time as a whole: the timeout of the socket begins anew with each byte."""
        chunks, size = [], 0
        deadline = time.monotonic() + 10 * self._timeout
        while chunk := response.read1(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                raise SourceError(f"{where} answers more than {MOST_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{size:,} bytes in {10 * self._timeout:g} s, and not the end")
        expected = response.headers.get("Content-Length", "")
        if expected.isdecimal() and int(expected) != size:
            raise HTTPException(f"the answer broke off after {size:,} of {expected} bytes")
        return b"".join(chunks)


def _said(error: OSError | HTTPException) -> str:
    reason = getattr(error, "reason", error)
    return str(reason) or type(reason).__name__


class FileSource:
    """A file that is read again when it has changed: offline, or a mounted configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fetch(self, etag: str) -> Snapshot | None:
        try:
            found = self.path.stat()
            # The inode too: whoever replaces a file may give it the times of the old one.
            now = f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"
            if now == etag:
                return None
            body = self.path.read_bytes()
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror or error}") from error
        return read_snapshot(body, str(self.path), now)


class Copy:
    """The newest definitions on disk, for a start while the service is away.

    Its time of change tells when the service was last known to have no others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Snapshot, float] | None:
        """With the age in seconds; None where there is none yet. Raises SourceError."""
        try:
            age = max(0.0, time.time() - self.path.stat().st_mtime)
            body = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror or error}") from error
        return read_snapshot(body, str(self.path)), age

    def write(self, body: bytes) -> None:
        """Whole or not at all, whoever else writes it. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def confirm(self) -> None:
        """It is still the newest. Raises OSError."""
        os.utime(self.path)
