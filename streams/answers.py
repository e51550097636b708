"""From requests to what is written: an answer for each experiment, and the exposures. Pure.

The same request decided by the same definitions gives the same bytes but for the time of its
exposures. So a copy, of a batch that is answered again after a crash, is told by its ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TypeAlias

from anabranch.definition_set import DefinitionSet
from schemas.topics import EXPOSURES
from streams.answer_encoding import AnswerEncoding, event_id, number, text
from streams.assignment_requests import Request

Record: TypeAlias = tuple[bytes, bytes]
"""Key and value."""


@dataclass(slots=True)
class Answers:
    """To some requests, in their order."""

    records: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    """By topic."""
    by_reason: Counter[str] = field(default_factory=Counter)
    count: int = 0
    exposures: int = 0
    bytes: int = 0


class Answering:
    def __init__(self, assignment_schema_id: int, exposure_schema_id: int, source: str) -> None:
        self._encoding = AnswerEncoding(assignment_schema_id, exposure_schema_id, source)

    def answer(
        self, request: Request, definitions: DefinitionSet, at_ms: int, answers: Answers
    ) -> None:
        """One for each experiment that it names, or for all that run."""
        unit, attributes, at = request.unit, request.attributes, at_ms / 1000
        if request.experiments:
            keys = dict.fromkeys(request.experiments)
            found = [definitions.assign(key, unit, attributes, at=at) for key in keys]
        else:
            found = definitions.assign_all(unit, attributes, at=at)
        key, encoding = unit.encode(), self._encoding
        request_id, unit_text = text(request.request_id), text(unit)
        replies = answers.records[request.topic]
        for assignment in found:
            exposure_id = assignment.exposure_id
            answer = encoding.answer(request_id, unit_text, assignment, exposure_id)
            replies.append((key, answer))
            answers.by_reason[assignment.reason] += 1
            answers.count += 1
            answers.bytes += len(answer)
            if assignment.in_experiment:
                exposure = encoding.exposure(
                    event_id(request.request_id, exposure_id),
                    number(at_ms),
                    unit_text,
                    assignment,
                    exposure_id,
                    attributes,
                    definitions.plans[assignment.experiment].definition.dimensions,
                )
                answers.records[EXPOSURES.name].append((key, exposure))
                answers.exposures += 1
                answers.bytes += len(exposure)
