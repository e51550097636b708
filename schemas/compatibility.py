"""Hold every schema against everything that was ever released: `python -m schemas.compatibility`.

Backward, transitive: who reads with a new schema reads all old data. On top of Avro's own rules
stand those of the house, each of which has cost somebody a table or a topic.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException

from schemas.record import Field, Kind, Record, SchemaError, parse, schema_text
from schemas.releases import Release, ReleaseError, releases
from schemas.topics import TOPICS

# A narrower range would send old data, which was right when it was written, to the dead letters.
LOWER_BOUNDS = ("minimum", "minLength", "minItems")
UPPER_BOUNDS = ("maximum", "maxLength", "maxItems", "maximumAgeDays", "maximumAheadMinutes")
MUST_BOUND = {
    Kind.TEXT: ("maxLength",),
    Kind.INTEGER: ("minimum", "maximum"),
    Kind.NUMBER: ("minimum", "maximum"),
    Kind.TIME: ("maximumAgeDays", "maximumAheadMinutes"),
    Kind.TEXTS: ("maxItems",),
    Kind.RECORDS: ("maxItems",),
    Kind.PAIRS: ("maxItems",),
}


def breaches(known: tuple[Release, ...]) -> list[str]:
    """What is wrong with the current schemas, each with the place and what would be right."""
    found = []
    for topic in TOPICS:
        try:
            text = schema_text(topic.schema)
            wrong = list(house_rules(text, topic.key))
            for release in known:
                if release.subject == topic.subject:
                    against = f"against version {release.version}: "
                    wrong += [against + breach for breach in changes(text, release.schema_text)]
        except (SchemaError, ValueError) as error:
            wrong = [str(error)]
        found += [f"schemas/{topic.schema}: {breach}" for breach in wrong]
    return found


def incompatibilities(reader_text: str, writer_text: str) -> list[str]:
    """Why a reader with one schema cannot read what a writer of the other wrote; Avro's rules."""
    try:
        reader, writer = avro.schema.parse(reader_text), avro.schema.parse(writer_text)
    except AvroException as error:
        raise SchemaError(f"not an Avro schema: {error}") from error
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # half typed
    result = checker.get_compatibility(reader, writer)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    places = {_place(json.loads(reader_text), location) for location in result.locations}
    reasons = {str(reason.value).replace("_", " ") for reason in result.incompatibilities}
    return [
        f"{', '.join(sorted(places))}: {', '.join(sorted(reasons))} "
        f"({'; '.join(sorted(result.messages))})"
    ]


def changes(new_text: str, old_text: str) -> Iterator[str]:
    """What keeps a new schema from following an old one."""
    avro_says = incompatibilities(new_text, old_text)
    yield from (
        f"{breach}; a new field needs a default, a renamed one an alias, and another type a new "
        "topic (.v2)"
        for breach in avro_says
    )
    yield from _record_changes(parse(new_text), parse(old_text), _renames(json.loads(new_text)))


def _record_changes(new: Record, old: Record, renames: dict[str, str]) -> Iterator[str]:
    by_name = {field.name: field for field in new.fields}
    for before in old.fields:
        after = by_name.get(before.name) or by_name.get(renames.get(before.name, ""))
        if after is None:
            yield (
                f"{old.name}.{before.name} is gone; readers that are not yet up to date need it: "
                "keep it, or name it in the aliases of its successor"
            )
            continue
        yield from (f"{new.name}.{after.name}: {tighter}" for tighter in _tightened(after, before))
        if after.items is not None and before.items is not None:
            yield from _record_changes(after.items, before.items, renames)


def _tightened(after: Field, before: Field) -> Iterator[str]:
    new, old = after.attributes, before.attributes
    for bounds, narrower in ((LOWER_BOUNDS, 1), (UPPER_BOUNDS, -1)):
        for bound in bounds:
            # An absent bound admits everything, so setting one is narrower, too.
            if bound in new and (bound not in old or narrower * (new[bound] - old[bound]) > 0):
                yield f"{bound} {new[bound]} is narrower than {old.get(bound, 'none')}; keep it"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"pattern {new['pattern']} differs from {old.get('pattern', 'none')}; keep it"
    if gone := sorted(set(old.get("enum", ())) - set(new.get("enum", old.get("enum", ())))):
        yield f"enum no longer has {', '.join(gone)}; old data does"
    if "enum" in new and "enum" not in old:
        yield "enum is new; old data may have other values"
    for flag in ("multiline", "optional"):
        if old.get(flag) and not new.get(flag):
            yield f"{flag} is gone; producers rely on it"
    if bool(old.get("pairs")) != bool(new.get("pairs")):
        yield "pairs changed; it decides the form in JSON"


def house_rules(text: str, key: str) -> Iterator[str]:
    schema = json.loads(text)
    if schema.get("namespace") != "anabranch":
        yield f"namespace is {schema.get('namespace')!r}; it must be 'anabranch'"
    if '"map"' in text:
        yield "an Avro map, which polars cannot decode; use an array of {name, value} with pairs"
    record = parse(text)
    yield from _record_rules(record)
    keys = {field.name: field for field in record.fields}
    if key not in keys or keys[key].kind is not Kind.TEXT or keys[key].nullable:
        yield f"{record.name}.{key} is the topic's key; it must be a text that is never null"


def _record_rules(record: Record) -> Iterator[str]:
    if not record.doc:
        yield f"{record.name} has no doc; say what it means"
    for field in record.fields:
        place = f"{record.name}.{field.name}"
        if not field.doc and field.items is None and field.name != "item":
            yield f"{place} has no doc; say what it means, with its unit"
        if "enum" not in field.attributes:
            for bound in MUST_BOUND[field.kind]:
                if bound not in field.attributes:
                    yield f"{place} has no {bound}; nonsense must have an end"
        if pattern := field.attributes.get("pattern"):
            yield from (f"{place}: pattern {pattern} {wrong}" for wrong in _bad_pattern(pattern))
        if field.kind is Kind.PAIRS and field.items is not None:
            names = [item.name for item in field.items.fields]
            if names != ["name", "value"]:
                yield f"{place}: pairs must hold exactly name and value, not {', '.join(names)}"
        if field.items is not None and field.kind is not Kind.TEXTS:
            yield from _record_rules(field.items)


def _bad_pattern(pattern: str) -> Iterator[str]:
    """The checks on the request path trust a pattern to keep control characters out."""
    if not re.fullmatch(r"\^[ -~]*\$", pattern):
        yield "must begin with ^, end with $ and be plain ASCII"
    if "[^" in pattern or any(re.fullmatch(pattern, f"{start}\0") for start in ("", "a", "a-")):
        yield "must list what is allowed, so that no control character passes"


def _renames(schema: Any) -> dict[str, str]:
    """Old name to new name, from every `aliases` of a field at any depth."""
    found: dict[str, str] = {}
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            found |= _renames(part)
    if isinstance(schema, dict) and "name" in schema:
        found |= dict.fromkeys(schema.get("aliases", ()), schema["name"])
    return found


def _place(schema: Any, location: str) -> str:
    """`/fields/3/type` as the name that stands there."""
    names = [schema.get("name", "")] if isinstance(schema, dict) else []
    for step in filter(None, re.split(r"[/]+", location)):
        if isinstance(schema, list) and step.isdecimal() and int(step) < len(schema):
            schema = schema[int(step)]
        elif isinstance(schema, dict) and step in schema:
            schema = schema[step]
        else:
            break
        if isinstance(schema, dict) and "name" in schema:
            names.append(schema["name"])
    return ".".join(names)


def main() -> int:
    try:
        found = breaches(releases())
    except ReleaseError as error:
        found = [str(error)]
    for breach in found:
        print(breach, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
