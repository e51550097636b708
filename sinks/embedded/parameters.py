"""What a request asks for: its URL, form and headers, sorted into query, settings and the rest."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sinks.embedded.errors import ClickHouseError, Code

_PARAMETER = "param_"
_SETTING = re.compile(r"^[A-Za-z_]\w*\Z", re.ASCII)
_FORMAT = re.compile(r"^[A-Za-z]\w*\Z", re.ASCII)
_NUMBER = re.compile(r"^[0-9]{1,19}$")
# Of the protocol, with no meaning here: quotas, roles and certificates are a cluster's.
_IGNORED = frozenset({"quota_key", "role", "stacktrace", "client_protocol_version"})
_PROTOCOL = frozenset(
    {
        "query",
        "query_id",
        "database",
        "default_format",
        "user",
        "password",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "wait_end_of_query",
        "http_wait_end_of_query",
        "buffer_size",
        "compress",
        "decompress",
    }
)
_MAX_SESSION_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Parameters:
    query: str = ""
    query_id: str = ""
    database: str = ""
    default_format: str = "TabSeparated"
    session_id: str = ""
    session_seconds: int = 60
    session_must_exist: bool = False
    close_session: bool = False
    wait_end_of_query: bool = False
    buffer_bytes: int = 1 << 20
    compresses: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)  # of {name:Type} in the query


def read_parameters(
    pairs: Iterable[tuple[str, str]], headers: Mapping[str, str], external: frozenset[str]
) -> Parameters:
    """`external` are names of tables sent along: `<name>_format` and so on belong to them."""
    given = dict(pairs)
    skipped = {f"{name}_{part}" for name in external for part in ("format", "types", "structure")}
    settings = {
        name: value
        for name, value in given.items()
        if not name.startswith(_PARAMETER)
        and name not in _PROTOCOL
        and name not in _IGNORED
        and name not in skipped
    }
    if _is_on(given, "compress") or _is_on(given, "decompress"):
        raise ClickHouseError(
            Code.NOT_IMPLEMENTED,
            "compress=1 and decompress=1 (blocks of the native protocol) are not served here; use"
            " Accept-Encoding with enable_http_compression=1, and Content-Encoding.",
        )
    for name in settings:
        if not _SETTING.match(name):
            raise ClickHouseError(Code.UNKNOWN_SETTING, f"Unknown setting '{name}'.")
    return Parameters(
        query=given.get("query", ""),
        query_id=_query_id(given),
        database=given.get("database") or headers.get("x-clickhouse-database", ""),
        default_format=_format(given, headers),
        session_id=given.get("session_id", ""),
        session_seconds=_session_seconds(given.get("session_timeout", "60")),
        session_must_exist=_is_on(given, "session_check"),
        close_session=_is_on(given, "close_session"),
        wait_end_of_query=_is_on(given, "wait_end_of_query")
        or _is_on(given, "http_wait_end_of_query"),
        buffer_bytes=_buffer_bytes(given),
        compresses=_is_on(given, "enable_http_compression"),
        settings=settings,
        values={
            name.removeprefix(_PARAMETER): value
            for name, value in given.items()
            if name.startswith(_PARAMETER)
        },
    )


def _is_on(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "0").strip().lower()
    if value not in ("0", "1", "true", "false", ""):
        raise ClickHouseError(
            Code.BAD_REQUEST_PARAMETER, f"{name} is 0 or 1, and '{value}' was given."
        )
    return value in ("1", "true")


def _query_id(given: Mapping[str, str]) -> str:
    query_id = given.get("query_id") or str(uuid.uuid4())
    if not (query_id.isascii() and query_id.isprintable()):  # it is a header of the answer
        raise ClickHouseError(
            Code.BAD_REQUEST_PARAMETER,
            f"query_id is of printable ASCII characters, and {query_id[:64]!a} was given.",
        )
    return query_id


def _format(given: Mapping[str, str], headers: Mapping[str, str]) -> str:
    name = given.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated"
    if not _FORMAT.match(name):
        raise ClickHouseError(Code.UNKNOWN_FORMAT, f"Unknown format {name}.")
    return name


def _session_seconds(text: str) -> int:
    if not _NUMBER.match(text):
        raise ClickHouseError(
            Code.INVALID_SESSION_TIMEOUT, f"Invalid session timeout: '{text}'; it is in seconds."
        )
    if int(text) > _MAX_SESSION_SECONDS:
        raise ClickHouseError(
            Code.INVALID_SESSION_TIMEOUT,
            f"Session timeout '{text}' is larger than max_session_timeout: {_MAX_SESSION_SECONDS}.",
        )
    return int(text)


def _buffer_bytes(given: Mapping[str, str]) -> int:
    text = given.get("buffer_size", str(1 << 20))
    if not _NUMBER.match(text):
        raise ClickHouseError(
            Code.BAD_REQUEST_PARAMETER, f"buffer_size is a number of bytes, and '{text}' was given."
        )
    return int(text)
