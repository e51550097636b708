"""An experiment as the API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from anabranch.definition_records import Document
from anabranch.definitions import Definition, Variation, as_json
from anabranch.plans import Plan, Status
from anabranch.reading import Wrong
from service.definition_changes import changes_between, content_of


class Warning_(BaseModel):  # noqa: N801  Warning is a builtin
    place: str = Field(description="A path such as `variations.1.params.tone`.")
    problem: str = Field(description="What follows from it, and what would be right.")


class ExperimentAnswer(Definition):
    status: Status = Field(description="By the clock: scheduled until it starts, and so on.")
    version: int = Field(description="Counts the changes, from 1; the ETag, too.")
    changed_by: str = Field(description="Who made this version: the name of a key, or a person.")
    changed_at: datetime = Field(description="When this version was made, UTC.")
    comment: str = Field(description="Why, in the words of who made it.")
    warnings: list[Warning_] = Field(
        description="What is allowed and hardly meant: parameters outside their limits, metrics "
        "that nobody defined, namespaces that overlap, a seed that another experiment has."
    )


class ExperimentPage(BaseModel):
    experiments: list[ExperimentAnswer] = Field(description="In the order that was asked for.")
    total: int = Field(description="How many match, on all pages.")
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class FieldChangeAnswer(BaseModel):
    place: str = Field(description="A path such as `variations.warm.weight`.")
    before: Any = Field(description="Null where there was nothing.")
    after: Any = Field(description="Null where there is nothing any more.")


class VersionAnswer(BaseModel):
    version: int = Field(description="From 1, without gaps.")
    status: str = Field(description="As it was written: what was to start later is `scheduled`.")
    changed_by: str = Field(description="The name of a key, or a person.")
    changed_at: datetime = Field(description="UTC.")
    comment: str = Field(description="Why, in the words of who made it.")
    changes: list[FieldChangeAnswer] | None = Field(
        description="Against the version before; null where that one is not known any more."
    )


class HistoryAnswer(BaseModel):
    experiment: str = Field(description="Its key.")
    versions: list[VersionAnswer] = Field(description="The newest first.")
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class VariationAnswer(Variation):
    experiment: str = Field(description="Its key.")
    version: int = Field(description="Of the experiment, with this variation in it.")


class VariationsAnswer(BaseModel):
    experiment: str = Field(description="Its key.")
    version: int = Field(description="Of the experiment.")
    variations: list[Variation] = Field(description="The first is the control and the default.")


def shown(
    document: Document, status: Status, plan: Plan | None, warnings: Sequence[Wrong]
) -> dict[str, Any]:
    content = content_of(document) if plan is None else as_json(plan.definition)
    return {
        **content,
        "status": status.value,
        "version": document.version,
        "changed_by": document.changed_by,
        "changed_at": moment(document.changed_at_ms),
        "comment": document.comment,
        "warnings": [warning._asdict() for warning in warnings],
    }


def history_of(versions: Sequence[Document]) -> list[dict[str, Any]]:
    """The newest first, of versions that come oldest first."""
    found = []
    for index, document in enumerate(versions):
        before = versions[index - 1] if index else None
        changes = None
        if before is not None and before.version == document.version - 1:
            changes = changes_between(before, document)
        elif document.version == 1:
            changes = []
        found.append(
            {
                "version": document.version,
                "status": document.status,
                "changed_by": document.changed_by,
                "changed_at": moment(document.changed_at_ms),
                "comment": document.comment,
                "changes": changes,
            }
        )
    return found[::-1]


def moment(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
