"""The released schemas as a registry looks at them: by subject, version, id and text."""

from __future__ import annotations

from collections.abc import Iterable

import fastavro
from fastavro.schema import SchemaParseException, to_parsing_canonical_form

from schemas.releases import Release
from service.bodies import parse_json
from service.problems import Problem

INVALID_SCHEMA = 42201
_DEEPEST_SCHEMA = 64


class RegistryError(Exception):
    """Answered in the registry's own form, which its clients know, not as a problem."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Catalogue:
    def __init__(self, releases: Iterable[Release]) -> None:
        self._of_subject: dict[str, dict[int, Release]] = {}
        self._of_id: dict[int, list[Release]] = {}
        for release in releases:
            self._of_subject.setdefault(release.subject, {})[release.version] = release
            self._of_id.setdefault(release.id, []).append(release)

    def subjects(self) -> list[str]:
        return sorted(self._of_subject)

    def versions(self, subject: str) -> list[int]:
        found = self._of_subject.get(subject)
        if found is None:
            raise RegistryError(404, 40401, f"Subject '{subject}' not found.")
        return sorted(found)

    def version(self, subject: str, version: str) -> Release:
        """`version` is a number, "latest", or -1, which means the same."""
        versions = self.versions(subject)
        if version in {"latest", "-1"}:
            return self._of_subject[subject][versions[-1]]
        if not (version.isascii() and version.isdecimal() and 0 < int(version[:10]) < 2**31):
            raise RegistryError(
                422,
                42202,
                f"The specified version '{version[:20]}' is not a valid version id. Allowed values "
                'are between [1, 2^31-1] and the string "latest"',
            )
        found = self._of_subject[subject].get(int(version))
        if found is None:
            raise RegistryError(404, 40402, f"Version {version} not found.")
        return found

    def with_id(self, schema_id: int) -> list[Release]:
        found = self._of_id.get(schema_id)
        if found is None:
            raise RegistryError(404, 40403, f"Schema {schema_id} not found")
        return found

    def with_text(self, subject: str, text: str) -> Release | None:
        """By canonical form: what a reader or writer of data could tell apart, and no more."""
        wanted = canonical(text)
        for version in reversed(self.versions(subject)):
            release = self._of_subject[subject][version]
            if canonical(release.schema_text) == wanted:
                return release
        return None


def canonical(text: str) -> str:
    try:
        schema = parse_json(text.encode(), max_depth=_DEEPEST_SCHEMA)
        return str(to_parsing_canonical_form(fastavro.parse_schema(schema)))
    except Problem as problem:
        raise RegistryError(422, INVALID_SCHEMA, f"Invalid schema: {problem.detail}") from problem
    except (LookupError, TypeError, ValueError, AttributeError, SchemaParseException) as error:
        raise RegistryError(422, INVALID_SCHEMA, f"Invalid schema: {error}") from error
