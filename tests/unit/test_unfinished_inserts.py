"""Which tokens are of inserts that the engine was killed in."""

from __future__ import annotations

import pytest

from sinks.embedded.unfinished_inserts import Part, orphans, read_part

ADDED_4 = "1\t202611_4_4_0\t202611_17_23"


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        pytest.param([Part("202611", 4, 4)], [], id="there by itself"),
        pytest.param([Part("202611", 1, 9)], [], id="merged with others"),
        pytest.param([Part("202611", 1, 3)], [ADDED_4], id="only others there"),
        pytest.param([Part("202612", 1, 9)], [ADDED_4], id="there in another partition"),
        pytest.param([], [ADDED_4], id="nothing there"),
    ],
)
def test_orphans_are_tokens_whose_part_is_gone(parts: list[Part], wanted: list[str]) -> None:
    assert orphans(f"{ADDED_4}\n", parts) == wanted


def test_orphans_leave_out_what_the_engine_has_forgotten_by_itself() -> None:
    assert orphans("2\t202611_4_4_0\t202611_17_23\n", []) == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param("all_1_1_0", Part("all", 1, 1), id="one insert"),
        pytest.param("202611_1_27_4", Part("202611", 1, 27), id="merged"),
        pytest.param("202611_1_27_4_31", Part("202611", 1, 27), id="changed by a mutation"),
        pytest.param("tmp_insert_202611_4_4_0", None, id="without its name yet"),
        pytest.param("detached", None, id="another folder"),
    ],
)
def test_part_is_read_from_its_name(name: str, wanted: Part | None) -> None:
    assert read_part(name) == wanted
