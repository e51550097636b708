"""ClickHouse's errors: a code, a sentence and the code's name; and the HTTP status of each code.

Every refusal of ours is one of them, too, so that a client handles both alike.
"""

from __future__ import annotations

import errno
import re
from enum import IntEnum


class Code(IntEnum):
    """The codes that this server raises itself; the engine raises many more."""

    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    UNKNOWN_FORMAT = 73
    UNKNOWN_DATABASE = 81
    UNKNOWN_COMPRESSION_METHOD = 89
    UNKNOWN_SETTING = 115
    READONLY = 164
    REQUIRED_PASSWORD = 194
    TOO_MANY_SIMULTANEOUS_QUERIES = 202
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216
    QUERY_IS_TOO_LARGE = 229
    ABORTED = 236
    NOT_ENOUGH_SPACE = 243
    CANNOT_DECOMPRESS = 271
    INTO_OUTFILE_NOT_ALLOWED = 358
    SESSION_NOT_FOUND = 372
    SESSION_IS_LOCKED = 373
    INVALID_SESSION_TIMEOUT = 374
    QUERY_WAS_CANCELLED = 394
    BAD_REQUEST_PARAMETER = 507
    AUTHENTICATION_FAILED = 516
    UNKNOWN_EXCEPTION = 1002


# As in ClickHouse's own table (exceptionCodeToHTTPStatus); every other code is a 500.
_STATUS_OF_CODES: dict[int, frozenset[int]] = {
    400: frozenset({6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223})
    | frozenset({321, 427, 441, 675, 676, 507}),
    401: frozenset({194}),
    403: frozenset({192, 193, 497, 512, 516}),
    404: frozenset({46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511}),
    408: frozenset({159}),
    411: frozenset({381}),
    413: frozenset({229}),
    501: frozenset({48}),
    503: frozenset({76, 209, 439}),
}
_STATUS = {code: status for status, codes in _STATUS_OF_CODES.items() for code in codes}

_ENGINE_TEXT = re.compile(r"Code: (\d+)\. DB::Exception: (.*)", re.DOTALL)
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)\s*$")


class ClickHouseError(Exception):
    """An error as ClickHouse tells it; `str()` is what goes over the wire."""

    def __init__(self, code: int, message: str, name: str | None = None) -> None:
        self.code = int(code)
        self.name = name or (Code(code).name if code in Code.__members__.values() else "")
        self.message = message
        super().__init__(f"Code: {self.code}. DB::Exception: {message} ({self.name})")

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 500)


def from_engine(text: str) -> ClickHouseError:
    found = _ENGINE_TEXT.search(text)
    if found is None:
        return ClickHouseError(Code.UNKNOWN_EXCEPTION, text.strip())
    message = found[2].strip()
    name = _NAME.search(message)
    if name is None:
        return ClickHouseError(int(found[1]), message)
    return ClickHouseError(int(found[1]), message[: name.start()].rstrip(), name[1])


def from_disk(error: OSError, folder: str) -> ClickHouseError:
    """The body or result of a request could not be kept on the disk for a while."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ClickHouseError(Code.NOT_ENOUGH_SPACE, f"No space left in {folder}.")
    return ClickHouseError(Code.UNKNOWN_EXCEPTION, f"Cannot write to {folder}: {error.strerror}.")
