"""Requests for assignments, out of the record batches of `assignment-requests.v1`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from anabranch.events import AssignmentRequest
from anabranch.pseudonyms import personal_identifier
from schemas.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS
from streams.columns import Columns
from streams.decoded import OFFSET, TIMESTAMP, DeadRecord
from streams.reasons import BadEventReason
from streams.record_batches import RecordBatch
from streams.validation import validate

AttributeValue = str | int | float | bool

# As JSON writes them: 007 and +1 are texts.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 40
_AT_ONCE = 200
_TRUTH_VALUES: Mapping[str, bool] = {"true": True, "false": False}


class Request(NamedTuple):
    request_id: str
    unit: str
    attributes: dict[str, AttributeValue]
    experiments: Sequence[str]
    """Empty: all that run."""
    topic: str
    """For the answers."""


class Asked(NamedTuple):
    """What a range of offsets asks."""

    frame: pl.DataFrame
    """The good ones."""
    dead: tuple[DeadRecord, ...]
    oldest_append_ms: int | None
    """Of the good ones, by Kafka's clock."""
    newest_append_ms: int | None

    def requests(self) -> Iterator[Request]:
        """Made a few at a time: many at once are a burden to the garbage collector."""
        for part in self.frame.iter_slices(_AT_ONCE):
            yield from _requests(part)


class RequestReader:
    def __init__(self, writer_schema: Callable[[int], str], reply_topics: Collection[str]) -> None:
        """`reply_topics`: where answers may go beside `assignments.v1`."""
        self._columns = Columns(ASSIGNMENT_REQUESTS, writer_schema)
        self._allowed = frozenset({ASSIGNMENTS.name, *reply_topics})

    def read(
        self, batches: Sequence[RecordBatch], first: int, last: int, existing: Collection[str]
    ) -> Asked:
        """The requests at the offsets `first` to `last`, both inclusive, in their order.

        `existing`: the reply topics that Kafka has. Raises RegistryUnavailableError.
        """
        decoded = validate(AssignmentRequest, self._columns.decode(batches, first, last))
        astray = dict(self._without_a_way_back(decoded.frame, existing))
        if refused := astray | dict(_of_people(decoded.frame)):
            decoded = decoded.without(refused)
        frame = decoded.frame
        appended = frame[TIMESTAMP]
        return Asked(
            frame,
            decoded.dead,
            None if frame.is_empty() else int(appended.min()),  # type: ignore[arg-type]
            None if frame.is_empty() else int(appended.max()),  # type: ignore[arg-type]
        )

    def _without_a_way_back(
        self, frame: pl.DataFrame, existing: Collection[str]
    ) -> Iterator[tuple[int, tuple[BadEventReason, str]]]:
        """Never write to a topic because somebody asked for it."""
        named = frame.filter(frame["reply_to"] != "").select(OFFSET, "reply_to")
        for offset, topic in named.iter_rows():
            if topic not in self._allowed:
                yield (
                    offset,
                    (
                        BadEventReason.REPLY_NOT_ALLOWED,
                        f"reply_to is {topic}, which ANABRANCH_WORKER__REPLY_TOPICS does not name; "
                        f"leave it empty for {ASSIGNMENTS.name}",
                    ),
                )
            elif topic not in existing:
                yield (
                    offset,
                    (
                        BadEventReason.REPLY_NOT_ALLOWED,
                        f"reply_to is {topic}, which is allowed and does not exist in Kafka",
                    ),
                )


def _of_people(frame: pl.DataFrame) -> Iterator[tuple[int, tuple[BadEventReason, str]]]:
    """A unit goes into exposures, which are kept for months."""
    for offset, unit in frame.select(OFFSET, "unit").iter_rows():
        if (kind := personal_identifier(unit)) is not None:
            problem = f"unit is a raw {kind}; send a pseudonym (the SDK's Pseudonyms makes them)"
            yield offset, (BadEventReason.INVALID, problem)


def _requests(frame: pl.DataFrame) -> Iterator[Request]:
    columns = (
        frame["request_id"].to_list(),
        frame["unit"].to_list(),
        frame["attributes"].to_list(),
        frame["experiments"].to_list(),
        frame["reply_to"].to_list(),
    )
    own = ASSIGNMENTS.name
    for request_id, unit, pairs, experiments, reply_to in zip(*columns, strict=True):
        attributes = {pair["name"]: attribute_value(pair["value"]) for pair in pairs}
        yield Request(request_id, unit, attributes, experiments, reply_to or own)


@lru_cache(maxsize=16_384)
def attribute_value(text: str) -> AttributeValue:
    """A number or a truth value where the text is its JSON text, else the text."""
    if text in _TRUTH_VALUES:
        return _TRUTH_VALUES[text]
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return text
    number: int | float = json.loads(text)
    # `1.10` is the text of a version, not of a number: that would be `1.1`.
    return number if json.dumps(number) == text else text
