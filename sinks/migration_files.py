"""The migrations as written: numbered files, read and checked whole before anything runs.

A statement ends with a semicolon at the end of a line. It must be safe to run twice, since a
process may die between running it and noting that it did. `-- cluster only` above a statement
leaves it out on a single node.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from sinks.settings import ClickHouseSettings

FOLDER = Path(__file__).parent / "migrations"
CLUSTER_ONLY = "-- cluster only"
PLACEHOLDERS = frozenset(
    {"database", "cluster", "on_cluster", "local", "deduplication"}
    | {"merge_tree", "aggregating_merge_tree", "summing_merge_tree"}
)
_NAME = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql")
_REPEATABLE = re.compile(
    r"CREATE\s+(TABLE|VIEW|MATERIALIZED\s+VIEW|DICTIONARY)\s+IF\s+NOT\s+EXISTS\b"
    r"|CREATE\s+OR\s+REPLACE\s+VIEW\b"
    r"|DROP\s+(TABLE|VIEW|DICTIONARY)\s+IF\s+EXISTS\b"
    r"|ALTER\s+TABLE\s+\S+\s+((ADD|RENAME|DROP|MODIFY|COMMENT)\s+(COLUMN|INDEX|PROJECTION)\s+IF\s"
    r"|MODIFY\s+(TTL|SETTING|COMMENT|QUERY)\b)",
    re.IGNORECASE,
)


class MigrationError(Exception):
    """The migrations or the database are in a state that a person has to put right.

    The text says what is wrong, where, and what to do.
    """


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the text as written: the same on a node and on a cluster."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, settings: ClickHouseSettings) -> list[str]:
        """What runs, in order, exactly as it is sent."""
        values = placeholder_values(settings)
        return [
            Template(statement).substitute(values)
            for statement, cluster_only in split(self.text)
            if settings.cluster or not cluster_only
        ]


def placeholder_values(settings: ClickHouseSettings) -> dict[str, str]:
    window = settings.deduplication_window
    if settings.cluster is None:
        return {
            "database": f"`{settings.database}`",
            "cluster": "",
            "on_cluster": "",
            "local": "",
            "merge_tree": "MergeTree",
            "aggregating_merge_tree": "AggregatingMergeTree",
            "summing_merge_tree": "SummingMergeTree",
            "deduplication": f"non_replicated_deduplication_window = {window}",
        }
    return {
        "database": f"`{settings.database}`",
        "cluster": f"`{settings.cluster}`",
        "on_cluster": f" ON CLUSTER `{settings.cluster}`",
        "local": "_local",
        "merge_tree": _replicated("MergeTree"),
        "aggregating_merge_tree": _replicated("AggregatingMergeTree"),
        "summing_merge_tree": _replicated("SummingMergeTree"),
        # Tokens are forgotten after an hour unless told otherwise; a worker may be away longer.
        "deduplication": f"replicated_deduplication_window = {window}, "
        "replicated_deduplication_window_seconds = 604800",
    }


def _replicated(engine: str) -> str:
    # {uuid} rather than the table's name: a table made anew never meets its old self in Keeper.
    return f"Replicated{engine}('/clickhouse/tables/{{uuid}}/{{shard}}', '{{replica}}')"


def split(text: str) -> list[tuple[str, bool]]:
    """The statements of a file without their comments, and whether each is for clusters alone."""
    found = []
    lines: list[str] = []
    cluster_only = False
    for line in text.splitlines():
        if line.startswith("--"):
            cluster_only = cluster_only or line.strip() == CLUSTER_ONLY
        elif line.strip():
            lines.append(line.rstrip())
        if line.rstrip().endswith(";") and not line.startswith("--"):
            found.append(("\n".join(lines).removesuffix(";"), cluster_only))
            lines, cluster_only = [], False
    if lines:
        raise MigrationError(f"its last statement has no semicolon at the end: {lines[0]!r}")
    return found


def load(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """Every migration of a folder in order, or the first thing that is wrong with one."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(
                f"{path}: a migration is named by four digits and what it does, "
                "in small letters: 0007_add_cost.sql"
            )
        migration = Migration(int(match["number"]), path.stem, path.read_text(encoding="utf-8"))
        try:
            _check(migration)
        except MigrationError as error:
            raise MigrationError(f"{path}: {error}") from error
        migrations.append(migration)
    _check_numbers(migrations, folder)
    return tuple(migrations)


def _check(migration: Migration) -> None:
    template = Template(migration.text)
    if not template.is_valid():
        raise MigrationError("a $ that starts no placeholder; write $$ for the sign itself")
    unknown = sorted(set(template.get_identifiers()) - PLACEHOLDERS)
    if unknown:
        known = ", ".join(sorted(PLACEHOLDERS))
        raise MigrationError(f"unknown placeholder ${{{unknown[0]}}}; there are: {known}")
    statements = split(migration.text)
    if not statements:
        raise MigrationError("it holds no statement")
    for statement, _ in statements:
        if not _REPEATABLE.match(statement):
            raise MigrationError(
                f"not safe to run twice: {statement.splitlines()[0]!r}; a statement creates "
                "IF NOT EXISTS, drops IF EXISTS, or sets what a second run sets again"
            )


def _check_numbers(migrations: Sequence[Migration], folder: Path) -> None:
    for expected, migration in enumerate(migrations, start=1):
        if migration.number < expected:
            raise MigrationError(
                f"{folder}: two migrations have the number {migration.number:04}; "
                "give the newer one the next free number"
            )
        if migration.number > expected:
            raise MigrationError(
                f"{folder}: number {expected:04} is missing before {migration.name}; "
                "put its file back, or close the gap if it was never released"
            )
