"""Why a change of a definition was not made, and who handles it.

* DefinitionLogError
  + InvalidChangeError      it can never be a record of the log        -> 422
    + DefinitionTooLargeError                                          -> 413
  + VersionConflictError    another change of the version was quicker  -> 409
  + LogUnavailableError     Kafka did not answer in time               -> 503
"""

from __future__ import annotations

from typing import Literal

from anabranch.definition_records import Document

MAX_CHARACTERS = 200_000

ChangeOutcome = Literal["won", "conflict", "refused", "unavailable", "unknown"]


class DefinitionLogError(Exception):
    """The change was not made, or nobody knows; the text says which and why."""

    outcome: ChangeOutcome


class InvalidChangeError(DefinitionLogError):
    """No record can hold it; the text names the field. Nothing was written."""

    outcome = "refused"


class DefinitionTooLargeError(InvalidChangeError):
    def __init__(self, key: str, size: int) -> None:
        super().__init__(
            f"the definition of {key} has {size:,} characters as JSON; at most "
            f"{MAX_CHARACTERS:,} fit"
        )
        self.limit = MAX_CHARACTERS
        self.size = size


class VersionConflictError(DefinitionLogError):
    outcome = "conflict"

    def __init__(self, key: str, based_on: int, current: Document | None) -> None:
        there = "there is none" if current is None else _told(current)
        super().__init__(f"{key} was to follow version {based_on}, and {there}")
        self.current = current
        """None where the key has no definition."""


class LogUnavailableError(DefinitionLogError):
    """`written` is None where nobody knows: the change may still appear, and the definition itself
    will show it. It must not be made again without a look."""

    def __init__(self, text: str, *, written: bool | None) -> None:
        super().__init__(text)
        self.written = written
        self.outcome = "unavailable" if written is False else "unknown"


def _told(document: Document) -> str:
    return f"version {document.version} is there, by {document.changed_by}"
