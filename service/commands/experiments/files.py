"""Definitions in files: YAML or JSON, one document or many. Read strictly.

What YAML would turn into something else in silence stays what it looks like: `no` is Norwegian and
not false, a time is a text, and a name that is there twice is an error.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from service.errors import CommandError

_NOT_DEFINED = ("status", "version", "changed_by", "changed_at", "comment", "warnings", "phases")
"""What `show` has beside the definition, and no file decides."""


_AS_WRITTEN = ("bool", "int", "float", "timestamp")


class _StrictLoader(yaml.SafeLoader):
    """Booleans and numbers as YAML 1.2 has them; times as texts; each name once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the name {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_FORMS = {
    "bool": (r"true|false|True|False|TRUE|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", "-+0123456789"),
}
"""Others are texts: `no` and `on`, 12:30 (that would be 750), 007, 2026-01-31T12:00:00Z."""
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] not in _AS_WRITTEN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader could take for something else."""


for _name, (_form, _first) in _FORMS.items():
    for _kind in (_StrictLoader, _Dumper):
        _kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_form})$"), list(_first)
        )


def read_documents(path: Path) -> list[Any]:
    """`-` is the standard input. Raises CommandError."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandError(f"{path} cannot be read: {why}") from error
    try:
        documents = _parsed(text)
        json.dumps(documents, allow_nan=False)
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is neither YAML nor JSON: {_on_one_line(error)}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise CommandError(f"{path} holds what JSON has no form for: {error}") from error
    found: list[Any] = []
    for one in documents:
        found += one if isinstance(one, list) else [one]
    if not found:
        raise CommandError(f"{path} holds no definition")
    return found


def _parsed(text: str) -> list[Any]:
    try:
        # Nearly all JSON is YAML, but not where tabs indent it.
        return [json.loads(text, object_pairs_hook=_each_once)]
    except ValueError:
        documents = yaml.load_all(text, _StrictLoader)
        return [one for one in documents if one is not None]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name is there twice")  # which YAML tells the place of
    return made


def without_what_no_file_decides(documents: list[Any]) -> list[Any]:
    """For files that were made of an answer; the person is told."""
    kept, left_out = [], set[str]()
    for document in documents:
        if not isinstance(document, dict):
            kept.append(document)
            continue
        left_out |= {name for name in _NOT_DEFINED if name in document}
        kept.append({name: value for name, value in document.items() if name not in _NOT_DEFINED})
    if left_out:
        names = ", ".join(name for name in _NOT_DEFINED if name in left_out)
        sys.stderr.write(f"anabranch: not applied, since no file decides them: {names}\n")
    return kept


def as_yaml(answer: dict[str, Any]) -> str:
    """A definition as `apply` takes it."""
    content = {name: value for name, value in answer.items() if name not in _NOT_DEFINED}
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _on_one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    return f"{' '.join(str(problem).split())}{where}"
