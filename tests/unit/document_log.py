"""The definition log in memory, with the same rule: a change follows the current version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from service.api_keys import KeyStatus
from service.definition_errors import VersionConflictError


@dataclass(frozen=True)
class MemoryDocument:
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]
    changed_by: str


class MemoryDocuments:
    def __init__(self) -> None:
        self.current: dict[str, MemoryDocument] = {}

    @property
    def documents(self) -> MemoryDocuments:
        return self

    def get(self, key: str) -> MemoryDocument | None:
        return self.current.get(key)

    def of_kind(self, kind: str) -> Iterable[MemoryDocument]:
        return [d for key, d in self.current.items() if key.startswith(f"{kind}:")]

    async def change(
        self,
        key: str,
        based_on_version: int,
        status: KeyStatus,
        definition: Mapping[str, Any],
        by: str,
        comment: str = "",
    ) -> MemoryDocument:
        before = self.current.get(key)
        if (before.version if before else 0) != based_on_version:
            raise VersionConflictError(key, based_on_version, None)
        made = MemoryDocument(key, based_on_version + 1, status, dict(definition), by)
        self.current[key] = made
        return made
