"""A client of a Confluent-compatible schema registry. Synchronous and safe for threads.

* RegistryError                   the answer cannot be used               -> nobody can go on
  + RegistryUnavailableError      no answer, after several tries          -> try later
  + UnknownSchemaError            no such subject, version, id or schema  -> register it
  + SchemaRefusedError            incompatible, invalid, or read-only     -> a person
  + RegistryAccessError           credentials are missing or wrong        -> a person

An id and its schema belong together for good, so those answers are kept; that one is unknown is
kept for some seconds only, since somebody may register it. While one caller asks, others that want
the same wait for its answer.
"""

from __future__ import annotations

import base64
import json
import random
import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple, Protocol, TypeVar, cast
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPSHandler, Request, build_opener

from anabranch.settings import RegistrySettings

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
UNKNOWN_FOR_SECONDS = 5.0
_TRIES = 4
_FIRST_WAIT_SECONDS = 0.2
_LARGEST_ANSWER = 8_000_000

Answer = TypeVar("Answer")


class RegistryError(Exception):
    """The registry cannot be used. The text says which, what was asked and what it answered."""


class RegistryUnavailableError(RegistryError):
    """It did not answer, or only with failures of its own."""


class UnknownSchemaError(RegistryError):
    """It has no such subject, version, id or schema."""


class SchemaRefusedError(RegistryError):
    """It does not take this schema."""


class RegistryAccessError(RegistryError):
    """It wants other credentials."""


class Registered(NamedTuple):
    subject: str
    version: int
    id: int
    schema_text: str


class Response(Protocol):
    def read(self, limit: int) -> bytes: ...

    def close(self) -> None: ...


Opener = Callable[[Request, float], Response]


class Registry:
    def __init__(
        self,
        settings: RegistrySettings,
        *,
        opener: Opener | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if urlsplit(settings.url).scheme not in {"http", "https"}:
            raise RegistryError(f"{settings.url} must begin with http:// or https://")
        self._url = settings.url.rstrip("/")
        self._timeout = settings.timeout_seconds
        self._authorization = _authorization(settings)
        self._open = opener or _opener(settings)
        self._sleep = sleep
        self._known = _Answers(clock)

    def register(self, subject: str, schema_text: str) -> int:
        """The id of a schema, which the registry takes in when it has not yet."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        body = _body(schema_text)
        return self._known.get(
            ("register", subject, body), lambda: int(self._ask("POST", path, body)["id"])
        )

    def id_of(self, subject: str, schema_text: str) -> int:
        """The id under which a subject has this schema already."""
        path = f"/subjects/{quote(subject, safe='')}"
        body = _body(schema_text)
        return self._known.get(
            ("id", subject, body), lambda: int(self._ask("POST", path, body)["id"])
        )

    def schema(self, schema_id: int) -> str:
        """The schema that an event names by its first five bytes."""
        path = f"/schemas/ids/{schema_id}"
        return self._known.get(
            ("schema", str(schema_id), ""), lambda: str(self._ask("GET", path)["schema"])
        )

    def latest(self, subject: str) -> Registered:
        found = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/latest")
        return Registered(
            str(found["subject"]), int(found["version"]), int(found["id"]), str(found["schema"])
        )

    def versions(self, subject: str) -> list[int]:
        found = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions")
        return [int(version) for version in found]

    def compatible(self, subject: str, schema_text: str) -> bool:
        """Whether the registry would take the schema, as far as the newest version goes."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest"
        return bool(self._ask("POST", path, _body(schema_text))["is_compatible"])

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        wait = _FIRST_WAIT_SECONDS
        for remaining in reversed(range(_TRIES)):
            try:
                return self._ask_once(method, path, body)
            except RegistryUnavailableError:
                if not remaining:
                    raise
            # Full jitter: many processes that lost the registry at once do not return at once.
            self._sleep(wait * random.random())  # noqa: S311
            wait *= 2
        raise AssertionError("unreachable")

    def _ask_once(self, method: str, path: str, body: str | None) -> Any:
        where = f"{method} {self._url}{path}"
        request = Request(  # noqa: S310  the scheme was checked
            self._url + path,
            method=method,
            data=None if body is None else body.encode(),
            headers={"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE},
        )
        if self._authorization is not None:
            # Unredirected: the credentials never follow to another address.
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            response = self._open(request, self._timeout)
        except HTTPError as error:
            raise _refusal(where, error) from error
        except (OSError, HTTPException) as error:
            raise RegistryUnavailableError(f"{where}: {getattr(error, 'reason', error)}") from error
        try:
            return json.loads(response.read(_LARGEST_ANSWER))
        except (OSError, HTTPException) as error:
            raise RegistryUnavailableError(f"{where}: the answer broke off: {error}") from error
        except ValueError as error:
            raise RegistryError(f"{where} did not answer JSON; is it a schema registry?") from error
        finally:
            response.close()


class _Entry:
    """One question: its answer or its error, once `done` is set."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None
        self.until = float("inf")


class _Answers:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str, str], _Entry] = {}

    def get(self, question: tuple[str, str, str], ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            entry = self._entries.get(question)
            mine = entry is None or entry.until < self._clock()
            if entry is None or mine:
                entry = self._entries[question] = _Entry()
        if mine:
            self._fill(question, entry, ask)
        else:
            entry.done.wait()
        if entry.error is not None:
            raise entry.error.with_traceback(None)
        return cast(Answer, entry.answer)

    def _fill(
        self, question: tuple[str, str, str], entry: _Entry, ask: Callable[[], Answer]
    ) -> None:
        try:
            entry.answer = ask()
        except UnknownSchemaError as error:
            entry.error, entry.until = error, self._clock() + UNKNOWN_FOR_SECONDS
        except BaseException as error:
            # Ctrl-C among them: those who wait for this answer must not wait for ever.
            entry.error = error
            with self._lock:
                self._entries.pop(question, None)
        finally:
            entry.done.set()


def _refusal(where: str, error: HTTPError) -> RegistryError:
    try:
        said = str(json.loads(error.read(_LARGEST_ANSWER))["message"])
    except (OSError, ValueError, LookupError, TypeError):
        said = error.reason
    finally:
        error.close()
    text = f"{where}: {error.code} {said}"
    match error.code:
        case 404:
            return UnknownSchemaError(text)
        case 401 | 403:
            return RegistryAccessError(text)
        case 409 | 422:
            return SchemaRefusedError(text)
        case 408 | 429:
            return RegistryUnavailableError(text)
    return RegistryUnavailableError(text) if error.code >= 500 else RegistryError(text)


def _body(schema_text: str) -> str:
    """On one line: registries compare texts before they compare schemas."""
    try:
        schema = json.dumps(json.loads(schema_text), separators=(",", ":"), ensure_ascii=False)
    except ValueError as error:
        raise SchemaRefusedError(f"the schema is not JSON: {error}") from error
    return json.dumps({"schema": schema})


def _authorization(settings: RegistrySettings) -> str | None:
    if settings.token is not None:
        return f"Bearer {settings.token.get_secret_value()}"
    if settings.username is None:
        return None
    password = settings.password.get_secret_value() if settings.password else ""
    pair = f"{settings.username}:{password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def _opener(settings: RegistrySettings) -> Opener:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise RegistryError(f"{settings.ca_file} holds no certificates: {error}") from error
    director = build_opener(HTTPSHandler(context=context))
    return lambda request, timeout: cast(Response, director.open(request, timeout=timeout))
