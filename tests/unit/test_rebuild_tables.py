"""Which tables a rebuild makes anew: a table that nobody thought of would be lost, or stay old."""

from __future__ import annotations

import re

import pytest

from sinks.migration_files import load
from sinks.settings import ClickHouseSettings
from streams.rebuild.fresh import (
    FEEDING_VIEWS,
    FILLED_BY_VIEWS,
    KEPT,
    REBUILT,
    Fresh,
    RebuildError,
)

_CREATED = re.compile(r"CREATE TABLE IF NOT EXISTS `anabranch`\.(\w+)")
_VIEW = re.compile(
    r"CREATE MATERIALIZED VIEW IF NOT EXISTS \S+\s+TO `anabranch`\.(\w+)"
    r".*\bFROM `anabranch`\.(\w+)",
    re.DOTALL,
)


def statements() -> list[str]:
    settings = ClickHouseSettings()
    return [text for migration in load() for text in migration.statements(settings)]


def test_every_table_of_the_migrations_is_rebuilt_or_kept() -> None:
    created = {found[1] for text in statements() if (found := _CREATED.match(text))}
    assert created | {"migrations"} == {*REBUILT, *KEPT}
    assert not KEPT & set(REBUILT)
    assert len(REBUILT) == len(set(REBUILT))


def test_every_view_leads_from_a_table_and_to_a_table_that_are_known_to_have_one() -> None:
    found = [match.groups() for text in statements() if (match := _VIEW.match(text))]
    assert {target for target, _ in found} == set(FILLED_BY_VIEWS)
    assert {source for _, source in found} == FEEDING_VIEWS


def test_fresh_tables_remember_tokens_until_the_gap_is_closed() -> None:
    live = ClickHouseSettings(database="shop")
    fresh = Fresh(live)
    assert fresh.name == "shop_rebuild"
    assert fresh.settings.deduplication_window > 10 * live.deduplication_window


def test_a_database_whose_name_leaves_no_room_is_refused() -> None:
    with pytest.raises(RebuildError, match="too long"):
        Fresh(ClickHouseSettings(database="d" * 60))
