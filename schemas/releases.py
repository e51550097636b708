"""Every schema that was ever released, as it was then: what old data is read with.

`python -m schemas.releases --release` freezes the schemas that changed since. A version and its id
are given once: `released/index.json` keeps them, with a checksum that notices an edited file.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from schemas.record import HERE, compact, schema_text
from schemas.topics import TOPICS, TopicSpec

RELEASED = HERE / "released"
INDEX = "index.json"


class Release(NamedTuple):
    subject: str
    version: int
    id: int
    """The four bytes before each record's body. Never changes, never given again."""
    schema_text: str
    """Avro as JSON text on one line, as registries keep it."""


class ReleaseError(Exception):
    """What is released does not match its index. The text names the file and what to do."""


@cache
def releases() -> tuple[Release, ...]:
    """In the order of their ids."""
    return read_releases(RELEASED)


def latest(subject: str) -> Release | None:
    return newest(releases(), subject)


def newest(known: tuple[Release, ...], subject: str) -> Release | None:
    of_subject = [release for release in known if release.subject == subject]
    return max(of_subject, key=lambda release: release.version, default=None)


def read_releases(folder: Path) -> tuple[Release, ...]:
    found = []
    for entry in _index(folder):
        file = folder / entry["file"]
        try:
            text = file.read_text()
        except OSError as error:
            raise ReleaseError(f"{file} is released and cannot be read: {error}") from error
        if _checksum(text) != entry["sha256"]:
            raise ReleaseError(
                f"{file} was edited after its release; restore it, change "
                f"schemas/{file.name.split('.')[0]}.avsc instead and release that"
            )
        found.append(Release(entry["subject"], entry["version"], entry["id"], compact(text)))
    ids = [release.id for release in found]
    if len(set(ids)) != len(ids):
        raise ReleaseError(f"{folder / INDEX} gives an id twice: {ids}")
    return tuple(sorted(found, key=lambda release: release.id))


def unreleased(known: tuple[Release, ...]) -> list[TopicSpec]:
    """The topics whose current schema is not their newest release."""
    changed = []
    for topic in TOPICS:
        released = newest(known, topic.subject)
        if released is None or released.schema_text != compact(schema_text(topic.schema)):
            changed.append(topic)
    return changed


def release(folder: Path) -> list[Release]:
    """Freeze what changed. The caller has seen to it that it is compatible."""
    known, index = read_releases(folder), _index(folder)
    next_id = max((release.id for release in known), default=0) + 1
    made = []
    for topic in unreleased(known):
        before = newest(known, topic.subject)
        version = before.version + 1 if before else 1
        text = schema_text(topic.schema)
        file = folder / f"{topic.schema.removesuffix('.avsc')}.{version}.avsc"
        file.write_text(text)
        index.append(
            {
                "id": next_id,
                "subject": topic.subject,
                "version": version,
                "file": file.name,
                "sha256": _checksum(text),
            }
        )
        made.append(Release(topic.subject, version, next_id, compact(text)))
        next_id += 1
    lines = ",\n".join(f"  {json.dumps(entry)}" for entry in index)
    (folder / INDEX).write_text(f"[\n{lines}\n]\n")
    return made


def _index(folder: Path) -> list[dict[str, Any]]:
    file = folder / INDEX
    entries: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    return entries


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(arguments: list[str]) -> int:
    # Here, since the rules of compatibility are themselves about releases.
    from schemas.compatibility import breaches

    if arguments not in ([], ["--release"]):
        print("usage: python -m schemas.releases [--release]", file=sys.stderr)
        return 2
    found = breaches(releases())
    for breach in found:
        print(breach, file=sys.stderr)
    if found:
        return 1
    if not arguments:
        for known in releases():
            print(f"{known.id:4} {known.subject} version {known.version}")
        for topic in unreleased(releases()):
            print(f"   - {topic.subject} changed since, or was never released")
        return 0
    for made in release(RELEASED):
        print(f"released {made.subject} version {made.version} as id {made.id}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
