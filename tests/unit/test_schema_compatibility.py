from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas import releases as release_log
from schemas.compatibility import breaches, changes, house_rules
from schemas.record import schema_text
from schemas.releases import ReleaseError, read_releases, releases, unreleased
from schemas.topics import TURN_METRICS

Schema = dict[str, Any]
OLD: Schema = json.loads(schema_text(TURN_METRICS.schema))


def field(schema: Schema, name: str) -> Schema:
    found: Schema = next(field for field in schema["fields"] if field["name"] == name)
    return found


def changed(change: Callable[[Schema], object]) -> str:
    schema = copy.deepcopy(OLD)
    change(schema)
    return json.dumps(schema)


NEW_FIELD = {"name": "cost", "type": "int", "doc": "Cost.", "minimum": 0, "maximum": 9}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s["fields"].append({**NEW_FIELD, "default": 0}), id="new default"),
        pytest.param(lambda s: field(s, "turn_ms").update(type="long"), id="int to long"),
        pytest.param(lambda s: field(s, "turn_ms").update(maximum=10**9), id="wider range"),
        pytest.param(lambda s: field(s, "turn_ms").update(doc="Better."), id="new doc"),
        pytest.param(
            lambda s: field(s, "acts").update(name="deeds", aliases=["acts"]), id="rename"
        ),
        pytest.param(lambda s: s["fields"].reverse(), id="another order"),
    ],
)
def test_changes_accept_what_reads_old_data(change: Callable[[Schema], object]) -> None:
    assert list(changes(changed(change), json.dumps(OLD))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda s: s["fields"].append(NEW_FIELD),
            "TurnMetric.cost: reader field",
            id="no default",
        ),
        pytest.param(
            lambda s: field(s, "turn_ms").update(type="string"), "TurnMetric.turn_ms", id="type"
        ),
        pytest.param(lambda s: s["fields"].pop(), "TurnMetric.time_ticks is gone", id="removed"),
        pytest.param(
            lambda s: field(s, "acts").update(name="deeds"), "TurnMetric.deeds", id="no alias"
        ),
        pytest.param(
            lambda s: field(s, "turn_ms").update(maximum=10),
            "TurnMetric.turn_ms: maximum 10 is narrower than 86400000",
            id="narrower",
        ),
        pytest.param(
            lambda s: field(s, "session").update(minLength=5),
            "TurnMetric.session: minLength 5 is narrower than 1",
            id="longer",
        ),
        pytest.param(
            lambda s: field(s, "session").update(pattern="^a$"),
            "TurnMetric.session: pattern ^a$ differs from none",
            id="new pattern",
        ),
        pytest.param(
            lambda s: field(s, "exposures")["type"]["items"]["fields"][0].update(maxLength=3),
            "ExposureRef.experiment: maxLength 3 is narrower",
            id="inside of an array",
        ),
    ],
)
def test_changes_name_the_field_that_breaks_old_data(
    change: Callable[[Schema], object], said: str
) -> None:
    found = list(changes(changed(change), json.dumps(OLD)))
    assert any(said in breach for breach in found), found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda s: field(s, "turn_ms").pop("doc"), "TurnMetric.turn_ms has no doc", id="doc"
        ),
        pytest.param(
            lambda s: field(s, "turn_ms").pop("maximum"), "turn_ms has no maximum", id="bound"
        ),
        pytest.param(
            lambda s: field(s, "session").update(type=["null", "string"]), "never null", id="key"
        ),
        pytest.param(lambda s: s.update(namespace="other"), "namespace is 'other'", id="namespace"),
    ],
)
def test_house_rules_name_what_is_missing(change: Callable[[Schema], object], said: str) -> None:
    found = list(house_rules(changed(change), "session"))
    assert any(said in breach for breach in found), found


@pytest.mark.parametrize(
    "avro_type",
    [{"type": "map", "values": "long"}, ["string", "int"], "boolean", "bytes"],
    ids=["map", "union", "boolean", "bytes"],
)
def test_house_rules_refuse_types_that_the_columns_cannot_hold(avro_type: Any) -> None:
    with pytest.raises(Exception, match=r"TurnMetric\.turn_ms: (type|a union)"):
        list(house_rules(changed(lambda s: field(s, "turn_ms").update(type=avro_type)), "session"))


def test_house_rules_refuse_a_misspelt_constraint() -> None:
    with pytest.raises(Exception, match="unknown attribute 'maximun'"):
        list(house_rules(changed(lambda s: field(s, "turn_ms").update(maximun=1)), "session"))


def test_current_schemas_follow_every_release_and_are_released() -> None:
    assert breaches(releases()) == []
    assert unreleased(releases()) == []


def test_release_gives_each_id_once_and_never_again(tmp_path: Path) -> None:
    made = release_log.release(tmp_path)
    assert [release.id for release in made] == list(range(1, len(made) + 1))
    assert {release.version for release in made} == {1}
    assert release_log.release(tmp_path) == []
    assert list(read_releases(tmp_path)) == made


def test_release_that_was_edited_is_noticed(tmp_path: Path) -> None:
    release_log.release(tmp_path)
    file = tmp_path / "invite.1.avsc"
    file.write_text(file.read_text().replace("Invite", "Invitation"))
    with pytest.raises(ReleaseError, match=r"invite\.1\.avsc was edited after its release"):
        read_releases(tmp_path)
