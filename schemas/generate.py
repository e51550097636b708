"""Write what follows from the schemas: `python -m schemas.generate`; `--check` finds stale ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from schemas.event_pages import events_page
from schemas.python_code import Subject, events_module, schemas_module
from schemas.record import parse, schema_text
from schemas.topics import TOPICS

ROOT = Path(__file__).parent.parent


def generated_files() -> dict[Path, str]:
    subjects = tuple(
        Subject(topic, parse(schema_text(topic.schema)), schema_text(topic.schema))
        for topic in TOPICS
    )
    return {
        ROOT / "anabranch/events.py": _formatted(events_module(subjects)),
        ROOT / "anabranch/event_schemas.py": _formatted(schemas_module(subjects)),
        ROOT / "docs/events.md": events_page(subjects),
    }


def stale_files() -> list[Path]:
    return [
        path
        for path, text in generated_files().items()
        if not path.exists() or path.read_text() != text
    ]


def _formatted(code: str) -> str:
    """As ruff formats the rest of the house, with the house's own settings."""
    ruff = [sys.executable, "-m", "ruff", "format", "--config", str(ROOT / "pyproject.toml"), "-"]
    done = subprocess.run(ruff, input=code, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the generated code is not Python: {done.stderr}\n{code}")
    return done.stdout


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        stale = stale_files()
        for path in stale:
            print(f"{path.relative_to(ROOT)} does not follow from schemas/*.avsc: make schemas")
        return 1 if stale else 0
    if arguments:
        print("usage: python -m schemas.generate [--check]", file=sys.stderr)
        return 2
    for path, text in generated_files().items():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
